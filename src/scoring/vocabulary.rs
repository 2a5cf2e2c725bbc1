//! The bytes of a model's tokens, as a trie for masks, and which tokens may never be part of an output.

use std::sync::Arc;

use llguidance::toktrie::{TokEnv, TokRxInfo, TokTrie, TokenizerEnv};
use toktrie_hf_tokenizers::ByteTokenizer;

use super::encoder::Encoder;
use super::error::ScoringError;
use crate::engine::TokenId;
use crate::engine::constraint::TokenSet;

/// What stands before every level of an output.
pub const BEFORE_LEVEL: &[u8] = b"\"level\":";

/// A model's tokens as bytes; as many as a row of its logits is long.
pub struct Vocabulary {
    trie: TokEnv,
    never: TokenSet,
    plain: TokenSet,
    levels: Vec<TokenId>,
    /// Of each token, as far as it is text: a code point counts where it begins.
    code_points: Vec<u16>,
    code_points_max: usize,
}

/// A trie that answers llguidance's questions. It is never asked for a canonical tokenisation: forced text is tokenised here.
struct Trie(TokTrie);

impl TokenizerEnv for Trie {
    fn tok_trie(&self) -> &TokTrie {
        &self.0
    }

    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        self.0.greedy_tokenize(bytes)
    }

    fn tokenize_is_canonical(&self) -> bool {
        false
    }
}

impl Vocabulary {
    /// `eos`: the tokens that end a turn; `size`: the length of a row of logits.
    pub fn new(encoder: &Encoder, eos: &[TokenId], size: usize) -> Result<Self, ScoringError> {
        let words = words(encoder, size)?;
        let first = *eos
            .first()
            .ok_or_else(|| unsuitable("the model names no end of a turn"))?;
        let info = TokRxInfo::new(words.len() as u32, first);
        let trie = TokTrie::from(&info, &words).with_eos_tokens(eos);
        let mut vocabulary = Self {
            trie: Arc::new(Trie(trie)),
            never: TokenSet::new(size),
            plain: TokenSet::new(size),
            levels: Vec::new(),
            code_points: words.iter().map(|bytes| begun(bytes)).collect(),
            code_points_max: 0,
        };
        vocabulary.code_points_max = vocabulary.code_points.iter().copied().max().unwrap_or(0).into();
        for (token, bytes) in (0..).zip(&words) {
            vocabulary.classify(token, bytes);
        }
        for token in eos {
            vocabulary.never.insert(*token);
        }
        vocabulary.check_bytes()?;
        Ok(vocabulary)
    }

    pub fn size(&self) -> usize {
        self.never.vocabulary()
    }

    pub fn trie(&self) -> &TokEnv {
        &self.trie
    }

    /// Control tokens, and those that would write a level without it being weighed.
    pub fn never(&self) -> &TokenSet {
        &self.never
    }

    /// Whole code points, none of which ends or escapes anything in a JSON string.
    pub fn plain(&self) -> &TokenSet {
        &self.plain
    }

    /// Code points that begin in a token.
    pub fn code_points(&self, token: TokenId) -> usize {
        self.code_points[token as usize].into()
    }

    /// Code points that begin in any token, at most.
    pub fn code_points_max(&self) -> usize {
        self.code_points_max
    }

    /// Tokens that begin with one of the digits 1 to 5.
    pub fn levels(&self) -> &[TokenId] {
        &self.levels
    }

    /// What a token stands for; nothing for control tokens and those that there are not.
    pub fn bytes(&self, token: TokenId) -> &[u8] {
        let bytes = self.trie.tok_trie().token(token);
        match bytes.first() {
            Some(&TokTrie::SPECIAL_TOKEN_MARKER) => &[],
            _ => bytes,
        }
    }

    /// What several tokens stand for.
    pub fn joined(&self, tokens: &[TokenId]) -> Vec<u8> {
        tokens.iter().flat_map(|token| self.bytes(*token)).copied().collect()
    }

    fn classify(&mut self, token: TokenId, bytes: &[u8]) {
        match bytes.first() {
            None | Some(&TokTrie::SPECIAL_TOKEN_MARKER) => return self.never.insert(token),
            Some(b'1'..=b'5') => self.levels.push(token),
            Some(_) => {}
        }
        let notable = |byte: &u8| matches!(byte, b'"' | b'\\');
        if std::str::from_utf8(bytes).is_ok() && !bytes.iter().any(notable) {
            self.plain.insert(token);
        }
        // At its end it would do no harm: the level is weighed next.
        let before_its_end = &bytes[..bytes.len() - 1];
        if before_its_end
            .windows(BEFORE_LEVEL.len())
            .any(|part| part == BEFORE_LEVEL)
        {
            self.never.insert(token);
        }
    }

    /// An output can be ended anywhere only if every byte that it may need is a token of its own.
    fn check_bytes(&self) -> Result<(), ScoringError> {
        let trie = self.trie.tok_trie();
        let mut of_text = (0x20..=0xf4_u8).filter(|byte| !matches!(byte, 0xc0 | 0xc1));
        match of_text.find(|byte| trie.token_id_at_bytes(&[*byte]).is_none()) {
            Some(byte) => Err(unsuitable(&format!("it has no token for the single byte 0x{byte:02X}"))),
            None => Ok(()),
        }
    }
}

fn unsuitable(reason: &str) -> ScoringError {
    ScoringError::Unsuitable(reason.to_owned())
}

fn begun(bytes: &[u8]) -> u16 {
    let begun = bytes.iter().filter(|byte| !matches!(byte, 0x80..=0xbf)).count();
    u16::try_from(begun).unwrap_or(u16::MAX)
}

/// Whether a token's name is that of a single byte, as in `<0xEA>`.
fn is_byte(token: &str) -> bool {
    let hex = token.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>'));
    hex.is_some_and(|hex| hex.len() == 2 && hex.bytes().all(|digit| digit.is_ascii_hexdigit()))
}

/// The bytes of every token. Added ones, special or not, are marked as control tokens; what is missing up to `size` is empty.
fn words(encoder: &Encoder, size: usize) -> Result<Vec<Vec<u8>>, ScoringError> {
    let tokenizer = encoder.tokenizer();
    let count = tokenizer.get_vocab_size(true);
    let ids = tokenizer.get_vocab(true);
    let last = ids.values().max().map_or(0, |id| *id as usize);
    if last >= count {
        return Err(unsuitable(&format!(
            "it has {count} tokens, but the last one's id is {last}"
        )));
    }
    if size < count {
        return Err(unsuitable(&format!("it has {count} tokens, but the model only {size}")));
    }
    if let Some(token) = ids.keys().find(|token| token.starts_with("<0x") && !is_byte(token)) {
        return Err(unsuitable(&format!("its token {token:?} is neither a byte nor a text")));
    }
    let bytes = ByteTokenizer::from_tokenizer(tokenizer.clone());
    let mut words = bytes.map_err(|e| unsuitable(&format!("{e:#}")))?.token_bytes();
    for (id, token) in encoder.added() {
        let mut marked = vec![TokTrie::SPECIAL_TOKEN_MARKER];
        marked.extend_from_slice(token.content.as_bytes());
        words[*id as usize] = marked;
    }
    words.resize(size, Vec::new());
    Ok(words)
}
