//! Named points at which a test has the process die: at every durable write, and wherever work passes from one hand to the next.
//!
//! `INTERVIEWD_CRASH_AT=OutcomeRecorded:3` kills the process, as kill -9 does, when that point is reached for the third time. Only builds with debug
//! assertions look for it: in a release a point is nothing at all.

/// Declares the points, and the list of them that the tests go through.
macro_rules! crash_points {
    ($($(#[doc = $text:literal])* $point:ident,)+) => {
        /// A place in the daemon's work where a crash is tried.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum CrashPoint { $($(#[doc = $text])* $point,)+ }

        impl CrashPoint {
            /// Every point; there is a test in which each of them must be reached.
            pub const ALL: &[Self] = &[$(Self::$point),+];
        }
    };
}

crash_points! {
    // ---- Requests, in the order of an interview's life.

    /// Nothing is stored yet, but the queue holds room for it.
    RoomReserved,
    /// The interview is stored, nobody knows.
    AcceptStored,
    /// Told to subscribers, but not set to work.
    AcceptTold,
    /// Set to work, the client has no reply.
    AcceptEngaged,
    /// One more answer is stored, and not set to work.
    AnswerStored,
    AnswerEngaged,
    /// The end of an open interview is stored, its report is asked of nobody.
    FinishStored,
    FinishEngaged,
    /// A new generation is stored, and not set to work.
    RetryStored,
    RetryEngaged,
    /// Cancelled in the store, while its work goes on.
    CancelStored,
    /// Its work was told to stop, its watchers were not told.
    CancelAbandoned,
    /// Erased from the store, while its work goes on.
    DeleteStored,
    DeleteAbandoned,

    // ---- The opening of the store.

    /// sled has opened its files; of a new store nothing is in them.
    StoreMade,
    /// A new store's counter is flushed, and nobody may rely on it.
    StoreBegun,
    /// A damaged file of the store that others can do without was moved aside; the store is not open.
    PartMovedAside,
    /// A damaged store was moved aside as a whole, no other was begun, and nobody was told.
    StoreMovedAside,

    // ---- A round of the store's writer.

    /// Verbs were taken from the queue.
    RoundBegun,
    /// One verb of the round is applied, others may be not.
    VerbApplied,
    /// All are applied, nothing was flushed.
    RoundApplied,
    /// sled has handed all to the kernel, which was not asked for the disk.
    RoundFlushed,
    /// All is on the disk, nobody has been answered.
    RoundSynced,
    /// One of those who asked is answered, others may be not.
    VerbAnswered,

    // ---- The path of an answer and of its report.

    /// An actor begins a life.
    LifeBegun,
    /// The report waits for outcomes, no answer was sent.
    ReportOpened,
    /// One answer is on its way to the pool, others may be not.
    AnswerSent,
    /// An outcome without the model is on its way to the report.
    GatedSent,
    /// The report knows of more answers, or of their end; the pool does not.
    ReportExtended,
    /// An engine was given work.
    WorkAssigned,
    /// Prompt and grammar are made, the engine thread has neither.
    PromptMade,
    /// The engine has made a step, nobody has heard what came of it.
    EngineStepped,
    /// An engine's work has ended, the pool does not know.
    WorkEnded,
    /// Work that failed waits for its next turn.
    WorkPutBack,
    /// What becomes of an answer is decided, and stored nowhere.
    OutcomeDecided,
    /// The report has the outcome, the store was not asked.
    OutcomeArrived,
    /// The outcome is stored, nobody was told.
    OutcomeRecorded,
    /// All were told, the report was not looked at.
    OutcomeTold,
    /// All outcomes are there, the narrative was asked of nobody.
    ReportWhole,
    /// The narrative waits in the pool.
    NarrativeQueued,
    /// The narrative is written, or given up, and the report has none.
    NarrativeDecided,
    /// The report is folded, and not stored.
    ReportFolded,
    /// The report is stored, nobody was told.
    ReportStored,
    /// Subscribers know of the report, its life goes on.
    ReportTold,
    /// The life ends.
    LifeOver,
    /// The report expects nothing more of an abandoned life, whose work is still with the pool.
    ReportAbandoned,
    /// The pool has forgotten the work, its engines have not.
    WorkForgotten,

    // ---- A backup.

    /// Its file is begun, under a name of its own.
    BackupBegun,
    /// It is whole and on the disk, and not under its name.
    BackupSynced,
    /// It has its name; those that it replaces are there too.
    BackupNamed,
    /// One that it replaces was removed, others may be not.
    BackupRemoved,

    // ---- From start to stop.

    /// Of the unfinished interviews one was set to work, others may be not.
    LifeRecovered,
    /// The pool has a model, engines are not started.
    ModelAdopted,
    /// An engine takes work, and was given none.
    EngineUp,
    /// Nothing runs any more, the engines are still there.
    Drained,
    /// The engines have gone.
    EnginesReleased,
    /// Every outcome that arrived is stored; the store is open.
    ReportsSettled,
    /// The store is closed; the process has still to end.
    StoreClosed,
}

impl CrashPoint {
    /// Passes, unless this is where and when the process shall die.
    #[inline]
    pub fn reached(self) {
        #[cfg(debug_assertions)]
        armed::look(self);
    }
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    use super::CrashPoint;

    /// Where the process dies, and how often it still gets past.
    struct Armed {
        point: CrashPoint,
        passes: AtomicU64,
    }

    /// `None`: nowhere.
    fn armed() -> Option<&'static Armed> {
        static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
        let read = || {
            let text = std::env::var("INTERVIEWD_CRASH_AT").ok()?;
            Some(parse(&text).expect("INTERVIEWD_CRASH_AT is the name of a point, a colon, and a number from 1 on"))
        };
        ARMED.get_or_init(read).as_ref()
    }

    fn parse(text: &str) -> Option<Armed> {
        let (name, times) = text.split_once(':')?;
        let times: u64 = times.parse().ok()?;
        let named = |point: &&CrashPoint| format!("{point:?}") == name;
        Some(Armed {
            point: *CrashPoint::ALL.iter().find(named)?,
            passes: AtomicU64::new(times.checked_sub(1)?),
        })
    }

    pub(super) fn look(point: CrashPoint) {
        let Some(armed) = armed().filter(|armed| armed.point == point) else {
            return;
        };
        let one_less = |passes: u64| passes.checked_sub(1);
        if armed
            .passes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less)
            .is_err()
        {
            tracing::error!(?point, "dying, as INTERVIEWD_CRASH_AT says");
            // As an operator's kill -9: no destructor, no signal handler, no core.
            let _ = kill_process(getpid(), Signal::KILL);
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_place_and_a_number_are_read_and_nothing_else() {
            let read = parse("RoundSynced:3").unwrap();
            assert_eq!((read.point, read.passes.into_inner()), (CrashPoint::RoundSynced, 2));
            for wrong in ["RoundSynced", "RoundSynced:0", "RoundSynced:x", "Elsewhere:1", ":1", ""] {
                assert!(parse(wrong).is_none(), "{wrong}");
            }
        }
    }
}
