//! Stage status: writes what [`judge`] says.

mod judge;

pub use judge::judge;

use super::apply::Placement;
use super::validate::Invalid;
use crate::api::status as api_status;
use crate::api::write::Error;
use crate::board::Facts;
use crate::context::Context;
use audittrail_crds::AuditForwarding;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::Api;

/// Makes the status of `forwarding` and writes it where it differs. What wakes a forwarding for
/// counters alone comes every 10 s at most (see [`crate::observe`]), so that is how often they are written.
pub async fn settle(
    context: &Context,
    forwarding: &AuditForwarding,
    placement: &Result<Placement, Invalid>,
    facts: Option<&Facts>,
    now: Timestamp,
) -> Result<(), Error> {
    let before = forwarding.status.clone().unwrap_or_default();
    let seen = before.observed_generation.is_some() && before.observed_generation == forwarding.metadata.generation;
    if placement.is_ok() && seen && !facts.is_some_and(Facts::suffice) {
        // This process has just started: what was true before is better than a guess, and the
        // first poll of the trail wakes this forwarding again.
        return Ok(());
    }
    let after = judge(forwarding, placement, facts, now);
    if before == after {
        return Ok(());
    }
    let namespace = forwarding.namespace().unwrap_or_default();
    let api = Api::<AuditForwarding>::namespaced(context.client.clone(), &namespace);
    api_status::write(&api, &forwarding.name_any(), &after).await?;
    context.announce(forwarding, &before.conditions, &after.conditions).await;
    Ok(())
}
