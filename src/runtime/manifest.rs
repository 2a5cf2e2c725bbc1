//! `model.json`: what an exporter says of the model beside it, with every field typed and the rules between fields checked.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

/// The only version of the format, and of the graph's inputs and outputs, that this program reads.
pub(super) const FORMAT_VERSION: u64 = 1;

/// No dimension of any model is larger: what reckons with one need not fear for its arithmetic.
const SIZE_MAX: u64 = 1 << 24;
/// Several times the largest vocabulary there is: tables of this length are made before anything else of the model is looked at.
const VOCABULARY_MAX: u64 = 1 << 20;

/// All of `model.json`. Sizes are in values, lengths in tokens.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format_version: u64,
    pub name: String,
    pub source: String,
    pub licence_note: String,
    /// Only demonstrates the program: not to be trusted with judging people.
    pub demo: bool,
    /// Random weights, for tests and benchmarks.
    pub random: bool,
    pub exporter_version: String,
    pub architecture: Architecture,
    pub layers: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub vocab_size: usize,
    /// The output head is the embedding matrix; ONNX Runtime holds it twice.
    pub tied_head: bool,
    /// No slot may be longer.
    pub context_tokens: usize,
    pub parameter_count: u64,
    pub target: Target,
    pub precision: Precision,
    /// Weights that share a scale; `None` when weights are floats.
    #[serde(deserialize_with = "Option::deserialize")]
    pub block_size: Option<u32>,
    #[serde(default)]
    pub quality: Option<Quality>,
    /// Bits of a weight of the output head where they are not those of the precision.
    #[serde(default)]
    pub head_bits: Option<u32>,
    pub kv_type: KvType,
    /// T: a prefill chunk of length S with S mod T = 1 changes bits, on the processor that exported.
    pub query_tile_tokens: usize,
    pub weights_bytes: u64,
    pub chat_template_file: String,
    pub special_tokens: SpecialTokens,
    /// Token ids that end an output; that of `end_of_turn` comes first.
    pub eos_ids: Vec<u32>,
    pub files: ModelFiles,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    Exaone3,
    Exaone4,
}

/// The execution provider that a graph was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Target {
    Cpu,
    Cuda,
}

impl Target {
    /// As it is written in `model.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

/// The format of the matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    Int4,
    Int8,
    Fp16,
    Fp32,
}

impl Precision {
    /// As it is written in `model.json`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Int4 => "int4",
            Self::Int8 => "int8",
            Self::Fp16 => "fp16",
            Self::Fp32 => "fp32",
        }
    }

    fn is_quantised(self) -> bool {
        matches!(self, Self::Int4 | Self::Int8)
    }
}

/// The care that was taken with int4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quality {
    Fast,
    Balanced,
    Best,
}

/// Element type of the key/value cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KvType {
    Float32,
    Float16,
    /// Rounded with scales that the graph carries.
    Int8,
}

impl KvType {
    /// Bytes of a value.
    pub fn bytes(self) -> usize {
        match self {
            Self::Float32 => 4,
            Self::Float16 => 2,
            Self::Int8 => 1,
        }
    }
}

/// A marker of the chat template: exactly one token.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpecialToken {
    pub text: String,
    pub id: u32,
}

/// The markers of a conversation by role.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpecialTokens {
    pub bos: SpecialToken,
    pub pad: SpecialToken,
    pub unk: SpecialToken,
    pub system: SpecialToken,
    pub user: SpecialToken,
    pub assistant: SpecialToken,
    pub end_of_turn: SpecialToken,
}

impl SpecialTokens {
    pub fn all(&self) -> [&SpecialToken; 7] {
        let Self {
            bos,
            pad,
            unk,
            system,
            user,
            assistant,
            end_of_turn,
        } = self;
        [bos, pad, unk, system, user, assistant, end_of_turn]
    }
}

/// Size and hash of a file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    pub bytes: u64,
    /// Lower-case hexadecimal.
    pub sha256: String,
}

/// The files beside `model.json`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFiles {
    #[serde(rename = "model.onnx")]
    pub graph: FileEntry,
    #[serde(rename = "model.onnx.data")]
    pub weights: FileEntry,
    #[serde(rename = "tokenizer.json")]
    pub tokenizer: FileEntry,
    #[serde(rename = "chat_template.jinja")]
    pub chat_template: FileEntry,
}

impl ModelFiles {
    /// With their names, smallest check first.
    pub fn all(&self) -> [(&'static str, &FileEntry); 4] {
        [
            ("chat_template.jinja", &self.chat_template),
            ("model.onnx", &self.graph),
            ("tokenizer.json", &self.tokenizer),
            ("model.onnx.data", &self.weights),
        ]
    }
}

impl Manifest {
    /// What scores are computed with, as `status` and reports name it: the matrices' format, and that of keys and values where those are rounded too.
    pub fn numbers(&self) -> String {
        match self.kv_type {
            KvType::Float32 | KvType::Float16 => self.precision.name().to_owned(),
            KvType::Int8 => format!("{}, int8 KV", self.precision.name()),
        }
    }

    /// Reads and checks the text of a `model.json`. The error says which field and why.
    pub fn parse(text: &[u8]) -> Result<Self, ManifestFault> {
        /// Read by itself: another version may have other fields.
        #[derive(Deserialize)]
        #[serde(expecting = "an object")]
        struct Version {
            format_version: u64,
        }
        let version: Version = read(text)?;
        if version.format_version != FORMAT_VERSION {
            return Err(ManifestFault::Version(version.format_version));
        }
        let manifest: Self = read(text)?;
        match manifest.contradiction() {
            Some(reason) => Err(ManifestFault::Wrong(reason)),
            None => Ok(manifest),
        }
    }

    /// What the types alone do not rule out.
    fn contradiction(&self) -> Option<String> {
        let counts = [
            ("layers", self.layers as u64, 1, SIZE_MAX),
            ("hidden_size", self.hidden_size as u64, 1, SIZE_MAX),
            ("intermediate_size", self.intermediate_size as u64, 1, SIZE_MAX),
            ("heads", self.heads as u64, 1, SIZE_MAX),
            ("kv_heads", self.kv_heads as u64, 1, SIZE_MAX),
            ("head_dim", self.head_dim as u64, 1, SIZE_MAX),
            ("vocab_size", self.vocab_size as u64, 1, VOCABULARY_MAX),
            ("context_tokens", self.context_tokens as u64, 1, SIZE_MAX),
            ("parameter_count", self.parameter_count, 1, u64::MAX),
            // In tiles of 2 tokens no prompt of odd length can be cut.
            ("query_tile_tokens", self.query_tile_tokens as u64, 3, SIZE_MAX),
            ("weights_bytes", self.weights_bytes, 1, u64::MAX),
        ];
        if let Some((field, found, least, _)) = counts.into_iter().find(|(_, found, least, _)| found < least) {
            return Some(format!("{field} is {found}, at least {least} is needed"));
        }
        if let Some((field, found, _, most)) = counts.into_iter().find(|(_, found, _, most)| found > most) {
            return Some(format!("{field} is {found}, at most {most} is possible"));
        }
        let texts = [
            ("name", &self.name),
            ("source", &self.source),
            ("licence_note", &self.licence_note),
        ];
        if let Some((field, _)) = texts.into_iter().find(|(_, text)| text.is_empty()) {
            return Some(format!("{field} is empty"));
        }
        self.format_contradiction()
            .or_else(|| self.token_contradiction())
            .or_else(|| self.file_contradiction())
    }

    fn format_contradiction(&self) -> Option<String> {
        let full = match self.target {
            Target::Cpu => KvType::Float32,
            Target::Cuda => KvType::Float16,
        };
        if ![full, KvType::Int8].contains(&self.kv_type) {
            return Some(format!(
                "kv_type is {:?}, for the target {:?} it is {full:?} or Int8",
                self.kv_type, self.target
            ));
        }
        let known = matches!(self.block_size, None | Some(16 | 32 | 64 | 128));
        if !known || self.block_size.is_some() != self.precision.is_quantised() {
            return Some(format!(
                "block_size {:?} does not go with {}",
                self.block_size,
                self.precision.name()
            ));
        }
        if !matches!(self.head_bits, None | Some(4 | 8)) || self.head_bits.is_some() && !self.precision.is_quantised() {
            return Some(format!(
                "head_bits {:?} does not go with {}",
                self.head_bits,
                self.precision.name()
            ));
        }
        None
    }

    fn token_contradiction(&self) -> Option<String> {
        let markers = self.special_tokens.all().map(|token| token.id);
        let vocabulary = self.vocab_size as u64;
        if let Some(id) = markers
            .iter()
            .chain(&self.eos_ids)
            .find(|id| u64::from(**id) >= vocabulary)
        {
            return Some(format!("token {id} is not in a vocabulary of {vocabulary}"));
        }
        if let Some(marker) = self
            .special_tokens
            .all()
            .into_iter()
            .find(|token| token.text.is_empty())
        {
            return Some(format!("the special token {} has no text", marker.id));
        }
        if self.eos_ids.first() != Some(&self.special_tokens.end_of_turn.id) {
            return Some("eos_ids does not begin with end_of_turn's id".to_owned());
        }
        let twice = self
            .eos_ids
            .iter()
            .enumerate()
            .find(|(at, id)| self.eos_ids[..*at].contains(id));
        twice.map(|(_, id)| format!("eos_ids has {id} twice"))
    }

    fn file_contradiction(&self) -> Option<String> {
        if self.chat_template_file != "chat_template.jinja" {
            return Some(format!(
                "chat_template_file is {:?}, not \"chat_template.jinja\"",
                self.chat_template_file
            ));
        }
        let is_hash = |text: &str| text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if let Some((name, entry)) = self.files.all().into_iter().find(|(_, entry)| !is_hash(&entry.sha256)) {
            return Some(format!(
                "files: {name}: {:?} is not a SHA-256 in lower-case hexadecimal",
                entry.sha256
            ));
        }
        (self.weights_bytes != self.files.weights.bytes).then(|| {
            format!(
                "weights_bytes is {}, but model.onnx.data has {}",
                self.weights_bytes, self.files.weights.bytes
            )
        })
    }
}

/// JSON, read as a `T`. The error names the field by its path.
fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, ManifestFault> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let (path, inner) = (error.path().to_string(), error.into_inner());
        match (inner.classify(), path.as_str()) {
            (Category::Data, ".") => wrong_field(&inner.to_string()),
            (Category::Data, path) => format!("{path}: {}", wrong_field(&inner.to_string())),
            _ => format!("it is not JSON: {inner}"),
        }
    });
    let read = value.and_then(|value| match json.end() {
        Ok(()) => Ok(value),
        Err(error) => Err(format!("it is not JSON: {error}")),
    });
    read.map_err(ManifestFault::Wrong)
}

/// Which fields there are instead would fill a screen.
fn wrong_field(reason: &str) -> String {
    match reason.split_once(", expected ") {
        Some((unknown, _)) if unknown.starts_with("unknown field") => {
            format!("{unknown}, which this program does not know; a newer exporter may have written it")
        }
        _ => reason.to_owned(),
    }
}

/// Why a `model.json` is not one.
#[derive(Debug, PartialEq, Eq)]
pub enum ManifestFault {
    Version(u64),
    Wrong(String),
}

#[cfg(test)]
mod tests {
    use super::super::demo_model;
    use super::*;

    fn fault(edit: impl FnOnce(&mut serde_json::Value)) -> String {
        let mut value: serde_json::Value = serde_json::from_slice(demo_model::MANIFEST).expect("is JSON");
        edit(&mut value);
        match Manifest::parse(value.to_string().as_bytes()) {
            Ok(_) => String::new(),
            Err(ManifestFault::Wrong(reason)) => reason,
            Err(ManifestFault::Version(version)) => format!("version {version}"),
        }
    }

    #[test]
    fn the_demo_model_is_described_without_contradiction() {
        let manifest = Manifest::parse(demo_model::MANIFEST).expect("is right");
        assert!(manifest.demo && !manifest.random);
        assert_eq!((manifest.layers, manifest.kv_heads, manifest.head_dim), (6, 2, 32));
        assert_eq!(manifest.special_tokens.end_of_turn.id, manifest.eos_ids[0]);
        assert_eq!((manifest.target, manifest.kv_type.bytes()), (Target::Cpu, 4));
    }

    #[test]
    fn another_format_version_is_told_as_such_whatever_else_it_holds() {
        assert_eq!(fault(|json| json["format_version"] = 2.into()), "version 2");
        assert_eq!(
            Manifest::parse(br#"{"format_version":7}"#),
            Err(ManifestFault::Version(7))
        );
    }

    #[test]
    fn a_field_too_many_or_too_few_is_named() {
        assert!(fault(|json| json["colour"] = 1.into()).contains("colour"));
        let without = |field: &'static str| fault(|json| drop(json.as_object_mut().expect("an object").remove(field)));
        assert!(without("layers").contains("layers"));
        assert!(without("block_size").contains("block_size"));
        let nested = fault(|json| json["special_tokens"]["bos"] = serde_json::json!({"text": "[BOS]"}));
        assert!(
            nested.contains("special_tokens.bos") && nested.contains("`id`"),
            "{nested}"
        );
        let kind = fault(|json| json["layers"] = "six".into());
        assert!(kind.starts_with("layers: invalid type"), "{kind}");
    }

    #[test]
    fn what_is_no_json_or_no_object_is_told_as_such() {
        let fault = |text: &[u8]| match Manifest::parse(text) {
            Err(ManifestFault::Wrong(reason)) => reason,
            other => panic!("{other:?}"),
        };
        let whole = demo_model::MANIFEST;
        for text in [&whole[..whole.len() / 2], b"", b"Dear sir", &[whole, b"}"].concat()] {
            assert!(fault(text).contains("not JSON"), "{}", fault(text));
        }
        assert!(fault(b"7").contains("expected an object"), "{}", fault(b"7"));
    }

    #[test]
    fn rounded_keys_and_values_are_part_of_what_scores_are_computed_with() {
        let numbers = |kv_type: &str| {
            let mut value: serde_json::Value = serde_json::from_slice(demo_model::MANIFEST).expect("is JSON");
            value["kv_type"] = kv_type.into();
            Manifest::parse(value.to_string().as_bytes()).map(|manifest| (manifest.numbers(), manifest.kv_type.bytes()))
        };
        assert_eq!(numbers("float32"), Ok(("int8".to_owned(), 4)));
        assert_eq!(numbers("int8"), Ok(("int8, int8 KV".to_owned(), 1)));
    }

    #[test]
    fn values_that_contradict_each_other_are_refused() {
        assert!(fault(|json| json["kv_heads"] = 0.into()).contains("kv_heads is 0"));
        assert!(fault(|json| json["query_tile_tokens"] = 2.into()).contains("query_tile_tokens is 2"));
        assert!(fault(|json| json["layers"] = (1_u64 << 32).into()).contains("at most 16777216"));
        assert!(fault(|json| json["vocab_size"] = 100_000_000.into()).contains("at most 1048576"));
        assert!(fault(|json| json["target"] = "cuda".into()).contains("kv_type"));
        assert!(fault(|json| json["kv_type"] = "float16".into()).contains("kv_type"));
        assert!(fault(|json| json["block_size"] = serde_json::Value::Null).contains("block_size"));
        assert!(fault(|json| json["head_bits"] = 5.into()).contains("head_bits"));
        assert!(fault(|json| json["vocab_size"] = 5.into()).contains("vocabulary of 5"));
        assert!(fault(|json| json["eos_ids"] = serde_json::json!([])).contains("eos_ids"));
        assert!(fault(|json| json["weights_bytes"] = 1.into()).contains("weights_bytes"));
        assert!(fault(|json| json["files"]["model.onnx"]["sha256"] = "AB".into()).contains("model.onnx"));
    }
}
