//! What the store has lost, as far as it is known: what opening it had to say, interviews that cannot be read, and unfinished ones that could not be
//! set to work.

use std::collections::BTreeSet;

use crate::store::some_of;

#[derive(Debug, Default)]
pub struct Losses {
    /// What opening had to say, in the order of openings.
    notes: Vec<String>,
    /// Whether nobody who asked has been told of them yet.
    is_untold: bool,
    /// Interviews of which nothing can be read.
    unreadable: BTreeSet<String>,
    /// Interviews that do not go on; why is in the log.
    stuck: BTreeSet<String>,
    /// Why it is not even known which interviews should go on.
    unknown: Option<String>,
}

impl Losses {
    /// The store was opened: what that had to say, and of which interviews nothing can be read.
    pub fn opened(&mut self, notes: Vec<String>, unreadable: Vec<String>) {
        // What nobody has been told of is said by every opening.
        for note in notes {
            if self.notes.contains(&note) {
                continue;
            }
            tracing::error!("{note}");
            self.notes.push(note);
            self.is_untold = true;
        }
        self.unreadable = unreadable.into_iter().collect();
        if let Some(words) = self.unreadable_in_words() {
            tracing::error!("{words}");
        }
    }

    /// The interview does not go on.
    pub fn add_stuck(&mut self, name: &str) {
        self.stuck.insert(name.to_owned());
    }

    /// All are looked through again.
    pub fn forget_all_stuck(&mut self) {
        self.stuck.clear();
        self.unknown = None;
    }

    pub fn set_unknown(&mut self, reason: String) {
        self.unknown = Some(reason);
    }

    /// The interview was erased, cancelled, or goes on.
    pub fn forget(&mut self, name: &str) {
        self.unreadable.remove(name);
        self.stuck.remove(name);
    }

    fn unreadable_in_words(&self) -> Option<String> {
        let names: Vec<_> = self.unreadable.iter().cloned().collect();
        (!names.is_empty()).then(|| {
            format!(
                "{} interviews in the store cannot be read: {}; the others can",
                names.len(),
                some_of(&names)
            )
        })
    }

    /// Whether what opening had to say is told for the first time by this, which somebody who asked is given.
    pub fn are_first_told_by(&mut self, reason: &str) -> bool {
        let are_told = self.is_untold && self.notes.iter().all(|note| reason.contains(note));
        self.is_untold &= !are_told;
        are_told
    }

    /// All of it, for people; `None` if there is nothing.
    pub fn in_words(&self) -> Option<String> {
        let names: Vec<_> = self.stuck.iter().cloned().collect();
        let stuck = (!names.is_empty()).then(|| {
            format!(
                "{} unfinished interviews cannot be read and do not go on: {} (why is in the log); delete them, and `interviewd import` a backup that has them if they are to go on",
                names.len(),
                some_of(&names)
            )
        });
        let noted = self.notes.iter().cloned().chain(self.unreadable_in_words());
        let all: Vec<_> = noted.chain(self.unknown.clone()).chain(stuck).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stuck(names: impl IntoIterator<Item = usize>) -> Losses {
        let mut losses = Losses::default();
        for n in names {
            losses.add_stuck(&format!("iv{n:02}"));
        }
        losses
    }

    #[test]
    fn how_many_and_which_interviews_do_not_go_on_is_said_until_they_are_gone() {
        assert_eq!(Losses::default().in_words(), None);
        let mut losses = stuck([1, 2]);
        let words = losses.in_words().unwrap();
        assert!(
            words.starts_with("2 unfinished interviews cannot be read and do not go on: iv01, iv02 ("),
            "{words}"
        );
        losses.forget("iv01");
        losses.forget("iv02");
        assert_eq!(losses.in_words(), None);
    }

    #[test]
    fn what_cannot_be_read_is_named_until_it_is_gone_or_the_store_is_opened_again() {
        let names = |names: &[&str]| -> Vec<String> { names.iter().map(|name| (*name).to_owned()).collect() };
        let mut losses = Losses::default();
        losses.opened(Vec::new(), names(&["b", "a"]));
        losses.add_stuck("a");
        assert!(
            losses
                .in_words()
                .unwrap()
                .starts_with("2 interviews in the store cannot be read: a, b; the others can; 1 unfinished")
        );
        losses.forget("a");
        assert_eq!(
            losses.in_words().unwrap(),
            "1 interviews in the store cannot be read: b; the others can"
        );
        losses.forget("b");
        assert_eq!(losses.in_words(), None);
        losses.opened(Vec::new(), names(&["a"]));
        losses.opened(Vec::new(), names(&[]));
        assert_eq!(losses.in_words(), None);
    }

    #[test]
    fn of_many_the_first_are_named() {
        let words = stuck(0..25).in_words().unwrap();
        assert!(
            words.starts_with("25 unfinished") && words.contains("iv19 and 5 more"),
            "{words}"
        );
    }

    #[test]
    fn notes_are_told_once_they_have_all_been_part_of_an_answer() {
        let mut losses = Losses::default();
        assert!(!losses.are_first_told_by("no room"));
        losses.opened(vec!["moved away".to_owned()], Vec::new());
        assert!(!losses.are_first_told_by("no room"));
        let words = losses.in_words().unwrap();
        assert!(losses.are_first_told_by(&words) && !losses.are_first_told_by(&words));
        losses.opened(vec!["repaired".to_owned()], Vec::new());
        assert!(!losses.are_first_told_by(&words));
        let words = losses.in_words().unwrap();
        assert!(losses.are_first_told_by(&words));
    }

    #[test]
    fn notes_come_first_and_stay() {
        let mut losses = Losses::default();
        losses.opened(vec!["moved away".to_owned()], Vec::new());
        losses.opened(vec!["moved away".to_owned()], Vec::new());
        losses.set_unknown("the index is gone".to_owned());
        assert_eq!(losses.in_words().unwrap(), "moved away; the index is gone");
        losses.forget_all_stuck();
        assert_eq!(losses.in_words().unwrap(), "moved away");
    }
}
