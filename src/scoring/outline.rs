//! The outline of an output, literals and values in turn: where in it a text has come to, and how many tokens it takes from there to the end.

use std::cell::Cell;
use std::sync::Arc;

use super::constants::{NarrativeLimits, ScoreLimits};
use super::encoder::Encoder;
use super::vocabulary::Vocabulary;

/// What a grammar writes, as far as ending it goes. The grammar says what is allowed; this says what is left to be written.
pub struct Outline {
    /// The first one begins the output.
    literals: Vec<Literal>,
    values: Vec<Value>,
    encoder: Arc<Encoder>,
}

/// A place in an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Position {
    Literal {
        literal: usize,
        /// Bytes of it that are written.
        offset: usize,
    },
    Value {
        value: usize,
        /// Code points of it that are begun; an escape is one.
        written: usize,
        /// Bytes that a code point or an escape still needs.
        pending: usize,
    },
    /// Behind the backslash of an escape.
    Escape {
        value: usize,
        written: usize,
    },
    /// Behind the closing quote of a value that may be followed by one literal or another.
    Fork {
        value: usize,
    },
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A run of escaped code points, perhaps none.
    Quote,
    /// At least one code point, none of them escaped.
    Text,
    /// One digit.
    Level,
}

struct Value {
    kind: Kind,
    /// The most code points that it may have.
    limit: usize,
    /// The literals that may follow, by their index: one or two. Behind a `Quote` or `Text` they begin with the closing quote.
    after: Vec<usize>,
    /// Tokens from its beginning to the end of the output.
    need: usize,
    /// Tokens from a place within it where no code point is cut in two.
    closing: usize,
}

struct Literal {
    text: String,
    /// The value behind it; there is none behind the last.
    next: Option<usize>,
    /// By offset: how many tokens the rest is tokenised into, once it has been asked for.
    tokens: Vec<Cell<Option<usize>>>,
}

/// Bytes of the longest escape, `\u001f`, without its backslash.
const ESCAPE_BYTES: usize = 5;

impl Outline {
    /// Of one scored answer; `criteria`: the area's names in order.
    pub fn score(criteria: &[&str], limits: &ScoreLimits, encoder: Arc<Encoder>, vocabulary: &Vocabulary) -> Self {
        let mut outline = Self::new("{\"criteria\":[", encoder);
        for (number, name) in criteria.iter().enumerate() {
            let comma = if number > 0 { "," } else { "" };
            outline.write(&format!("{comma}{{\"name\":\"{name}\",\"evidence\":\""));
            outline.value(Kind::Quote, limits.evidence, "\",\"level\":");
            outline.value(Kind::Level, 1, "}");
        }
        outline.write("],\"feedback\":\"");
        outline.value(Kind::Text, limits.feedback, "\"}");
        outline.measured(vocabulary)
    }

    /// Of the narrative; `competencies`: the ids of those that have a score, in the rubric's order.
    pub fn narrative(
        competencies: &[String],
        limits: &NarrativeLimits,
        encoder: Arc<Encoder>,
        vocabulary: &Vocabulary,
    ) -> Self {
        let mut outline = Self::new("{\"summary\":\"", encoder);
        outline.value(Kind::Text, limits.summary, "\",\"strengths\":[\"");
        outline.points(limits, "\"],\"improvements\":[\"");
        let (first, rest) = match competencies.split_first() {
            Some((first, rest)) => (format!("\"],\"competencies\":{{\"{first}\":\""), rest),
            None => ("\"],\"competencies\":{}}".to_owned(), competencies),
        };
        outline.points(limits, &first);
        for id in rest {
            outline.value(Kind::Text, limits.competency, &format!("\",\"{id}\":\""));
        }
        if !competencies.is_empty() {
            outline.value(Kind::Text, limits.competency, "\"}}");
        }
        outline.measured(vocabulary)
    }

    fn new(first: &str, encoder: Arc<Encoder>) -> Self {
        let mut outline = Self {
            literals: Vec::new(),
            values: Vec::new(),
            encoder,
        };
        outline.literal(first.to_owned(), 0);
        outline
    }

    fn literal(&mut self, text: String, next: usize) -> usize {
        self.literals.push(Literal {
            text,
            next: Some(next),
            tokens: Vec::new(),
        });
        self.literals.len() - 1
    }

    /// Appends to the last literal.
    fn write(&mut self, text: &str) {
        let last = self.literals.last_mut().expect("an outline begins with a literal");
        last.text.push_str(text);
    }

    fn value(&mut self, kind: Kind, limit: usize, after: &str) {
        let next = self.values.len() + 1;
        let after = vec![self.literal(after.to_owned(), next)];
        self.values.push(Value {
            kind,
            limit,
            after,
            need: 0,
            closing: 0,
        });
    }

    /// A list of texts; `after` follows the last one, which may be any from the smallest allowed number on.
    fn points(&mut self, limits: &NarrativeLimits, after: &str) {
        let behind = self.values.len() + limits.points_max;
        for number in 1..limits.points_max {
            self.value(Kind::Text, limits.point, "\",\"");
            if number >= limits.points_min {
                let exit = self.literal(after.to_owned(), behind);
                let last = self.values.last_mut().expect("it was just pushed");
                last.after.push(exit);
            }
        }
        self.value(Kind::Text, limits.point, after);
    }

    /// Counts, from the end to the beginning, what it takes to come to the end.
    fn measured(mut self, vocabulary: &Vocabulary) -> Self {
        let values = self.values.len();
        for literal in &mut self.literals {
            literal.next = literal.next.filter(|next| *next < values);
            literal.tokens = vec![Cell::new(None); literal.text.len() + 1];
        }
        for value in (0..values).rev() {
            let closing = match self.values[value].kind {
                Kind::Level => self.level_need(value, vocabulary),
                Kind::Quote | Kind::Text => self.closing(value),
            };
            self.values[value].closing = closing;
            self.values[value].need = closing + usize::from(self.values[value].kind == Kind::Text);
        }
        self
    }

    /// The closing quote may be forced together with what follows, or be a token of its own that the model chose.
    fn closing(&self, value: usize) -> usize {
        match self.values[value].after[..] {
            [literal] => self
                .need(Position::Literal { literal, offset: 0 })
                .max(1 + self.need(self.along(literal, 1))),
            _ => 1 + self.need(Position::Fork { value }),
        }
    }

    /// Any token that begins with a level may be chosen, also one that holds a part of what follows.
    fn level_need(&self, value: usize, vocabulary: &Vocabulary) -> usize {
        let level = Position::Value {
            value,
            written: 0,
            pending: 0,
        };
        let tokens = vocabulary.levels().iter();
        let behind = tokens.filter_map(|token| self.walk(level, vocabulary.bytes(*token)));
        1 + behind.map(|position| self.need(position)).max().unwrap_or(0)
    }

    /// Where every output begins.
    pub fn start(&self) -> Position {
        self.along(0, 0)
    }

    /// How much an output's need may grow by one token, at most: a token may end in the middle of the longest literal, and none of the rest need
    /// be more than a byte long.
    pub fn slack(&self) -> usize {
        let literals = self.literals.iter().map(|literal| literal.text.len());
        literals.max().unwrap_or(0) + ESCAPE_BYTES + 3
    }

    pub fn is_level(&self, position: Position) -> bool {
        matches!(position, Position::Value { value, .. } if self.values[value].kind == Kind::Level)
    }

    /// Whether a position is within a text, with no code point or escape begun.
    pub fn is_between_code_points(&self, position: Position) -> bool {
        matches!(position, Position::Value { pending: 0, .. }) && !self.is_level(position)
    }

    /// Code points that a text may still have; `None` where there is none.
    pub fn left(&self, position: Position) -> Option<usize> {
        match position {
            Position::Value { value, written, .. } | Position::Escape { value, written } => {
                Some(self.values[value].limit.saturating_sub(written))
            }
            Position::Literal { .. } | Position::Fork { .. } | Position::End => None,
        }
    }

    /// What follows of necessity where a text has all the code points that it may have: the literal behind it, or only its quote if there are two.
    pub fn forced_end(&self, position: Position) -> Option<&str> {
        let Position::Value {
            value,
            written,
            pending: 0,
        } = position
        else {
            return None;
        };
        let Value { kind, limit, after, .. } = &self.values[value];
        if *kind == Kind::Level || written < *limit {
            return None;
        }
        let literal = &self.literals[after[0]].text;
        Some(if after.len() > 1 { &literal[..1] } else { literal })
    }

    /// The position behind any token of whole code points, given a position between code points.
    pub fn behind_plain(&self, position: Position) -> Position {
        match position {
            Position::Value {
                value,
                written,
                pending,
            } => Position::Value {
                value,
                written: written.max(1),
                pending,
            },
            other => other,
        }
    }

    /// Tokens that it takes to end the output, however clumsily; there is always an allowed token that brings it one down, or forced text that does.
    pub fn need(&self, position: Position) -> usize {
        match position {
            Position::End => 0,
            Position::Literal { literal, offset } => {
                self.tokens(literal, offset) + self.literals[literal].next.map_or(0, |next| self.values[next].need)
            }
            Position::Fork { value } => {
                let ways = self.values[value].after.iter();
                1 + ways
                    .map(|literal| self.need(self.along(*literal, 2)))
                    .min()
                    .unwrap_or(0)
            }
            Position::Escape { value, .. } => ESCAPE_BYTES + self.values[value].closing,
            Position::Value {
                value,
                written,
                pending,
            } => match (written, pending) {
                (0, 0) => self.values[value].need,
                (_, pending) => pending + self.values[value].closing,
            },
        }
    }

    /// Tokens of a literal from `offset` on. Within a code point the bytes up to its end are chosen one by one.
    fn tokens(&self, literal: usize, offset: usize) -> usize {
        let Literal { text, tokens, .. } = &self.literals[literal];
        if let Some(count) = tokens[offset].get() {
            return count;
        }
        let whole = (offset..text.len())
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(text.len());
        let rest = &text[whole..];
        // A text that cannot be tokenised fails where it is to be fed; no token is shorter than a byte.
        let count = whole - offset + self.encoder.plain(rest).map_or(rest.len(), |ids| ids.len());
        tokens[offset].set(Some(count));
        count
    }

    /// The position behind `offset` bytes of a literal.
    fn along(&self, literal: usize, offset: usize) -> Position {
        let Literal { text, next, .. } = &self.literals[literal];
        match next {
            _ if offset < text.len() => Position::Literal { literal, offset },
            Some(value) => Position::Value {
                value: *value,
                written: 0,
                pending: 0,
            },
            None => Position::End,
        }
    }

    /// The position behind some bytes; `None` where they do not fit. A value's code points are the grammar's business and not checked.
    pub fn walk(&self, position: Position, bytes: &[u8]) -> Option<Position> {
        bytes
            .iter()
            .try_fold(position, |position, byte| self.step(position, *byte))
    }

    fn step(&self, position: Position, byte: u8) -> Option<Position> {
        match position {
            Position::End => None,
            Position::Literal { literal, offset } => {
                (self.literals[literal].text.as_bytes()[offset] == byte).then(|| self.along(literal, offset + 1))
            }
            Position::Fork { value } => {
                let mut ways = self.values[value].after.iter();
                let way = ways.find(|literal| self.literals[**literal].text.as_bytes()[1] == byte)?;
                Some(self.along(*way, 2))
            }
            Position::Escape { value, written } => {
                let pending = if byte == b'u' { ESCAPE_BYTES - 1 } else { 0 };
                Some(Position::Value {
                    value,
                    written,
                    pending,
                })
            }
            Position::Value {
                value,
                written,
                pending: pending @ 1..,
            } => Some(Position::Value {
                value,
                written,
                pending: pending - 1,
            }),
            Position::Value { value, written, .. } => self.step_in_value(value, written, byte),
        }
    }

    fn step_in_value(&self, value: usize, written: usize, byte: u8) -> Option<Position> {
        let Value { kind, after, limit, .. } = &self.values[value];
        match (kind, byte) {
            (Kind::Level, b'1'..=b'5') => return Some(self.along(after[0], 0)),
            (Kind::Level, _) => return None,
            (Kind::Text, b'"') if written == 0 => return None,
            (_, b'"') if after.len() > 1 => return Some(Position::Fork { value }),
            (_, b'"') => return Some(self.along(after[0], 1)),
            _ if written == *limit => return None,
            _ => {}
        }
        let written = written + 1;
        let pending = match byte {
            b'\\' if *kind == Kind::Quote => return Some(Position::Escape { value, written }),
            0x20..=0x7f => 0,
            0xc2..=0xdf => 1,
            0xe0..=0xef => 2,
            0xf0..=0xf4 => 3,
            _ => return None,
        };
        Some(Position::Value {
            value,
            written,
            pending,
        })
    }

    /// Splits forced text where literals and values meet: they are tokenised each on its own. `None` where the text does not fit.
    pub fn pieces<'a>(&self, mut position: Position, text: &'a str) -> Option<Vec<&'a str>> {
        let (mut pieces, mut begun, mut within_literal) = (Vec::new(), 0, None);
        for (index, byte) in text.bytes().enumerate() {
            let closes = byte == b'"' && self.is_between_code_points(position);
            let literal = closes || matches!(position, Position::Literal { .. } | Position::Fork { .. });
            if closes || within_literal.is_some_and(|before| before != literal) {
                pieces.push(&text[begun..index]);
                begun = index;
            }
            within_literal = Some(literal);
            position = self.step(position, byte)?;
        }
        pieces.push(&text[begun..]);
        pieces.retain(|piece| !piece.is_empty());
        Some(pieces)
    }
}
