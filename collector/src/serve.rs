//! `collector serve`: starts the parts, watches over them, and stops them in order.

use crate::access::Access;
use crate::catalogue::Current;
use crate::database;
use crate::document::{Follower, Source};
use crate::forward;
use crate::ingest::room::Room;
use crate::listener::{self, Certificate};
use crate::metrics;
use crate::query::export::EXPORTS_MAX;
use crate::server::{self, App, READS_MAX};
use crate::settings::Serve;
use crate::store::Store;
use crate::store::connect::OpenError;
use crate::store::keeper;
use crate::store::writer::Writer;
use crate::tail::Tail;
use audittrail_crds::document::{Access as AccessBy, Document};
use axum_server::Handle;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How long requests in flight may take after the signal to stop. The operator's
/// pods are killed after 35 s, in which the hook before the signal and the last spans have to fit too.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(25);

/// How long taking this replica off the list may take. If it fails, the row ages by itself.
const FORGET_TIMEOUT: Duration = Duration::from_secs(1);

/// Why the collector ended without being told to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// The document's certificate or key cannot be used.
    #[error("the document's certificate or key cannot be used: {0}")]
    Certificate(#[source] std::io::Error),
    /// The document's database cannot be used, whatever is tried.
    #[error(transparent)]
    Database(#[from] OpenError),
    /// No client for the cluster can be made.
    #[error("no client for the Kubernetes API can be made: {0}")]
    Cluster(#[from] kube::Error),
    /// Neither a file nor a Secret was given. The command line refuses that.
    #[error("neither a file nor a Secret with its namespace was given for the document")]
    NoDocument,
    /// The listener failed.
    #[error("the listener failed: {0}")]
    Listener(#[source] std::io::Error),
    /// A part ended which must not. A restart is the recovery.
    #[error("a part of the collector ended: {0}")]
    Part(String),
    /// Signals cannot be received.
    #[error("signals cannot be received: {0}")]
    Signal(#[source] std::io::Error),
}

/// Why it is time to stop.
enum Stop {
    /// Told to.
    Signal(&'static str),
    /// The document now says something that only a restart can follow.
    Restart(&'static str),
}

/// Everything that runs.
struct Collector {
    app: App,
    /// The document in force at the start: some of it was set up once.
    first: Arc<Document>,
    /// Tasks that never end by themselves.
    parts: JoinSet<()>,
    forwarder: JoinHandle<()>,
    server: JoinHandle<std::io::Result<()>>,
    listener: Handle<SocketAddr>,
    /// Tells the forwarder to stop.
    stopping: CancellationToken,
}

/// Runs until told to stop, and then finishes what is in flight.
pub async fn run(settings: Serve) -> Result<(), ServeError> {
    // First of all: whoever has no handler for SIGTERM and is a container's first process ignores it.
    let mut signals = Signals::receive()?;
    metrics::install();
    let mut follower = Follower::new(source(&settings).await?);
    tracing::info!("waiting for the document");
    let first = tokio::select! {
        first = follower.first() => Arc::new(first),
        name = signals.next() => {
            tracing::info!(signal = name, "stopping before there was a document");
            return Ok(());
        }
    };
    tracing::info!(generation = first.generation, trail = first.trail.claim, "the first document is in force");
    let mut collector = Collector::start(&settings, first, follower).await?;
    match collector.wait(&mut signals).await? {
        Stop::Signal(name) => tracing::info!(signal = name, "stopping"),
        Stop::Restart(why) => tracing::warn!(why, "stopping, to be started again with the new document"),
    }
    collector.stop().await;
    Ok(())
}

impl Collector {
    async fn start(settings: &Serve, first: Arc<Document>, follower: Follower) -> Result<Self, ServeError> {
        let certificate = certificate(&first).await?;
        let socket = listen(settings.listen)?;
        let mut parts = JoinSet::new();
        let documents = watch::Sender::new(Arc::clone(&first));
        let seen = documents.subscribe();
        parts.spawn(follower.run(documents));
        if let Some(certificate) = certificate.clone() {
            parts.spawn(certificate.follow(seen.clone()));
        }
        let app = app(&first, settings.replica(), seen.clone(), &mut parts).await?;
        let stopping = CancellationToken::new();
        // A new identity each time: a lease of the process before must not be taken for ours.
        let (store, feed) = (app.store.clone(), app.tail.feed());
        let forwarder = tokio::spawn(forward::run(store, feed, seen, Uuid::new_v4(), stopping.clone()));
        let listener = Handle::new();
        tracing::info!(address = %settings.listen, tls = certificate.is_some(), "listening");
        let server = tokio::spawn(listener::serve(socket, certificate, server::router(app.clone()), listener.clone()));
        Ok(Self { app, first, parts, forwarder, server, listener, stopping })
    }

    /// Waits for a reason to stop. A part that ends before is an error, panics included: the process
    /// ends and is started again, since a collector that lacks a part would look alive.
    async fn wait(&mut self, signals: &mut Signals) -> Result<Stop, ServeError> {
        tokio::select! {
            name = signals.next() => Ok(Stop::Signal(name)),
            why = restart_needed(self.app.documents.clone(), &self.first) => Ok(Stop::Restart(why)),
            Some(ended) = self.parts.join_next() => Err(part_ended(ended)),
            ended = &mut self.forwarder => Err(part_ended(ended)),
            ended = &mut self.server => Err(match ended {
                Ok(Err(error)) => ServeError::Listener(error),
                Ok(Ok(())) => part_ended(Ok(())),
                Err(error) => part_ended(Err(error)),
            }),
        }
    }

    /// Other replicas take the forwardings over while the requests in flight are finished here.
    async fn stop(mut self) {
        self.stopping.cancel();
        self.app.tail.stop();
        self.listener.graceful_shutdown(Some(DRAIN_TIMEOUT));
        // How they ended makes no difference any more.
        let (_, _) = tokio::join!(self.server, self.forwarder);
        self.parts.shutdown().await;
        if let Ok(Err(error)) = timeout(FORGET_TIMEOUT, self.app.store.forget_replicas(Some(&self.app.replica))).await {
            tracing::warn!(%error, "this replica stays on the list until its heartbeat is old");
        }
        tracing::info!("stopped");
    }
}

async fn certificate(document: &Document) -> Result<Option<Certificate>, ServeError> {
    let Some(tls) = &document.tls else { return Ok(None) };
    Certificate::load(tls).await.map(Some).map_err(ServeError::Certificate)
}

async fn source(settings: &Serve) -> Result<Source, ServeError> {
    let place = &settings.document;
    match (&place.config, &place.document_secret, &settings.namespace) {
        (Some(path), _, _) => Ok(Source::File(path.clone())),
        (None, Some(name), Some(namespace)) => {
            let client = kube::Client::try_default().await?;
            Ok(Source::Secret { client, namespace: namespace.clone(), name: name.clone() })
        }
        _ => Err(ServeError::NoDocument),
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).map_err(|source| ServeError::Listen { address, source })
}

/// Makes what the handlers share, and starts the parts behind it.
async fn app(
    document: &Document,
    replica: String,
    documents: watch::Receiver<Arc<Document>>,
    parts: &mut JoinSet<()>,
) -> Result<App, ServeError> {
    let client = match &document.access {
        AccessBy::Kubernetes { .. } => Some(kube::Client::try_default().await?),
        AccessBy::Tokens(_) => None,
    };
    let store = Store::lazy(&document.database)?;
    let writer = Writer::start(store.clone(), document.trail.claim.clone());
    let state = watch::Sender::new(database::State::Opening("it has not been tried yet".to_owned()));
    let app = App {
        store: store.clone(),
        writer,
        database: state.subscribe(),
        access: Arc::new(Access::new(documents.clone(), client)),
        catalogue: Arc::new(Current::new(documents.clone())),
        room: Room::default(),
        reads: Arc::new(Semaphore::new(READS_MAX)),
        exports: Arc::new(Semaphore::new(EXPORTS_MAX)),
        budgets: Arc::default(),
        tail: Tail::new(store.clone()),
        replica: replica.into(),
        documents: documents.clone(),
    };
    let writer = app.writer.clone();
    parts.spawn(async move { writer.ended().await });
    parts.spawn(metrics::keep());
    parts.spawn(app.tail.feed().run());
    parts.spawn(keeper::keep(store.clone(), documents.clone(), state.subscribe()));
    parts.spawn(database::keep(store, Arc::clone(&app.replica), documents, state));
    Ok(app)
}

/// The signals that mean "stop".
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn receive() -> Result<Self, ServeError> {
        let of = |kind| signal(kind).map_err(ServeError::Signal);
        Ok(Self { terminate: of(SignalKind::terminate())?, interrupt: of(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Waits for a document that only a restart can follow.
async fn restart_needed(mut documents: watch::Receiver<Arc<Document>>, first: &Document) -> &'static str {
    while documents.changed().await.is_ok() {
        if let Some(why) = needs_restart(first, &documents.borrow_and_update()) {
            return why;
        }
    }
    // No more documents will come: the part that follows them has ended, which is seen elsewhere.
    std::future::pending().await
}

/// What was set up once, and differs now.
fn needs_restart(first: &Document, now: &Document) -> Option<&'static str> {
    let by_cluster = |document: &Document| matches!(document.access, AccessBy::Kubernetes { .. });
    if first.database != now.database {
        Some("the database is another")
    } else if first.trail.claim != now.trail.claim {
        Some("the trail is another")
    } else if first.tls.is_some() != now.tls.is_some() {
        Some("the listener changes between HTTP and HTTPS")
    } else if by_cluster(first) != by_cluster(now) {
        Some("who may is decided by somebody else")
    } else {
        None
    }
}

fn part_ended(ended: Result<(), JoinError>) -> ServeError {
    ServeError::Part(match ended {
        Ok(()) => "it returned".to_owned(),
        Err(error) => error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::tests::document;
    use audittrail_crds::document::{ClusterAccess, Sensitive, Tls};

    #[test]
    fn what_is_followed_while_running_needs_no_restart() {
        let first = document(1);
        let mut now = document(2);
        now.trail.workspace = "New name".to_owned();
        assert_eq!(needs_restart(&first, &now), None);
    }

    #[test]
    fn what_was_set_up_once_needs_a_restart() {
        let first = document(1);
        let changed = |change: fn(&mut Document)| {
            let mut now = document(2);
            change(&mut now);
            needs_restart(&first, &now).is_some()
        };
        assert!(changed(|now| now.database.uri = Sensitive::new("postgresql://other")));
        assert!(changed(|now| now.trail.claim = "team-b/other".to_owned()));
        assert!(changed(|now| now.tls = Some(Tls { certificate: String::new(), key: Sensitive::new("") })));
        assert!(changed(|now| now.access = AccessBy::Kubernetes(ClusterAccess::default())));
    }
}
