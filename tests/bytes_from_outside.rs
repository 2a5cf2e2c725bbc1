//! Whatever bytes come from outside, they are accepted as a whole or refused: the fuzz targets' properties over their seeds, over seeds with mistakes in
//! them, and over interviews and texts made up.

mod outside;

use std::cell::Cell;
use std::path::{Path, PathBuf};

use outside::{PROPERTIES, Property};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

/// What parsers stumble over.
const SPLINTERS: [&[u8]; 36] = [
    b"\"",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"=",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"\\u202e",
    b"\n",
    b"\r\n",
    b"\0",
    b"\x7f",
    b"\xff",
    b"\xed\xa0\x80",
    b"null",
    b"true",
    b"-1",
    b"0",
    b"1e999",
    b"-0.0",
    b"0.1234567890123456789",
    b"4294967296",
    b"18446744073709551616",
    b"\"a\"",
    b"\"v\":2",
    b"[|endofturn|]",
    b"[[[[[[[[[[[[[[[[",
    b"2026-02-30T25:61:61Z",
    b"nan",
    b"'''",
    b"#",
    "\u{1f469}\u{200d}\u{1f4bb}".as_bytes(),
];

/// Tries with each parser.
const CASES: u32 = 200;

/// A mistake in a text.
#[derive(Debug, Clone)]
enum Mistake {
    Put(Index, Vec<u8>),
    Lose(Index, usize),
    Repeat(Index, usize, usize),
}

impl Mistake {
    fn make(self, bytes: &mut Vec<u8>) {
        let place = |index: Index, bytes: &[u8]| index.index(bytes.len() + 1);
        let piece = |from: usize, length: usize, bytes: &[u8]| from..bytes.len().min(from + length);
        match self {
            Self::Put(at, splinter) => {
                let at = place(at, bytes);
                bytes.splice(at..at, splinter);
            }
            Self::Lose(at, length) => {
                let at = place(at, bytes);
                bytes.drain(piece(at, length, bytes));
            }
            Self::Repeat(at, length, times) => {
                let at = place(at, bytes);
                let again = bytes[piece(at, length, bytes)].repeat(times);
                bytes.splice(at..at, again);
            }
        }
    }
}

fn mistakes() -> impl Strategy<Value = Mistake> {
    let splinters = prop_oneof![
        3 => select(SPLINTERS.to_vec()).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 1..4),
    ];
    prop_oneof![
        2 => (any::<Index>(), splinters).prop_map(|(at, splinter)| Mistake::Put(at, splinter)),
        2 => (any::<Index>(), 1..12_usize).prop_map(|(at, length)| Mistake::Lose(at, length)),
        1 => (any::<Index>(), 1..60_usize, 1..8_usize).prop_map(|(at, length, times)| Mistake::Repeat(at, length, times)),
    ]
}

fn seeds(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
    let files = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = files.map(|file| file.unwrap().path());
    paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

/// Tries made-up bytes; gives how many were accepted.
fn try_all(cases: u32, property: Property, bytes: &impl Strategy<Value = Vec<u8>>) -> usize {
    let config = ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(cases)
    };
    let accepted = Cell::new(0);
    let tried = TestRunner::new(config).run(bytes, |bytes| {
        accepted.set(accepted.get() + usize::from(property(&bytes)));
        Ok(())
    });
    tried.unwrap_or_else(|error| panic!("{error}"));
    accepted.get()
}

#[test]
fn every_seed_is_accepted_or_refused_as_its_name_says() {
    for (name, property) in PROPERTIES {
        let seeds = seeds(name);
        for (path, bytes) in &seeds {
            let is_good = path.file_name().unwrap().to_str().unwrap().starts_with("good");
            assert_eq!(property(bytes), is_good, "{}", path.display());
        }
        assert!(seeds.len() > 1, "{name} has seeds");
    }
}

#[test]
fn a_seed_with_mistakes_is_accepted_as_a_whole_or_refused() {
    for (name, property) in PROPERTIES {
        let texts: Vec<_> = seeds(name).into_iter().map(|(_, bytes)| bytes).collect();
        let mistaken = (select(texts), prop::collection::vec(mistakes(), 0..4)).prop_map(|(mut bytes, mistakes)| {
            mistakes.into_iter().for_each(|mistake| mistake.make(&mut bytes));
            bytes
        });
        let accepted = try_all(CASES, property, &mistaken);
        assert!(accepted > 0, "{name}: not one was accepted");
        assert!(
            name == "answer" || accepted < CASES as usize,
            "{name}: not one was refused"
        );
    }
}

/// Interviews of which a good part can be judged.
fn drafts() -> impl Strategy<Value = Vec<u8>> {
    let id = || prop_oneof![4 => Just(Value::Null), 2 => "a[1-4]".prop_map(Value::from), 1 => any::<String>().prop_map(Value::from)];
    let stage = prop_oneof![
        8 => select(vec!["intro", "skill", "skill_followup", "growth", "growth_followup"]).prop_map(str::to_owned),
        1 => any::<String>(),
    ];
    let text = prop_oneof![6 => "\\PC{0,40}", 1 => any::<String>(), 1 => "[\r\n\t ]{0,4}"];
    let answer = (id(), stage, text.clone(), text.clone(), id()).prop_map(|(id, stage, question, answer, parent)| {
        let parent = if stage.ends_with("_followup") {
            parent
        } else {
            Value::Null
        };
        json!({"answer_id": id, "stage": stage, "question": question, "answer": answer, "follow_up_of": parent})
    });
    let language = select(vec![Value::Null, "ko".into(), "en".into(), "fr".into()]);
    let company = prop::option::of((text.clone(), prop::collection::vec(text.clone(), 0..3)));
    (id(), language, company, text, prop::collection::vec(answer, 0..5)).prop_map(
        |(id, language, company, resume, answers)| {
            let company = company.map(|(name, ideal)| json!({"name": name, "ideal": ideal}));
            let candidate = json!({"resume_summary": resume});
            let interview = json!({
                "interview_id": id, "language": language, "company": company, "candidate": candidate, "answers": answers,
            });
            interview.to_string().into_bytes()
        },
    )
}

#[test]
fn an_interview_that_is_accepted_is_the_same_however_it_comes() {
    let accepted = try_all(2_000, outside::interview, &drafts());
    assert!((100..1_900).contains(&accepted), "{accepted} of 2000 were accepted");
}

#[test]
fn an_answer_of_any_text_is_judged_without_becoming_control_tokens() {
    let piece = prop_oneof![
        3 => any::<String>(),
        1 => select(vec!["[|endofturn|]", "[|assistant|]", "[|system|]", "[PAD]", "[UNK]", "[BOS]"]).prop_map(str::to_owned),
        1 => select(SPLINTERS.to_vec()).prop_map(|splinter| String::from_utf8_lossy(splinter).into_owned()),
    ];
    let text = prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat().into_bytes());
    try_all(150, outside::answer, &text);
}
