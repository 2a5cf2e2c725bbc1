//! Damage to a stopped store: every file of it, in every way, and never a wrong value that looks right.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::sync::mpsc;

use super::*;

/// How a file is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Damage {
    BitFlip,
    ZeroedPage,
    Truncated,
    Emptied,
}

/// What became of a store that was damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// Everything is as it was, and nobody had to be told.
    Untouched,
    /// Everything is as it was, and the repair was told.
    Repaired,
    /// Some of it is an error that names it, the rest is as it was.
    Named,
    /// It was moved away as a whole, and that was told.
    Quarantined,
    /// It was not opened; the error says why.
    Refused,
}

/// Numbers that look random and are the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        ((mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB) >> 33) as usize % end.max(1)
    }
}

impl Damage {
    const ALL: [Self; 4] = [Self::BitFlip, Self::ZeroedPage, Self::Truncated, Self::Emptied];

    /// False if the file was not changed by it.
    fn apply(self, file: &Path, dice: &mut Dice) -> bool {
        const PAGE: usize = 4_096;
        let before = fs::read(file).unwrap();
        let mut bytes = before.clone();
        match self {
            Self::BitFlip => {
                let place = dice.below(bytes.len());
                if let Some(byte) = bytes.get_mut(place) {
                    *byte ^= 1 << dice.below(8);
                }
            }
            Self::ZeroedPage => {
                let page = dice.below(bytes.len().div_ceil(PAGE)) * PAGE;
                let end = bytes.len().min(page + PAGE);
                bytes[page..end].fill(0);
            }
            Self::Truncated => bytes.truncate(dice.below(bytes.len())),
            Self::Emptied => bytes.clear(),
        }
        fs::write(file, &bytes).unwrap();
        bytes != before
    }
}

/// A stopped store of interviews in every state, and everything that is true of it.
struct Original {
    folder: tempfile::TempDir,
    views: BTreeMap<String, View>,
    reports: BTreeMap<String, String>,
    counts: Vec<u64>,
}

const RESERVE: Reserve = Reserve {
    ballast_bytes: 64 * 1024,
    floor_bytes: 0,
};

fn options() -> Options {
    Options {
        reserve: RESERVE,
        ..Options::default()
    }
}

impl Original {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        let long = "장애를 줄였습니다. ".repeat(300);
        for session in 0..3 {
            let store = Store::open(&path, &options(), at(session)).unwrap().store;
            for n in 0..16 {
                live_through(&store, &format!("iv{session}-{n:02}"), n, &long).await;
            }
            store.shut_down().await;
        }
        let store = Store::open(&path, &options(), at(9)).unwrap().store;
        let listed = store.list(None, 1_000, None).unwrap().interviews;
        let names: Vec<_> = listed.into_iter().map(|line| line.id.to_string()).collect();
        let report = |name: &String| Some((name.clone(), store.report_json(&id(name)).unwrap()?));
        let original = Self {
            views: names.iter().map(|name| (name.clone(), store.viewed(name))).collect(),
            reports: names.iter().filter_map(report).collect(),
            counts: store.counted(),
            folder,
        };
        store.shut_down().await;
        original
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path().join("store")).unwrap();
        let files = entries.map(Result::unwrap).filter(|entry| entry.path().is_file());
        let mut names: Vec<_> = files.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn copy(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        let store = copy.path().join("store");
        fs::create_dir_all(store.join("blobs")).unwrap();
        for name in self.files() {
            fs::copy(self.folder.path().join("store").join(&name), store.join(&name)).unwrap();
        }
        copy
    }

    /// Opens the damaged store and holds everything that it says against what is true.
    fn fate(&self, folder: &Path) -> Fate {
        let path = folder.join("store");
        let opened = match Store::open(&path, &options(), at(1_000)) {
            Ok(opened) => opened,
            Err(error) => {
                let text = error.to_string();
                assert!(text.len() > 20, "no clear text: {text}");
                return Fate::Refused;
            }
        };
        let (store, notes) = (opened.store, opened.notes);
        assert_eq!(store.trouble(), None);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let fate = if notes.iter().any(|note| note.contains("quarantine")) {
            let away = format!("{}.quarantine-1000", path.display());
            assert!(
                notes[0].contains(&away) && notes[0].contains("interviewd import"),
                "{notes:?}"
            );
            assert!(Path::new(&away).is_dir());
            assert_eq!(store.counted(), [0; 6]);
            Fate::Quarantined
        } else {
            match (self.errors(&store), notes.is_empty()) {
                (0, true) => Fate::Untouched,
                (0, false) => Fate::Repaired,
                _ => Fate::Named,
            }
        };
        // It goes on with what it has, now and after a restart.
        let written = runtime.block_on(store.accept(whole("new", &["하나"])));
        let seen = store.view(&id("new"));
        match &written {
            Ok(accepted) => assert_eq!(seen.unwrap().unwrap().record, accepted.record),
            Err(error) => assert!(
                store.trouble().is_some() || matches!(error, StoreError::Full(_)),
                "{error}"
            ),
        }
        store.told();
        runtime.block_on(store.shut_down());
        if let Ok(again) = Store::open(&path, &options(), at(2_000))
            && again.notes.is_empty()
        {
            if fate != Fate::Quarantined {
                self.errors(&again.store);
            }
            if let Ok(accepted) = written {
                assert_eq!(again.store.viewed("new").record, accepted.record);
            }
        }
        fate
    }

    /// How many reads are errors. What is no error must be true.
    fn errors(&self, store: &Store) -> usize {
        let mut errors = Vec::new();
        for (name, view) in &self.views {
            match store.view(&id(name)) {
                Ok(found) => assert_eq!(found.as_ref(), Some(view), "{name} is another one"),
                Err(error) => errors.push((name, error)),
            }
            match store.report_json(&id(name)) {
                Ok(found) => assert_eq!(
                    found.as_ref(),
                    self.reports.get(name),
                    "the report of {name} is another one"
                ),
                Err(error) => errors.push((name, error)),
            }
        }
        for (name, error) in &errors {
            let words = error.to_string();
            assert!(
                words.contains(name.as_str()) || words.contains("no. "),
                "{name}: {words}"
            );
        }
        for gone in ["iv0-05", "iv1-05"] {
            assert!(!matches!(store.view(&id(gone)), Ok(Some(_))), "{gone} had been deleted");
        }
        if errors.is_empty() {
            assert_eq!(store.counted()[..6], self.with_new(store)[..]);
        }
        errors.len()
    }

    /// The counts, with the interview that may have been added since.
    fn with_new(&self, store: &Store) -> Vec<u64> {
        let mut counts = self.counts.clone();
        counts[1] += u64::from(matches!(store.view(&id("new")), Ok(Some(_))));
        counts
    }
}

/// What happens to an interview, by its number.
async fn live_through(store: &Store, name: &str, n: usize, long: &str) {
    let texts = vec![long; 4 + n % 5];
    if n == 0 {
        store.accept(open_one(name, &texts)).await.unwrap();
        return;
    }
    store.accept(whole(name, &texts)).await.unwrap();
    let mut outcomes = vec![scored(long); texts.len()];
    match n {
        1 => outcomes.truncate(2),
        2 => outcomes[1] = unscored(),
        3 => drop(store.cancel(&id(name)).await.unwrap()),
        _ => {}
    }
    if n != 3 {
        store.end(name, &outcomes).await;
    }
    if n > 3 || n == 2 {
        store.report_on(name, no_narrative()).await;
    }
    match n {
        4 => {
            store.reopen(&id(name), at(50)).await.unwrap();
            store.report_on(name, narrative()).await;
        }
        5 => drop(store.delete(&id(name)).await.unwrap()),
        _ => {}
    }
}

/// How often each fate was met by each way of damaging each file.
#[derive(Default)]
struct Tally(BTreeMap<(String, Damage), BTreeMap<Fate, u32>>);

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((file, damage), fates) in &self.0 {
            writeln!(f, "{file:<24} {damage:<10?} {fates:?}")?;
        }
        Ok(())
    }
}

async fn damage_everything(seeds: u64) {
    const PATIENCE: Duration = Duration::from_secs(60);
    let original = Arc::new(Original::new().await);
    let files = original.files();
    let segments = fs::metadata(original.folder.path().join("store/db")).unwrap().len() / (512 * 1024);
    assert!(segments >= 4, "{segments} segments are too few");
    for name in ["ballast", "conf", "db", "facts"] {
        assert!(files.iter().any(|file| file == name), "no {name} in {files:?}");
    }
    let mut tally = Tally::default();
    for (file, damage, seed) in files
        .iter()
        .flat_map(|file| Damage::ALL.map(|damage| (file, damage)))
        .flat_map(|(file, damage)| (0..seeds).map(move |seed| (file, damage, seed)))
    {
        let copy = original.copy();
        let mut dice = Dice(seed);
        if !damage.apply(&copy.path().join("store").join(file), &mut dice) {
            continue;
        }
        let (told, fate) = mpsc::channel();
        let (judge, folder) = (Arc::clone(&original), copy.path().to_owned());
        let judging = thread::spawn(move || told.send(judge.fate(&folder)));
        let Ok(fate) = fate.recv_timeout(PATIENCE) else {
            let how = if judging.is_finished() { "failed" } else { "hung" };
            panic!("{file} {damage:?} seed {seed} {how}");
        };
        let kind = file.split('.').next().unwrap_or_default().to_owned();
        *tally.0.entry((kind, damage)).or_default().entry(fate).or_default() += 1;
    }
    eprintln!(
        "{} interviews in {segments} segments, {seeds} seeds each\n{tally}",
        original.views.len()
    );
}

#[tokio::test]
async fn no_damage_passes_for_what_was_stored() {
    damage_everything(2).await;
}

#[tokio::test]
#[ignore = "takes minutes; its figures are in docs/reliability.md"]
async fn no_damage_passes_for_what_was_stored_with_25_seeds() {
    damage_everything(25).await;
}

/// Nobody wrote down how long the data file was: what sled makes of the rest may lack what was stored. But that comes to an end, too.
#[tokio::test]
async fn a_data_file_that_is_cut_after_a_kill_holds_nobody_up() {
    let original = Arc::new(Original::new().await);
    for seed in 0..12 {
        let copy = original.copy();
        let store = copy.path().join("store");
        fs::remove_file(store.join("facts")).unwrap();
        assert!(Damage::Truncated.apply(&store.join("db"), &mut Dice(seed)));
        let (told, read) = mpsc::channel();
        let reader = Arc::clone(&original);
        let reading = thread::spawn(move || {
            if let Ok(Opened { store, .. }) = Store::open(&store, &options(), at(1_000)) {
                for name in reader.views.keys() {
                    drop((store.view(&id(name)), store.report_json(&id(name))));
                }
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(store.shut_down());
            }
            told.send(()).unwrap();
        });
        let patience = Duration::from_secs(60);
        let how = || if reading.is_finished() { "failed" } else { "hung" };
        read.recv_timeout(patience)
            .unwrap_or_else(|_| panic!("seed {seed} {}", how()));
    }
}

#[tokio::test]
async fn a_log_whose_last_segment_sled_would_not_find_again_is_damaged() {
    let original = Original::new().await;
    let store = original.folder.path().join("store");
    let mut log = fs::read(store.join("db")).unwrap();
    let place = tail::Tail::of(&store.join("db")).unwrap().unwrap().at;
    log[usize::try_from(place).unwrap() + 9] ^= 4;
    fs::write(store.join("db"), log).unwrap();
    let judging = thread::spawn(move || original.fate(original.folder.path()));
    assert_eq!(judging.join().unwrap(), Fate::Quarantined);
}

#[tokio::test]
async fn damage_that_sled_meets_in_passing_fails_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let first = store(folder.path());
    // At both ends of what is damaged, so that indexes share no page with that.
    let edge = ["짧다."; 20];
    let long = "장애를 줄였습니다. ".repeat(300);
    first.accept(whole("first", &edge)).await.unwrap();
    for n in 6..30 {
        live_through(&first, &format!("iv{n:02}"), n, &long).await;
    }
    first.accept(whole("last", &edge)).await.unwrap();
    first.shut_down().await;
    let mut log = fs::read(path.join("db")).unwrap();
    let word = "장애를".as_bytes();
    // Damage to the last segment is met by the opening, since sled reads that anew.
    let last = usize::try_from(tail::Tail::of(&path.join("db")).unwrap().unwrap().at).unwrap();
    let elsewhere = (0..last).chain(last + usize::try_from(tail::SEGMENT_BYTES).unwrap()..log.len());
    let places: Vec<_> = elsewhere.filter(|place| log[*place..].starts_with(word)).collect();
    for place in &places {
        log[*place] ^= 1;
    }
    fs::write(path.join("db"), &log).unwrap();
    let again = store(folder.path());
    assert!(again.view(&id("iv17")).is_err(), "{} places", places.len());
    let names: Vec<_> = (0..40).map(|n| format!("new{n}")).collect();
    for name in &names {
        let accepted = again.accept(whole(name, &[long.as_str(); 4])).await.unwrap();
        assert_eq!(again.viewed(name).record, accepted.record);
        again.end(name, &vec![scored(&long); 4]).await;
        again.report_on(name, narrative()).await;
    }
    assert_eq!(again.trouble(), None);
    again.shut_down().await;
    let last = store(folder.path());
    assert!(names.iter().all(|name| last.state(name) == InterviewState::Complete));
}
