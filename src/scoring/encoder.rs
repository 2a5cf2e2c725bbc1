//! Segments to token ids within their budgets: our words with special tokens, everybody else's without.

use std::path::Path;

use serde_json::{Map, Value};
use tokenizers::{AddedToken, Tokenizer};

use super::constants::{NarrativeBudget, ScoreBudget};
use super::error::ScoringError;
use super::prompt::{Part, Segment};

/// Words whose tokens each tokenizer remembers. Ours are a few hundred; candidates use ever new ones, and ten thousand, the library's own number, would take
/// megabytes that look like a leak.
const WORDS_REMEMBERED: usize = 1_000;

/// A model's tokenizer, twice.
pub struct Encoder {
    ours: Tokenizer,
    /// Knows no added token at all: also one that is not special would be found in the middle of a text.
    theirs: Tokenizer,
    added: Vec<(u32, AddedToken)>,
}

/// A prompt as token ids, segment by segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    pub segments: Vec<Vec<u32>>,
    /// Code points of the answer that the model sees (0 in a narrative).
    pub judged: usize,
}

/// A text as token ids, and which of its code points each of them covers.
struct Tokens {
    ids: Vec<u32>,
    spans: Vec<(usize, usize)>,
    code_points: usize,
}

impl Tokens {
    /// The first ids, at most `room` and never half a code point, and how many code points they cover.
    fn cut(mut self, room: usize) -> (Vec<u32>, usize) {
        if self.ids.len() <= room {
            return (self.ids, self.code_points);
        }
        let mut kept = room;
        while kept > 0 && self.spans[kept].0 < self.spans[kept - 1].1 {
            kept -= 1;
        }
        self.ids.truncate(kept);
        (self.ids, if kept == 0 { 0 } else { self.spans[kept - 1].1 })
    }
}

impl Encoder {
    /// Reads `tokenizer.json`.
    pub fn load(path: &Path) -> Result<Self, ScoringError> {
        let unreadable = |source| ScoringError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let bytes = std::fs::read(path).map_err(|e| unreadable(e.into()))?;
        Self::parse(&bytes).map_err(unreadable)
    }

    /// From the text of a `tokenizer.json`.
    pub(super) fn parse(json: &[u8]) -> Result<Self, tokenizers::Error> {
        let ours = whole(json)?;
        let mut plain: Map<String, Value> = serde_json::from_slice(json)?;
        plain.insert("added_tokens".to_owned(), Value::Array(Vec::new()));
        let plain = serde_json::to_vec(&plain)?;
        let mut added: Vec<_> = ours.get_added_tokens_decoder().into_iter().collect();
        added.sort_by_key(|(id, _)| *id);
        Ok(Self {
            ours,
            theirs: whole(&plain)?,
            added,
        })
    }

    /// The tokenizer as the model's folder has it.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.ours
    }

    /// The tokens that were added to the vocabulary, control tokens among them, by id.
    pub fn added(&self) -> &[(u32, AddedToken)] {
        &self.added
    }

    /// The ids of words of ours: markers become their special tokens.
    pub fn trusted(&self, text: &str) -> Result<Vec<u32>, ScoringError> {
        ids_of(&self.ours, text)
    }

    /// The ids of any text, none of them a control token's.
    pub fn plain(&self, text: &str) -> Result<Vec<u32>, ScoringError> {
        ids_of(&self.theirs, text)
    }

    /// A scoring prompt. Parent and answer share one pool: what one leaves the other may have, and the parent gives way first.
    pub fn score(&self, segments: &[Segment], budget: &ScoreBudget) -> Result<Encoded, ScoringError> {
        let tokens = self.tokens(segments)?;
        let pool = budget.parent + budget.answer;
        let (parent, answer) = (
            length(segments, &tokens, Part::Parent),
            length(segments, &tokens, Part::Answer),
        );
        let parent = parent.min(budget.parent.max(pool.saturating_sub(answer)));
        Ok(cut(segments, tokens, |part| match part {
            Part::Instructions => usize::MAX,
            Part::Context => budget.context,
            Part::Question => budget.question,
            Part::Parent => parent,
            Part::Answer => pool - parent,
            Part::Digest => 0,
        }))
    }

    /// The narrative's prompt: the notes share equally what our own words leave of instructions and digest.
    pub fn narrative(&self, segments: &[Segment], budget: &NarrativeBudget) -> Result<Encoded, ScoringError> {
        let tokens = self.tokens(segments)?;
        let own = length(segments, &tokens, Part::Instructions);
        let notes = segments.iter().filter(|s| s.part == Part::Digest).count();
        let room = (budget.instructions + budget.digest).saturating_sub(own) / notes.max(1);
        Ok(cut(segments, tokens, |part| match part {
            Part::Instructions => usize::MAX,
            Part::Context => budget.context,
            Part::Question | Part::Parent | Part::Answer | Part::Digest => room,
        }))
    }

    /// Tokens of our own words in a prompt.
    pub fn instructions(&self, segments: &[Segment]) -> Result<usize, ScoringError> {
        let ours = segments.iter().filter(|s| s.part == Part::Instructions);
        ours.map(|segment| Ok(self.trusted(&segment.text)?.len())).sum()
    }

    fn tokens(&self, segments: &[Segment]) -> Result<Vec<Tokens>, ScoringError> {
        segments
            .iter()
            .map(|segment| match segment.part {
                Part::Instructions => tokens_of(&self.ours, &segment.text),
                _ => tokens_of(&self.theirs, &segment.text),
            })
            .collect()
    }
}

fn whole(json: &[u8]) -> Result<Tokenizer, tokenizers::Error> {
    let mut tokenizer = Tokenizer::from_bytes(json)?;
    // What is cut is cut by our budgets, and seen to be cut.
    tokenizer.with_truncation(None)?.with_padding(None);
    // The model cannot be reached where it lies.
    let mut model = tokenizer.get_model().clone();
    model.resize_cache(WORDS_REMEMBERED);
    tokenizer.with_model(model);
    Ok(tokenizer)
}

fn ids_of(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>, ScoringError> {
    let encoding = tokenizer.encode_fast(text, false).map_err(ScoringError::Tokenizer)?;
    Ok(encoding.get_ids().to_vec())
}

fn tokens_of(tokenizer: &Tokenizer, text: &str) -> Result<Tokens, ScoringError> {
    let encoding = tokenizer
        .encode_char_offsets(text, false)
        .map_err(ScoringError::Tokenizer)?;
    Ok(Tokens {
        ids: encoding.get_ids().to_vec(),
        spans: encoding.get_offsets().to_vec(),
        code_points: text.chars().count(),
    })
}

/// Tokens that all segments of a part have uncut.
fn length(segments: &[Segment], tokens: &[Tokens], part: Part) -> usize {
    let all = segments.iter().zip(tokens).filter(|(segment, _)| segment.part == part);
    all.map(|(_, tokens)| tokens.ids.len()).sum()
}

fn cut(segments: &[Segment], tokens: Vec<Tokens>, room: impl Fn(Part) -> usize) -> Encoded {
    let mut encoded = Encoded {
        segments: Vec::with_capacity(segments.len()),
        judged: 0,
    };
    for (segment, tokens) in segments.iter().zip(tokens) {
        let (ids, kept) = tokens.cut(room(segment.part));
        if segment.part == Part::Answer {
            encoded.judged = kept;
        }
        encoded.segments.push(ids);
    }
    encoded
}
