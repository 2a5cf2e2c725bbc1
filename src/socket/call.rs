//! What a client may ask for, with its parameters checked for form (not for meaning).

use serde::{Deserialize, Serialize};

use crate::domain::interview::{AnswerDraft, Draft};
use crate::domain::state::InterviewState;

/// A request of the protocol. Ids are still texts: whether they can be ids is decided where they are looked up.
#[derive(Debug, Clone)]
pub enum Call {
    Hello,
    Submit(Draft),
    Open(Draft),
    Answer {
        interview_id: String,
        answer: AnswerDraft,
    },
    Finish {
        interview_id: String,
    },
    Get {
        interview_id: String,
    },
    List(ListParams),
    Retry {
        interview_id: String,
    },
    Cancel {
        interview_id: String,
    },
    Delete {
        interview_id: String,
    },
    Report {
        interview_id: String,
        format: Format,
    },
    WaitForReport {
        interview_id: String,
        timeout_ms: u64,
        format: Format,
    },
    Status,
    Resize(ResizeParams),
    ReloadConfig,
    Export {
        after: Option<String>,
    },
    Drain,
    Resume,
    Shutdown {
        timeout_s: Option<u64>,
    },
}

impl Call {
    /// Whether nothing is changed by it.
    pub fn only_asks(&self) -> bool {
        match self {
            Self::Hello
            | Self::Status
            | Self::Get { .. }
            | Self::List(_)
            | Self::Report { .. }
            | Self::WaitForReport { .. }
            | Self::Export { .. } => true,
            Self::Submit(_)
            | Self::Open(_)
            | Self::Answer { .. }
            | Self::Finish { .. }
            | Self::Retry { .. }
            | Self::Cancel { .. }
            | Self::Delete { .. }
            | Self::Resize(_)
            | Self::ReloadConfig
            | Self::Drain
            | Self::Resume
            | Self::Shutdown { .. } => false,
        }
    }
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListParams {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<InterviewState>,
    /// 1 to 1,000; 100 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResizeParams {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots_per_actor: Option<Count>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actors: Option<Count>,
}

/// A number, or `"auto"` for what the planner finds best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Count {
    Auto,
    Number(u32),
}

/// How a report is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    #[default]
    Json,
    Markdown,
}

impl Serialize for Count {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Number(number) => serializer.serialize_u32(*number),
        }
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Count;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number from 1 on or \"auto\"")
            }

            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Count, E> {
                let number = u32::try_from(number).ok().filter(|number| *number > 0);
                number
                    .map(Count::Number)
                    .ok_or_else(|| E::custom("expected a number from 1 to 4294967295 or \"auto\""))
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Count, E> {
                Err(E::invalid_value(serde::de::Unexpected::Signed(number), &self))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Count, E> {
                match text {
                    "auto" => Ok(Count::Auto),
                    other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
