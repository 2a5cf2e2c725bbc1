//! Reading objects by the names of their fields only: serde's derive would also take an array with the values in the fields' order.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};

/// For `deserialize_with` on a field that is an object.
pub fn one<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Named::deserialize(deserializer).map(|named| named.0)
}

/// For an object that may be null; combine it with `default` if it may be left out.
pub fn maybe<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    let named = Option::<Named<T>>::deserialize(deserializer)?;
    Ok(named.map(|named| named.0))
}

/// For an array of objects.
pub fn many<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    let named = Vec::<Named<T>>::deserialize(deserializer)?;
    Ok(named.into_iter().map(|named| named.0).collect())
}

struct Named<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ByName(PhantomData)).map(Named)
    }
}

struct ByName<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ByName<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::interview::Draft;

    fn refusal(text: &str) -> String {
        let mut json = serde_json::Deserializer::from_str(text);
        let error = serde_path_to_error::deserialize::<_, Draft>(&mut json).unwrap_err();
        format!("{}: {}", error.path(), error.inner())
    }

    #[test]
    fn an_array_is_no_object() {
        let answer =
            refusal(r#"{"answers":[{"stage":"intro","question":"","answer":""},["a1","intro","q","a",null]]}"#);
        assert!(
            answer.starts_with("answers[1]: invalid type: sequence, expected an object"),
            "{answer}"
        );
        let company = refusal(r#"{"company":["x",[]]}"#);
        assert!(
            company.starts_with("company: invalid type: sequence, expected an object"),
            "{company}"
        );
    }

    #[test]
    fn what_is_wrong_inside_an_object_keeps_its_path() {
        let unknown = refusal(r#"{"answers":[{"stage":"intro","question":"","answer":"","grade":1}]}"#);
        assert!(
            unknown.starts_with("answers[0].grade: unknown field `grade`"),
            "{unknown}"
        );
    }

    #[test]
    fn objects_may_be_null_or_left_out() {
        let draft: Draft = serde_json::from_str(r#"{"company":null}"#).unwrap();
        assert!(draft.company.is_none() && draft.candidate.is_none() && draft.answers.is_empty());
    }
}
