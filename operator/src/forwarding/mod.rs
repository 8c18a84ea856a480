//! `AuditForwarding`: its part of the trail's configuration document, and a status that says how
//! delivery stands.
//!
//! | stage | what | |
//! |---|---|---|
//! | [`read`] | the trail, the Secret and the ConfigMap that it names | reads |
//! | [`source`] | the source of its own that it asks for | asks the Public API, writes |
//! | [`validate`] | are they there, and usable? | pure |
//! | [`build`] | its entry in the document | pure |
//! | [`apply`] | has the trail's document this entry? | pure |
//! | [`status`] | conditions and counters | writes |
//!
//! The document is one Secret of the trail, so the trail's reconcile writes it, from the same
//! first three stages.

pub mod apply;
pub mod build;
pub mod read;
pub mod source;
pub mod status;
pub mod validate;

use crate::api::write;
use crate::context::{Context, RECHECK, error_backoff};
use crate::names::Key;
use audittrail_crds::{AuditForwarding, AuditTrail};
use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use std::sync::Arc;

/// One round for one forwarding.
pub async fn reconcile(forwarding: Arc<AuditForwarding>, context: Arc<Context>) -> Result<Action, write::Error> {
    if forwarding.metadata.deletion_timestamp.is_some() {
        return source::removal::clean_up(&context, &forwarding).await;
    }
    let inputs = match read::inputs(&context.client, &forwarding).await {
        Ok(Some(inputs)) => inputs,
        Ok(None) => return Ok(Action::await_change()),
        Err(error) => return Err(told(&context, &forwarding, error).await),
    };
    let (inputs, again) = match source::bring_about(&context, inputs).await {
        Ok(brought) => brought,
        Err(error) => return Err(told(&context, &forwarding, error).await),
    };
    let entry = validate::validate(&inputs).map(|valid| build::entry(&valid));
    let facts = context.board.facts(&trail_key(&forwarding));
    let placement = entry.map(|entry| apply::placement(&entry, facts.as_ref()));
    let held = status::settle(&context, &inputs.forwarding, &placement, facts.as_ref(), Timestamp::now()).await?;
    context.failures.clear(&ObjectRef::from_obj(&*forwarding).erase());
    Ok(Action::requeue(held.unwrap_or(RECHECK).min(again)))
}

/// The error, told by the status where it does not pass by itself.
async fn told(context: &Context, forwarding: &AuditForwarding, error: write::Error) -> write::Error {
    if !error.needs_help() {
        return error;
    }
    let refused = Err(validate::Invalid::Refused { words: error.to_string() });
    match status::settle(context, forwarding, &refused, None, Timestamp::now()).await {
        Ok(_) => error,
        Err(worse) => worse,
    }
}

/// What follows a failed round: another one, later each time.
#[expect(clippy::needless_pass_by_value, reason = "the controller calls it like this")]
pub fn on_error(forwarding: Arc<AuditForwarding>, _error: &write::Error, context: Arc<Context>) -> Action {
    error_backoff(&context, &ObjectRef::from_obj(&*forwarding).erase())
}

/// The trail that `forwarding` names.
pub fn trail_key(forwarding: &AuditForwarding) -> Key {
    let namespace = forwarding.namespace().unwrap_or_default();
    ObjectRef::<AuditTrail>::new(&forwarding.spec.trail_ref.name).within(&namespace)
}
