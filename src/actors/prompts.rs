//! From an assignment to its prompt and grammar, and from what was written to a verdict.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use actix::ResponseFuture;
use tracing::Span;

use super::message::{Assign, Cause, Task, Undone, Written};
use crate::engine::job::{Disposition, Job, Output};
use crate::scoring::{NARRATIVE_BANK, SCORING_BANK, Scorer};

/// Makes what an engine is asked, in its own time. A simulation puts another in its place.
pub type Prepare = Box<dyn Fn(Assign, Span) -> ResponseFuture<Result<Prepared, Undone>>>;

/// Reads what was written.
pub type Reading = Box<dyn Fn(&Output) -> Result<Written, Undone> + Send>;

/// What an engine is asked, and how its output is read.
pub struct Prepared {
    pub job: Job,
    pub reading: Reading,
}

impl Undone {
    pub(super) fn for_good(reason: impl ToString) -> Self {
        Self {
            reason: reason.to_string(),
            disposition: Disposition::Fail,
            cause: Cause::Failure,
        }
    }
}

/// Rendering, tokenising and compiling the grammar take milliseconds: they are done beside the decoding, not between its steps.
pub(super) fn beside(scorer: Arc<Scorer>) -> Prepare {
    Box::new(move |assign, span| {
        let scorer = Arc::clone(&scorer);
        let prepared = tokio::task::spawn_blocking(move || {
            // Of a client that submits and deletes again and again thousands may stand before one that somebody waits for.
            match assign.case.over.load(Ordering::Relaxed) {
                true => Err(Undone::for_good("the interview was ended meanwhile")),
                false => span.in_scope(|| prepare(&scorer, assign)),
            }
        });
        Box::pin(async move {
            // The words of a panic may quote the answer; its place is in the log.
            prepared
                .await
                .unwrap_or_else(|_| Err(Undone::for_good("the prompt could not be made: making it panicked")))
        })
    })
}

fn prepare(scorer: &Scorer, assign: Assign) -> Result<Prepared, Undone> {
    let Assign {
        job: id,
        case,
        interview,
        task,
        alone,
        ..
    } = assign;
    let (bank, prompt, constraint, output_max, reading) = match task {
        Task::Answer { index } => {
            let made = scorer
                .answer(&interview, index, &case.rubric)
                .map_err(Undone::for_good)?;
            let (tokens_in, read) = (made.prompt.len(), made.reading);
            let reading: Reading = Box::new(move |output| {
                let (criteria, feedback) = read.read(output).map_err(Undone::for_good)?;
                Ok(Written::Answer {
                    criteria,
                    feedback,
                    judged_code_points: read.judged_code_points(),
                    tokens_in,
                    tokens_out: output.tokens.len(),
                })
            });
            (SCORING_BANK, made.prompt, made.constraint, made.output_max, reading)
        }
        Task::Narrative { outcomes } => {
            let made = scorer
                .narrative(&interview, &outcomes, &case.rubric)
                .map_err(Undone::for_good)?;
            let (tokens_in, read) = (made.prompt.len(), made.reading);
            let reading: Reading = Box::new(move |output| {
                Ok(Written::Narrative {
                    narrative: read.read(output).map_err(Undone::for_good)?,
                    tokens_in,
                    tokens_out: output.tokens.len(),
                })
            });
            (NARRATIVE_BANK, made.prompt, made.constraint, made.output_max, reading)
        }
    };
    tracing::debug!(tokens = prompt.len(), "the prompt is made");
    let job = Job {
        id,
        bank,
        prompt,
        constraint,
        output_max,
        alone,
    };
    Ok(Prepared { job, reading })
}
