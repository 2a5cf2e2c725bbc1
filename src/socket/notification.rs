//! What a subscriber is told: events in their order, or how many it missed.

use serde::{Deserialize, Serialize};

use crate::domain::event::Event;
use crate::domain::ids::InterviewId;

/// The parameters of the notification `event`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventNotification {
    pub subscription: u64,
    /// 1 for the subscription's first notification, then one more for each.
    pub seq: u64,
    #[serde(flatten)]
    pub told: Told,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Written", into = "Written")]
pub enum Told {
    Event(Event),
    /// As many events came faster than they were read and are lost.
    Lagged {
        missed: u64,
        /// What the subscription is restricted to.
        interview_id: Option<InterviewId>,
    },
}

impl Told {
    /// The interview that this is about; `None`: it may be about any.
    pub fn interview_id(&self) -> Option<&InterviewId> {
        match self {
            Self::Event(event) => Some(&event.interview_id),
            Self::Lagged { interview_id, .. } => interview_id.as_ref(),
        }
    }
}

/// [`Told`] as it is in JSON: `lagged` is one more `kind`.
#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Gap(Gap),
    Event(Event),
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Gap {
    Lagged {
        missed: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        interview_id: Option<InterviewId>,
    },
}

impl From<Written> for Told {
    fn from(written: Written) -> Self {
        match written {
            Written::Gap(Gap::Lagged { missed, interview_id }) => Self::Lagged { missed, interview_id },
            Written::Event(event) => Self::Event(event),
        }
    }
}

impl From<Told> for Written {
    fn from(told: Told) -> Self {
        match told {
            Told::Lagged { missed, interview_id } => Self::Gap(Gap::Lagged { missed, interview_id }),
            Told::Event(event) => Self::Event(event),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::event::EventKind;
    use crate::domain::ids::AnswerId;
    use crate::domain::score::Score;

    fn both_ways(told: Told, value: serde_json::Value) {
        let notification = EventNotification {
            subscription: 7,
            seq: 3,
            told,
        };
        assert_eq!(serde_json::to_value(&notification).unwrap(), value);
        assert_eq!(
            serde_json::from_value::<EventNotification>(value).unwrap(),
            notification
        );
    }

    #[test]
    fn an_event_is_written_flat_and_read_as_it_was_written() {
        let event = Event {
            interview_id: InterviewId::parse("iv-1").unwrap(),
            kind: EventKind::AnswerScored {
                answer_id: AnswerId::parse("a1").unwrap(),
                score: Score::from_hundredths(7_350).unwrap(),
            },
            done: 1,
            total: 2,
        };
        let value = json!({"subscription": 7, "seq": 3, "interview_id": "iv-1", "kind": "answer_scored",
            "answer_id": "a1", "score": 73.5, "done": 1, "total": 2});
        both_ways(Told::Event(event), value);
    }

    #[test]
    fn a_gap_is_one_more_kind() {
        let everything = Told::Lagged {
            missed: 9,
            interview_id: None,
        };
        both_ways(
            everything,
            json!({"subscription": 7, "seq": 3, "kind": "lagged", "missed": 9}),
        );
        let one = Told::Lagged {
            missed: 9,
            interview_id: Some(InterviewId::parse("iv-1").unwrap()),
        };
        let value = json!({"subscription": 7, "seq": 3, "kind": "lagged", "missed": 9, "interview_id": "iv-1"});
        both_ways(one, value);
    }
}
