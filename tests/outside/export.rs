//! A file of `interviewd export`: what is believed is written as what is believed the same, and what is wrong is said by its line.

use interviewd::runtime::sha256_hex;
use interviewd::store::export::{ExportWriter, Header, Page, RubricText};
use interviewd::store::import::{BadLine, ExportReader, Restore};
use serde_json::json;

/// The lines of an export but for the last one, which is made to fit: none could be guessed. Accepted if all can be put into a store.
pub fn export(bytes: &[u8]) -> bool {
    let (header, interviews) = match read(&with_end(bytes)) {
        Ok(read) => read,
        Err(error) => {
            assert!((1..=1 + lines(bytes)).contains(&error.line), "{error}");
            assert!(!error.to_string().contains(char::is_control), "{error:?}");
            return false;
        }
    };
    let mut page = Page::default();
    for interview in &interviews {
        let raw = serde_json::value::to_raw_value(&interview.entry).expect("an entry is JSON");
        page.interviews.push(raw);
        page.rubrics.push(RubricText {
            hash: interview.entry.rubric.clone(),
            text: interview.rubric_text.to_string(),
        });
    }
    let mut writer = ExportWriter::begin(Vec::new(), header.exported_at).expect("there is room");
    writer.page(page).expect("there is room");
    let (written, summary) = writer.end().expect("there is room");
    assert_eq!(summary.interviews, interviews.len() as u64);
    let (_, again) = read(&written).unwrap_or_else(|error| panic!("{error}"));
    let entries = |interviews: &[Restore]| interviews.iter().map(|i| format!("{:?}", i.entry)).collect::<Vec<_>>();
    assert_eq!(entries(&again), entries(&interviews));
    true
}

fn read(bytes: &[u8]) -> Result<(Header, Vec<Restore>), BadLine> {
    let mut reader = ExportReader::open(bytes)?;
    let mut interviews = Vec::new();
    while let Some(interview) = reader.next_interview()? {
        interviews.push(interview);
    }
    Ok((reader.header().clone(), interviews))
}

fn lines(bytes: &[u8]) -> u64 {
    bytes.split(|byte| *byte == b'\n').count() as u64
}

/// With the last line that its writer would have written.
fn with_end(bytes: &[u8]) -> Vec<u8> {
    let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let lines: Vec<_> = lines.collect();
    let count = |kind: &str| lines.iter().filter(|line| line.starts_with(kind.as_bytes())).count();
    let mut text: Vec<u8> = lines
        .iter()
        .flat_map(|line| line.iter().chain(b"\n"))
        .copied()
        .collect();
    let end = json!({"end": {
        "interviews": count("{\"interview\""),
        "rubrics": count("{\"rubric\""),
        "sha256": sha256_hex(text.as_slice()).expect("memory can be read"),
    }});
    text.extend_from_slice(end.to_string().as_bytes());
    text.push(b'\n');
    text
}
