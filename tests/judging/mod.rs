//! What tests of whole judgements share: answers through prompts, grammar and engine under any model, and what every output must be.
#![allow(dead_code, reason = "every test file uses its own part of this")]

use std::path::{Path, PathBuf};

use interviewd::domain::ids::InterviewId;
use interviewd::domain::interview::{AnswerDraft, Draft, Interview, Limits, Opening};
use interviewd::domain::outcome::CriterionScore;
use interviewd::domain::rubric::{DEFAULT, Rubric};
use interviewd::engine::job::{Job, JobEvent, JobId, Output};
use interviewd::engine::model::Model;
use interviewd::engine::{Engine, Options, TokenId};
use interviewd::scoring::{AnswerReading, SCORING_BANK, Scorer};
use serde::Deserialize;
use tokenizers::Tokenizer;

pub const VOCABULARY: usize = 8_192;
pub const SLOTS: usize = 17;

/// Prompts and grammars for the demo model's tokenizer.
pub struct Judge {
    pub scorer: Scorer,
    pub tokenizer: Tokenizer,
    pub rubric: Rubric,
}

/// An answer that went through an engine.
pub struct Judged {
    /// In the interview's order.
    pub index: usize,
    pub prompt: Vec<TokenId>,
    pub reading: AnswerReading,
    pub output_max: usize,
    pub output: Output,
}

/// An output as the schema has it, to the letter.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    criteria: Vec<WrittenCriterion>,
    feedback: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCriterion {
    name: String,
    evidence: String,
    level: u8,
}

pub fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo")
}

/// An interview of these answers, more than a client may send if need be.
pub fn interview(language: &str, answers: Vec<AnswerDraft>) -> Interview {
    let draft = Draft {
        language: Some(language.to_owned()),
        position: Some("백엔드 개발자".to_owned()),
        answers,
        ..Draft::default()
    };
    let limits = Limits {
        answers: usize::MAX,
        ..Limits::default()
    };
    let id = InterviewId::parse("judged").unwrap();
    Interview::new(draft, id, Opening::Whole, &Judge::rubric(), &limits).unwrap()
}

impl Judge {
    pub fn rubric() -> Rubric {
        Rubric::parse(DEFAULT).unwrap()
    }

    pub fn of_demo() -> Self {
        let tokenizer = Tokenizer::from_file(demo().join("tokenizer.json")).unwrap();
        let eos = tokenizer.token_to_id("[|endofturn|]").unwrap();
        Self {
            scorer: Scorer::load(&demo(), "chat_template.jinja", &[eos], VOCABULARY).unwrap(),
            tokenizer,
            rubric: Self::rubric(),
        }
    }

    /// Runs every answer of the interview through one engine, as many at a time as the model has slots.
    pub fn run(&self, model: impl Model + 'static, interview: &Interview) -> Vec<Judged> {
        let options = Options {
            chunk_tokens: 256,
            gap: 2,
        };
        let mut engine = Engine::new(Box::new(model), options);
        let mut waiting = Vec::new();
        for index in 0..interview.answers().len() {
            let made = self.scorer.answer(interview, index, &self.rubric).unwrap();
            waiting.push(Some((made.prompt.clone(), made.reading, made.output_max)));
            engine.submit(Job {
                id: JobId(index as u64),
                bank: SCORING_BANK,
                prompt: made.prompt,
                constraint: made.constraint,
                output_max: made.output_max,
                alone: false,
            });
        }
        let (mut events, mut judged) = (Vec::new(), Vec::new());
        while !engine.is_idle() {
            engine.step(&mut events);
            for event in events.drain(..) {
                let JobEvent::Ended(JobId(id), result) = event else {
                    continue;
                };
                let index = id as usize;
                let (prompt, reading, output_max) = waiting[index].take().expect("ends once");
                let output = result.unwrap_or_else(|e| panic!("answer {index}: {e}"));
                judged.push(Judged {
                    index,
                    prompt,
                    reading,
                    output_max,
                    output,
                });
            }
        }
        assert_eq!(judged.len(), interview.answers().len());
        judged.sort_by_key(|judged| judged.index);
        judged
    }

    /// What was written about an answer, which must keep to the schema and the budget and quote verbatim. `name` is for failures.
    pub fn verdict(&self, name: &str, interview: &Interview, judged: &Judged) -> Vec<CriterionScore> {
        let Judged {
            index,
            reading,
            output_max,
            output,
            ..
        } = judged;
        let tokens = output.tokens.len();
        assert!(tokens <= *output_max, "{name}, answer {index}: {tokens} tokens");
        let text = self.tokenizer.decode(&output.tokens, false).unwrap();
        let written: Written =
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}, answer {index}: {e}: {text}"));
        let (criteria, feedback) = reading
            .read(output)
            .unwrap_or_else(|e| panic!("{name}, answer {index}: {e}: {text}"));
        let answer = &interview.answers()[*index];
        let area = self.rubric.stage(&answer.stage).unwrap().area;
        let names = |found: &mut dyn Iterator<Item = &str>| found.map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(
            names(&mut written.criteria.iter().map(|c| c.name.as_str())),
            names(&mut area.criteria.iter().map(|c| c.name.as_str())),
            "{name}, answer {index}"
        );
        assert!(
            written.criteria.iter().all(|c| (1..=5).contains(&c.level)),
            "{name}, answer {index}: {text}"
        );
        assert_eq!(written.feedback, feedback, "{name}, answer {index}");
        assert!(
            (1..=300).contains(&feedback.chars().count()),
            "{name}, answer {index}: {feedback}"
        );
        let said: Vec<char> = answer.text.chars().collect();
        for (criterion, written) in criteria.iter().zip(&written.criteria) {
            let Some(evidence) = &criterion.evidence else {
                assert_eq!(written.evidence, "", "{name}, answer {index}");
                continue;
            };
            let slice: String = said[evidence.start..evidence.end].iter().collect();
            assert_eq!(
                (&slice, &written.evidence),
                (&evidence.quote, &evidence.quote),
                "{name}, answer {index}"
            );
            let length = evidence.end - evidence.start;
            assert!((1..=80).contains(&length), "{name}, answer {index}: {length}");
        }
        criteria
    }
}
