//! Segments to token ids within their budgets: our words with special tokens, everybody else's without.

use std::path::{Path, PathBuf};

use tokenizers::Tokenizer;

use super::constants::Constants;
use super::prompt::{Part, Segment};

/// Why a prompt cannot be made of a model's tokenizer.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    #[error("the tokenizer {path} cannot be read")]
    Unreadable { path: PathBuf, source: tokenizers::Error },
    #[error("the tokenizer failed on a text")]
    Failed(#[source] tokenizers::Error),
}

/// A model's tokenizer, twice.
pub struct Encoder {
    ours: Tokenizer,
    theirs: Tokenizer,
}

/// A prompt as token ids, segment by segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    pub segments: Vec<Vec<u32>>,
    /// Code points of the answer that the model sees (0 in a narrative).
    pub judged: usize,
}

impl Encoder {
    /// Reads `tokenizer.json`.
    pub fn load(path: &Path) -> Result<Self, EncodeError> {
        let unreadable = |source| EncodeError::Unreadable {
            path: path.to_owned(),
            source,
        };
        let mut ours = Tokenizer::from_file(path).map_err(unreadable)?;
        // What is cut is cut by our budgets, and seen to be cut.
        ours.with_truncation(None).map_err(unreadable)?.with_padding(None);
        let mut theirs = ours.clone();
        theirs.set_encode_special_tokens(true); // "[|endofturn|]" in an answer is thirteen characters and nothing else
        Ok(Self { ours, theirs })
    }

    /// The ids of words of ours: markers become their special tokens.
    pub fn trusted(&self, text: &str) -> Result<Vec<u32>, EncodeError> {
        let encoding = self.ours.encode_fast(text, false).map_err(EncodeError::Failed)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The first ids of anybody else's words, at most `room` and never half a code point, and how many code points they cover.
    pub fn untrusted(&self, text: &str, room: usize) -> Result<(Vec<u32>, usize), EncodeError> {
        let encoding = self
            .theirs
            .encode_char_offsets(text, false)
            .map_err(EncodeError::Failed)?;
        let (ids, offsets) = (encoding.get_ids(), encoding.get_offsets());
        if ids.len() <= room {
            return Ok((ids.to_vec(), text.chars().count()));
        }
        let mut kept = room;
        while kept > 0 && offsets[kept].0 < offsets[kept - 1].1 {
            kept -= 1;
        }
        Ok((ids[..kept].to_vec(), if kept == 0 { 0 } else { offsets[kept - 1].1 }))
    }

    /// A scoring prompt. Parent and answer share one pool: what one leaves the other may have, and the parent gives way first.
    pub fn score(&self, segments: &[Segment], constants: &Constants) -> Result<Encoded, EncodeError> {
        let budget = &constants.score;
        let pool = budget.parent + budget.answer;
        let (parent, answer) = (
            self.length(segments, Part::Parent)?,
            self.length(segments, Part::Answer)?,
        );
        let parent = parent.min(budget.parent.max(pool.saturating_sub(answer)));
        self.encode(segments, |part| match part {
            Part::Context => budget.context,
            Part::Question => budget.question,
            Part::Parent => parent,
            Part::Answer => pool - parent,
            Part::Instructions | Part::Digest => 0,
        })
    }

    /// The narrative's prompt: the notes share equally what our own words leave of instructions and digest.
    pub fn narrative(&self, segments: &[Segment], constants: &Constants) -> Result<Encoded, EncodeError> {
        let budget = &constants.narrative;
        let own = self.length(segments, Part::Instructions)?;
        let notes = segments.iter().filter(|s| s.part == Part::Digest).count();
        let room = (budget.instructions + budget.digest).saturating_sub(own) / notes.max(1);
        self.encode(
            segments,
            |part| if part == Part::Context { budget.context } else { room },
        )
    }

    /// Tokens that all segments of a part have uncut.
    fn length(&self, segments: &[Segment], part: Part) -> Result<usize, EncodeError> {
        segments
            .iter()
            .filter(|s| s.part == part)
            .map(|s| Ok(self.ids_of(s, usize::MAX)?.0.len()))
            .sum()
    }

    fn encode(&self, segments: &[Segment], room: impl Fn(Part) -> usize) -> Result<Encoded, EncodeError> {
        let mut encoded = Encoded {
            segments: Vec::with_capacity(segments.len()),
            judged: 0,
        };
        for segment in segments {
            let (ids, kept) = self.ids_of(segment, room(segment.part))?;
            if segment.part == Part::Answer {
                encoded.judged = kept;
            }
            encoded.segments.push(ids);
        }
        Ok(encoded)
    }

    fn ids_of(&self, segment: &Segment, room: usize) -> Result<(Vec<u32>, usize), EncodeError> {
        match segment.part {
            Part::Instructions => Ok((self.trusted(&segment.text)?, segment.text.chars().count())),
            _ => self.untrusted(&segment.text, room),
        }
    }
}
