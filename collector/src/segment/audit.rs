//! `properties.details` of format `SegmentAudit`: what an event says, as Segment's own audit forwarding would say it. Every
//! value is text.
//!
//! | member | what |
//! |---|---|
//! | `resource_id`, `resource_type`, `target` | the resource and its name; empty where there is none |
//! | `subject` | the actor: `users/<id>`, `tokens/<id>`, `system/<id>`; empty where the person was erased |
//! | `actor_name`, `actor_email`, `outcome` | ours, where the event has them |
//! | `changes` | ours: JSON text |
//! | any other | a member of the event's own `details`: text as it is, `true` and `false`, `null` as empty text, else JSON text |
//!
//! A member of `details` that has one of these names gets [`BESIDE`] before it.

use crate::event::{Actor, ActorType, Change, Outcome, Resource};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use std::borrow::Cow;

pub(super) const RESOURCE_ID: &str = "resource_id";
pub(super) const RESOURCE_TYPE: &str = "resource_type";
pub(super) const TARGET: &str = "target";
pub(super) const SUBJECT: &str = "subject";
pub(super) const ACTOR_NAME: &str = "actor_name";
pub(super) const ACTOR_EMAIL: &str = "actor_email";
pub(super) const OUTCOME: &str = "outcome";
pub(super) const CHANGES: &str = "changes";

/// Names that the event's own `details` cannot have here.
pub(super) const TAKEN: [&str; 8] =
    [RESOURCE_ID, RESOURCE_TYPE, TARGET, SUBJECT, ACTOR_NAME, ACTOR_EMAIL, OUTCOME, CHANGES];

/// What stands before the name of an own member whose name is taken; and once more before one that has it already.
pub(super) const BESIDE: &str = "own_";

/// What stands before an actor's id in `subject`. Segment's own has `users/`.
const SUBJECTS: [(ActorType, &str); 3] =
    [(ActorType::User, "users/"), (ActorType::AccessToken, "tokens/"), (ActorType::System, "system/")];

/// The `details` of an event, ready to be written.
pub(super) struct Details<'a> {
    pub actor: Option<&'a Actor>,
    pub resource: Option<&'a Resource>,
    pub outcome: Option<Outcome>,
    pub changes: &'a [Change],
    pub own: Option<&'a Map<String, Value>>,
}

impl Serialize for Details<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut details = serializer.serialize_map(None)?;
        let resource = self.resource;
        details.serialize_entry(RESOURCE_ID, resource.map_or("", |resource| &*resource.id))?;
        details.serialize_entry(RESOURCE_TYPE, resource.map_or("", |resource| &*resource.r#type))?;
        details.serialize_entry(TARGET, resource.and_then(|resource| resource.name.as_deref()).unwrap_or_default())?;
        details.serialize_entry(SUBJECT, &self.actor.map(subject).unwrap_or_default())?;
        if let Some(name) = self.actor.and_then(|actor| actor.name.as_deref()) {
            details.serialize_entry(ACTOR_NAME, name)?;
        }
        if let Some(email) = self.actor.and_then(|actor| actor.email.as_deref()) {
            details.serialize_entry(ACTOR_EMAIL, email)?;
        }
        if let Some(outcome) = self.outcome {
            details.serialize_entry(OUTCOME, outcome.as_str())?;
        }
        if !self.changes.is_empty() {
            details.serialize_entry(CHANGES, &json(&self.changes))?;
        }
        for (name, value) in self.own.into_iter().flatten() {
            details.serialize_entry(&*beside(name), &*text(value))?;
        }
        details.end()
    }
}

fn subject(actor: &Actor) -> String {
    let before = SUBJECTS.iter().find(|(r#type, _)| *r#type == actor.r#type).map_or("", |(_, before)| before);
    format!("{before}{}", actor.id)
}

/// Whom a subject names: kind and id.
pub(super) fn actor(subject: &str) -> Option<(ActorType, &str)> {
    let named = |(r#type, before): &(ActorType, &str)| subject.strip_prefix(before).map(|id| (*r#type, id));
    SUBJECTS.iter().find_map(named).filter(|(_, id)| !id.is_empty())
}

/// A value as text.
fn text(value: &Value) -> Cow<'_, str> {
    match value {
        Value::String(text) => Cow::Borrowed(text),
        Value::Bool(true) => Cow::Borrowed("true"),
        Value::Bool(false) => Cow::Borrowed("false"),
        Value::Null => Cow::Borrowed(""),
        Value::Number(_) | Value::Array(_) | Value::Object(_) => Cow::Owned(json(value)),
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain data with text as keys always has a JSON form")
}

/// Where an own member stands.
fn beside(name: &str) -> Cow<'_, str> {
    if is_taken(name) { Cow::Owned(format!("{BESIDE}{name}")) } else { Cow::Borrowed(name) }
}

/// The own member that stands at `name`.
pub(super) fn own(name: String) -> String {
    match name.strip_prefix(BESIDE) {
        Some(own) if is_taken(own) => own.to_owned(),
        _ => name,
    }
}

/// Whether a name is taken, or stands beside one that is: either way it has to move, so that no two meet.
fn is_taken(name: &str) -> bool {
    TAKEN.contains(&name.trim_start_matches(BESIDE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn with(own: &Value) -> Value {
        let details = Details {
            actor: None,
            resource: None,
            outcome: None,
            changes: &[],
            own: Some(own.as_object().expect("an object")),
        };
        serde_json::to_value(details).expect("JSON")
    }

    #[test]
    fn every_kind_of_value_becomes_text() {
        let own =
            json!({"a": "b", "n": -1, "f": 0.5, "t": true, "x": false, "z": null, "l": [1, "é"], "o": {"k": null}});
        let expected = json!({"a": "b", "n": "-1", "f": "0.5", "t": "true", "x": "false", "z": "", "l": "[1,\"é\"]",
            "o": "{\"k\":null}", "resource_id": "", "resource_type": "", "target": "", "subject": ""});
        assert_eq!(with(&own), expected);
    }

    #[test]
    fn an_own_member_whose_name_is_taken_stands_beside_it() {
        let own =
            json!({"target": "a", "own_target": "b", "own_own_target": "c", "own": "d", "own_a": "e", "changes": []});
        let written = with(&own);
        let of = |name: &str| written[name].as_str().expect("text");
        assert_eq!((of("target"), of("own_target"), of("own_own_target")), ("", "a", "b"));
        assert_eq!((of("own_own_own_target"), of("own"), of("own_a"), of("own_changes")), ("c", "d", "e", "[]"));
        assert_eq!(written.get("changes"), None);
    }

    #[test]
    fn a_subject_names_its_actor_again() {
        for (r#type, _) in SUBJECTS {
            let given = Actor { r#type, id: "users/1".to_owned(), name: None, email: None };
            assert_eq!(actor(&subject(&given)), Some((r#type, "users/1")));
        }
        assert_eq!((actor(""), actor("users/"), actor("teams/1")), (None, None, None));
    }

    proptest! {
        #[test]
        fn no_two_own_members_meet(name in "(own_){0,3}(target|changes|own_|a)?") {
            let written = beside(&name).into_owned();
            prop_assert!(!TAKEN.contains(&&*written));
            prop_assert_eq!(own(written), name);
        }
    }
}
