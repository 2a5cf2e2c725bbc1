//! A rehearsal: an engine that follows one which failed whatever it ran reads a chunk and writes a little, for nobody, before it is given work.

use super::message::Outage;
use crate::engine::constraint::{Choices, TokenSet};
use crate::engine::job::{Failure, Job, JobEvent, JobId};
use crate::engine::model::ModelError;
use crate::engine::{Engine, TokenId};
use crate::scoring::SCORING_BANK;

/// So that there is a choice behind a chunk and another one behind a decode.
const OUTPUT_TOKENS: usize = 2;
/// What any vocabulary has. What it means is of no interest.
const TOKEN: TokenId = 0;
/// No job of the pool's: those count from 1.
const JOB: JobId = JobId(0);

/// Runs as long a chunk as work has, and a decode. Nothing of it stays.
pub(super) fn rehearse(engine: &mut Engine, chunk_tokens: usize) -> Result<(), Outage> {
    let vocabulary = engine.shape().vocabulary;
    let context = engine.shape().banks.get(SCORING_BANK).map_or(0, |bank| bank.context);
    let prompt = chunk_tokens.min(context.saturating_sub(OUTPUT_TOKENS));
    let mut tokens = TokenSet::new(vocabulary);
    tokens.insert(TOKEN);
    engine.submit(Job {
        id: JOB,
        bank: SCORING_BANK,
        prompt: vec![TOKEN; prompt],
        constraint: Box::new(Choices::new(tokens, OUTPUT_TOKENS)),
        output_max: OUTPUT_TOKENS,
        alone: true,
    });
    let mut events = Vec::new();
    while !engine.is_idle() {
        engine.step(&mut events);
    }
    engine.forget_prefixes();
    let failure = events.into_iter().find_map(|event| match event {
        JobEvent::Ended(_, Err(failure)) => Some(failure),
        _ => None,
    });
    failure.map_or(Ok(()), |failure| {
        Err(Outage {
            out_of_memory: matches!(failure, Failure::Model(ModelError::OutOfMemory { .. })),
            reason: format!("the engine fails whatever it runs, built anew as well: {failure}"),
        })
    })
}
