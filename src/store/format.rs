//! How a value is written: JSON with its format version and a checksum, `{"v":2,"crc":"cbf43926","body":…}`.
//!
//! sled checks what it reads from the disk, but a value lies there in several pieces: the checksum is of the whole.

use std::borrow::Cow;
use std::fmt::Display;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::error::StoreError;
use crate::domain::privacy::place_of;

/// The version in which everything is written.
pub(super) const VERSION: u32 = 2;

#[derive(Serialize)]
struct Written<'a> {
    v: u32,
    /// CRC-32 of the body's text, in hexadecimal.
    crc: String,
    body: &'a RawValue,
}

#[derive(Deserialize)]
struct Found<'a> {
    v: u32,
    crc: Option<Cow<'a, str>>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

pub(super) fn encode<T: Serialize + ?Sized>(body: &T) -> Vec<u8> {
    let body = serde_json::value::to_raw_value(body).expect("records have no keys but strings");
    let written = Written {
        v: VERSION,
        crc: checksum(body.get()),
        body: &body,
    };
    serde_json::to_vec(&written).expect("a JSON text can be written")
}

/// The value as today's program writes it; `what` names it in errors.
pub(super) fn decode<T: DeserializeOwned>(what: impl Display, bytes: &[u8]) -> Result<T, StoreError> {
    let body = body(&what, bytes)?;
    serde_json::from_str(&body).map_err(|error| unreadable(&what, place_of(&error)))
}

/// As [`decode`], the JSON text itself.
pub(super) fn body<'a>(what: &impl Display, bytes: &'a [u8]) -> Result<Cow<'a, str>, StoreError> {
    let wrong = |why: &str| Err(unreadable(what, why));
    let found: Result<Found, _> = serde_json::from_slice(bytes);
    // Of a newer version nothing is known but where it says so.
    let newer = match &found {
        Ok(found) => Some(found.v),
        Err(_) => version(bytes),
    };
    if let Some(found) = newer.filter(|found| *found > VERSION) {
        return Err(StoreError::NewerVersion {
            what: what.to_string(),
            found,
            known: VERSION,
        });
    }
    let found = found.map_err(|error| unreadable(what, place_of(&error)))?;
    let Some(body) = found.body.map(RawValue::get) else {
        return wrong("it has no body");
    };
    match found.v {
        1 => Ok(from_1(body)),
        VERSION if found.crc.as_deref() == Some(checksum(body).as_str()) => Ok(Cow::Borrowed(body)),
        VERSION => wrong("its checksum is another one"),
        other => wrong(&format!("there never was a version {other}")),
    }
}

/// The version that a value was written in.
pub(super) fn version(bytes: &[u8]) -> Option<u32> {
    serde_json::from_slice(bytes).ok().map(|Version { v }| v)
}

/// Makes version 2 of version 1, which had the same bodies and no checksum.
fn from_1(body: &str) -> Cow<'_, str> {
    Cow::Borrowed(body)
}

fn checksum(body: &str) -> String {
    format!("{:08x}", crc32fast::hash(body.as_bytes()))
}

pub(super) fn unreadable(what: &impl Display, why: impl Into<String>) -> StoreError {
    StoreError::Unreadable {
        what: what.to_string(),
        why: why.into(),
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
        assert_eq!(
            std::str::from_utf8(&bytes).unwrap(),
            r#"{"v":2,"crc":"088b50bf","body":[1,2]}"#
        );
        assert_eq!(decode::<Vec<u32>>("the thing", &bytes).unwrap(), [1, 2]);
    }

    #[test]
    fn an_error_says_where_and_never_what_stands_there() {
        let bytes = encode("비밀스러운 답변");
        for body in ["\"비밀\"", "\"비밀"] {
            let text = format!(r#"{{"v":1,"body":{body}}}"#);
            let found = error(&text);
            assert!(
                found.contains("at line 1, column") && !found.contains("비밀"),
                "{found}"
            );
        }
        let found = decode::<u32>("the thing", &bytes).unwrap_err();
        let cause = std::error::Error::source(&found).map(ToString::to_string);
        assert!(
            cause.is_none() && !found.to_string().contains("비밀"),
            "{found}: {cause:?}"
        );
    }

    #[test]
    fn a_newer_version_is_refused_whatever_its_shape() {
        assert!(error(r#"{"v":3,"crc":7}"#).contains("the thing has the format version 3, this program knows up to 2"));
    }

    #[test]
    fn version_1_had_no_checksum() {
        assert_eq!(decode::<u32>("the thing", br#"{"v":1,"body":7}"#).unwrap(), 7);
    }

    #[test]
    fn no_changed_byte_goes_unnoticed() {
        let bytes = encode("잘했다.");
        for (place, bit) in (0..bytes.len()).flat_map(|place| (0..8).map(move |bit| (place, bit))) {
            let mut changed = bytes.clone();
            changed[place] ^= 1 << bit;
            assert!(
                decode::<String>("the thing", &changed).is_err(),
                "bit {bit} of byte {place}"
            );
        }
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
            r#"{"v":2,"body":1}"#,
            r#"{"v":2,"crc":"00000000","body":1}"#,
        ] {
            assert!(error(text).contains("the thing cannot be understood"), "{text}");
        }
    }
}
