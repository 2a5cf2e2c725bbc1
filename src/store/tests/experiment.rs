//! temp
use super::*;
use std::time::Instant;
#[tokio::test]
async fn exp_many() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    let long = "말".repeat(400);
    let texts: Vec<&str> = vec![&long; 17];
    let t = Instant::now();
    {
        let shelf = read(&store.inner.shared.shelf);
        let mut books = Books::new(shelf.as_ref().unwrap(), Default::default());
        let template = whole("x", &texts);
        let mut report = None;
        for n in 0..10_000 {
            let name = id(&format!("iv{n}"));
            let mut new = template.clone();
            new.interview.id = name.clone();
            let rec = books.accept(new).unwrap().record;
            for a in rec.interview.answers() {
                books.record(&name, rec.generation, &a.id, &scored(&long)).unwrap();
            }
            let report = report.get_or_insert_with(|| {
                report_of(
                    &reads::view(shelf.as_ref().unwrap(), &name).unwrap().unwrap(),
                    narrative(),
                )
            });
            if n < 9_950 {
                assert!(books.finish(&name, rec.generation, report).unwrap());
            }
        }
    }
    eprintln!("filled in {:?}, size {:?}", t.elapsed(), store.size_bytes());
    let blobs = std::fs::read_dir(folder.path().join("store/blobs")).unwrap().count();
    let t = Instant::now();
    drop(store);
    eprintln!("closed in {:?} blobs {blobs}", t.elapsed());
    let t = Instant::now();
    let store = super::store(folder.path());
    eprintln!("opened in {:?} {:?}", t.elapsed(), store.counted());
    let t = Instant::now();
    store.list(None, 100, None).unwrap();
    eprintln!("list 100 {:?}", t.elapsed());
    let t = Instant::now();
    store.list(Some(InterviewState::Partial), 100, None).unwrap();
    eprintln!("list partial (none) {:?}", t.elapsed());
    let t = Instant::now();
    store.view(&id("iv77")).unwrap().unwrap();
    eprintln!("view {:?}", t.elapsed());
    let t = Instant::now();
    for n in 0..200 {
        store.accept(whole(&format!("new{n}"), &texts)).await.unwrap();
    }
    eprintln!("200 accepts {:?}", t.elapsed());
    drop(store);
    for s in std::fs::read_dir(folder.path().join("store")).unwrap() {
        let s = s.unwrap();
        eprintln!("{:?} {}", s.file_name(), s.metadata().unwrap().len());
        if s.file_name().to_string_lossy().starts_with("snap") {
            std::fs::write(s.path(), "").unwrap();
        }
    }
    let t = Instant::now();
    let o = opened(folder.path());
    eprintln!(
        "opened without snap in {:?} {:?} {:?}",
        t.elapsed(),
        o.store.counted(),
        o.notes
    );
    let mut n = 0;
    for i in 0..9_950 {
        n += usize::from(o.store.report(&id(&format!("iv{i}"))).unwrap().is_some());
    }
    eprintln!("reports read {n} in {:?}", t.elapsed());
}
#[tokio::test]
async fn exp_flips() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    {
        let s = store(folder.path());
        for n in 0..30 {
            s.complete(&format!("iv{n}"), narrative()).await;
        }
        s.shut_down().await;
    }
    drop(store(folder.path()));
    let names: Vec<_> = std::fs::read_dir(&path)
        .unwrap()
        .map(|e| e.unwrap())
        .filter(|e| e.path().is_file())
        .map(|e| e.file_name())
        .collect();
    let mut tally = std::collections::BTreeMap::<String, usize>::new();
    let len = std::fs::metadata(path.join("db")).unwrap().len() as usize;
    let used = {
        let b = std::fs::read(path.join("db")).unwrap();
        b.iter().rposition(|x| *x != 0).unwrap()
    };
    eprintln!("db {len} used {used}");
    for round in 0..200usize {
        let copy = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(copy.path().join("store/blobs")).unwrap();
        for n in &names {
            std::fs::copy(path.join(n), copy.path().join("store").join(n)).unwrap();
        }
        let v = copy.path().join("store/db");
        let mut b = std::fs::read(&v).unwrap();
        b[(round * 104_729 + 13) % used] ^= 1 << (round % 8);
        std::fs::write(&v, &b).unwrap();
        let what = match Store::open(&copy.path().join("store"), &Options::default(), at(5)) {
            Err(e) => format!("error {e}"),
            Ok(o) => {
                let n = o.store.counted()[3];
                let errs = (0..30)
                    .filter(|i| !matches!(o.store.report(&id(&format!("iv{i}"))), Ok(Some(_))))
                    .count();
                format!("notes {} complete {} unread {}", o.notes.len(), n, errs)
            }
        };
        *tally.entry(what).or_default() += 1;
    }
    eprintln!("{tally:#?}");
}
