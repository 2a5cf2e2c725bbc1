//! A probe run of a model: are its logits numbers, has a row the same bits alone and in company, and does a scoring come to its end?

use std::time::{Duration, Instant};

use crate::domain::ids::InterviewId;
use crate::domain::interview::{AnswerDraft, Draft, Interview, Limits, Opening};
use crate::domain::rubric::Rubric;
use crate::engine::job::{Failure, Job, JobEvent, JobId, Output};
use crate::engine::model::{DecodeRow, Model, ModelError, SlotId};
use crate::engine::{Engine, Options, TokenId};
use crate::scoring::{SCORING_BANK, Scorer, ScoringError};

/// Tokens that are decoded behind a prompt.
const STEPS: usize = 4;
const PROMPT_TOKENS: usize = 11;
/// Rows of a joint decode: few, an odd number, and an interview's.
const COMPANIES: [usize; 3] = [2, 3, 17];
const ANSWER: &str =
    "도서관 예약 사이트의 첫 화면이 느린 까닭을 로그로 재어 보고, 그림의 크기를 줄여 4초를 1초로 줄였습니다.";

/// What rows came to.
pub(super) struct Rows {
    /// With how many rows together one was decoded.
    pub companies: Vec<usize>,
    /// The smallest company in which its logits were others than alone.
    pub differs_in: Option<usize>,
}

/// What went wrong in a run.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProbeError {
    #[error("the model's logits are not finite numbers")]
    NotFinite,
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Engine(#[from] Failure),
    #[error(transparent)]
    Scoring(#[from] ScoringError),
    #[error("no interview can be made up for it: {0}")]
    Interview(String),
    #[error("the engine told nothing of it")]
    Lost,
}

impl ProbeError {
    /// Whether it is for want of memory, and no fault of the model.
    pub(super) fn is_out_of_memory(&self) -> bool {
        matches!(
            self,
            Self::Model(ModelError::OutOfMemory { .. }) | Self::Engine(Failure::Model(ModelError::OutOfMemory { .. }))
        )
    }
}

/// Decodes a few tokens of one sequence alone, then in company and in another slot.
pub(super) fn rows(model: &mut dyn Model) -> Result<Rows, ProbeError> {
    let slots = model.shape().banks[SCORING_BANK].slots;
    let alone = decoded(model, 1)?;
    let companies: Vec<_> = COMPANIES.into_iter().filter(|rows| *rows <= slots).collect();
    let mut differs_in = None;
    for rows in &companies {
        if decoded(model, *rows)? != alone && differs_in.is_none() {
            differs_in = Some(*rows);
        }
    }
    Ok(Rows { companies, differs_in })
}

/// The bits of the logits, step by step, of the sequence that stands in the midst of so many.
fn decoded(model: &mut dyn Model, rows: usize) -> Result<Vec<Vec<u32>>, ProbeError> {
    let vocabulary = model.shape().vocabulary;
    let middle = rows / 2;
    // The one that is looked at has the same tokens in every company.
    let sequence = |row: usize| (row + rows - middle) % rows;
    let mut bits = Vec::new();
    for index in 0..rows {
        let prompt = tokens(sequence(index), PROMPT_TOKENS + sequence(index) % 5, vocabulary);
        let slot = SlotId {
            bank: SCORING_BANK,
            index,
        };
        let logits = finite(model.prefill(slot, 0, &prompt, true)?)?;
        if index == middle {
            bits.push(logits);
        }
    }
    for step in 0..STEPS {
        let row = |index: usize| DecodeRow {
            token: tokens(sequence(index) + 100, STEPS, vocabulary)[step],
            past: PROMPT_TOKENS + sequence(index) % 5 + step,
            wanted: true,
        };
        let batch: Vec<_> = (0..rows).map(row).collect();
        let logits = finite(model.decode(SCORING_BANK, 0, &batch)?)?;
        let one = logits.chunks(vocabulary).nth(middle);
        bits.push(one.map(<[u32]>::to_vec).unwrap_or_default());
    }
    Ok(bits)
}

/// Made-up tokens, others for every seed.
fn tokens(seed: usize, count: usize, vocabulary: usize) -> Vec<TokenId> {
    let token = |at: usize| (at * 7_919 + seed * 104_729 + 11) % vocabulary;
    (0..count).map(|at| token(at) as TokenId).collect()
}

fn finite(logits: &[f32]) -> Result<Vec<u32>, ProbeError> {
    match logits.iter().all(|logit| logit.is_finite()) {
        true => Ok(logits.iter().map(|logit| logit.to_bits()).collect()),
        false => Err(ProbeError::NotFinite),
    }
}

/// What one scoring took.
pub(super) struct Scoring {
    pub prompt_tokens: usize,
    pub output_tokens: usize,
    pub output_max: usize,
    pub took: Duration,
}

/// Has one made-up answer scored as the daemon would.
pub(super) fn scoring(
    model: Box<dyn Model>,
    options: Options,
    scorer: &Scorer,
    rubric: &Rubric,
) -> Result<Scoring, ProbeError> {
    let interview = interview(rubric)?;
    let prepared = scorer.answer(&interview, 0, rubric)?;
    let (prompt_tokens, output_max) = (prepared.prompt.len(), prepared.output_max);
    let mut engine = Engine::new(model, options);
    let begun = Instant::now();
    engine.submit(Job {
        id: JobId(0),
        bank: SCORING_BANK,
        prompt: prepared.prompt,
        constraint: prepared.constraint,
        output_max,
        alone: false,
    });
    let output = until_ended(&mut engine)?;
    let took = begun.elapsed();
    prepared.reading.read(&output)?;
    Ok(Scoring {
        prompt_tokens,
        output_tokens: output.tokens.len(),
        output_max,
        took,
    })
}

fn until_ended(engine: &mut Engine) -> Result<Output, ProbeError> {
    let mut events = Vec::new();
    while !engine.is_idle() {
        engine.step(&mut events);
        for event in events.drain(..) {
            if let JobEvent::Ended(_, outcome) = event {
                return Ok(outcome?);
            }
        }
    }
    Err(ProbeError::Lost)
}

/// With one answer, of the rubric's first stage.
fn interview(rubric: &Rubric) -> Result<Interview, ProbeError> {
    let answer = AnswerDraft {
        stage: rubric.stage_ids().into_iter().next().unwrap_or_default(),
        question: "자기소개를 해 주세요.".to_owned(),
        answer: ANSWER.to_owned(),
        ..AnswerDraft::default()
    };
    let draft = Draft {
        answers: vec![answer],
        ..Draft::default()
    };
    let id = InterviewId::parse("check").expect("it is an id");
    let interview = Interview::new(draft, id, Opening::Whole, rubric, &Limits::default());
    interview.map_err(|refusal| ProbeError::Interview(refusal.to_string()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::domain::rubric::DEFAULT;
    use crate::engine::model::ModelShape;
    use crate::engine::simulated::{Fault, Script, Simulated, When};
    use crate::scoring::banks;

    fn model(slots: usize) -> Simulated {
        let shape = ModelShape {
            vocabulary: 8_192,
            query_tile: 64,
            banks: banks(slots, 1),
        };
        Simulated::new(shape, 7)
    }

    fn broken_at(call: u64, fault: Fault) -> Simulated {
        model(17).with_script(Script::default().with(When::Call(call), fault))
    }

    /// Rounds otherwise when so many rows are computed at once.
    struct Moody(Simulated, usize, Vec<f32>);

    impl Model for Moody {
        fn shape(&self) -> &ModelShape {
            self.0.shape()
        }

        fn prefill(
            &mut self,
            slot: SlotId,
            past: usize,
            tokens: &[TokenId],
            wanted: bool,
        ) -> Result<&[f32], ModelError> {
            self.0.prefill(slot, past, tokens, wanted)
        }

        fn decode(&mut self, bank: usize, first: usize, rows: &[DecodeRow]) -> Result<&[f32], ModelError> {
            let logits = self.0.decode(bank, first, rows)?;
            let off = if rows.len() == self.1 { 1e-5 } else { 0.0 };
            self.2 = logits.iter().map(|logit| logit + off).collect();
            Ok(&self.2)
        }

        fn copy_prefix(&mut self, from: SlotId, to: SlotId, tokens: usize) -> Result<(), ModelError> {
            self.0.copy_prefix(from, to, tokens)
        }

        fn resize(&mut self, bank: usize, slots: usize) -> Result<(), ModelError> {
            self.0.resize(bank, slots)
        }
    }

    #[test]
    fn a_row_that_is_the_same_in_every_company_passes_in_as_many_as_there_are_slots() {
        for (slots, expected) in [(1, &[][..]), (2, &[2]), (16, &[2, 3]), (24, &[2, 3, 17])] {
            let rows = rows(&mut model(slots)).unwrap();
            assert_eq!(
                (rows.companies.as_slice(), rows.differs_in),
                (expected, None),
                "{slots}"
            );
        }
    }

    #[test]
    fn a_row_that_depends_on_its_company_is_found_with_the_number() {
        for company in [2, 3, 17] {
            let rows = rows(&mut Moody(model(17), company, Vec::new())).unwrap();
            assert_eq!(rows.differs_in, Some(company));
        }
    }

    #[test]
    fn logits_that_are_no_numbers_are_found_wherever_they_are() {
        // One prefill and four decodes alone; then two and four, three and four.
        for call in [1, 5, 7, 11, 18] {
            let found = rows(&mut broken_at(call, Fault::NotFinite));
            assert!(matches!(found, Err(ProbeError::NotFinite)), "call {call}");
        }
        let failed = rows(&mut broken_at(3, Fault::Failed));
        assert!(matches!(failed, Err(ProbeError::Model(ModelError::Failed(_)))));
    }

    #[test]
    fn an_answer_is_scored_to_its_end_or_the_reason_is_told() {
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
        let scorer = Scorer::load(&demo, "chat_template.jinja", &[6], 8_192).unwrap();
        let rubric = Rubric::parse(DEFAULT).unwrap();
        let options = Options {
            chunk_tokens: 256,
            gap: 2,
        };
        let scored = scoring(Box::new(model(2)), options, &scorer, &rubric).unwrap();
        assert!((1..=scored.output_max).contains(&scored.output_tokens));
        assert!(scored.prompt_tokens > 100, "{}", scored.prompt_tokens);
        let broken = broken_at(9, Fault::NotFinite);
        let error = scoring(Box::new(broken), options, &scorer, &rubric).err().unwrap();
        assert!(
            error.to_string().contains("not finite") && !error.is_out_of_memory(),
            "{error}"
        );
        let full = broken_at(9, Fault::OutOfMemory);
        let error = scoring(Box::new(full), options, &scorer, &rubric).err().unwrap();
        assert!(error.is_out_of_memory(), "{error}");
    }
}
