//! `properties` of an item, in either format.

use super::Kept;
use crate::event::{Actor, Change, Context, Outcome, Resource, StoredEvent, SubmittedBy, rfc3339_microseconds};
use crate::segment::audit::Details;
use audittrail_crds::document::Format;
use serde::Serialize;
use serde_json::{Map, Value};

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Properties<'a> {
    Named(Named<'a>),
    SegmentAudit(SegmentAudit<'a>),
}

/// Everything that Segment has no place for, under its own name.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Named<'a> {
    #[serde(flatten)]
    place: Place<'a>,
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
    /// A context that says nothing: `context` of the item could not tell it from none.
    #[serde(skip_serializing_if = "Option::is_none")]
    context: Option<&'a Context>,
}

/// The three members that Segment's own audit forwarding has, and ours.
#[derive(Serialize)]
pub(super) struct SegmentAudit<'a> {
    r#type: &'a str,
    workspace_id: &'a str,
    details: Details<'a>,
    #[serde(flatten)]
    place: Place<'a>,
}

/// What both formats tell in the same way.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Place<'a> {
    id: &'a str,
    sequence: i64,
    epoch: i64,
    received_at: String,
    submitted_by: &'a SubmittedBy,
    /// Members that were left out to keep the item small enough.
    #[serde(skip_serializing_if = "<[&str]>::is_empty")]
    truncated: &'a [&'static str],
}

impl<'a> Properties<'a> {
    pub fn of(format: Format, workspace: &'a str, stored: &'a StoredEvent, kept: &'a Kept<'a>) -> Self {
        let event = &stored.event;
        let (actor, resource, outcome) = (event.actor.as_ref(), event.resource.as_ref(), event.outcome);
        let place = Place {
            id: &event.id,
            sequence: stored.sequence,
            epoch: stored.epoch,
            received_at: rfc3339_microseconds(stored.received_at),
            submitted_by: &stored.submitted_by,
            truncated: &kept.truncated,
        };
        match format {
            Format::Named => Self::Named(Named {
                place,
                actor,
                resource,
                outcome,
                changes: kept.changes,
                details: kept.details,
                context: kept.context.filter(|context| **context == Context::default()),
            }),
            Format::SegmentAudit => Self::SegmentAudit(SegmentAudit {
                r#type: &event.r#type,
                workspace_id: workspace,
                details: Details { actor, resource, outcome, changes: kept.changes, own: kept.details },
                place,
            }),
        }
    }
}
