//! Stage status: writes what [`judge`] says.

mod judge;
mod words;

pub use judge::judge;

use super::apply::Placement;
use super::validate::Invalid;
use crate::api::status as api_status;
use crate::api::write::Error;
use crate::board::Facts;
use crate::conditions::turned;
use crate::context::Context;
use crate::names::OPERATOR;
use audittrail_crds::{AuditForwarding, AuditForwardingStatus};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::ResourceExt;
use kube::api::Api;
use std::time::Duration;

/// Counters and words alone are written this often at most.
const COUNTERS_EVERY: SignedDuration = SignedDuration::from_secs(10);

/// Makes the status of `forwarding` and writes it where it differs: a turn at once, counters and words when it is time.
/// Where it is not, returns how long they have to wait.
pub async fn settle(
    context: &Context,
    forwarding: &AuditForwarding,
    placement: &Result<Placement, Invalid>,
    facts: Option<&Facts>,
    now: Timestamp,
) -> Result<Option<Duration>, Error> {
    let before = forwarding.status.clone().unwrap_or_default();
    let seen = before.observed_generation.is_some() && before.observed_generation == forwarding.metadata.generation;
    if placement.is_ok() && seen && !facts.is_some_and(Facts::suffice) {
        // This process has just started: what was true before is better than a guess, and the
        // first poll of the trail wakes this forwarding again.
        return Ok(None);
    }
    let after = judge(forwarding, placement, facts, now);
    if before == after {
        return Ok(None);
    }
    if let Some(wait) = waits(&before, &after, written_at(forwarding), now) {
        return Ok(Some(wait));
    }
    let namespace = forwarding.namespace().unwrap_or_default();
    let api = Api::<AuditForwarding>::namespaced(context.client.clone(), &namespace);
    api_status::write(&api, &forwarding.name_any(), &after).await?;
    context.announce(forwarding, &before.conditions, &after.conditions).await;
    Ok(None)
}

/// How long a change has to wait; none where something turned.
fn waits(
    before: &AuditForwardingStatus,
    after: &AuditForwardingStatus,
    written_at: Option<Timestamp>,
    now: Timestamp,
) -> Option<Duration> {
    if turned(&before.conditions, &after.conditions) || lasting(before) != lasting(after) {
        return None;
    }
    // A clock that is ahead of ours delays nothing.
    let age = now.duration_since(written_at?);
    if age.is_negative() {
        return None;
    }
    Duration::try_from(COUNTERS_EVERY - age).ok().filter(|wait| !wait.is_zero())
}

/// What is neither a counter nor words.
fn lasting(status: &AuditForwardingStatus) -> AuditForwardingStatus {
    AuditForwardingStatus {
        observed_generation: status.observed_generation,
        configuration_hash: status.configuration_hash.clone(),
        created_source: status.created_source.clone(),
        ..AuditForwardingStatus::default()
    }
}

/// When the operator wrote this status, as the API server remembers it (Kubernetes, "Field management"), whichever process
/// of ours it was. In whole seconds.
fn written_at(forwarding: &AuditForwarding) -> Option<Timestamp> {
    let entries = forwarding.metadata.managed_fields.as_ref()?;
    let ours = |entry: &&ManagedFieldsEntry| {
        entry.manager.as_deref() == Some(OPERATOR) && entry.subresource.as_deref() == Some("status")
    };
    entries.iter().find(ours)?.time.as_ref().map(|time| time.0)
}

#[cfg(test)]
mod tests;
