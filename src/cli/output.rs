//! Where output goes: standard output that may be closed early, its width, and whether it may have colours.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::exit::Failure;

/// Widest that text for people gets: longer lines are hard to read.
const COLUMNS_MAX: usize = 100;
/// Where there is no terminal to ask.
const COLUMNS_DEFAULT: usize = 80;
const COLUMNS_MIN: usize = 60;

/// How text for people is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    pub columns: usize,
    pub colour: bool,
}

impl Look {
    /// As standard output is.
    pub fn of_stdout() -> Self {
        let size = rustix::termios::tcgetwinsize(io::stdout()).ok();
        let columns = size.map_or(0, |size| usize::from(size.ws_col));
        Self {
            columns: match columns {
                0 => COLUMNS_DEFAULT,
                columns => columns.clamp(COLUMNS_MIN, COLUMNS_MAX),
            },
            colour: io::stdout().is_terminal() && colours_are_welcome(),
        }
    }

    pub fn bold(self, text: &str) -> String {
        self.painted("1", text)
    }

    pub fn dim(self, text: &str) -> String {
        self.painted("2", text)
    }

    pub fn good(self, text: &str) -> String {
        self.painted("32", text)
    }

    pub fn warn(self, text: &str) -> String {
        self.painted("33", text)
    }

    pub fn bad(self, text: &str) -> String {
        self.painted("31", text)
    }

    fn painted(self, code: &str, text: &str) -> String {
        match self.colour {
            true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
            false => text.to_owned(),
        }
    }
}

/// Prints a text and a line break.
pub fn line(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{text}").and_then(|()| out.flush());
    written.map_err(Failure::output)
}

/// Prints a text as it is.
pub fn text(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(Failure::output)
}

/// Prints a value as one line of JSON.
pub fn json<T: Serialize + ?Sized>(value: &T) -> Result<(), Failure> {
    line(&compact(value)?)
}

/// One line of JSON.
pub fn compact<T: Serialize + ?Sized>(value: &T) -> Result<String, Failure> {
    serde_json::to_string(value)
        .map_err(|error| Failure::failed(format!("a result cannot be written as JSON: {error}")))
}

/// Prints a line for people to standard error; if nobody reads it, so be it.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "interviewd: {text}");
}

fn colours_are_welcome() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Whether standard error may have colours.
pub fn stderr_has_colours() -> bool {
    io::stderr().is_terminal() && colours_are_welcome()
}

/// Whether someone looks at standard error.
pub fn stderr_is_watched() -> bool {
    io::stderr().is_terminal()
}

/// Whether someone looks at standard output.
pub fn stdout_is_watched() -> bool {
    io::stdout().is_terminal()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_one_line_and_keeps_the_fields_in_their_order() {
        let value: Box<serde_json::value::RawValue> =
            serde_json::from_str(r#"{"b":1.50,"a":"줄\n바꿈","c":[{"z":null}]}"#).unwrap();
        assert_eq!(
            compact(&value).unwrap(),
            r#"{"b":1.50,"a":"줄\n바꿈","c":[{"z":null}]}"#
        );
    }

    #[test]
    fn there_is_no_colour_without_a_terminal() {
        let plain = Look {
            columns: 80,
            colour: false,
        };
        assert_eq!(plain.good("x"), "x");
        let coloured = Look {
            columns: 80,
            colour: true,
        };
        assert_eq!(coloured.bad("x"), "\u{1b}[31mx\u{1b}[0m");
    }
}
