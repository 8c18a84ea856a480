//! Events in the shape of Segment's Tracking API, format `Named`: each is a track call whose event is
//! the audit event's own type. Pure: events in, bytes out.
//!
//! What Segment has a place for goes there; everything else goes to `properties`, under its own name.

use crate::event::{
    Actor, ActorType, Change, Context, Outcome, Resource, StoredEvent, SubmittedBy, rfc3339_microseconds,
};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

/// Largest item, in bytes: Segment's "32 KB per event", as analytics-go reads it.
pub const ITEM_MAX_BYTES: usize = 32_000;

/// Largest body, in bytes: Segment's "500 KB per batch", with the margin of analytics-python.
pub const BODY_MAX_BYTES: usize = 475_000;

/// Most items of a body: Segment drops a larger batch behind a 200.
pub const BODY_MAX_ITEMS: usize = 2_500;

/// Room in a body for what is around the items, in bytes: brackets, `sentAt`, and a write key of up to
/// 1,024 characters, each escaped to six.
const ENVELOPE_BYTES: usize = 8 * 1024;

/// Who acted where nobody is known, as Segment's own audit forwarding names it.
const SYSTEM: &str = "__system__";

/// An event, ready to be sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Item {
    /// Its sequence.
    pub sequence: i64,
    /// Its epoch.
    pub epoch: i64,
    /// The JSON of the item, at most [`ITEM_MAX_BYTES`].
    pub json: Vec<u8>,
}

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
    /// Members that were left out to keep the item small enough.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    truncated: Vec<&'static str>,
}

/// Encodes an event of the log `log_id`.
///
/// An item which is too large is cut: the larger of `details` and `changes` is left out first, then
/// the other, then what `context` says of the client. `properties.truncated` names what is missing.
/// What is left then fits, whatever `ingest` let through.
///
/// # Panics
/// Never: an event is plain data, which always has a JSON form.
pub fn item(log_id: Uuid, stored: &StoredEvent) -> Item {
    let mut track = track(log_id, stored);
    let mut json = bytes(&track);
    if json.len() > ITEM_MAX_BYTES {
        let mut cuts = [Cut::Details, Cut::Changes];
        cuts.sort_by_key(|cut| std::cmp::Reverse(cut.size(stored)));
        for cut in cuts.into_iter().chain([Cut::Context]) {
            cut.apply(&mut track);
            json = bytes(&track);
            if json.len() <= ITEM_MAX_BYTES {
                break;
            }
        }
    }
    Item { sequence: stored.sequence, epoch: stored.epoch, json }
}

/// How many of the first items fit in one body; at least one, unless there is none.
pub fn fitting(items: &[Item]) -> usize {
    let mut size = ENVELOPE_BYTES;
    let fits = |item: &&Item| {
        size += item.json.len() + 1;
        size <= BODY_MAX_BYTES
    };
    items.iter().take(BODY_MAX_ITEMS).take_while(fits).count()
}

/// The body of `POST /v1/batch`. `sent_at` is the moment of this very attempt: receivers correct
/// their clocks by it.
///
/// # Panics
/// Never: text always has a JSON form.
pub fn body(items: &[Item], write_key: &str, sent_at: Timestamp) -> Vec<u8> {
    let size: usize = items.iter().map(|item| item.json.len() + 1).sum();
    let mut body = Vec::with_capacity(size + ENVELOPE_BYTES);
    body.extend_from_slice(b"{\"batch\":[");
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&item.json);
    }
    body.extend_from_slice(b"],\"sentAt\":");
    body.extend_from_slice(&bytes(&rfc3339_microseconds(sent_at)));
    body.extend_from_slice(b",\"writeKey\":");
    body.extend_from_slice(&bytes(&write_key));
    body.push(b'}');
    body
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
            library: Library { name: "audittrail", version: env!("CARGO_PKG_VERSION") },
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

#[derive(Clone, Copy)]
enum Cut {
    Details,
    Changes,
    Context,
}

impl Cut {
    /// Bytes that the cut saves.
    fn size(self, stored: &StoredEvent) -> usize {
        match self {
            Self::Details => stored.event.details.as_ref().map_or(0, |details| bytes(details).len()),
            Self::Changes => bytes(&stored.event.changes).len(),
            Self::Context => stored.event.context.as_ref().map_or(0, |context| bytes(context).len()),
        }
    }

    fn apply(self, track: &mut Track<'_>) {
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
    use super::*;
    use crate::event::tests::event;
    use crate::event::{Event, SubmitterKind};
    use crate::ingest::limits;
    use serde_json::json;

    const LOG: Uuid = Uuid::from_u128(0x018b_cfe5_6800_7000_8000_0000_0000_0000);

    fn stored(event: Event) -> StoredEvent {
        StoredEvent {
            sequence: 7,
            epoch: 1,
            received_at: "2026-03-02T09:14:05.12Z".parse().expect("valid"),
            timestamp: "2026-03-02T09:14:05Z".parse().expect("valid"),
            submitted_by: SubmittedBy { kind: SubmitterKind::WriteKey, name: "acme-write-key/writeKey".to_owned() },
            event,
        }
    }

    /// An event with every member.
    fn full() -> Event {
        Event {
            actor: Some(Actor {
                r#type: ActorType::User,
                id: "usr_1".to_owned(),
                name: Some("Ada".to_owned()),
                email: Some("ada@acme.example".to_owned()),
            }),
            resource: Some(Resource {
                r#type: "warehouse".to_owned(),
                id: "whs_31".to_owned(),
                name: Some("Production".to_owned()),
            }),
            outcome: Some(Outcome::Success),
            context: Some(Context {
                ip: Some("203.0.113.7".to_owned()),
                user_agent: Some("curl/8".to_owned()),
                request_id: Some("req_1".to_owned()),
            }),
            changes: vec![Change { field: "enabled".to_owned(), before: Some(json!(true)), after: Some(json!(false)) }],
            details: json!({"reason": "by mistake", "nested": {"n": 1}}).as_object().cloned(),
            ..event("evt_1")
        }
    }

    fn value(item: &Item) -> Value {
        let mut value: Value = serde_json::from_slice(&item.json).expect("valid JSON");
        value["context"]["library"]["version"] = json!("[version]");
        value
    }

    fn text(length: usize) -> String {
        "x".repeat(length)
    }

    #[test]
    fn a_full_event_becomes_a_named_track_call() {
        insta::assert_json_snapshot!(value(&item(LOG, &stored(full()))));
    }

    #[test]
    fn an_event_of_the_system_has_an_anonymous_id() {
        let system = Actor { r#type: ActorType::System, id: "scheduler".to_owned(), name: None, email: None };
        insta::assert_json_snapshot!(value(&item(LOG, &stored(Event { actor: Some(system), ..event("evt_1") }))));
    }

    #[test]
    fn an_event_without_an_actor_has_the_same_anonymous_id() {
        let item = value(&item(LOG, &stored(Event { actor: None, ..event("evt_1") })));
        assert_eq!(item["anonymousId"], "__system__");
        assert!(item.get("userId").is_none());
    }

    #[test]
    fn the_message_id_depends_on_the_log_and_the_event_alone() {
        let first = value(&item(LOG, &stored(event("evt_1"))));
        let moved = StoredEvent { sequence: 9, epoch: 4, ..stored(event("evt_1")) };
        assert_eq!(first["messageId"], value(&item(LOG, &moved))["messageId"]);
        assert_ne!(first["messageId"], value(&item(LOG, &stored(event("evt_2"))))["messageId"]);
        assert_ne!(first["messageId"], value(&item(Uuid::nil(), &stored(event("evt_1"))))["messageId"]);
    }

    #[test]
    fn an_item_is_cut_past_32000_bytes_and_not_before() {
        let with =
            |length| item(LOG, &stored(Event { details: json!({"t": text(length)}).as_object().cloned(), ..full() }));
        let rest = with(0).json.len();
        let at_the_bound = with(ITEM_MAX_BYTES - rest);
        assert_eq!(at_the_bound.json.len(), ITEM_MAX_BYTES);
        assert!(value(&at_the_bound)["properties"].get("truncated").is_none());
        insta::assert_json_snapshot!(value(&with(ITEM_MAX_BYTES - rest + 1)));
    }

    #[test]
    fn the_larger_of_details_and_changes_goes_first_and_the_other_stays_when_it_fits() {
        let changes = vec![Change { field: "notes".to_owned(), before: None, after: Some(json!(text(40_000))) }];
        let properties = &value(&item(LOG, &stored(Event { changes, ..full() })))["properties"];
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
        assert!(item(LOG, &stored(event)).json.len() <= ITEM_MAX_BYTES);
    }

    fn items(count: usize, bytes: usize) -> Vec<Item> {
        (0..count).map(|_| Item { sequence: 0, epoch: 0, json: vec![b'x'; bytes] }).collect()
    }

    #[test]
    fn a_body_holds_at_most_2500_items() {
        assert_eq!(fitting(&items(2_500, 2)), 2_500);
        assert_eq!(fitting(&items(2_501, 2)), 2_500);
        assert_eq!(fitting(&[]), 0);
    }

    #[test]
    fn a_body_stays_within_475000_bytes_and_is_used_well() {
        for bytes in [1_000, ITEM_MAX_BYTES] {
            let items = items(1_000, bytes);
            let key = "\u{1}".repeat(1_024);
            let fitting = fitting(&items);
            let size = body(&items[..fitting], &key, Timestamp::UNIX_EPOCH).len();
            assert!(size <= BODY_MAX_BYTES && size + bytes + ENVELOPE_BYTES > BODY_MAX_BYTES, "{size}");
        }
    }

    #[test]
    fn a_body_is_json_with_the_key_and_the_moment_of_the_attempt() {
        let events = [item(LOG, &stored(event("a"))), item(LOG, &stored(event("b")))];
        let sent_at = "2026-03-02T09:15:00Z".parse().expect("valid");
        let body: Value = serde_json::from_slice(&body(&events, "k\"ey", sent_at)).expect("valid JSON");
        assert_eq!(body["batch"].as_array().map(Vec::len), Some(2));
        assert_eq!(body["sentAt"], "2026-03-02T09:15:00.000000Z");
        assert_eq!(body["writeKey"], "k\"ey");
    }
}
