//! `AuditTrail`: a collector, a database, and who may read and write.
//!
//! | stage | what | |
//! |---|---|---|
//! | [`read`] | Secrets, siblings, forwardings | reads |
//! | [`validate`] | a type that later stages cannot stumble over | pure |
//! | [`material`] | keys and certificates: kept, or made new | pure but for randomness |
//! | [`build`] | the children, one builder each | pure |
//! | [`apply`] | server-side, where something is lacking | writes |
//! | [`status`] | conditions and counters | writes |
//!
//! Between two rounds, [`crate::observe`] polls the collector and writes the status by the same stage. Where a poll finds
//! that the database was restored, it asks for a round ([`continuity`]).

pub mod apply;
pub mod build;
pub mod continuity;
pub mod delete;
pub mod material;
pub mod read;
pub mod status;
pub mod validate;

use crate::api::write;
use crate::board::{Applied, Made, Problem};
use crate::context::{Context, RECHECK, error_backoff};
use crate::names::{FINALIZER, Key};
use crate::{observe, pki};
use audittrail_crds::AuditTrail;
use audittrail_crds::condition::Reason;
use jiff::Timestamp;
use kube::api::Api;
use kube::runtime::controller::Action;
use kube::runtime::finalizer::{self, Event, finalizer};
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt};
use rcgen::KeyPair;
use std::sync::Arc;

/// Why a round did not go through.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The trail, or something that it names, is not as it must be.
    #[error(transparent)]
    Invalid(#[from] validate::Invalid),
    /// A certificate could not be made.
    #[error(transparent)]
    Pki(#[from] pki::Error),
    /// The API server refused, or did not answer.
    #[error(transparent)]
    Api(#[from] write::Error),
    /// The finalizer could not be set or removed.
    #[error("cannot change the finalizer: {0}")]
    Finalizer(#[source] Box<finalizer::Error<Error>>),
}

impl From<&Error> for Problem {
    fn from(error: &Error) -> Self {
        let (reason, needs_help) = match error {
            Error::Invalid(invalid) => (invalid.reason(), true),
            Error::Api(error) => (Reason::ApplyFailed, error.needs_help()),
            Error::Pki(_) | Error::Finalizer(_) => (Reason::ApplyFailed, false),
        };
        Self { reason, message: error.to_string(), needs_help }
    }
}

/// One round for one trail.
pub async fn reconcile(trail: Arc<AuditTrail>, context: Arc<Context>) -> Result<Action, Error> {
    let api = Api::<AuditTrail>::namespaced(context.client.clone(), &trail.namespace().unwrap_or_default());
    let round = |event| async {
        match event {
            Event::Apply(trail) => bring_about(&trail, &context).await,
            Event::Cleanup(trail) => clean_up(&trail, &context).await,
        }
    };
    finalizer(&api, FINALIZER, trail, round).await.map_err(|error| match error {
        finalizer::Error::ApplyFailed(error) | finalizer::Error::CleanupFailed(error) => error,
        other => Error::Finalizer(Box::new(other)),
    })
}

/// What follows a failed round: another one, later each time.
#[expect(clippy::needless_pass_by_value, reason = "the controller calls it like this")]
pub fn on_error(trail: Arc<AuditTrail>, _error: &Error, context: Arc<Context>) -> Action {
    error_backoff(&context, &ObjectRef::from_obj(&*trail).erase())
}

async fn bring_about(trail: &AuditTrail, context: &Arc<Context>) -> Result<Action, Error> {
    let key = ObjectRef::from_obj(trail);
    // Boxed: it holds all children, and would make every caller's future as large.
    let outcome = Box::pin(children(trail, context)).await;
    let entry = entry(context, &key);
    entry.learn(|facts| {
        facts.generation = trail.metadata.generation;
        facts.problem = outcome.as_ref().err().map(Problem::from);
        if let Ok(applied) = &outcome {
            facts.applied = Some(Arc::new(applied.clone()));
        }
    });
    status::settle(context, &key, &entry).await?;
    entry.poke.notify_one();
    match outcome {
        // A watch tells when the thing that is missing appears.
        Ok(_) | Err(Error::Invalid(_)) => {
            context.failures.clear(&key.erase());
            Ok(Action::requeue(RECHECK))
        }
        Err(error) => Err(error),
    }
}

/// The table of contents of a round.
async fn children(trail: &AuditTrail, context: &Context) -> Result<Applied, Error> {
    let now = Timestamp::now();
    let facts = context.board.facts(&ObjectRef::from_obj(trail)).unwrap_or_default();
    let inputs = read::inputs(&context.client, &context.cluster, trail, facts).await?;
    let valid = validate::validate(&inputs)?;
    let material = material::complete(&valid, now, &mut rand::rng(), KeyPair::generate)?;
    let children = build::children(&valid, &material, &context.settings, now);
    validate::fits(&children.document)?;
    let running = apply::apply(&context.client, &build::Parent::of(&valid), &children).await?;
    Ok(Applied {
        document: children.document,
        authority: material.authority.certificate,
        write_key_secret: valid.write_key_secret(),
        running,
    })
}

/// The trail's entry on the board, with its poll started.
fn entry(context: &Arc<Context>, key: &Key) -> Arc<crate::board::Entry> {
    let (entry, made) = context.board.entry(key);
    if made == Made::Now {
        tokio::spawn(observe::poll(Arc::clone(context), key.clone(), Arc::clone(&entry)));
    }
    entry
}

async fn clean_up(trail: &AuditTrail, context: &Context) -> Result<Action, Error> {
    let key = ObjectRef::from_obj(trail);
    context.board.forget(&key);
    delete::clean_up(&context.client, trail).await?;
    context.failures.clear(&key.erase());
    tracing::info!(kind = %AuditTrail::kind(&()), name = trail.name_any(), namespace = trail.namespace(), "removed");
    Ok(Action::await_change())
}
