//! The keys that clients choose for interviews and answers.

use std::fmt;

/// Longest id, in characters (all of them ASCII).
pub const ID_CHARS_MAX: usize = 128;

/// Why a text is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    #[error("an id must not be empty")]
    Empty,
    #[error("an id has at most {ID_CHARS_MAX} characters, this one has {0}")]
    TooLong(usize),
    #[error("an id consists of A-Z a-z 0-9 . _ : -, this one has {0:?}")]
    Character(char),
}

macro_rules! id {
    ($name:ident, $what:literal) => {
        #[doc = concat!("The key of ", $what, ": 1 to 128 of `A-Z a-z 0-9 . _ : -`.")]
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(String);

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                check(&text)?;
                Ok(Self(text))
            }
        }

        impl $name {
            /// Checks a client's text.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                check(text)?;
                Ok(Self(text.to_owned()))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

id!(InterviewId, "an interview");
id!(AnswerId, "an answer within its interview");

fn check(text: &str) -> Result<(), InvalidId> {
    if text.is_empty() {
        return Err(InvalidId::Empty);
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._:-".contains(c);
    if let Some(other) = text.chars().find(|c| !allowed(*c)) {
        return Err(InvalidId::Character(other));
    }
    match text.len() {
        0..=ID_CHARS_MAX => Ok(()),
        length => Err(InvalidId::TooLong(length)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_what_the_protocol_allows() {
        for good in ["a", "iv-001", "A.b_c:9", &"x".repeat(128)] {
            assert_eq!(InterviewId::parse(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn other_texts_are_refused_with_what_is_wrong() {
        assert_eq!(AnswerId::parse(""), Err(InvalidId::Empty));
        assert_eq!(AnswerId::parse("a b"), Err(InvalidId::Character(' ')));
        assert_eq!(AnswerId::parse("답변"), Err(InvalidId::Character('답')));
        assert_eq!(AnswerId::parse(&"x".repeat(129)), Err(InvalidId::TooLong(129)));
    }
}
