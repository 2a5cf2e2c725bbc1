//! How a value is written: JSON with its format version, `{"v":1,"body":…}`.

use std::borrow::Cow;
use std::fmt::Display;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::error::StoreError;

/// The version in which everything is written.
pub(super) const VERSION: u32 = 1;

#[derive(Serialize)]
struct Written<'a, T> {
    v: u32,
    body: &'a T,
}

#[derive(Deserialize)]
struct Found<'a> {
    v: u32,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

pub(super) fn encode<T: Serialize>(body: &T) -> Vec<u8> {
    serde_json::to_vec(&Written { v: VERSION, body }).expect("records have no keys but strings")
}

/// The value as today's program writes it; `what` names it in errors.
pub(super) fn decode<T: DeserializeOwned>(what: impl Display, bytes: &[u8]) -> Result<T, StoreError> {
    let body = body(&what, bytes)?;
    serde_json::from_str(&body).map_err(|source| unreadable(&what, source))
}

/// As [`decode`], the JSON text itself.
pub(super) fn body<'a>(what: &impl Display, bytes: &'a [u8]) -> Result<Cow<'a, str>, StoreError> {
    let found: Found = serde_json::from_slice(bytes).map_err(|source| unreadable(what, source))?;
    if found.v > VERSION {
        return Err(StoreError::NewerVersion {
            what: what.to_string(),
            found: found.v,
            known: VERSION,
        });
    }
    // An older version gets an arm with a function that makes the next version's text of it.
    match (found.v, found.body) {
        (VERSION, Some(body)) => Ok(Cow::Borrowed(body.get())),
        (VERSION, None) => Err(unreadable(what, serde_json::Error::custom("it has no body"))),
        (other, _) => Err(unreadable(
            what,
            serde_json::Error::custom(format!("there never was a version {other}")),
        )),
    }
}

pub(super) fn unreadable(what: &impl Display, source: serde_json::Error) -> StoreError {
    StoreError::Unreadable {
        what: what.to_string(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        decode::<u32>("the thing", text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_value_is_read_as_it_was_written() {
        let bytes = encode(&vec![1, 2]);
        assert_eq!(bytes, br#"{"v":1,"body":[1,2]}"#);
        assert_eq!(decode::<Vec<u32>>("the thing", &bytes).unwrap(), [1, 2]);
    }

    #[test]
    fn a_newer_version_is_refused_whatever_its_shape() {
        assert!(
            error(r#"{"v":2,"text":"?"}"#).contains("the thing has the format version 2, this program knows up to 1")
        );
    }

    #[test]
    fn what_no_version_wrote_is_unreadable() {
        for text in [
            "",
            "{}",
            "[1]",
            r#"{"v":0,"body":1}"#,
            r#"{"v":1}"#,
            r#"{"v":1,"body":"x"}"#,
        ] {
            assert!(error(text).contains("the thing cannot be understood"), "{text}");
        }
    }
}
