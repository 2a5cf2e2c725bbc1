//! The keys that there are, and which one somebody meant who wrote another.

use std::sync::LazyLock;

use toml::{Table, Value};

use super::sections::Config;

/// What every environment variable of a key begins with.
pub(super) const VARIABLE_PREFIX: &str = "INTERVIEWD__";

/// Every key as `section.key`, in the order of [`Config`].
static KEYS: LazyLock<Vec<String>> =
    LazyLock::new(|| values(&Config::default()).into_iter().map(|(key, _)| key).collect());

pub(super) fn keys() -> impl Iterator<Item = &'static str> {
    KEYS.iter().map(String::as_str)
}

/// The key of this name, if there is one.
pub(super) fn known(name: &str) -> Option<&'static str> {
    keys().find(|key| *key == name)
}

/// The section of this name, if there is one.
pub(super) fn section(name: &str) -> Option<&'static str> {
    keys().map(|key| split(key).0).find(|section| *section == name)
}

/// Section and name of a key.
pub(super) fn split(key: &str) -> (&str, &str) {
    key.split_once('.').expect("a key has a section and a name")
}

/// The environment variable that sets a key.
pub(super) fn variable(key: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", key.to_uppercase().replace('.', "__"))
}

/// Every key with its value as TOML.
pub(super) fn values(config: &Config) -> Vec<(String, Value)> {
    let sections = Table::try_from(config).expect("sections hold texts, truth values and numbers that came from TOML");
    let mut values = Vec::new();
    for (section, keys) in sections {
        let Value::Table(keys) = keys else {
            unreachable!("every field of Config is a section");
        };
        values.extend(
            keys.into_iter()
                .map(|(name, value)| (format!("{section}.{name}"), value)),
        );
    }
    values
}

/// What to do about a key that does not exist; `spelled` writes a key the way its author did.
pub(super) fn hint(wrong: &str, spelled: impl Fn(&str) -> String) -> String {
    if let Some(key) = nearest(wrong) {
        return format!("did you mean {}?", spelled(key));
    }
    let asked = wrong.split('.').next().unwrap_or_default();
    match section(asked) {
        Some(section) => list(section, spelled),
        None => {
            let mut sections: Vec<_> = keys().map(|key| split(key).0).collect();
            sections.dedup();
            format!("the sections are {}", sections.join(", "))
        }
    }
}

/// What to do about a section that was taken for a key.
pub(super) fn list(section: &str, spelled: impl Fn(&str) -> String) -> String {
    let of_section: Vec<_> = keys().filter(|key| split(key).0 == section).map(spelled).collect();
    format!("its keys are {}", of_section.join(", "))
}

/// The key that looks most like this one, if any looks like it: a slip of the pen, or the right name in the wrong section.
fn nearest(wrong: &str) -> Option<&'static str> {
    const SLIPS_MAX: usize = 3;
    // Nothing that is longer can be near, and distances cost the product of the lengths.
    const CHARS_MAX: usize = 60;
    if wrong.chars().nth(CHARS_MAX).is_some() {
        return None;
    }
    let name = |key| split(key).1;
    let wrong_name = wrong.rsplit('.').next().unwrap_or_default();
    let is_unique = keys().filter(|key| name(key) == wrong_name).count() == 1;
    let slips = |key: &'static str| {
        if is_unique && name(key) == wrong_name {
            return 0;
        }
        // A short name with three slips is another word.
        let slips = distance(wrong, key);
        if slips * 2 <= name(key).len() {
            slips
        } else {
            usize::MAX
        }
    };
    keys()
        .map(|key| (slips(key), key))
        .min()
        .filter(|(slips, _)| *slips <= SLIPS_MAX)
        .map(|(_, key)| key)
}

/// Characters to insert, delete or replace to make one text of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, of_a) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, of_b) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(of_a != *of_b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(wrong: &str) -> String {
        hint(wrong, str::to_owned)
    }

    #[test]
    fn a_slip_finds_the_key_that_was_meant() {
        assert_eq!(asked("pool.slot_per_actor"), "did you mean pool.slots_per_actor?");
        assert_eq!(asked("pol.device"), "did you mean pool.device?");
        assert_eq!(asked("pool.divice"), "did you mean pool.device?");
        assert_eq!(asked("device"), "did you mean pool.device?");
        assert_eq!(
            asked("scoring.max_queued_answers"),
            "did you mean queue.max_queued_answers?"
        );
        assert_eq!(hint("pool.devise", variable), "did you mean INTERVIEWD__POOL__DEVICE?");
    }

    #[test]
    fn what_resembles_nothing_gets_the_list() {
        assert_eq!(asked("queue.priority"), "its keys are queue.max_queued_answers");
        assert!(asked("cluster.nats").starts_with("the sections are daemon, socket, store,"));
        assert!(asked("").starts_with("the sections are"));
        assert!(asked(&"x".repeat(100_000)).starts_with("the sections are"));
        assert_eq!(
            asked("log.path"),
            "its keys are log.format, log.level",
            "there is more than one path"
        );
    }

    #[test]
    fn a_distance_counts_slips() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("점수", "점수"), 0);
    }

    #[test]
    fn every_key_has_a_section_a_name_and_a_variable_of_its_own() {
        let variables: std::collections::BTreeSet<_> = keys().map(variable).collect();
        assert_eq!(variables.len(), keys().count());
        assert!(variables.contains("INTERVIEWD__POOL__SLOTS_PER_ACTOR"));
        assert!(keys().all(|key| known(key) == Some(key) && section(split(key).0).is_some()));
    }
}
