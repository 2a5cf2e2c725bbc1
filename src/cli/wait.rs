//! Follows one interview until it has its report.

use std::time::Duration;

use super::connection::{Connection, OfInterview};
use super::exit::{Exit, Failure};
use super::text::one_line;
use crate::domain::event::{Event, EventKind};
use crate::domain::state::InterviewState;
use crate::socket::notification::Told;
use crate::socket::view::{DaemonState, InterviewView, StatusView};

/// After so long without an event the daemon is asked where things stand.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// After so long without a first event the daemon is asked whether it scores at all.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// How far an interview is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub done: usize,
    pub total: usize,
    pub state: InterviewState,
}

/// What whoever waits is told.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    Moved(Progress),
    /// Nothing moves, and why.
    Stands(String),
}

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Goes(Progress),
    Reported,
    /// The event tells less than `interview.get`.
    Look,
    Cancelled,
    Deleted,
}

/// Returns when the report can be had. `on` hears of every step.
pub fn until_reported(
    connection: &mut Connection,
    interview_id: &str,
    on: &mut dyn FnMut(News),
) -> Result<(), Failure> {
    connection.raw("events.subscribe", OfInterview { interview_id })?;
    let mut step = Step::Look;
    let mut patience = FIRST_LOOK;
    let mut told = None;
    loop {
        step = match step {
            Step::Reported => return Ok(()),
            Step::Cancelled => {
                return Err(Failure::failed(format!(
                    "{interview_id} was cancelled; it has no report"
                )));
            }
            Step::Deleted => return Err(Failure::told(Exit::NotFound, format!("{interview_id} was deleted"))),
            Step::Look => of_view(&connection.call("interview.get", OfInterview { interview_id })?),
            Step::Goes(progress) => {
                on(News::Moved(progress));
                match connection.next_event(patience)? {
                    None => {
                        patience = LOOK_AGAIN;
                        let status: StatusView = connection.call("status", ())?;
                        if told != Some(status.state) {
                            told = Some(status.state);
                            standstill(&status).into_iter().for_each(|why| on(News::Stands(why)));
                        }
                        Step::Look
                    }
                    Some(notification) => {
                        patience = LOOK_AGAIN;
                        of_event(&notification.told)
                    }
                }
            }
        };
    }
}

/// Why a daemon in this state scores nothing; `None` if it does.
fn standstill(status: &StatusView) -> Option<String> {
    match status.state {
        DaemonState::Ready | DaemonState::Draining => None,
        DaemonState::Starting => Some("the daemon is starting: it scores once its model is loaded".to_owned()),
        DaemonState::Degraded => {
            let reason = status.reason.as_deref().unwrap_or("it gives no reason");
            Some(format!(
                "the daemon is degraded: it holds what it accepted until it can score: {}",
                one_line(reason)
            ))
        }
    }
}

fn of_view(view: &InterviewView) -> Step {
    match view.state {
        InterviewState::Complete | InterviewState::Partial => Step::Reported,
        InterviewState::Cancelled => Step::Cancelled,
        state @ (InterviewState::Open | InterviewState::Scoring | InterviewState::Reporting) => Step::Goes(Progress {
            done: view.done,
            total: view.total,
            state,
        }),
    }
}

fn of_event(told: &Told) -> Step {
    let Told::Event(Event { kind, done, total, .. }) = told else {
        return Step::Look;
    };
    let goes = |state| {
        Step::Goes(Progress {
            done: *done,
            total: *total,
            state,
        })
    };
    match kind {
        // Also of an interview that is open.
        EventKind::Accepted => Step::Look,
        EventKind::AnswerScored { .. } | EventKind::AnswerUnscored { .. } => goes(InterviewState::Scoring),
        EventKind::ReportStarted => goes(InterviewState::Reporting),
        EventKind::ReportReady { .. } => Step::Reported,
        EventKind::Cancelled => Step::Cancelled,
        EventKind::Deleted => Step::Deleted,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixListener;
    use std::thread::spawn;

    use super::*;

    /// A daemon that answers each request with the next of `replies`: results, and the events that follow them.
    fn scripted(replies: Vec<(&'static str, Vec<&'static str>)>) -> (tempfile::TempDir, Connection) {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("s")).unwrap();
        spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            for (result, events) in replies {
                let request: serde_json::Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
                writeln!(
                    stream,
                    r#"{{"jsonrpc":"2.0","id":{},"result":{}}}"#,
                    request["id"],
                    result.replace('\n', "")
                )
                .unwrap();
                for (seq, event) in events.iter().enumerate() {
                    let params = format!(r#"{{"subscription":1,"seq":{seq},{event}}}"#);
                    writeln!(stream, r#"{{"jsonrpc":"2.0","method":"event","params":{params}}}"#).unwrap();
                }
            }
        });
        let connection = Connection::to(&folder.path().join("s")).unwrap();
        (folder, connection)
    }

    const SCORING: &str = r#"{"interview_id":"iv","state":"scoring","done":0,"total":2,"answers":[],"submitted_at":"2026-01-31T09:00:00.000Z"}"#;
    const COMPLETE: &str = r#"{"interview_id":"iv","state":"complete","done":2,"total":2,"answers":[],"submitted_at":"2026-01-31T09:00:00.000Z"}"#;

    #[test]
    fn a_report_is_waited_for_event_by_event() {
        let events = vec![
            r#""interview_id":"iv","kind":"answer_scored","answer_id":"a1","score":50,"done":1,"total":2"#,
            r#""interview_id":"iv","kind":"report_started","done":2,"total":2"#,
            r#""interview_id":"iv","kind":"report_ready","status":"complete","overall":50,"done":2,"total":2"#,
        ];
        let (_folder, mut connection) = scripted(vec![(r#"{"subscription":1}"#, vec![]), (SCORING, events)]);
        let mut seen = Vec::new();
        until_reported(&mut connection, "iv", &mut |news| match news {
            News::Moved(progress) => seen.push((progress.done, progress.state)),
            News::Stands(why) => panic!("{why}"),
        })
        .unwrap();
        let (scoring, reporting) = (InterviewState::Scoring, InterviewState::Reporting);
        assert_eq!(seen, [(0, scoring), (1, scoring), (2, reporting)]);
    }

    #[test]
    fn whoever_missed_events_asks_where_things_stand() {
        let lagged = vec![r#""kind":"lagged","missed":9"#];
        let replies = vec![(r#"{"subscription":1}"#, vec![]), (SCORING, lagged), (COMPLETE, vec![])];
        let (_folder, mut connection) = scripted(replies);
        until_reported(&mut connection, "iv", &mut |_| {}).unwrap();
    }

    #[test]
    fn a_daemon_that_goes_away_says_that_nothing_is_lost() {
        let (_folder, mut connection) = scripted(vec![(r#"{"subscription":1}"#, vec![]), (SCORING, vec![])]);
        let error = until_reported(&mut connection, "iv", &mut |_| {}).unwrap_err();
        assert_eq!(error.exit(), Exit::Failed);
        assert!(error.to_string().contains("what was accepted goes on"), "{error}");
    }

    #[test]
    fn whoever_waits_for_a_daemon_that_cannot_score_is_told_once() {
        let degraded = r#"{"version":"0","uptime_s":1,"state":"degraded","reason":"no model:\n/nowhere","model":null,"devices":[],
            "pool":{"planned_actors":0,"actors":[]},"queue":{"interviews":1,"answers":2,"max":9,"oldest_wait_s":2},
            "interviews":{"open":0,"scoring":1,"reporting":0,"complete":0,"partial":0,"cancelled":0},
            "totals":{"answers_scored":0,"answers_unscored":0,"reports":0,"tokens_in":0,"tokens_out":0},
            "store":{"path":"s","size_bytes":0,"free_bytes":0},"connections":1}"#;
        let replies = vec![
            (r#"{"subscription":1}"#, vec![]),
            (SCORING, vec![]),
            (degraded, vec![]),
            (COMPLETE, vec![]),
        ];
        let (_folder, mut connection) = scripted(replies);
        let mut told = Vec::new();
        until_reported(&mut connection, "iv", &mut |news| {
            if let News::Stands(why) = news {
                told.push(why);
            }
        })
        .unwrap();
        assert_eq!(told.len(), 1);
        assert!(
            told[0].contains("degraded") && told[0].ends_with("no model: /nowhere"),
            "{told:?}"
        );
    }

    fn told(json: &str) -> Told {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn events_say_how_far_an_interview_is() {
        let scored = r#"{"interview_id":"a","kind":"answer_scored","answer_id":"a1","score":50,"done":1,"total":3}"#;
        let progress = Progress {
            done: 1,
            total: 3,
            state: InterviewState::Scoring,
        };
        assert_eq!(of_event(&told(scored)), Step::Goes(progress));
        let ready =
            r#"{"interview_id":"a","kind":"report_ready","status":"partial","overall":null,"done":3,"total":3}"#;
        assert_eq!(of_event(&told(ready)), Step::Reported);
        assert_eq!(of_event(&told(r#"{"kind":"lagged","missed":4}"#)), Step::Look);
        assert_eq!(
            of_event(&told(r#"{"interview_id":"a","kind":"deleted","done":0,"total":3}"#)),
            Step::Deleted
        );
    }

    #[test]
    fn an_interview_that_has_ended_is_not_waited_for() {
        let view = |state: &str| -> InterviewView {
            let json = format!(
                r#"{{"interview_id":"a","state":"{state}","done":1,"total":1,"answers":[],"submitted_at":"2026-01-31T09:00:00.000Z"}}"#
            );
            serde_json::from_str(&json).unwrap()
        };
        assert_eq!(of_view(&view("complete")), Step::Reported);
        assert_eq!(of_view(&view("partial")), Step::Reported);
        assert_eq!(of_view(&view("cancelled")), Step::Cancelled);
        assert!(matches!(of_view(&view("reporting")), Step::Goes(_)));
    }
}
