//! What the operator asks of the pool: numbers or "auto", a device, and how much memory may be used.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::devices::DeviceKind;

/// A number that may be left to the planner: `"auto"` or an integer from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Wanted {
    #[default]
    Auto,
    Number(u32),
}

/// The device of the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceWanted {
    /// What the model was exported for, if it is there; the explanation says why it was chosen.
    #[default]
    Auto,
    Cuda,
    Cpu,
}

/// `[pool]` of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolWanted {
    pub device: DeviceWanted,
    /// Copies of the weights, at most [`ACTORS_MAX`].
    pub actors: Wanted,
    /// Answers that one copy scores at a time, at most [`SLOTS_MAX`].
    pub slots_per_actor: Wanted,
    /// Most of a device that its actors together may use, in MiB; `None` for all that is free.
    pub memory_budget_mib: Option<u64>,
    /// Free memory of a device that is left alone, in MiB; `None` for [`reserve_mib_default`].
    pub memory_reserve_mib: Option<u64>,
}

/// Most actors that may be asked for.
pub const ACTORS_MAX: u32 = 64;

/// Most slots per actor that may be asked for.
pub const SLOTS_MAX: u32 = 256;

/// What is left alone on a device unless told otherwise, in MiB. A card: what a desktop's other programs take and give back from minute to
/// minute; the workspace is reckoned generously already, and a 6 GiB card has nothing to give away. RAM: the operating system and its page
/// cache, and whatever else the machine is for.
pub const fn reserve_mib_default(kind: DeviceKind) -> u64 {
    match kind {
        DeviceKind::Cuda => 128,
        DeviceKind::Cpu => 1_024,
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

impl Serialize for Wanted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => serializer.serialize_str("auto"),
            Self::Number(number) => serializer.serialize_u32(*number),
        }
    }
}

impl<'de> Deserialize<'de> for Wanted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(WantedVisitor)
    }
}

struct WantedVisitor;

impl de::Visitor<'_> for WantedVisitor {
    type Value = Wanted;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"auto\" or a whole number from 1")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Wanted, E> {
        u32::try_from(number)
            .ok()
            .filter(|number| *number > 0)
            .map(Wanted::Number)
            .ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(number), &self))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Wanted, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::invalid_value(de::Unexpected::Signed(number), &self)),
        }
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Wanted, E> {
        match text {
            "auto" => Ok(Wanted::Auto),
            _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    struct File {
        actors: Wanted,
    }

    #[test]
    fn auto_and_numbers_are_read_and_written_alike() {
        for (text, wanted) in [("\"auto\"", Wanted::Auto), ("3", Wanted::Number(3))] {
            assert_eq!(serde_json::from_str::<Wanted>(text).unwrap(), wanted);
            assert_eq!(serde_json::to_string(&wanted).unwrap(), text);
            let file: File = toml::from_str(&format!("actors = {text}")).unwrap();
            assert_eq!(file.actors, wanted);
        }
    }

    #[test]
    fn anything_else_is_refused_with_what_was_expected() {
        for text in ["0", "-1", "1.5", "\"2\"", "\"Auto\"", "true", "4294967296"] {
            let error = toml::from_str::<File>(&format!("actors = {text}")).unwrap_err();
            assert!(
                error.to_string().contains("\"auto\" or a whole number from 1"),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn devices_are_named_in_small_letters() {
        let names = [DeviceWanted::Auto, DeviceWanted::Cuda, DeviceWanted::Cpu];
        assert_eq!(serde_json::to_string(&names).unwrap(), r#"["auto","cuda","cpu"]"#);
    }
}
