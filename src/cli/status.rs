//! `status`: what the daemon is doing, on one screen.

use super::args::{Global, Json};
use super::connection::{Connection, parsed};
use super::exit::Failure;
use super::output::{self, Look};
use super::status_text;

pub fn run(global: &Global, args: &Json) -> Result<(), Failure> {
    let raw = Connection::open(global)?.raw("status", ())?;
    if args.json {
        return output::json(&raw);
    }
    let lines = status_text::render(&parsed(&raw)?, Look::of_stdout());
    output::line(&lines.join("\n"))
}
