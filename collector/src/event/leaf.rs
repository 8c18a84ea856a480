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

use super::{Actor, Change, Context, Outcome, Resource, StoredEvent, SubmittedBy, json, rfc3339_microseconds};
use serde::Serialize;
use serde_json::{Map, Value};
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

/// What the row keeps beside the event.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Commitments {
    /// Commits to `{actor, context}`.
    pub personal: Hash,
    /// Commits to `{changes, details}`.
    pub body: Hash,
    /// Hash of the leaf.
    pub leaf: Hash,
}

#[derive(Serialize)]
struct Personal<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    actor: &'a Option<Actor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    context: &'a Option<Context>,
}

#[derive(Serialize)]
struct Body<'a> {
    #[serde(skip_serializing_if = "<[Change]>::is_empty")]
    changes: &'a [Change],
    #[serde(skip_serializing_if = "Option::is_none")]
    details: &'a Option<Map<String, Value>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Leaf<'a> {
    v: u8,
    trail: Uuid,
    epoch: i64,
    sequence: i64,
    received_at: String,
    id: &'a str,
    timestamp: String,
    r#type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: &'a Option<Resource>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<Outcome>,
    submitted_by: &'a SubmittedBy,
    personal: String,
    body: String,
}

/// Commits to a stored event of the log `trail`.
pub fn commit(trail: Uuid, stored: &StoredEvent, salts: &Salts) -> Commitments {
    let event = &stored.event;
    let personal = salted(salts.personal, &Personal { actor: &event.actor, context: &event.context });
    let body = salted(salts.body, &Body { changes: &event.changes, details: &event.details });
    let leaf = json::canonical(&Leaf {
        v: 1,
        trail,
        epoch: stored.epoch,
        sequence: stored.sequence,
        received_at: rfc3339_microseconds(stored.received_at),
        id: &event.id,
        timestamp: rfc3339_microseconds(stored.timestamp),
        r#type: &event.r#type,
        resource: &event.resource,
        outcome: event.outcome,
        submitted_by: &stored.submitted_by,
        personal: hex::encode(personal),
        body: hex::encode(body),
    });
    Commitments { personal, body, leaf: leaf_hash(&leaf) }
}

fn salted(salt: Salt, value: &impl Serialize) -> Hash {
    Sha256::new().chain_update(salt).chain_update(json::canonical(value)).finalize().into()
}

/// RFC 6962, section 2.1: the prefix 0x00 keeps a leaf from being taken for a node.
fn leaf_hash(bytes: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(bytes).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{SubmitterKind, tests::event};

    const SALTS: Salts = Salts { personal: [1; SALT_BYTES], body: [2; SALT_BYTES] };

    fn stored() -> StoredEvent {
        StoredEvent {
            sequence: 7,
            epoch: 0,
            received_at: "2026-03-02T09:14:05.12Z".parse().expect("valid"),
            timestamp: "2026-03-02T09:14:05Z".parse().expect("valid"),
            submitted_by: SubmittedBy { kind: SubmitterKind::WriteKey, name: "acme-write-key/writeKey".to_owned() },
            event: event("evt_1"),
        }
    }

    /// The bytes are written out here: a change to them would break every proof ever given.
    #[test]
    fn the_leaf_never_changes() {
        let salted = |salt: u8, text: &str| {
            let bytes: Vec<u8> = [salt; SALT_BYTES].iter().chain(text.as_bytes()).copied().collect();
            hex::encode(Sha256::digest(bytes))
        };
        let personal = salted(1, r#"{"actor":{"id":"usr_1","type":"user"}}"#);
        let body = salted(2, "{}");
        let leaf = format!(
            "{}{}{}",
            r#"{"body":""#,
            body,
            format_args!(
                r#"","epoch":0,"id":"evt_1","personal":"{personal}","receivedAt":"2026-03-02T09:14:05.120000Z","sequence":7,"submittedBy":{{"kind":"writeKey","name":"acme-write-key/writeKey"}},"timestamp":"2026-03-02T09:14:05.000000Z","trail":"00000000-0000-0000-0000-000000000000","type":"Warehouse Disabled","v":1}}"#
            )
        );
        let commitments = commit(Uuid::nil(), &stored(), &SALTS);
        assert_eq!(hex::encode(commitments.personal), personal);
        assert_eq!(hex::encode(commitments.body), body);
        assert_eq!(hex::encode(commitments.leaf), hex::encode(Sha256::digest([&[0], leaf.as_bytes()].concat())));
    }

    #[test]
    fn the_leaf_commits_to_the_person_only_through_the_salt() {
        let one = commit(Uuid::nil(), &stored(), &SALTS);
        let other = commit(Uuid::nil(), &stored(), &Salts { personal: [3; SALT_BYTES], ..SALTS });
        assert_ne!(one.personal, other.personal);
        assert_eq!(one.body, other.body);
    }
}
