//! Lists, counts, and that both agree with what is stored.

use super::*;

fn ids(page: &Page) -> Vec<&str> {
    page.interviews.iter().map(|line| line.id.as_str()).collect()
}

#[tokio::test]
async fn pages_are_in_the_order_of_submission() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    for name in ["e", "d", "c", "b", "a"] {
        store.accept(whole(name, &["하나"])).await.unwrap();
    }
    let first = store.list(None, 2, None).unwrap();
    assert_eq!(ids(&first), ["e", "d"]);
    // A page goes on where it ended, whatever has become of that place.
    store.delete(&id("d")).await.unwrap();
    let second = store.list(None, 2, first.next.as_deref()).unwrap();
    assert_eq!(ids(&second), ["c", "b"]);
    let last = store.list(None, 2, second.next.as_deref()).unwrap();
    assert_eq!((ids(&last), &last.next), (vec!["a"], &None));
    assert_eq!(store.list(None, 4, None).unwrap().next, None);
    assert_eq!(store.list(None, 0, None).unwrap().interviews.len(), 1);
    let unfinished: Vec<_> = store.going_on().into_iter().map(|r| r.interview.id).collect();
    assert_eq!(unfinished, ["e", "c", "b", "a"].map(id));
}

#[tokio::test]
async fn a_list_can_be_of_one_state() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    store.accept(open_one("open", &["하나", "둘"])).await.unwrap();
    store.complete("complete", narrative()).await;
    store.accept(whole("scoring", &["하나", "둘"])).await.unwrap();
    store.accept(whole("reporting", &["하나"])).await.unwrap();
    store.accept(whole("partial", &["하나"])).await.unwrap();
    store.accept(whole("cancelled", &["하나", "둘"])).await.unwrap();
    store.cancel(&id("cancelled")).await.unwrap();
    for (name, outcome) in [
        ("scoring", scored("a")),
        ("reporting", scored("a")),
        ("partial", unscored()),
    ] {
        store.end(name, &[outcome]).await;
    }
    store.report_on("partial", narrative()).await;
    for state in InterviewState::ALL {
        let page = store.list(Some(state), 10, None).unwrap();
        assert_eq!(ids(&page), [state.as_str()]);
        let (line, view) = (&page.interviews[0], store.viewed(state.as_str()));
        assert_eq!(
            (line.state, line.done, line.total),
            (view.state(), view.done(), view.total()),
            "{state:?}"
        );
    }
    assert!(store.counts().iter().all(|(_, count)| *count == 1));
}

#[tokio::test]
async fn a_page_ends_early_where_what_is_wanted_is_hard_to_find() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let mut accepted = tokio::task::JoinSet::new();
    for n in 0..450 {
        let store = store.clone();
        accepted.spawn(async move { store.accept(whole(&format!("iv{n}"), &["하나"])).await.unwrap() });
    }
    accepted.join_all().await;
    store.cancel(&id("iv440")).await.unwrap();
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let page = store
            .list(Some(InterviewState::Cancelled), 10, after.as_deref())
            .unwrap();
        pages.push(ids(&page).join(" "));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, ["", "", "iv440"]);
}

#[tokio::test]
async fn a_place_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let long = "한".repeat(10_000);
    for garbage in ["", "s", "1", "s-1", "s+1", "sg", "s11111111111111111", long.as_str()] {
        let error = store.list(None, 1, Some(garbage)).unwrap_err();
        assert!(matches!(error, StoreError::BadCursor(_)) && error.to_string().len() < 300);
    }
    assert_eq!(store.list(None, 1, Some("sffffffffffffffff")).unwrap().interviews, []);
}

#[tokio::test]
async fn the_path_and_the_sizes_are_those_of_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    assert_eq!(store.path(), folder.path().join("store"));
    assert!(store.size_bytes().unwrap() > 0);
    assert!(store.free_bytes().unwrap() > 0);
}

/// Numbers that are always the same and look random.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

#[tokio::test]
async fn counts_agree_with_what_is_stored_whatever_happens() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = store(folder.path());
    let mut dice = Dice(7);
    for step in 0..500 {
        let name = format!("iv{}", dice.roll(5));
        random_verb(&store, &name, &mut dice).await;
        assert_eq!(store.counted(), store.recounted(), "after step {step}");
        if let Some(view) = store.view(&id(&name)).unwrap() {
            let page = store.list(Some(view.state()), 10, None).unwrap();
            assert!(ids(&page).contains(&name.as_str()), "after step {step}");
        }
        if step % 100 == 99 {
            let before = store.counted();
            drop(store);
            store = super::store(folder.path());
            assert_eq!(store.counted(), before);
        }
    }
}

/// One verb, chosen by chance; that it may be refused is part of the game.
async fn random_verb(store: &Store, name: &str, dice: &mut Dice) {
    let id = id(name);
    let view = store.view(&id).unwrap();
    let generation = view.as_ref().map_or(1, |view| view.record.generation);
    match dice.roll(12) {
        0 => drop(store.accept(whole(name, &["하나", "둘"])).await),
        1 => drop(store.accept(open_one(name, &["하나"])).await),
        2 => drop(store.add_answer(&id, answer(&["하나", "둘"]), 1).await),
        3 => drop(store.close(&id, at(3)).await),
        4 => drop(store.reopen(&id, at(4)).await),
        5 if dice.roll(3) == 0 => drop(store.cancel(&id).await),
        6 if dice.roll(3) == 0 => drop(store.delete(&id).await),
        7 | 8 => {
            let Some(view) = view.filter(|view| view.outcomes.iter().all(Option::is_some)) else {
                return;
            };
            if view.record.due_since.is_some() {
                drop(store.finish(&id, generation, report_of(&view, no_narrative())).await);
            }
        }
        _ => {
            let answer = answer_id(&format!("a{}", 1 + dice.roll(2)));
            let outcome = if dice.roll(4) == 0 { unscored() } else { scored("a") };
            drop(store.record(&id, generation, &answer, outcome).await);
        }
    }
}
