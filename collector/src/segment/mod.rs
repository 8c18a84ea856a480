//! Segment's Tracking API: what an event is there, and what an event of theirs is here. Pure.
//!
//! | module | what |
//! |---|---|
//! | [`encode`] | an event as an item, formats `Named` and `SegmentAudit` |
//! | `audit` | an event's members as the text that `SegmentAudit` wants |
//! | [`decode`] | an item as an event, whoever made it |
//! | [`passed`] | the trails that an item passed |
//!
//! An item of format `Named` that was not cut becomes the event again which it was made of; of `SegmentAudit`, all but
//! what `details` held beside text, and empty objects.

mod audit;
pub mod decode;
pub mod encode;
pub mod passed;

/// Who acted where nobody is known, as Segment's own audit forwarding names it.
pub(crate) const SYSTEM: &str = "__system__";

/// Name of the library in our items, by which they are recognised.
const LIBRARY: &str = "audittrail";

/// Event of every item of Segment's own audit forwarding, and of format `SegmentAudit`; the type stands in the properties.
const AUDIT: &str = "Audit";

#[cfg(test)]
pub(crate) mod tests {
    use crate::event::tests::event;
    use crate::event::{
        Actor, ActorType, Change, Context, Event, Outcome, Resource, StoredEvent, SubmittedBy, SubmitterKind,
    };
    use serde_json::json;
    use uuid::Uuid;

    pub const LOG: Uuid = Uuid::from_u128(0x018b_cfe5_6800_7000_8000_0000_0000_0000);

    pub fn stored(event: Event) -> StoredEvent {
        StoredEvent {
            sequence: 7,
            epoch: 1,
            received_at: "2026-03-02T09:14:05.12Z".parse().expect("valid"),
            timestamp: "2026-03-02T09:14:05Z".parse().expect("valid"),
            submitted_by: SubmittedBy { kind: SubmitterKind::WriteKey, name: "acme-write-key/writeKey".to_owned() },
            passed: Vec::new(),
            event,
        }
    }

    /// An event with every member.
    pub fn full() -> Event {
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
}
