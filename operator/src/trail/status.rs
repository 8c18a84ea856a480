//! Stage status: writes what [`judge`] says, when it turned or when counters moved.

mod judge;

pub use judge::judge;

use crate::api::status as api_status;
use crate::api::write::{self, Error};
use crate::board::{Entry, Facts, Written};
use crate::conditions::{find, turned};
use crate::context::Context;
use crate::names::{Key, Names};
use audittrail_crds::condition::Type;
use audittrail_crds::{AuditTrail, AuditTrailStatus};
use jiff::{SignedDuration, Timestamp};
use kube::api::Api;

/// Counters alone are written this often at most.
const COUNTERS_EVERY: SignedDuration = SignedDuration::from_secs(10);

/// Makes the status of `trail` from what the board knows, and writes it when it is time.
pub async fn settle(context: &Context, trail: &Key, entry: &Entry) -> Result<(), Error> {
    let names = Names { namespace: trail.namespace.clone().unwrap_or_default(), trail: trail.name.clone() };
    let now = Timestamp::now();
    let mut written = entry.written.lock().await;
    let facts = entry.facts();
    if !facts.suffice() || matches!(&*written, Some(written) if !is_due(&names, written, &facts, now)) {
        return Ok(());
    }
    let api = Api::<AuditTrail>::namespaced(context.client.clone(), &names.namespace);
    let Some(live) = write::read(&api, &names.trail).await? else {
        context.board.forget(trail);
        return Ok(());
    };
    let before = live.status.clone().unwrap_or_default();
    let after = judge(&names, &before, &facts, now);
    if before != after {
        api_status::write(&api, &names.trail, &after).await?;
        context.announce(&live, &before.conditions, &after.conditions).await;
    }
    entry.learn(|facts| facts.ready = find(&after.conditions, Type::Ready).cloned());
    *written = Some(Written { status: after, at: now });
    Ok(())
}

/// A turn at once, counters and words every 10 s, and nothing when nothing changed.
fn is_due(names: &Names, written: &Written, facts: &Facts, now: Timestamp) -> bool {
    let next = judge(names, &written.status, facts, now);
    let rest = |status: &AuditTrailStatus| AuditTrailStatus {
        conditions: Vec::new(),
        last_sequence: None,
        oldest_sequence: None,
        events: None,
        undelivered_dropped: None,
        ..status.clone()
    };
    turned(&written.status.conditions, &next.conditions)
        || rest(&written.status) != rest(&next)
        || (written.status != next && now.duration_since(written.at) >= COUNTERS_EVERY)
}
