//! `watch`: events as they happen, a line each.

use std::time::Duration;

use serde::Serialize;

use super::args::{Global, Watch};
use super::connection::{Connection, OfInterview};
use super::exit::Failure;
use super::output;
use super::text::one_line;
use crate::domain::event::{Event, EventKind};
use crate::domain::interview::Language;
use crate::domain::state::InterviewState;
use crate::domain::wording::status_name;
use crate::socket::notification::{EventNotification, Told};
use crate::socket::view::InterviewView;

/// Between two looks whether there is still a reader; no event is lost by it.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Serialize)]
struct Params<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    interview_id: Option<&'a str>,
}

pub fn run(global: &Global, args: &Watch) -> Result<(), Failure> {
    let mut connection = Connection::open(global)?;
    let interview_id = args.id.as_deref();
    connection.raw("events.subscribe", Params { interview_id })?;
    if let Some(interview_id) = interview_id
        && has_ended(&mut connection, interview_id)?
    {
        return Ok(());
    }
    loop {
        let notification = match connection.next_event(PATIENCE) {
            Ok(Some(notification)) => notification,
            Ok(None) => continue,
            Err(error) => return Err(error.into()),
        };
        match args.json {
            true => output::json(&notification)?,
            false => output::line(&described(&notification))?,
        }
        if interview_id.is_some() && is_last(&notification) {
            return Ok(());
        }
    }
}

/// An interview that ended before anyone watched has no more events.
fn has_ended(connection: &mut Connection, interview_id: &str) -> Result<bool, Failure> {
    let view: InterviewView = connection.call("interview.get", OfInterview { interview_id })?;
    let ended = view.state.is_reported() || view.state == InterviewState::Cancelled;
    let state = view.state.as_str();
    output::note(&format!(
        "{interview_id} is {state}, {} of {} answers have ended",
        view.done, view.total
    ));
    Ok(ended)
}

fn is_last(notification: &EventNotification) -> bool {
    let Told::Event(Event { kind, .. }) = &notification.told else {
        return false;
    };
    matches!(
        kind,
        EventKind::ReportReady { .. } | EventKind::Cancelled | EventKind::Deleted
    )
}

fn described(notification: &EventNotification) -> String {
    let (id, done, total, kind) = match &notification.told {
        Told::Event(Event {
            interview_id,
            kind,
            done,
            total,
        }) => (interview_id, done, total, kind),
        Told::Lagged { missed, .. } => return format!("… {missed} events came too fast and are not shown"),
    };
    let what = match kind {
        EventKind::Accepted => "accepted".to_owned(),
        EventKind::AnswerScored { answer_id, score } => format!("{answer_id} scored {score}"),
        EventKind::AnswerUnscored { answer_id, reason } => format!("{answer_id} unscored: {}", one_line(reason)),
        EventKind::ReportStarted => "all answers have ended, writing the report".to_owned(),
        EventKind::ReportReady { status, overall } => match overall {
            Some(overall) => format!("report {}, overall {overall}", status_name(*status, Language::English)),
            None => format!("report {}, no overall score", status_name(*status, Language::English)),
        },
        EventKind::Cancelled => "cancelled".to_owned(),
        EventKind::Deleted => "deleted".to_owned(),
    };
    format!("{id}  {done}/{total}  {what}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notification(fields: &str) -> EventNotification {
        serde_json::from_str(&format!(r#"{{"subscription":1,"seq":2,{fields}}}"#)).unwrap()
    }

    #[test]
    fn every_event_is_one_line() {
        let lines = [
            (r#""kind":"accepted""#, "iv  1/2  accepted"),
            (
                r#""kind":"answer_scored","answer_id":"a1","score":65.5"#,
                "iv  1/2  a1 scored 65.5",
            ),
            (
                r#""kind":"answer_unscored","answer_id":"a1","reason":"it\nbroke""#,
                "iv  1/2  a1 unscored: it broke",
            ),
            (
                r#""kind":"report_ready","status":"partial","overall":null"#,
                "iv  1/2  report partial, no overall score",
            ),
        ];
        for (fields, line) in lines {
            let event = notification(&format!(r#"{fields},"interview_id":"iv","done":1,"total":2"#));
            assert_eq!(described(&event), line);
        }
        assert_eq!(
            described(&notification(r#""kind":"lagged","missed":7"#)),
            "… 7 events came too fast and are not shown"
        );
    }

    #[test]
    fn only_an_end_is_the_last_event() {
        let last = |fields: &str| {
            is_last(&notification(&format!(
                r#"{fields},"interview_id":"iv","done":1,"total":2"#
            )))
        };
        assert!(last(r#""kind":"report_ready","status":"complete","overall":70"#));
        assert!(last(r#""kind":"cancelled""#) && last(r#""kind":"deleted""#));
        assert!(!last(r#""kind":"report_started""#) && !last(r#""kind":"accepted""#));
    }

    #[test]
    fn json_lines_are_the_protocols_parameters() {
        let text = r#"{"subscription":1,"seq":2,"interview_id":"iv","kind":"answer_scored","answer_id":"a1","score":65.5,"done":1,"total":2}"#;
        let event: EventNotification = serde_json::from_str(text).unwrap();
        assert_eq!(output::compact(&event).unwrap(), text);
    }
}
