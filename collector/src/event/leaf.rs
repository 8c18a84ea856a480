//! The leaf of an event: what the Merkle tree over the log commits to.
//!
//! Fixed from the first migration on, so that no history must ever be rewritten. Members which an
//! event does not have are left out, as in its JSON.
//!
//! - `personal` = SHA-256(salt ‖ RFC 8785 of `{actor, context}`)
//! - `body` = SHA-256(another salt ‖ RFC 8785 of `{changes, details}`)
//! - leaf bytes = RFC 8785 of `{v: 1, trail, epoch, sequence, receivedAt, id, timestamp, type,
//!   resource, outcome, submittedBy, personal, body}`, the two commitments in lower-case hexadecimal
//! - leaf hash = SHA-256(0x00 ‖ leaf bytes) (RFC 6962, section 2.1)
//!
//! A person's fields can be erased together with their salt: the commitment alone tells nothing,
//! and every proof stays valid.

use super::{Actor, ActorType, Context, Event, Outcome, SubmittedBy, json, rfc3339_microseconds};
use jiff::Timestamp;
use serde::Serialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Length of a salt, in bytes: as hard to guess as the hash is to break.
pub const SALT_BYTES: usize = 16;

/// A random salt.
pub type Salt = [u8; SALT_BYTES];

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// The two salts of one event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Salts {
    /// Hides `{actor, context}`.
    pub personal: Salt,
    /// Hides `{changes, details}`.
    pub body: Salt,
}

/// An event with everything about it that does not depend on its place in the log: made once, while other events
/// are being written.
#[derive(Clone, Debug)]
pub struct Sealed {
    /// The event.
    pub event: Event,
    /// Its salts.
    pub salts: Salts,
    /// Commits to `{actor, context}`.
    pub personal: Hash,
    /// Commits to `{changes, details}`.
    pub body: Hash,
    /// `context` in canonical form.
    pub context: Option<String>,
    /// `changes` in canonical form; none when there are none.
    pub changes: Option<String>,
    /// `details` in canonical form.
    pub details: Option<String>,
    /// Logs of the trails that it passed before this one, oldest first. Nothing commits to them.
    pub passed: Vec<Uuid>,
}

/// The place that the log gives an event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    /// Identity of the log.
    pub trail: Uuid,
    /// Epoch of the log.
    pub epoch: i64,
    /// Sequence in the log.
    pub sequence: i64,
    /// When the database took it; stands in for a missing `timestamp`.
    pub received_at: Timestamp,
}

/// `actor` with its members in canonical order.
#[derive(Serialize)]
struct CanonicalActor<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    r#type: ActorType,
}

/// `context` with its members in canonical order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CanonicalContext<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    ip: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_agent: Option<&'a str>,
}

/// `resource` with its members in canonical order.
#[derive(Serialize)]
struct CanonicalResource<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    r#type: &'a str,
}

/// The leaf with its members in canonical order. All keys are ASCII, all values text or small integers: serde_json's
/// form of it is the canonical one.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Leaf<'a> {
    body: &'a str,
    epoch: i64,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    personal: &'a str,
    received_at: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<CanonicalResource<'a>>,
    sequence: i64,
    submitted_by: &'a SubmittedBy,
    timestamp: &'a str,
    trail: Uuid,
    r#type: &'a str,
    v: u8,
}

impl Sealed {
    /// Commits to what `event` holds under these salts. It has passed no trail.
    pub fn new(event: Event, salts: Salts) -> Self {
        let context = event.context.as_ref().map(canonical_context);
        let changes = (!event.changes.is_empty()).then(|| text(json::canonical(&event.changes)));
        let details = event.details.as_ref().map(|details| text(json::canonical(details)));
        let actor = event.actor.as_ref().map(canonical_actor);
        let personal = salted(salts.personal, [("actor", &actor), ("context", &context)]);
        let body = salted(salts.body, [("changes", &changes), ("details", &details)]);
        Self { event, salts, personal, body, context, changes, details, passed: Vec::new() }
    }

    /// The leaf hash of the event at this place, written by `submitted_by`.
    pub fn leaf_hash(&self, place: &Place, submitted_by: &SubmittedBy) -> Hash {
        let event = &self.event;
        let (mut personal, mut body) = ([0; 64], [0; 64]);
        let received_at = rfc3339_microseconds(place.received_at);
        let leaf = serde_json::to_vec(&Leaf {
            body: hexadecimal(&self.body, &mut body),
            epoch: place.epoch,
            id: &event.id,
            outcome: event.outcome,
            personal: hexadecimal(&self.personal, &mut personal),
            resource: event.resource.as_ref().map(|resource| CanonicalResource {
                id: &resource.id,
                name: resource.name.as_deref(),
                r#type: &resource.r#type,
            }),
            sequence: place.sequence,
            submitted_by,
            timestamp: event.timestamp.map(rfc3339_microseconds).as_deref().unwrap_or(&received_at),
            received_at: &received_at,
            trail: place.trail,
            r#type: &event.r#type,
            v: 1,
        });
        leaf_hash(&leaf.expect("text and integers have a JSON form"))
    }
}

fn canonical_actor(actor: &Actor) -> String {
    let Actor { r#type, id, name, email } = actor;
    plain(&CanonicalActor { email: email.as_deref(), id, name: name.as_deref(), r#type: *r#type })
}

fn canonical_context(context: &Context) -> String {
    let Context { ip, user_agent, request_id } = context;
    plain(&CanonicalContext { ip: ip.as_deref(), request_id: request_id.as_deref(), user_agent: user_agent.as_deref() })
}

fn plain(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("text has a JSON form")
}

fn text(canonical: Vec<u8>) -> String {
    String::from_utf8(canonical).expect("canonical JSON is UTF-8")
}

/// SHA-256 of the salt and of an object of these members (given in canonical order), of which the absent are left out.
fn salted(salt: Salt, members: [(&str, &Option<String>); 2]) -> Hash {
    let mut hash = Sha256::new().chain_update(salt).chain_update("{");
    let mut separator = "";
    for (name, value) in members {
        if let Some(value) = value {
            hash = hash
                .chain_update(separator)
                .chain_update("\"")
                .chain_update(name)
                .chain_update("\":")
                .chain_update(value);
            separator = ",";
        }
    }
    hash.chain_update("}").finalize().into()
}

fn hexadecimal<'a>(hash: &Hash, text: &'a mut [u8; 64]) -> &'a str {
    hex::encode_to_slice(hash, text).expect("two digits a byte");
    std::str::from_utf8(text).expect("digits are ASCII")
}

/// RFC 6962, section 2.1: the prefix 0x00 keeps a leaf from being taken for a node.
fn leaf_hash(bytes: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(bytes).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::event;
    use crate::event::{Change, Resource, SubmitterKind};
    use serde_json::{Value, json};

    const SALTS: Salts = Salts { personal: [1; SALT_BYTES], body: [2; SALT_BYTES] };

    fn place() -> Place {
        let received_at = "2026-03-02T09:14:05.12Z".parse().expect("valid");
        Place { trail: Uuid::nil(), epoch: 0, sequence: 7, received_at }
    }

    fn by() -> SubmittedBy {
        SubmittedBy { kind: SubmitterKind::WriteKey, name: "acme-write-key/writeKey".to_owned() }
    }

    fn hash_of(salt: u8, text: &[u8]) -> String {
        let bytes: Vec<u8> = [salt; SALT_BYTES].iter().chain(text).copied().collect();
        hex::encode(Sha256::digest(bytes))
    }

    /// The bytes are written out here: a change to them would break every proof ever given.
    #[test]
    fn the_leaf_never_changes() {
        let personal = hash_of(1, br#"{"actor":{"id":"usr_1","type":"user"}}"#);
        let body = hash_of(2, b"{}");
        let leaf = format!(
            "{}{}{}",
            r#"{"body":""#,
            body,
            format_args!(
                r#"","epoch":0,"id":"evt_1","personal":"{personal}","receivedAt":"2026-03-02T09:14:05.120000Z","sequence":7,"submittedBy":{{"kind":"writeKey","name":"acme-write-key/writeKey"}},"timestamp":"2026-03-02T09:14:05.000000Z","trail":"00000000-0000-0000-0000-000000000000","type":"Warehouse Disabled","v":1}}"#
            )
        );
        let timestamp = Some("2026-03-02T09:14:05Z".parse().expect("valid"));
        let sealed = Sealed::new(Event { timestamp, ..event("evt_1") }, SALTS);
        assert_eq!(hex::encode(sealed.personal), personal);
        assert_eq!(hex::encode(sealed.body), body);
        let expected = hex::encode(Sha256::digest([&[0], leaf.as_bytes()].concat()));
        assert_eq!(hex::encode(sealed.leaf_hash(&place(), &by())), expected);
    }

    /// The forms that are written by hand here are those of RFC 8785, whatever stands in the text.
    #[test]
    fn every_form_is_the_canonical_one() {
        let odd = "quote\" back\\slash tab\t \u{1} \u{7f} é \u{2028} 🦀";
        let event = Event {
            id: odd.to_owned(),
            actor: Some(Actor {
                r#type: ActorType::AccessToken,
                id: odd.to_owned(),
                name: Some(odd.to_owned()),
                email: Some(odd.to_owned()),
            }),
            resource: Some(Resource { r#type: odd.to_owned(), id: odd.to_owned(), name: Some(odd.to_owned()) }),
            outcome: Some(Outcome::Denied),
            context: Some(Context {
                ip: Some("::1".to_owned()),
                user_agent: Some(odd.to_owned()),
                request_id: Some(odd.to_owned()),
            }),
            changes: vec![Change {
                field: odd.to_owned(),
                before: Some(json!(1.5)),
                after: Some(json!({odd: [1e-7]})),
            }],
            details: json!({"z": odd, "a": {"\u{e000}": 1, "🦀": 2}}).as_object().cloned(),
            ..event("")
        };
        let canonical = |value: &Value| json::canonical(value);
        let sealed = Sealed::new(event.clone(), SALTS);
        let personal = canonical(&json!({"actor": event.actor, "context": event.context}));
        assert_eq!(hex::encode(sealed.personal), hash_of(1, &personal));
        let body = canonical(&json!({"changes": event.changes, "details": event.details}));
        assert_eq!(hex::encode(sealed.body), hash_of(2, &body));
        let leaf = canonical(&json!({
            "v": 1, "trail": Uuid::nil(), "epoch": 0, "sequence": 7, "receivedAt": "2026-03-02T09:14:05.120000Z",
            "timestamp": "2026-03-02T09:14:05.120000Z", "id": odd, "type": event.r#type, "resource": event.resource,
            "outcome": "denied", "submittedBy": by(),
            "personal": hex::encode(sealed.personal), "body": hex::encode(sealed.body),
        }));
        assert_eq!(sealed.leaf_hash(&place(), &by()), leaf_hash(&leaf));
    }

    #[test]
    fn the_leaf_commits_to_the_person_only_through_the_salt() {
        let one = Sealed::new(event("evt_1"), SALTS);
        let other = Sealed::new(event("evt_1"), Salts { personal: [3; SALT_BYTES], ..SALTS });
        assert_ne!(one.personal, other.personal);
        assert_eq!(one.body, other.body);
    }
}
