//! The trails that an item passed: each trail that sends it adds its log to a list in the item's context, so that a trail
//! which finds itself there knows that forwardings lead in a circle.

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use std::fmt;
use uuid::Uuid;

/// Most trails that an event may have passed before it arrives. Nobody chains as many; a circle of more trails whose logs
/// are swapped on the way would otherwise have no end.
pub const PASSED_MAX: usize = 16;

/// Member of an item's context that is ours.
pub(super) const OURS: &str = "audittrail";

/// Member of that: UUIDs of logs, oldest first.
const PASSED: &str = "passed";

/// Why an event is not taken from another trail.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Loop {
    /// It has passed this very trail.
    Here,
    /// It has passed so many trails, more than [`PASSED_MAX`].
    TooLong(usize),
}

impl fmt::Display for Loop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Here => f.write_str("has passed this trail already"),
            Self::TooLong(count) => write!(f, "has passed {count} trails, at most {PASSED_MAX} are allowed"),
        }
    }
}

impl Loop {
    /// Whether an event that has `passed` these logs came here in a circle.
    pub fn found(passed: &[Uuid], here: Uuid) -> Option<Self> {
        if passed.contains(&here) {
            Some(Self::Here)
        } else if passed.len() > PASSED_MAX {
            Some(Self::TooLong(passed.len()))
        } else {
            None
        }
    }
}

/// The logs that an item passed. What is no list of UUIDs is somebody else's and says nothing.
pub(super) fn of(item: &Map<String, Value>) -> Vec<Uuid> {
    let listed = item.get("context").and_then(|context| context.get(OURS)?.get(PASSED)?.as_array());
    let log = |value: &Value| Uuid::try_parse(value.as_str()?).ok();
    listed.and_then(|listed| listed.iter().map(log).collect()).unwrap_or_default()
}

/// What stands in an item's context: where it was, and the log that sends it.
#[derive(Serialize)]
pub(super) struct Ours<'a> {
    passed: Passed<'a>,
}

struct Passed<'a> {
    before: &'a [Uuid],
    own: Uuid,
}

impl<'a> Ours<'a> {
    /// Of an item that the log `own` sends.
    pub fn of(before: &'a [Uuid], own: Uuid) -> Self {
        Self { passed: Passed { before, own } }
    }
}

impl Serialize for Passed<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.before.iter().chain([&self.own]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn log(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn logs(count: u128) -> Vec<Uuid> {
        (0..count).map(log).collect()
    }

    fn read(context: &Value) -> Vec<Uuid> {
        of(json!({ "context": context }).as_object().expect("an object"))
    }

    #[test]
    fn the_sender_stands_last_in_what_is_read_again() {
        let written = serde_json::to_value(Ours::of(&logs(2), log(7))).expect("JSON");
        assert_eq!(read(&json!({ "audittrail": written })), [log(0), log(1), log(7)]);
    }

    #[test]
    fn what_is_no_list_of_uuids_says_nothing() {
        let one = log(1).to_string();
        for listed in [json!(null), json!("x"), json!({}), json!([one, "x"]), json!([one, 1]), json!([one, null])] {
            assert_eq!(read(&json!({"audittrail": {"passed": listed}})), logs(0), "{listed}");
        }
        for context in [json!(null), json!([]), json!({}), json!({"audittrail": []}), json!({"passed": [one]})] {
            assert_eq!(read(&context), logs(0), "{context}");
        }
        assert_eq!(of(&Map::new()), logs(0));
    }

    #[test]
    fn a_trail_that_was_passed_or_a_seventeenth_is_a_loop() {
        assert_eq!(Loop::found(&[], log(0)), None);
        assert_eq!(Loop::found(&logs(16), log(99)), None);
        assert_eq!(Loop::found(&logs(17), log(99)), Some(Loop::TooLong(17)));
        assert_eq!(Loop::found(&logs(16), log(15)), Some(Loop::Here));
        assert_eq!(Loop::found(&logs(17), log(0)), Some(Loop::Here));
    }
}
