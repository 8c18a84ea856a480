//! The operator of audittrail: `AuditTrail` and `AuditForwarding` to what runs them.
//!
//! | module | what |
//! |---|---|
//! | [`trail`], [`forwarding`] | the two controllers, with the same stages in the same order |
//! | [`observe`] | polls collectors |
//! | [`board`] | what this process knows besides Kubernetes |
//! | [`watches`], [`changes`] | what wakes which resource |
//! | [`api`] | server-side apply, only where something is lacking |
//! | [`conditions`], [`pki`], [`secret_text`], [`names`] | pure parts that both use |

pub mod api;
pub mod board;
pub mod changes;
pub mod conditions;
pub mod context;
pub mod forwarding;
pub mod names;
pub mod observe;
pub mod pki;
pub mod secret_text;
pub mod settings;
#[cfg(test)]
mod testing;
pub mod trail;
pub mod watches;

use audittrail_crds::{AuditForwarding, AuditTrail};
use context::Context;
use futures::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Client;
use kube::runtime::controller::{self, Action, Controller};
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::watcher;
use names::Key;
use settings::Settings;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use watches::{Known, Named};

/// Changes that come in one go (an apply of several files) make one round.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// Trails with news that forwardings have not been told yet, and trails for which a poll asked for a round. More make
/// the polls wait.
const NEWS_QUEUE_LENGTH: usize = 1000;

/// Runs both controllers until `stop`. `synced` is called when both kinds were read once.
pub async fn run(
    client: Client,
    settings: Settings,
    stop: CancellationToken,
    synced: impl FnOnce() + Send + 'static,
) -> Result<(), kube::Error> {
    // The only thing that fails here is that somebody was first, with the same provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (news, told) = mpsc::channel(NEWS_QUEUE_LENGTH);
    let (rounds, asked) = mpsc::channel(NEWS_QUEUE_LENGTH);
    let context = Arc::new(Context::new(client, settings, news, rounds).await?);
    let (trails, trail_writer) = reflector::store();
    let (forwardings, forwarding_writer) = reflector::store();
    let known = Known { trails, forwardings };
    let trail_controller = trails_controller(&context, trail_writer, &known, asked)
        .graceful_shutdown_on(stop.clone().cancelled_owned())
        .run(trail::reconcile, trail::on_error, Arc::clone(&context));
    let forwarding_controller = forwardings_controller(&context, forwarding_writer, &known, told)
        .graceful_shutdown_on(stop.cancelled_owned())
        .run(forwarding::reconcile, forwarding::on_error, context);
    tokio::join!(log(trail_controller), log(forwarding_controller), tell_synced(known, synced));
    Ok(())
}

fn trails_controller(
    context: &Arc<Context>,
    writer: reflector::store::Writer<AuditTrail>,
    known: &Known,
    asked: mpsc::Receiver<Key>,
) -> Controller<AuditTrail> {
    let client = &context.client;
    let (of_secret, of_config_map, waiting) = (known.clone(), known.clone(), known.clone());
    Controller::for_stream(watches::ours(context, writer), known.trails.clone())
        .with_config(controller::Config::default().debounce(DEBOUNCE))
        .watches_stream(watches::anybodys::<Secret>(client), move |secret| {
            of_secret.trails_concerned(&secret, Named::Secret)
        })
        .watches_stream(watches::anybodys::<ConfigMap>(client), move |config_map| {
            of_config_map.trails_concerned(&config_map, Named::ConfigMap)
        })
        .watches_stream(watches::anybodys::<AuditTrail>(client), move |trail| {
            waiting.trails_in_waiting(&trail.metadata)
        })
        .watches_stream(watches::forwardings(client), |forwarding| watches::trail_of_forwarding(&forwarding))
        .watches_stream(watches::children::<Deployment>(client), |child| Known::trail_of_child(&child))
        .watches_stream(watches::children::<StatefulSet>(client), |child| Known::trail_of_child(&child))
        .watches_stream(watches::children::<Service>(client), |child| Known::trail_of_child(&child))
        .watches_stream(watches::children::<ServiceAccount>(client), |child| Known::trail_of_child(&child))
        .watches_stream(watches::children::<Role>(client), |child| Known::trail_of_child(&child))
        .watches_stream(watches::children::<RoleBinding>(client), |child| Known::trail_of_child(&child))
        .reconcile_on(keys(asked))
}

fn forwardings_controller(
    context: &Arc<Context>,
    writer: reflector::store::Writer<AuditForwarding>,
    known: &Known,
    told: mpsc::Receiver<Key>,
) -> Controller<AuditForwarding> {
    let client = &context.client;
    let (of_secret, of_config_map, of_trail, of_news) = (known.clone(), known.clone(), known.clone(), known.clone());
    Controller::for_stream(watches::ours(context, writer), known.forwardings.clone())
        .with_config(controller::Config::default().debounce(DEBOUNCE))
        .watches_stream(watches::anybodys::<Secret>(client), move |secret| {
            of_secret.forwardings_concerned(&secret.metadata, Named::Secret)
        })
        .watches_stream(watches::anybodys::<ConfigMap>(client), move |config_map| {
            of_config_map.forwardings_concerned(&config_map.metadata, Named::ConfigMap)
        })
        .watches_stream(watches::anybodys::<AuditTrail>(client), move |trail| {
            let namespace = trail.metadata.namespace.unwrap_or_default();
            of_trail.forwardings_of(&ObjectRef::new(&trail.metadata.name.unwrap_or_default()).within(&namespace))
        })
        .reconcile_on(keys(told).flat_map(move |trail| futures::stream::iter(of_news.forwardings_of(&trail))))
}

fn keys(queue: mpsc::Receiver<Key>) -> impl Stream<Item = Key> + Send {
    futures::stream::unfold(queue, async |mut queue| Some((queue.recv().await?, queue)))
}

async fn tell_synced(known: Known, synced: impl FnOnce()) {
    let (trails, forwardings) = tokio::join!(known.trails.wait_until_ready(), known.forwardings.wait_until_ready());
    // Otherwise the operator stops before it ever saw everything.
    if trails.is_ok() && forwardings.is_ok() {
        synced();
    }
}

/// Every failed round is logged here, and nowhere else.
async fn log<K, E>(rounds: impl Stream<Item = Result<(ObjectRef<K>, Action), controller::Error<E, watcher::Error>>>)
where
    K: kube::Resource<DynamicType = ()>,
    E: std::error::Error + 'static,
{
    rounds
        .for_each(async |round| match round {
            // Not found: deleted between the trigger and the round.
            Ok(_) | Err(controller::Error::ObjectNotFound(_)) => {}
            Err(controller::Error::ReconcilerFailed(error, resource)) => {
                tracing::warn!(resource = %resource, %error, "a round failed and will be tried again");
            }
            // Errors of watches end in the module `changes`.
            Err(error) => tracing::warn!(%error, "the controller failed"),
        })
        .await;
}
