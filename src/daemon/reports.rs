//! What clients do with reports: get one, or wait for it.

use std::time::Duration;

use serde_json::value::{RawValue, to_raw_value};

use super::Daemon;
use super::faults::{internal, of_rubric, of_store};
use super::interviews::{interview_id, unknown};
use crate::domain::event::EventKind;
use crate::domain::ids::InterviewId;
use crate::domain::markdown;
use crate::domain::state::InterviewState;
use crate::socket::call::Format;
use crate::socket::fault::{Fault, Kind};
use crate::socket::hub::Subscription;
use crate::socket::notification::Told;
use crate::socket::view::ReportView;
use crate::store::View;

impl Daemon {
    pub(super) fn report(&self, id: &str, format: Format) -> Result<ReportView, Fault> {
        let id = interview_id(id)?;
        self.report_of(&id, self.view(&id)?, format)
    }

    fn report_of(&self, id: &InterviewId, view: View, format: Format) -> Result<ReportView, Fault> {
        if view.state() == InterviewState::Cancelled {
            return Err(Fault::conflict(format!(
                "the interview {id} was cancelled and has no report"
            )));
        }
        let Some(head) = view.report else {
            let message = format!(
                "the report of {id} is not ready: {} of {} answers have ended",
                view.done(),
                view.total()
            );
            return Err(Fault::new(Kind::NotReady, message)
                .with("done", view.done())
                .with("total", view.total()));
        };
        let report = match format {
            Format::Json => RawValue::from_string(
                self.store
                    .report_json(id)
                    .map_err(of_store)?
                    .ok_or_else(|| unknown(id))?,
            ),
            Format::Markdown => {
                let report = self.store.report(id).map_err(of_store)?.ok_or_else(|| unknown(id))?;
                let (rubric, _) = self.rubrics.by_hash(&view.record.rubric_hash).map_err(of_rubric)?;
                to_raw_value(&markdown::render(&report, &rubric))
            }
        };
        Ok(ReportView {
            interview_id: id.clone(),
            status: head.status,
            report: report.map_err(internal)?,
        })
    }

    /// As [`Self::report`], once it is there.
    pub(super) async fn wait_for_report(&self, id: &str, timeout_ms: u64, format: Format) -> Result<ReportView, Fault> {
        let id = interview_id(id)?;
        // Watching begins before looking, so that nothing happens unseen in between.
        let mut events = self.hub.subscribe(Some(id.clone()), 64);
        let life = self.view(&id)?.record.sequence;
        // An id that was deleted and is used again names another interview, and nobody here waits for that one.
        let look = || match self.view(&id)? {
            view if view.record.sequence == life => self.report_of(&id, view, format),
            _ => Err(unknown(&id)),
        };
        let mut over = self.over.subscribe();
        let waited = tokio::time::timeout(Duration::from_millis(timeout_ms), async {
            loop {
                match look() {
                    Err(fault) if fault.kind == Kind::NotReady => {}
                    done => return done,
                }
                tokio::select! {
                    () = until_ended(&mut events) => {}
                    _ = over.wait_for(|over| *over) => return look().map_err(too_late),
                }
            }
        });
        match waited.await {
            Ok(done) => done,
            Err(_) => look(),
        }
    }
}

/// What is not ready now will not be before the next start.
fn too_late(fault: Fault) -> Fault {
    match fault.kind {
        Kind::NotReady => Fault::new(
            Kind::Draining,
            "the daemon stops before the report is there; ask again once it is back",
        ),
        _ => fault,
    }
}

/// Waits for an event after which there may be a report, or can be none.
async fn until_ended(events: &mut Subscription) {
    loop {
        match events.next().await.told {
            Told::Event(event) if !ends(&event.kind) => {}
            _ => return, // one of those that were missed may have been it
        }
    }
}

fn ends(kind: &EventKind) -> bool {
    match kind {
        EventKind::ReportReady { .. } | EventKind::Cancelled | EventKind::Deleted => true,
        EventKind::Accepted
        | EventKind::AnswerScored { .. }
        | EventKind::AnswerUnscored { .. }
        | EventKind::ReportStarted => false,
    }
}
