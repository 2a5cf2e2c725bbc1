//! The kinds of values that TOML has no word for: "auto" or a number, a file mode, a device, an optional path.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{self, Deserializer, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// A number, or the word "auto": left to the planner or to the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AutoOr<T> {
    #[default]
    Auto,
    Value(T),
}

impl<T> AutoOr<T> {
    /// The number that was written, if one was.
    pub fn value(self) -> Option<T> {
        match self {
            Self::Auto => None,
            Self::Value(value) => Some(value),
        }
    }
}

impl<T: Serialize> Serialize for AutoOr<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Value(value) => value.serialize(serializer),
        }
    }
}

impl<'de, T: TryFrom<u64>> Deserialize<'de> for AutoOr<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AutoOrVisitor(PhantomData))
    }
}

struct AutoOrVisitor<T>(PhantomData<T>);

impl<T: TryFrom<u64>> Visitor<'_> for AutoOrVisitor<T> {
    type Value = AutoOr<T>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("\"auto\" or a whole number")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        match text {
            "auto" => Ok(AutoOr::Auto),
            other => Err(E::invalid_value(Unexpected::Str(other), &self)),
        }
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        T::try_from(number)
            .map(AutoOr::Value)
            .map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(Unexpected::Signed(number), &self)),
        }
    }
}

/// Permissions of the socket's file; its owner can always read and write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMode(u32);

/// Why a text is no mode for the socket.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMode {
    #[error("{0:?} is no file mode: write three or four octal digits, from \"0600\" to \"0777\"")]
    NotOctal(String),
    #[error("the mode {0:?} does not let the socket's owner read and write; \"0600\" is the least that does")]
    OwnerLockedOut(String),
}

impl FileMode {
    pub const OWNER_AND_GROUP: Self = Self(0o660);

    /// Permission bits, as `chmod` takes them.
    pub fn bits(self) -> u32 {
        self.0
    }
}

impl fmt::Display for FileMode {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl FromStr for FileMode {
    type Err = InvalidMode;

    fn from_str(text: &str) -> Result<Self, InvalidMode> {
        const OWNER_READS_AND_WRITES: u32 = 0o600;
        let octal = matches!(text.len(), 3 | 4) && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
        let bits = u32::from_str_radix(text, 8)
            .ok()
            .filter(|bits| octal && *bits <= 0o777)
            .ok_or_else(|| InvalidMode::NotOctal(text.to_owned()))?;
        if bits & OWNER_READS_AND_WRITES != OWNER_READS_AND_WRITES {
            return Err(InvalidMode::OwnerLockedOut(text.to_owned()));
        }
        Ok(Self(bits))
    }
}

impl Serialize for FileMode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for FileMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(ModeVisitor)
    }
}

struct ModeVisitor;

impl Visitor<'_> for ModeVisitor {
    type Value = FileMode;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("octal digits in quotes, as in \"0660\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<FileMode, E> {
        text.parse().map_err(E::custom)
    }
}

/// Where the model runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Device {
    /// What the model was exported for, if it is there.
    #[default]
    Auto,
    Cuda,
    Cpu,
}

/// A path that may be left out, written as "": TOML has no null, and a key without a value could not be listed.
pub(super) mod empty_is_none {
    use std::path::PathBuf;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
        match path {
            Some(path) => path.serialize(serializer),
            None => serializer.serialize_str(""),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PathBuf>, D::Error> {
        let path = PathBuf::deserialize(deserializer)?;
        Ok((!path.as_os_str().is_empty()).then_some(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_is_octal_and_never_locks_its_owner_out() {
        let bits = |text: &str| text.parse::<FileMode>().map(FileMode::bits);
        assert_eq!(bits("0660"), Ok(0o660));
        assert_eq!(bits("600"), Ok(0o600));
        assert_eq!(bits("0777"), Ok(0o777));
        for bad in ["", "0", "66", "0999", "1660", "00660", "+660", "rw-", "０６６０"] {
            assert_eq!(bits(bad), Err(InvalidMode::NotOctal(bad.into())), "{bad}");
        }
        for bad in ["0060", "0460", "0200", "000"] {
            assert_eq!(bits(bad), Err(InvalidMode::OwnerLockedOut(bad.into())), "{bad}");
        }
        assert_eq!(FileMode::OWNER_AND_GROUP.to_string(), "0660");
    }

    #[test]
    fn auto_is_a_word_and_anything_else_a_number() {
        let read = |text: &str| {
            let value: toml::Value = text.parse().unwrap();
            value.try_into::<AutoOr<u32>>().map_err(|e| e.message().to_owned())
        };
        assert_eq!(read("\"auto\""), Ok(AutoOr::Auto));
        assert_eq!(read("17"), Ok(AutoOr::Value(17)));
        for bad in ["\"Auto\"", "-1", "4294967296", "1.5", "true", "[1]"] {
            assert!(
                read(bad).unwrap_err().contains("expected \"auto\" or a whole number"),
                "{bad}"
            );
        }
        assert_eq!((AutoOr::Value(3).value(), AutoOr::<u32>::Auto.value()), (Some(3), None));
    }
}
