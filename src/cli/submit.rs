//! `submit`: hands an interview over, and on demand waits for its report.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::args::{Global, Submit};
use super::connection::{Connection, parsed};
use super::exit::Failure;
use super::progress::AnswersBar;
use super::report;
use super::text::{count, one_line};
use super::wait::{News, until_reported};
use super::{interrupt, output};
use crate::domain::state::InterviewState;
use crate::socket::call::Format;
use crate::socket::view::Submitted;

/// Far more than a daemon takes in one line; keeps a device or an endless pipe from filling the memory.
const BYTES_MAX: u64 = 64 << 20;

#[derive(Debug, Serialize)]
pub struct Params {
    pub interview: Value,
}

pub fn run(global: &Global, args: &Submit) -> Result<(), Failure> {
    let interview = read(&args.file)?;
    let mut connection = Connection::open(global)?;
    let raw = connection.raw("interview.submit", Params { interview })?;
    let submitted: Submitted = parsed(&raw)?;
    if !args.wait {
        return match args.json {
            true => output::json(&raw),
            false => output::line(&described(&submitted)),
        };
    }
    let id = submitted.interview_id.as_str();
    output::note(&described(&submitted));
    wait(&mut connection, id)?;
    let report = report::fetch(&mut connection, id, Format::Json)?;
    match args.json {
        true => output::json(&report),
        false => report::show(&report),
    }
}

fn wait(connection: &mut Connection, id: &str) -> Result<(), Failure> {
    let bar = AnswersBar::new();
    let (shown, waited_for) = (bar.clone(), id.to_owned());
    interrupt::end_with(move || {
        shown.clear();
        output::note(&format!(
            "no longer waiting; {waited_for} goes on in the daemon: `interviewd watch {waited_for}` follows it, \
             `interviewd cancel {waited_for}` stops it"
        ));
    })?;
    until_reported(connection, id, &mut |news| match news {
        News::Stands(why) => bar.note(&why),
        News::Moved(progress) => {
            let message = match progress.state {
                InterviewState::Reporting => "writing the report",
                InterviewState::Open => "open: more answers may come",
                _ => "scoring",
            };
            bar.show(progress.done, progress.total, message);
        }
    })
}

fn described(submitted: &Submitted) -> String {
    let id = &submitted.interview_id;
    let answers = count(submitted.answers.len(), "answer");
    let state = submitted.state.as_str();
    match submitted.created {
        true => format!("{id} is accepted with {answers} ({state}); `interviewd watch {id}` follows it"),
        false => format!("{id} was there already, with the same {answers} ({state})"),
    }
}

/// Reads an interview. Whether it means something is for the daemon to say; that it is JSON is said here, with its place.
fn read(file: &Path) -> Result<Value, Failure> {
    let (name, bytes) = if file.as_os_str() == "-" {
        ("standard input".to_owned(), limited(io::stdin().lock()))
    } else {
        (file.display().to_string(), File::open(file).and_then(limited))
    };
    let bytes = bytes.map_err(|error| Failure::failed(format!("{name} cannot be read: {error}")))?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(Failure::failed(format!(
            "{name} has more than {} MiB: is it an interview?",
            BYTES_MAX >> 20
        )));
    }
    parse(&name, &bytes)
}

fn limited(reader: impl Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(BYTES_MAX + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn parse(name: &str, bytes: &[u8]) -> Result<Value, Failure> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let line = bytes[..error.valid_up_to()]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
            + 1;
        Failure::failed(format!("{name} is not UTF-8: line {line}"))
    })?;
    // A mark that some editors put at the beginning.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.trim().is_empty() {
        return Err(Failure::failed(format!(
            "{name} is empty; it must hold an interview as JSON"
        )));
    }
    serde_json::from_str(text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let place = format!(" at line {line} column {column}");
        let problem = error.to_string();
        let problem = one_line(problem.strip_suffix(&place).unwrap_or(&problem));
        Failure::failed(format!("{name} is not JSON: line {line}, column {column}: {problem}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(bytes: &[u8]) -> String {
        parse("iv.json", bytes).unwrap_err().to_string()
    }

    #[test]
    fn what_is_not_json_is_answered_with_its_place() {
        assert_eq!(
            problem(b"{\n  \"a\": 1,\n}"),
            "iv.json is not JSON: line 3, column 1: trailing comma"
        );
        assert_eq!(
            problem(b"{} {}"),
            "iv.json is not JSON: line 1, column 4: trailing characters"
        );
        assert_eq!(problem(b"{\n\"a\": \"\xff\"}"), "iv.json is not UTF-8: line 2");
        assert_eq!(problem(b" \n"), "iv.json is empty; it must hold an interview as JSON");
        assert!(problem("[".repeat(1_000).as_bytes()).contains("recursion limit"));
        assert!(problem(br#"{"a":"\ud800"}"#).contains("line 1"));
    }

    #[test]
    fn an_interview_is_read_whatever_its_editor() {
        let with_mark = [b"\xef\xbb\xbf".as_slice(), "{\"position\":\"개발자\"}".as_bytes()].concat();
        assert_eq!(parse("x", &with_mark).unwrap()["position"], "개발자");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = read(Path::new("/nowhere/iv.json")).unwrap_err().to_string();
        assert!(error.starts_with("/nowhere/iv.json cannot be read"), "{error}");
    }

    #[test]
    fn repeating_a_submit_is_said_to_be_one() {
        let submitted = |created: bool| -> Submitted {
            let json =
                format!(r#"{{"interview_id":"iv-1","state":"scoring","answers":["a1","a2"],"created":{created}}}"#);
            serde_json::from_str(&json).unwrap()
        };
        assert!(described(&submitted(true)).starts_with("iv-1 is accepted with 2 answers (scoring)"));
        assert!(described(&submitted(false)).starts_with("iv-1 was there already"));
    }
}
