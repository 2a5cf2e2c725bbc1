//! `report`: an interview's report as JSON, Markdown, or text for a terminal.

use serde::Serialize;
use serde_json::value::RawValue;

use super::args::{Global, Report as Args, ReportFormat};
use super::connection::{Connection, parsed};
use super::exit::{Exit, Failure};
use super::output::{self, Look};
use super::report_text;
use crate::domain::report::Report;
use crate::socket::call::Format;
use crate::socket::view::ReportView;

#[derive(Debug, Serialize)]
struct Params<'a> {
    interview_id: &'a str,
    format: Format,
}

pub fn run(global: &Global, args: &Args) -> Result<(), Failure> {
    let mut connection = Connection::open(global)?;
    match args.format {
        ReportFormat::Json => output::json(&fetch(&mut connection, &args.id, Format::Json)?),
        ReportFormat::Markdown => {
            let markdown: String = parsed(&fetch(&mut connection, &args.id, Format::Markdown)?)?;
            output::text(&markdown)
        }
        ReportFormat::Text => show(&fetch(&mut connection, &args.id, Format::Json)?),
    }
}

/// The report alone: an object, or a text.
pub fn fetch(connection: &mut Connection, id: &str, format: Format) -> Result<Box<RawValue>, Failure> {
    let params = Params {
        interview_id: id,
        format,
    };
    let view: Result<ReportView, Failure> = connection.call("report.get", params);
    let view = view.map_err(|failure| match failure.exit() {
        Exit::NotReady => failure.and(&format!("`interviewd watch {id}` follows it")),
        _ => failure,
    })?;
    Ok(view.report)
}

/// Prints a report for reading.
pub fn show(report: &RawValue) -> Result<(), Failure> {
    let report: Report = parsed(report)?;
    output::line(&report_text::render(&report, Look::of_stdout()).join("\n"))
}
