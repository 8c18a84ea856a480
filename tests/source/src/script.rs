//! How to misbehave: request by request by a script, and for as long as nothing else is said by a [`Standing`].

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::Duration;

/// What one request meets. In JSON an object with one member, for example `{"status": 500}`,
/// `{"status": 429, "retryAfter": 2}` or `{"hang": true}`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "Members")]
pub enum Step {
    /// Answers with this status and stores nothing, with `Retry-After` in seconds where given.
    Status {
        /// The status code.
        code: u16,
        /// The header's value, in seconds.
        retry_after: Option<u64>,
    },
    /// Answers 307 with this `Location`, where a client that follows would bring its key, and stores nothing.
    Redirect(String),
    /// Answers 403 as a trail does that finds itself among those an event passed, and stores nothing.
    Loop,
    /// Never answers and stores nothing.
    Hang,
    /// Resets the connection (TCP RST) and stores nothing.
    Reset,
    /// Stores nothing, and sends half of an answer 200.
    Half,
    /// Stores the events, but closes the connection without an answer.
    StoreThenDrop,
    /// Stores the events, but never answers.
    StoreThenHang,
    /// Stores the events, and answers byte by byte, with a pause before each.
    Drip(Duration),
    /// Stores nothing, and answers 200 with `"ok": false`.
    OkFalse,
    /// Behaves: lets a request pass between two steps.
    Behave,
}

/// How every request is treated that no step of the script is for.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Standing {
    /// Items that are refused, whatever they come with.
    pub poison: Poison,
    /// A larger body, in bytes before compression, is answered 413.
    pub body_max_bytes: Option<usize>,
    /// What requests meet instead of good behaviour: `{"status": 400}` is a source that takes nothing.
    pub always: Option<Step>,
    /// How long each answer takes.
    pub latency_milliseconds: u64,
}

/// Which items are refused, and how.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Poison {
    /// Ids of audit events.
    pub event_ids: BTreeSet<String>,
    /// A property of items.
    pub property: Option<Property>,
    /// What a request meets that has one of them.
    pub answer: PoisonAnswer,
}

/// A property of an item.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Property {
    /// Where it is in the item (JSON Pointer, RFC 6901).
    pub pointer: String,
    /// The value that makes it poison.
    pub value: Value,
}

/// What a request meets that has a poison item.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub enum PoisonAnswer {
    /// It is answered 400, and nothing of it is stored: RudderStack's way.
    #[default]
    Refuse,
    /// It is answered 200 with `"ok": false`, and the other items are stored: Jitsu's way.
    OkFalse,
    /// It is answered 500, and nothing of it is stored: the source fails on it.
    Fail,
}

impl Poison {
    /// Whether an item, which carries the audit event `event_id`, is refused.
    pub fn refuses(&self, item: &Value, event_id: Option<&str>) -> bool {
        let by_property = |property: &Property| item.pointer(&property.pointer) == Some(&property.value);
        event_id.is_some_and(|id| self.event_ids.contains(id)) || self.property.as_ref().is_some_and(by_property)
    }
}

/// The members of a step as they are written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "one for each member of the wire form, of which only one may be set")]
struct Members {
    status: Option<u16>,
    retry_after: Option<u64>,
    redirect: Option<String>,
    /// Milliseconds before each byte.
    drip: Option<u64>,
    #[serde(default)]
    r#loop: bool,
    #[serde(default)]
    hang: bool,
    #[serde(default)]
    reset: bool,
    #[serde(default)]
    half: bool,
    #[serde(default)]
    store_then_drop: bool,
    #[serde(default)]
    store_then_hang: bool,
    #[serde(default)]
    ok_false: bool,
    #[serde(default)]
    behave: bool,
}

impl TryFrom<Members> for Step {
    type Error = &'static str;

    fn try_from(members: Members) -> Result<Self, Self::Error> {
        let Members { status, retry_after, redirect, drip, .. } = members;
        let flags = [
            (members.r#loop, Self::Loop),
            (members.hang, Self::Hang),
            (members.reset, Self::Reset),
            (members.half, Self::Half),
            (members.store_then_drop, Self::StoreThenDrop),
            (members.store_then_hang, Self::StoreThenHang),
            (members.ok_false, Self::OkFalse),
            (members.behave, Self::Behave),
        ];
        let mut given: Vec<Self> = flags.into_iter().filter_map(|(on, step)| on.then_some(step)).collect();
        given.extend(status.map(|code| Self::Status { code, retry_after }));
        given.extend(redirect.map(Self::Redirect));
        given.extend(drip.map(|pause| Self::Drip(Duration::from_millis(pause))));
        match (given.pop(), given.is_empty()) {
            (Some(step), true) if retry_after.is_none() || status.is_some() => Ok(step),
            _ => Err("a step has one of: status (with retryAfter), redirect, loop, hang, reset, half, storeThenDrop, \
                 storeThenHang, drip, okFalse, behave"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_script_is_read_from_json() {
        let text = r#"[{"status":500},{"status":429,"retryAfter":2},{"redirect":"http://elsewhere"},{"loop":true},
            {"hang":true},{"reset":true},{"half":true},{"storeThenDrop":true},{"storeThenHang":true},{"drip":50},
            {"okFalse":true},{"behave":true}]"#;
        let steps: Vec<Step> = serde_json::from_str(text).expect("valid");
        assert_eq!(
            steps,
            [
                Step::Status { code: 500, retry_after: None },
                Step::Status { code: 429, retry_after: Some(2) },
                Step::Redirect("http://elsewhere".to_owned()),
                Step::Loop,
                Step::Hang,
                Step::Reset,
                Step::Half,
                Step::StoreThenDrop,
                Step::StoreThenHang,
                Step::Drip(Duration::from_millis(50)),
                Step::OkFalse,
                Step::Behave,
            ]
        );
    }

    #[test]
    fn a_step_with_no_member_or_with_two_is_refused() {
        for text in [
            "{}",
            r#"{"hang":true,"reset":true}"#,
            r#"{"hang":true,"retryAfter":2}"#,
            r#"{"status":307,"redirect":"x"}"#,
            r#"{"explode":true}"#,
        ] {
            assert!(serde_json::from_str::<Step>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn standing_behaviour_is_read_from_json_and_nothing_of_it_is_needed() {
        let text = r#"{"poison":{"eventIds":["e1"],"property":{"pointer":"/properties/x","value":1},"answer":"okFalse"},
            "bodyMaxBytes":50000,"always":{"status":400},"latencyMilliseconds":25}"#;
        let standing: Standing = serde_json::from_str(text).expect("valid");
        assert_eq!(standing.poison.answer, PoisonAnswer::OkFalse);
        assert_eq!(standing.always, Some(Step::Status { code: 400, retry_after: None }));
        assert_eq!(serde_json::from_str::<Standing>("{}").expect("valid"), Standing::default());
        assert!(serde_json::from_str::<Standing>(r#"{"poisn":{}}"#).is_err());
    }

    #[test]
    fn an_item_is_poison_by_its_event_or_by_a_property() {
        let property = Property { pointer: "/properties/x".to_owned(), value: json!("bad") };
        let poison =
            Poison { event_ids: ["e1".to_owned()].into(), property: Some(property), answer: PoisonAnswer::Refuse };
        let good = json!({"properties": {"x": "good"}});
        assert!(poison.refuses(&good, Some("e1")));
        assert!(!poison.refuses(&good, Some("e2")) && !poison.refuses(&good, None));
        assert!(poison.refuses(&json!({"properties": {"x": "bad"}}), None));
    }
}
