//! The HTTP interface: its routes, and what they share.

use crate::access::Access;
use crate::catalogue::Catalogue;
use crate::catalogue::current::Current;
use crate::database;
use crate::ingest::room::Room;
use crate::problem::{Problem, RETRY_AFTER_SECONDS};
use crate::store::Store;
use crate::store::writer::Writer;
use crate::{health, ingest, metrics, query, request, status};
use audittrail_crds::document::Document;
use axum::Router;
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use std::any::Any;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::timeout;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::RequestBodyTimeoutLayer;

/// Size of a request's body, in bytes, at most. An API server sends up to 10 MiB of audit events and an envelope
/// (`--audit-webhook-truncate-enabled`), and never sends a refused batch again.
pub const BODY_MAX_BYTES: usize = 16 * 1024 * 1024;

/// How long a body may pause. A client that stops in the middle must not hold a connection for ever.
const BODY_PAUSE_MAX: Duration = Duration::from_secs(30);

/// Reads of events at once, at most. With all of the pool's connections in slow queries, the writer
/// would have none.
pub const READS_MAX: usize = 3;

/// How long a read waits for its turn before it is answered 503.
const READ_WAIT_MAX: Duration = Duration::from_secs(5);

/// How long a request waits for the log to be opened: a database that was just made fits in.
const OPENING_WAIT_MAX: Duration = Duration::from_secs(10);

/// What handlers share. Clones are cheap.
#[derive(Clone, Debug)]
pub struct App {
    /// The log. Handlers ask for it with [`App::store`].
    pub store: Store,
    /// The writer. Handlers ask for it with [`App::writer`].
    pub writer: Writer,
    /// Whether the log can be used.
    pub database: watch::Receiver<database::State>,
    /// The document in force.
    pub documents: watch::Receiver<Arc<Document>>,
    /// Who may.
    pub access: Arc<Access>,
    /// The catalogue. Handlers ask for it with [`App::catalogue`].
    pub catalogue: Arc<Current>,
    /// Room for bodies that are written.
    pub room: Room,
    /// Room for reads: [`READS_MAX`] at once.
    pub reads: Arc<Semaphore>,
    /// Name of this replica.
    pub replica: Arc<str>,
}

impl App {
    /// The log, or the problem (503) that says why it cannot be used.
    pub async fn store(&self) -> Result<&Store, Problem> {
        self.require_open().await.map(|()| &self.store)
    }

    /// The writer of the log, or the problem (503) that says why it cannot be used.
    pub async fn writer(&self) -> Result<&Writer, Problem> {
        self.require_open().await.map(|()| &self.writer)
    }

    /// While the log is being opened, requests wait: that is no different from a database that restarts later on.
    async fn require_open(&self) -> Result<(), Problem> {
        let mut state = self.database.clone();
        let settled = state.wait_for(|state| !matches!(state, database::State::Opening(_)));
        // Its other end lives as long as this process, and after the time the state speaks for itself.
        let _ = timeout(OPENING_WAIT_MAX, settled).await;
        self.database.borrow().require_open()
    }

    /// A turn to read events, held for one query; a problem (503) when none comes up in time.
    pub async fn read_turn(&self) -> Result<SemaphorePermit<'_>, Problem> {
        let busy = || Problem::unavailable(RETRY_AFTER_SECONDS, "too many queries are running");
        timeout(READ_WAIT_MAX, self.reads.acquire()).await.map_err(|_| busy())?.map_err(|_| busy())
    }

    /// The catalogue of the document in force.
    pub fn catalogue(&self) -> Arc<Catalogue> {
        self.catalogue.get()
    }

    /// The document in force.
    pub fn document(&self) -> Arc<Document> {
        Arc::clone(&self.documents.borrow())
    }
}

/// Every route.
pub fn router(app: App) -> Router {
    Router::new()
        .route("/v1/events", get(query::list::list_events).post(ingest::http::post_events))
        .route("/v1/events.csv", get(query::csv::export_csv))
        .route("/v1/kubernetes", post(ingest::http::post_kubernetes))
        .route("/v1/track", post(ingest::segment::post_track))
        .route("/v1/batch", post(ingest::segment::post_batch))
        .route("/v1/identify", post(ingest::segment::post_other))
        .route("/v1/page", post(ingest::segment::post_other))
        .route("/v1/screen", post(ingest::segment::post_other))
        .route("/v1/group", post(ingest::segment::post_other))
        .route("/v1/alias", post(ingest::segment::post_other))
        .route("/v1/status", get(status::get_status))
        .route("/metrics", get(metrics::endpoint::get_metrics))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(RequestBodyTimeoutLayer::new(BODY_PAUSE_MAX))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(request::with_id))
        .with_state(app)
}

/// A defect that one request meets must not look like a network error to its client.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    tracing::error!("a handler panicked");
    Problem::internal().into_response()
}

async fn not_found() -> Problem {
    Problem::not_found("no resource of the collector has this path")
}

async fn method_not_allowed() -> Problem {
    Problem::method_not_allowed("the header Allow lists the methods of this path")
}
