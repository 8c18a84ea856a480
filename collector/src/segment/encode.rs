//! An event as an item: a track call of Segment's Tracking API, in one of two formats.
//!
//! | format | `event` | what Segment has no place for |
//! |---|---|---|
//! | `Named` | the event's own type | `properties`, under its own name |
//! | `SegmentAudit` | `Audit` | `properties` as Segment's own audit forwarding has them ([`super::audit`]) |

mod properties;

use self::properties::Properties;
use super::passed::Ours;
use super::{AUDIT, LIBRARY, SYSTEM};
use crate::event::{Actor, ActorType, Change, Context, Event, StoredEvent, rfc3339_microseconds};
use audittrail_crds::document::Format;
use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

/// Largest item, in bytes: Segment's "32 KB per event", as analytics-go reads it.
pub const ITEM_MAX_BYTES: usize = 32_000;

/// Longest `workspace_id`, in characters, as in the resource. A document in a file may say more.
const WORKSPACE_MAX_CHARS: usize = 100;

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
    audittrail: Ours<'a>,
}

#[derive(Serialize)]
struct Library {
    name: &'static str,
    version: &'static str,
}

/// The JSON of an event of the log `log_id`, which is that of `workspace`; at most [`ITEM_MAX_BYTES`].
///
/// An item which is too large is cut, in either format by the same rule: the larger of `details` and `changes` is left
/// out first, then the other, then what `context` says of the client. `properties.truncated` names what is missing.
/// What is left then fits, whatever `ingest` let through.
///
/// # Panics
/// Never: an event is plain data, which always has a JSON form.
pub fn item(log_id: Uuid, workspace: &str, format: Format, stored: &StoredEvent) -> Bytes {
    let workspace = first_chars(workspace, WORKSPACE_MAX_CHARS);
    let mut kept = Kept::of(&stored.event);
    let mut json = bytes(&track(log_id, workspace, format, stored, &kept));
    if json.len() > ITEM_MAX_BYTES {
        let mut members = [Member::Details, Member::Changes];
        members.sort_by_key(|member| std::cmp::Reverse(member.size(&stored.event)));
        for member in members.into_iter().chain([Member::Context]) {
            kept.leave_out(member);
            json = bytes(&track(log_id, workspace, format, stored, &kept));
            if json.len() <= ITEM_MAX_BYTES {
                break;
            }
        }
    }
    json.into()
}

fn track<'a>(
    log_id: Uuid,
    workspace: &'a str,
    format: Format,
    stored: &'a StoredEvent,
    kept: &'a Kept<'a>,
) -> Track<'a> {
    let event = &stored.event;
    let person = person(event.actor.as_ref());
    let (name, identity) = match format {
        Format::Named => (&*event.r#type, person.map_or(Identity::AnonymousId(SYSTEM), Identity::UserId)),
        Format::SegmentAudit => (AUDIT, Identity::UserId(person.unwrap_or(SYSTEM))),
    };
    Track {
        r#type: "track",
        event: name,
        identity,
        message_id: message_id(log_id, &event.id),
        timestamp: rfc3339_microseconds(stored.timestamp),
        context: TrackContext {
            event: kept.context,
            library: Library { name: LIBRARY, version: env!("CARGO_PKG_VERSION") },
            audittrail: Ours::of(&stored.passed, log_id),
        },
        properties: Properties::of(format, workspace, stored, kept),
    }
}

/// The same for the same event, whatever its sequence is, and another in every other log.
fn message_id(log_id: Uuid, event_id: &str) -> Uuid {
    Uuid::new_v5(&log_id, event_id.as_bytes())
}

/// Who has a user profile: not the system, and no actor whose personal data was erased.
fn person(actor: Option<&Actor>) -> Option<&str> {
    actor.filter(|actor| actor.r#type != ActorType::System).map(|actor| &*actor.id)
}

/// What is in the item of the members that may be left out.
struct Kept<'a> {
    changes: &'a [Change],
    details: Option<&'a Map<String, Value>>,
    context: Option<&'a Context>,
    truncated: Vec<&'static str>,
}

/// A member that may be left out.
#[derive(Clone, Copy)]
enum Member {
    Details,
    Changes,
    Context,
}

impl Member {
    /// Its length in the event, in bytes of JSON.
    fn size(self, event: &Event) -> usize {
        match self {
            Self::Details => event.details.as_ref().map_or(0, |details| bytes(details).len()),
            Self::Changes => bytes(&event.changes).len(),
            Self::Context => event.context.as_ref().map_or(0, |context| bytes(context).len()),
        }
    }
}

impl<'a> Kept<'a> {
    fn of(event: &'a Event) -> Self {
        Self {
            changes: &event.changes,
            details: event.details.as_ref(),
            context: event.context.as_ref(),
            truncated: Vec::new(),
        }
    }

    /// Leaves a member out, and tells so if there was one.
    fn leave_out(&mut self, member: Member) {
        let gone = match member {
            Member::Details => self.details.take().map(|_| "details"),
            Member::Changes => (!std::mem::take(&mut self.changes).is_empty()).then_some("changes"),
            Member::Context => self.context.take().map(|_| "context"),
        };
        self.truncated.extend(gone);
    }
}

fn first_chars(text: &str, max: usize) -> &str {
    text.char_indices().nth(max).map_or(text, |(end, _)| &text[..end])
}

fn bytes(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data with text as keys always has a JSON form")
}

#[cfg(test)]
mod tests;
