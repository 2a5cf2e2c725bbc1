//! What a client is told when something is not done: a stable kind, and a message for people.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// An error of the protocol.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    pub kind: Kind,
    /// Names the field, the limit and the value where there are such.
    pub message: String,
    /// What `data` holds besides the kind.
    pub data: Map<String, Value>,
}

/// Stable names of what can go wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Parse,
    InvalidRequest,
    UnknownMethod,
    InvalidParams,
    Internal,
    Busy,
    NotFound,
    Conflict,
    TooLarge,
    NotReady,
    Draining,
    Forbidden,
    Storage,
}

impl Kind {
    /// The JSON-RPC code.
    pub fn code(self) -> i32 {
        match self {
            Self::Parse => -32_700,
            Self::InvalidRequest => -32_600,
            Self::UnknownMethod => -32_601,
            Self::InvalidParams => -32_602,
            Self::Internal => -32_603,
            Self::Busy => -32_001,
            Self::NotFound => -32_002,
            Self::Conflict => -32_003,
            Self::TooLarge => -32_004,
            Self::NotReady => -32_005,
            Self::Draining => -32_006,
            Self::Forbidden => -32_007,
            Self::Storage => -32_008,
        }
    }
}

impl Fault {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            data: Map::new(),
        }
    }

    /// Adds a field to `data`.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.data.insert(key.to_owned(), value.into());
        self
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, message)
    }

    pub fn too_large(message: impl Into<String>, limit: usize, actual: usize) -> Self {
        Self::new(Kind::TooLarge, message)
            .with("limit", limit)
            .with("actual", actual)
    }
}
