//! Exporting and importing: what comes back is what was there.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use sha2::{Digest, Sha256};

use super::*;
use crate::store::export::{ExportWriter, hex};
use crate::store::import::{BadLine, ExportReader, Restore, Standing};

/// An interview that was accepted under a rubric of the right hash.
fn proper(accept: Accept) -> Accept {
    Accept {
        rubric_hash: hex(Sha256::new_with_prefix(DEFAULT)),
        ..accept
    }
}

fn exported(store: &Store) -> Vec<u8> {
    let mut writer = ExportWriter::begin(Vec::new(), at(5)).unwrap();
    let mut after = None;
    loop {
        let page = store.export(after.as_deref()).unwrap();
        assert_eq!(page.unreadable, Vec::<String>::new());
        after.clone_from(&page.next);
        writer.page(page).unwrap();
        if after.is_none() {
            return writer.end().unwrap().0;
        }
    }
}

fn read_back(bytes: &[u8]) -> Result<Vec<Restore>, BadLine> {
    let mut reader = ExportReader::open(bytes)?;
    let mut interviews = Vec::new();
    while let Some(interview) = reader.next_interview()? {
        interviews.push(interview);
    }
    Ok(interviews)
}

/// Lines with a last one that vouches for them.
fn vouched(lines: &[String]) -> Vec<u8> {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let count = |kind: &str| lines.iter().filter(|line| line.starts_with(kind)).count();
    let end = format!(
        "{{\"end\":{{\"interviews\":{},\"rubrics\":{},\"sha256\":\"{}\"}}}}\n",
        count("{\"interview\""),
        count("{\"rubric\""),
        hex(Sha256::new_with_prefix(&text))
    );
    (text + &end).into_bytes()
}

fn lines(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    text.lines().map(str::to_owned).collect()
}

impl Store {
    async fn take_in(&self, bytes: &[u8]) -> Vec<Standing> {
        self.restore(read_back(bytes).unwrap()).await.unwrap()
    }

    fn ids(&self, state: Option<InterviewState>) -> Vec<String> {
        let page = self.list(state, 1_000, None).unwrap();
        page.interviews.iter().map(|one| one.id.as_str().to_owned()).collect()
    }

    /// One interview in every state, and one that is retried.
    async fn fill(&self) {
        for id in ["complete", "partial", "retried"] {
            self.accept(proper(whole(id, &["하나", "둘"]))).await.unwrap();
            let second = if id == "complete" { scored("b") } else { unscored() };
            self.end(id, &[scored("a"), second]).await;
            self.report_on(id, narrative()).await;
        }
        self.reopen(&id("retried"), at(70)).await.unwrap();
        self.accept(proper(whole("cancelled", &["하나"]))).await.unwrap();
        self.cancel(&id("cancelled")).await.unwrap();
        self.accept(proper(open_one("open", &["하나"]))).await.unwrap();
        self.add_answer(&id("open"), answer(&["하나", "둘"]), 1).await.unwrap();
        self.end("open", &[scored("a")]).await;
        self.accept(proper(open_one("empty", &[]))).await.unwrap();
        self.accept(proper(whole("scoring", &["하나", "둘"]))).await.unwrap();
        self.accept(proper(whole("reporting", &["하나"]))).await.unwrap();
        self.end("reporting", &[unscored()]).await;
    }
}

#[tokio::test]
async fn whatever_state_an_interview_is_in_it_comes_back_in_that_state() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (old, new) = (store(one.path()), store(other.path()));
    old.fill().await;
    let bytes = exported(&old);
    assert!(
        new.take_in(&bytes)
            .await
            .iter()
            .all(|standing| *standing == Standing::New)
    );
    assert_eq!(exported(&new), bytes);
    assert_eq!(new.counted(), old.counted());
    assert_eq!(new.recounted(), old.recounted());
    assert_eq!(new.ids(None), old.ids(None));
    let going_on = |store: &Store| {
        let unfinished = store.unfinished().unwrap().records.into_iter();
        unfinished
            .map(|record| record.interview.id.as_str().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(going_on(&new), ["retried", "open", "empty", "scoring", "reporting"]);
    assert_eq!(going_on(&old), going_on(&new));
    for text in old.ids(None) {
        assert_eq!(new.state(&text), old.state(&text), "{text}");
        assert_eq!(
            new.report_json(&id(&text)).unwrap(),
            old.report_json(&id(&text)).unwrap(),
            "{text}"
        );
    }
    assert_eq!(
        new.rubric(&hex(Sha256::new_with_prefix(DEFAULT))).unwrap().as_deref(),
        Some(DEFAULT)
    );
}

#[tokio::test]
async fn what_was_imported_goes_on_as_if_it_had_never_been_away() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (old, new) = (store(one.path()), store(other.path()));
    old.fill().await;
    new.accept(proper(whole("first", &["하나"]))).await.unwrap();
    new.take_in(&exported(&old)).await;
    drop(new);
    let new = store(other.path());
    assert!(
        !new.accept(proper(whole("scoring", &["하나", "둘"])))
            .await
            .unwrap()
            .created
    );
    new.end("scoring", &[scored("a"), scored("b")]).await;
    new.report_on("scoring", narrative()).await;
    new.end("retried", &[unscored(), scored("new")]).await;
    let report = new.report_on("retried", narrative()).await;
    assert_eq!(new.report(&id("retried")).unwrap(), Some(report));
    let closed = new.close(&id("open"), at(80)).await.unwrap();
    assert!(closed.newly && closed.record.interview.answers().len() == 2);
    let later = new.accept(proper(whole("later", &["하나"]))).await.unwrap().record;
    assert!(
        new.unfinished()
            .unwrap()
            .records
            .iter()
            .all(|record| record.sequence <= later.sequence)
    );
    assert_eq!(
        new.delete(&id("complete")).await.unwrap().unwrap().state(),
        InterviewState::Complete
    );
    assert_eq!(new.counted(), new.recounted());
}

#[tokio::test]
async fn importing_again_changes_nothing_and_what_is_there_always_stays() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (old, new) = (store(one.path()), store(other.path()));
    old.fill().await;
    let bytes = exported(&old);
    // Another interview of the same id, and one that has gone on since.
    new.accept(proper(whole("complete", &["다른 말"]))).await.unwrap();
    let first = new.take_in(&bytes).await;
    let conflict = Standing::Conflict("list of answers");
    assert_eq!(first[0], conflict);
    assert!(first[1..].iter().all(|standing| *standing == Standing::New));
    new.end("scoring", &[scored("a")]).await;
    new.close(&id("open"), at(81)).await.unwrap();
    let before = exported(&new);
    let again = new.take_in(&bytes).await;
    assert_eq!(again[0], conflict);
    assert!(
        again[1..].iter().all(|standing| *standing == Standing::AlreadyThere),
        "{again:?}"
    );
    assert_eq!(exported(&new), before);
    // A standing can be asked for without changing anything.
    let asked: Vec<_> = read_back(&bytes)
        .unwrap()
        .iter()
        .map(|one| new.standing(&one.entry).unwrap())
        .collect();
    assert_eq!(asked, again);
}

#[tokio::test]
async fn an_interview_that_has_gone_on_since_is_the_same_and_one_that_went_another_way_is_not() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (old, new) = (store(one.path()), store(other.path()));
    old.fill().await;
    let lines = exported(&old);
    new.take_in(&lines).await;
    new.end("scoring", &[scored("a")]).await;
    new.close(&id("open"), at(81)).await.unwrap();
    new.reopen(&id("partial"), at(82)).await.unwrap();
    new.end("retried", &[unscored(), scored("b")]).await;
    new.report_on("retried", narrative()).await;
    new.cancel(&id("empty")).await.unwrap();
    assert!(
        new.take_in(&lines)
            .await
            .iter()
            .all(|standing| *standing == Standing::AlreadyThere)
    );
    new.cancel(&id("partial")).await.unwrap();
    assert!(
        new.take_in(&lines)
            .await
            .iter()
            .all(|standing| *standing == Standing::AlreadyThere)
    );
    // The other way round the lines say what is not there, and nothing of it is taken.
    let before = exported(&old);
    let conflict = Standing::Conflict;
    let expected = [
        ("complete", Standing::AlreadyThere),
        ("partial", conflict("phase")),
        ("retried", conflict("report")),
        ("cancelled", Standing::AlreadyThere),
        ("open", conflict("phase")),
        ("empty", conflict("phase")),
        ("scoring", conflict("scores")),
        ("reporting", Standing::AlreadyThere),
    ];
    let found = old.take_in(&exported(&new)).await;
    assert_eq!(old.ids(None), expected.map(|(id, _)| id));
    assert_eq!(found, expected.map(|(_, standing)| standing));
    assert_eq!(exported(&old), before);
    old.end("scoring", &[scored("another")]).await;
    assert_eq!(old.take_in(&exported(&new)).await[6], conflict("scores"));
}

#[tokio::test]
async fn large_interviews_come_in_several_portions_and_none_twice() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let long = "가".repeat(20_000);
    for number in 0..30 {
        store
            .accept(proper(whole(&format!("iv-{number}"), &[&long])))
            .await
            .unwrap();
    }
    let first = store.export(None).unwrap();
    assert!(first.interviews.len() < 30 && first.next.is_some());
    assert_eq!(first.rubrics.len(), 1);
    // What is accepted or deleted meanwhile neither prolongs nor disturbs an export.
    store.accept(proper(whole("late", &["하나"]))).await.unwrap();
    store.delete(&id("iv-29")).await.unwrap();
    let rest = store.export(first.next.as_deref()).unwrap();
    assert_eq!((first.interviews.len() + rest.interviews.len(), rest.next), (29, None));
}

#[tokio::test]
async fn what_cannot_be_read_is_named_and_the_rest_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = store(folder.path());
    store.fill().await;
    let sequence = store.viewed("partial").record.sequence;
    store.shut_down().await;
    let db = sled::open(&path).unwrap();
    let key = db.scan_prefix(keys::words(sequence)).keys().next().unwrap().unwrap();
    db.remove(key).unwrap();
    drop(db);
    assert!(disk::wait_until_free(&path));
    let store = super::store(folder.path());
    let page = store.export(None).unwrap();
    assert_eq!(page.unreadable, ["the interview partial is missing from the store"]);
    assert_eq!(page.interviews.len(), 7);
}

#[tokio::test]
async fn a_damaged_store_is_left_as_it_is_where_nothing_may_be_moved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let store = store(folder.path());
    store.fill().await;
    store.shut_down().await;
    let sound = Store::open_as_it_is(&path, at(9)).unwrap();
    assert_eq!(sound.ids(None).len(), 8);
    sound.shut_down().await;
    let size = std::fs::metadata(path.join("db")).unwrap().len();
    std::fs::write(path.join("db"), vec![0x5a; usize::try_from(size).unwrap()]).unwrap();
    let error = Store::open_as_it_is(&path, at(9)).err().unwrap();
    assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// Why a file with these lines is refused.
fn refusal(lines: &[String]) -> String {
    read_back(&vouched(lines)).unwrap_err().to_string()
}

#[tokio::test]
async fn a_bad_line_is_named_with_its_reason_and_never_with_a_candidates_words() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    store
        .accept(proper(whole("iv", &["비밀스러운 답변", "둘"])))
        .await
        .unwrap();
    store.end("iv", &[scored("비밀스러운 평"), unscored()]).await;
    store.report_on("iv", narrative()).await;
    let good = lines(&exported(&store));
    let good = &good[..3];
    assert!(read_back(&vouched(good)).is_ok());
    let changed = |line: usize, from: &str, to: &str| {
        let mut lines = good.to_vec();
        assert!(lines[line].contains(from), "{from}");
        lines[line] = lines[line].replacen(from, to, 1);
        refusal(&lines)
    };
    let cases = [
        (
            changed(0, "interviewd-export", "x"),
            "line 1: the file is no export of interviewd",
        ),
        (
            changed(0, "\"version\":1", "\"version\":2"),
            "line 1: the export has the format version 2, written by interviewd",
        ),
        (
            changed(1, "\"hash\":\"", "\"hash\":\"0"),
            "line 2: the rubric's text is not the one of its hash",
        ),
        (
            changed(2, "\"opened\":2", "\"opened\":\"비밀\""),
            "line 3: not what an export holds, at column",
        ),
        (
            changed(2, "\"opened\":2", "\"opened\":3"),
            "line 3: the interview iv has 2 answers, but 2 outcomes and 3 answers",
        ),
        (
            changed(2, "\"phase\":\"finished\"", "\"phase\":\"open\""),
            "line 3: the interview iv is in a phase",
        ),
        (
            changed(2, "\"id\":\"a2\"", "\"id\":\"a1\""),
            "line 3: the interview iv has the answer a1 twice",
        ),
        (
            changed(2, "\"follow_up_of\":null", "\"follow_up_of\":\"a9\""),
            "line 3: the interview iv has the answer a1 that follows",
        ),
        (
            changed(2, "\"interview_id\":\"iv\"", "\"interview_id\":\"other\""),
            "line 3: the interview iv has the report of another",
        ),
        (
            changed(2, "\"state\":\"unscored\"", "\"state\":\"비밀\""),
            "line 3: not what an export holds",
        ),
        (
            changed(2, "\"coverage\"", "\"비밀\""),
            "line 3: the interview iv has a report that is none",
        ),
        (
            refusal(&[good[0].clone(), good[2].clone()]),
            "line 2: the rubric of the interview iv was on no line before",
        ),
        (
            refusal(&[good, &good[2..]].concat()),
            "line 4: the interview iv was on line 3 already",
        ),
        (
            refusal(&[good, &good[1..2]].concat()),
            "line 4: the rubric was there before",
        ),
        (
            refusal(&[good, &good[..1]].concat()),
            "line 4: a first line in the midst",
        ),
        (
            refusal(&[good, &["{}".into()]].concat()),
            "line 4: not what an export holds",
        ),
        (
            refusal(&[good, &["".into()]].concat()),
            "line 4: not what an export holds",
        ),
        (
            refusal(&[good, &[format!("{} x", good[2])]].concat()),
            "line 4: something stands behind the JSON object",
        ),
        (refusal(&[]), "line 1: the file is no export of interviewd"),
    ];
    for (found, expected) in cases {
        assert!(found.starts_with(expected), "{found:?}, expected {expected:?}");
        assert!(!found.contains("비밀"), "{found}");
    }
}

#[tokio::test]
async fn a_file_that_is_cut_changed_or_continued_is_never_believed() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    store.fill().await;
    let good = exported(&store);
    for length in (0..good.len()).step_by(97) {
        assert!(read_back(&good[..length]).is_err(), "cut at {length}");
    }
    for place in (0..good.len()).step_by(89) {
        let mut bad = good.clone();
        bad[place] ^= 0x01;
        assert!(read_back(&bad).is_err(), "changed at {place}");
    }
    let twice = [good.clone(), good.clone()].concat();
    let error = read_back(&twice).unwrap_err().to_string();
    assert!(error.contains("something stands behind the last line"), "{error}");
    let error = read_back(&good[..good.len() - 1]).unwrap_err().to_string();
    assert!(error.contains("the file is not whole"), "{error}");
}

/// Something that happens to one of a few interviews.
#[derive(Debug, Clone)]
enum Happening {
    Submit(String),
    Open(String),
    Add(String),
    Close,
    End(bool, String),
    Report(bool),
    Retry,
    Cancel,
    Delete,
}

fn happening() -> impl Strategy<Value = Happening> {
    // Quotes, escapes and what JSON need not escape are in there.
    let text = "[가-힣a-z\"\\\\\n\u{2028}/<😀]{0,12}";
    prop_oneof![
        text.prop_map(Happening::Submit),
        text.prop_map(Happening::Open),
        text.prop_map(Happening::Add),
        Just(Happening::Close),
        (any::<bool>(), text).prop_map(|(is_scored, text)| Happening::End(is_scored, text)),
        any::<bool>().prop_map(Happening::Report),
        Just(Happening::Retry),
        Just(Happening::Cancel),
        Just(Happening::Delete),
    ]
}

impl Store {
    /// Carries it out if it is possible now.
    async fn happen(&self, number: usize, happening: Happening) {
        let (text, now) = (format!("iv-{number}"), at(20));
        let id = id(&text);
        let view = self.view(&id).unwrap();
        // What is refused now is what may not happen in this state.
        match (happening, view) {
            (Happening::Submit(words), None) => drop(self.accept(proper(whole(&text, &[&words, "둘"]))).await),
            (Happening::Open(words), None) => drop(self.accept(proper(open_one(&text, &[&words]))).await),
            (Happening::Add(words), Some(view)) => {
                let before = view.record.interview.answers().len();
                let mut texts = vec![""; before];
                texts.push(&words);
                drop(self.add_answer(&id, answer(&texts), before).await);
            }
            (Happening::Close, Some(_)) => drop(self.close(&id, now).await),
            (Happening::End(is_scored, words), Some(view)) => {
                let index = view.outcomes.iter().position(Option::is_none);
                if let Some(answer) = index.and_then(|index| view.record.interview.answers().get(index)) {
                    let outcome = if is_scored { scored(&words) } else { unscored() };
                    drop(self.record(&id, view.record.generation, &answer.id, outcome).await);
                }
            }
            (Happening::Report(is_narrated), Some(view)) if view.state() == InterviewState::Reporting => {
                self.report_on(&text, if is_narrated { narrative() } else { no_narrative() })
                    .await;
            }
            (Happening::Retry, Some(_)) => drop(self.reopen(&id, now).await),
            (Happening::Cancel, Some(_)) => drop(self.cancel(&id).await),
            (Happening::Delete, Some(_)) => drop(self.delete(&id).await),
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happened_export_import_export_gives_the_same_bytes(
        happenings in prop::collection::vec((0..4_usize, happening()), 0..60)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            let (old, new) = (store(one.path()), store(other.path()));
            for (number, happening) in happenings {
                old.happen(number, happening).await;
            }
            let bytes = exported(&old);
            new.take_in(&bytes).await;
            prop_assert_eq!(exported(&new), bytes);
            prop_assert_eq!(new.counted(), old.counted());
            prop_assert_eq!(new.recounted(), new.counted());
            for text in old.ids(None) {
                prop_assert_eq!(new.report_json(&id(&text)).unwrap(), old.report_json(&id(&text)).unwrap());
                prop_assert_eq!(new.state(&text), old.state(&text));
            }
            Ok::<_, TestCaseError>(())
        })?;
    }
}
