//! An event as an item, format `Named`: a track call whose event is the audit event's own type.
//!
//! What Segment has a place for goes there; everything else goes to `properties`, under its own name.

use super::{LIBRARY, SYSTEM};
use crate::event::{
    Actor, ActorType, Change, Context, Outcome, Resource, StoredEvent, SubmittedBy, rfc3339_microseconds,
};
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

/// Largest item, in bytes: Segment's "32 KB per event", as analytics-go reads it.
pub const ITEM_MAX_BYTES: usize = 32_000;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Track<'a> {
    r#type: &'static str,
    event: &'a str,
    #[serde(flatten)]
    identity: Identity<'a>,
    message_id: Uuid,
    timestamp: String,
    context: TrackContext<'a>,
    properties: Properties<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Identity<'a> {
    UserId(&'a str),
    AnonymousId(&'static str),
}

#[derive(Serialize)]
struct TrackContext<'a> {
    #[serde(flatten)]
    event: Option<&'a Context>,
    library: Library,
}

#[derive(Serialize)]
struct Library {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Properties<'a> {
    id: &'a str,
    sequence: i64,
    epoch: i64,
    received_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: Option<&'a Actor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<&'a Resource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    #[serde(skip_serializing_if = "<[Change]>::is_empty")]
    changes: &'a [Change],
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<&'a Map<String, Value>>,
    submitted_by: &'a SubmittedBy,
    /// A context that says nothing: `context` of the item could not tell it from none.
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<&'a Context>,
    /// Members that were left out to keep the item small enough.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    truncated: Vec<&'static str>,
}

/// The JSON of an event of the log `log_id`, at most [`ITEM_MAX_BYTES`].
///
/// An item which is too large is cut: the larger of `details` and `changes` is left out first, then
/// the other, then what `context` says of the client. `properties.truncated` names what is missing.
/// What is left then fits, whatever `ingest` let through.
///
/// # Panics
/// Never: an event is plain data, which always has a JSON form.
pub fn named(log_id: Uuid, stored: &StoredEvent) -> Vec<u8> {
    let mut track = track(log_id, stored);
    let mut json = bytes(&track);
    if json.len() > ITEM_MAX_BYTES {
        let mut members = [Member::Details, Member::Changes];
        members.sort_by_key(|member| std::cmp::Reverse(member.size(stored)));
        for member in members.into_iter().chain([Member::Context]) {
            member.leave_out(&mut track);
            json = bytes(&track);
            if json.len() <= ITEM_MAX_BYTES {
                break;
            }
        }
    }
    json
}

fn track(log_id: Uuid, stored: &StoredEvent) -> Track<'_> {
    let event = &stored.event;
    Track {
        r#type: "track",
        event: &event.r#type,
        identity: identity(event.actor.as_ref()),
        message_id: message_id(log_id, &event.id),
        timestamp: rfc3339_microseconds(stored.timestamp),
        context: TrackContext {
            event: event.context.as_ref(),
            library: Library { name: LIBRARY, version: env!("CARGO_PKG_VERSION") },
        },
        properties: Properties {
            id: &event.id,
            sequence: stored.sequence,
            epoch: stored.epoch,
            received_at: rfc3339_microseconds(stored.received_at),
            actor: event.actor.as_ref(),
            resource: event.resource.as_ref(),
            outcome: event.outcome,
            changes: &event.changes,
            details: event.details.as_ref(),
            submitted_by: &stored.submitted_by,
            context: event.context.as_ref().filter(|context| **context == Context::default()),
            truncated: Vec::new(),
        },
    }
}

/// The same for the same event, whatever its sequence is, and another in every other log.
fn message_id(log_id: Uuid, event_id: &str) -> Uuid {
    Uuid::new_v5(&log_id, event_id.as_bytes())
}

/// The system has no user profile, and neither has an actor whose personal data was erased.
fn identity(actor: Option<&Actor>) -> Identity<'_> {
    match actor {
        Some(Actor { r#type: ActorType::User | ActorType::AccessToken, id, .. }) => Identity::UserId(id),
        Some(Actor { r#type: ActorType::System, .. }) | None => Identity::AnonymousId(SYSTEM),
    }
}

/// A member that may be left out.
#[derive(Clone, Copy)]
enum Member {
    Details,
    Changes,
    Context,
}

impl Member {
    /// Bytes that leaving it out saves.
    fn size(self, stored: &StoredEvent) -> usize {
        match self {
            Self::Details => stored.event.details.as_ref().map_or(0, |details| bytes(details).len()),
            Self::Changes => bytes(&stored.event.changes).len(),
            Self::Context => stored.event.context.as_ref().map_or(0, |context| bytes(context).len()),
        }
    }

    fn leave_out(self, track: &mut Track<'_>) {
        let name = match self {
            Self::Details => {
                track.properties.details = None;
                "details"
            }
            Self::Changes => {
                track.properties.changes = &[];
                "changes"
            }
            Self::Context => {
                track.context.event = None;
                track.properties.context = None;
                "context"
            }
        };
        track.properties.truncated.push(name);
    }
}

fn bytes(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data with text as keys always has a JSON form")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{LOG, full, stored};
    use super::*;
    use crate::event::Event;
    use crate::event::tests::event;
    use crate::ingest::limits;
    use serde_json::json;

    fn value(item: &[u8]) -> Value {
        let mut value: Value = serde_json::from_slice(item).expect("valid JSON");
        value["context"]["library"]["version"] = json!("[version]");
        value
    }

    fn text(length: usize) -> String {
        "x".repeat(length)
    }

    #[test]
    fn a_full_event_becomes_a_named_track_call() {
        insta::assert_json_snapshot!(value(&named(LOG, &stored(full()))));
    }

    #[test]
    fn an_event_of_the_system_has_an_anonymous_id() {
        let system = Actor { r#type: ActorType::System, id: "scheduler".to_owned(), name: None, email: None };
        insta::assert_json_snapshot!(value(&named(LOG, &stored(Event { actor: Some(system), ..event("evt_1") }))));
    }

    #[test]
    fn an_event_without_an_actor_has_the_same_anonymous_id() {
        let item = value(&named(LOG, &stored(Event { actor: None, ..event("evt_1") })));
        assert_eq!(item["anonymousId"], "__system__");
        assert!(item.get("userId").is_none());
    }

    #[test]
    fn the_message_id_depends_on_the_log_and_the_event_alone() {
        let first = value(&named(LOG, &stored(event("evt_1"))));
        let moved = StoredEvent { sequence: 9, epoch: 4, ..stored(event("evt_1")) };
        assert_eq!(first["messageId"], value(&named(LOG, &moved))["messageId"]);
        assert_ne!(first["messageId"], value(&named(LOG, &stored(event("evt_2"))))["messageId"]);
        assert_ne!(first["messageId"], value(&named(Uuid::nil(), &stored(event("evt_1"))))["messageId"]);
    }

    #[test]
    fn an_item_is_cut_past_32000_bytes_and_not_before() {
        let with =
            |length| named(LOG, &stored(Event { details: json!({"t": text(length)}).as_object().cloned(), ..full() }));
        let rest = with(0).len();
        let at_the_bound = with(ITEM_MAX_BYTES - rest);
        assert_eq!(at_the_bound.len(), ITEM_MAX_BYTES);
        assert!(value(&at_the_bound)["properties"].get("truncated").is_none());
        insta::assert_json_snapshot!(value(&with(ITEM_MAX_BYTES - rest + 1)));
    }

    #[test]
    fn the_larger_of_details_and_changes_goes_first_and_the_other_stays_when_it_fits() {
        let changes = vec![Change { field: "notes".to_owned(), before: None, after: Some(json!(text(40_000))) }];
        let properties = &value(&named(LOG, &stored(Event { changes, ..full() })))["properties"];
        assert_eq!(properties["truncated"], json!(["changes"]));
        assert_eq!(properties["details"]["reason"], "by mistake");
        assert!(properties.get("changes").is_none());
    }

    #[test]
    fn the_largest_event_that_ingest_accepts_fits() {
        // A control character takes six bytes in JSON; no other takes more.
        let text = |chars| "\u{1}".repeat(chars);
        let details = json!({"t": text(limits::JSON_MAX_BYTES / 6)}).as_object().cloned();
        let event = Event {
            id: text(limits::ID_MAX_CHARS),
            timestamp: None,
            r#type: text(limits::TYPE_MAX_CHARS),
            actor: Some(Actor {
                r#type: ActorType::AccessToken,
                id: text(limits::IDENTITY_MAX_CHARS),
                name: Some(text(limits::NAME_MAX_CHARS)),
                email: Some(text(limits::EMAIL_MAX_CHARS)),
            }),
            resource: Some(Resource {
                r#type: text(limits::IDENTITY_MAX_CHARS),
                id: text(limits::IDENTITY_MAX_CHARS),
                name: Some(text(limits::NAME_MAX_CHARS)),
            }),
            outcome: Some(Outcome::Success),
            context: Some(Context {
                ip: Some("2001:db8::1".to_owned()),
                user_agent: Some(text(limits::USER_AGENT_MAX_CHARS)),
                request_id: Some(text(limits::REQUEST_ID_MAX_CHARS)),
            }),
            changes: vec![Change {
                field: "f".to_owned(),
                before: None,
                after: Some(json!(text(limits::JSON_MAX_BYTES / 6))),
            }],
            details,
        };
        assert!(named(LOG, &stored(event)).len() <= ITEM_MAX_BYTES);
    }
}
