//! Looks after the store while the daemon runs: has it opened again, tells what became of what was in doubt, and sets to work what is unfinished.

use std::time::Duration;

use super::Daemon;
use super::faults::with_causes;
use super::lives::EngageError;
use crate::actors::pool::Remember;
use crate::crash_points::CrashPoint;
use crate::domain::ids::InterviewId;
use crate::store::{Reach, StoreError, Unfinished};

/// In the store's folder: what engines run now.
pub(super) const IN_FLIGHT: &str = "in-flight";

/// How often the store is looked after: what waits for room on the disk waits so long once there is some.
const STORE_INTERVAL: Duration = Duration::from_secs(1);

impl Daemon {
    /// The store was opened, and had this to say.
    pub(super) fn opened(&self, notes: Vec<String>) {
        self.losses().opened(notes, self.store.unreadable());
    }

    /// At a start: from now on what runs is noted, and what is unfinished goes on. If the store could not be opened, both come once it has been.
    pub(super) fn recover(&self) {
        let unfinished = self.store.unfinished();
        if !is_shut(&unfinished) {
            self.remember();
        }
        self.go_on(unfinished);
    }

    /// Feeds what is unfinished in the store into the ordinary path. May be repeated: what is under way stays so.
    fn go_on(&self, unfinished: Result<Unfinished, StoreError>) {
        // It has met the end of the disk again; this comes again when it has been opened.
        if is_shut(&unfinished) {
            return;
        }
        let unfinished = match unfinished {
            Ok(unfinished) => unfinished,
            Err(error) => {
                let reason = format!("unfinished interviews do not go on: {}", with_causes(&error));
                tracing::error!(reason);
                self.losses().set_unknown(reason);
                return;
            }
        };
        tracing::info!(interviews = unfinished.records.len(), "unfinished interviews go on");
        self.losses().forget_all_stuck();
        for unreadable in unfinished.unreadable {
            self.does_not_begin(&unreadable.name, &unreadable.error);
        }
        for record in unfinished.records {
            let places = self.room.recover(record.interview.answers().len());
            self.engage(record, places);
            CrashPoint::LifeRecovered.reached();
        }
    }

    /// From now on what runs is noted. Not before the store is open: until then all that is there may be moved aside as a whole, and another begun.
    fn remember(&self) {
        self.pool.do_send(Remember(self.store.path().join(IN_FLIGHT)));
    }

    /// The interview is stored, and its work stays undone; that of all others goes on.
    pub(super) fn does_not_begin(&self, name: &str, error: &(impl std::error::Error + 'static)) {
        let reason = with_causes(error);
        tracing::error!(
            interview = name,
            reason,
            "the interview is stored, but its work cannot begin"
        );
        self.losses().add_stuck(name);
    }

    /// Begins what stands in line, as answers get slots.
    pub(super) async fn keep_beginning(&self) {
        let unbegun = |id: &InterviewId, error: &EngageError| self.does_not_begin(id.as_str(), error);
        self.lives.keep_beginning(unbegun).await;
    }

    /// Has the store look after its disk; whenever it has been opened, tells what became of what was in doubt, and sets to work what is unfinished in it.
    pub(super) async fn tend_store(&self) {
        loop {
            tokio::time::sleep(STORE_INTERVAL).await;
            if let Some(notes) = self.store.tend((self.clock)()).await {
                self.opened(notes);
                // Before any work may come: from here, or by a client's request.
                self.remember();
                // First, so that nothing is told of an interview before it was told that there is one.
                self.settle_all().await;
                self.go_on(self.store.unfinished());
            }
        }
    }
}

/// Whether the store can say nothing now.
fn is_shut<T>(said: &Result<T, StoreError>) -> bool {
    said.as_ref().is_err_and(|error| error.reach() == Reach::Whole)
}
