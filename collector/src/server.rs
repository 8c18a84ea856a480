//! The HTTP interface: its routes, and what they share.

use crate::access::Access;
use crate::catalogue::Current;
use crate::database;
use crate::ingest::room::Room;
use crate::problem::{Problem, RETRY_AFTER_SECONDS};
use crate::public_api::audit_events;
use crate::public_api::budget::Budgets;
use crate::store::Store;
use crate::store::writer::Writer;
use crate::tail::{self, Tail};
use crate::{forwardings, health, ingest, metrics, openapi, query, request, status};
use audittrail_crds::catalogue::Catalogue;
use audittrail_crds::document::Document;
use axum::Router;
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use std::any::Any;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::time::timeout;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::timeout::RequestBodyTimeoutLayer;
use utoipa_axum::router::{UtoipaMethodRouter, UtoipaMethodRouterExt};
use utoipa_axum::routes;
use uuid::Uuid;

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
    /// What callers of Segment's Public API have spent.
    pub budgets: Arc<Mutex<Budgets>>,
    /// Room for exports: [`EXPORTS_MAX`](query::export::EXPORTS_MAX) at once.
    pub exports: Arc<Semaphore>,
    /// What live tails share.
    pub tail: Tail,
    /// Name of this replica.
    pub replica: Arc<str>,
}

impl App {
    /// The log, or the problem (503) that says why it cannot be used.
    pub async fn store(&self) -> Result<&Store, Problem> {
        self.log_id().await.map(|_open| &self.store)
    }

    /// The writer of the log, or the problem (503) that says why it cannot be used.
    pub async fn writer(&self) -> Result<&Writer, Problem> {
        self.log_id().await.map(|_open| &self.writer)
    }

    /// Identity of the log, or the problem (503) that says why it cannot be used. While it is being opened, requests wait:
    /// that is no different from a database that restarts later on.
    pub async fn log_id(&self) -> Result<Uuid, Problem> {
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

/// Every path and its methods, in one table. Each handler describes itself (`#[utoipa::path]`, of which path and method come):
/// [`openapi`] is made of that, and one that does not cannot stand here.
pub fn described() -> Vec<UtoipaMethodRouter<App>> {
    vec![
        routes!(query::list::list_events, ingest::http::post_events),
        routes!(tail::stream_events),
        routes!(query::event::get_event),
        routes!(query::export::export_csv),
        routes!(query::export::export_ndjson),
        routes!(query::counts::list_event_types),
        routes!(query::counts::list_actors),
        routes!(query::counts::list_resources),
        routes!(ingest::http::post_kubernetes),
        routes!(ingest::segment::post_track),
        routes!(ingest::segment::post_batch),
        routes!(ingest::segment::post_identify),
        routes!(ingest::segment::post_page),
        routes!(ingest::segment::post_screen),
        routes!(ingest::segment::post_group),
        routes!(ingest::segment::post_alias),
        routes!(status::get_status),
        routes!(forwardings::list::list_forwardings),
        routes!(forwardings::parked::list_parked),
        routes!(forwardings::replay::post_replay),
        routes!(audit_events::list_audit_events).map(|methods| methods.fallback(audit_events::method_not_allowed)),
        routes!(openapi::get_openapi),
        routes!(metrics::endpoint::get_metrics),
        routes!(health::livez),
        routes!(health::readyz),
    ]
}

/// Every path with its methods: a test walks them and asks each as nobody and as a stranger (`tests/api/access/routes.rs`), so
/// that a handler which forgets [`access::authorize`](crate::access::authorize) is noticed.
pub fn routes() -> Vec<(String, MethodRouter<App>)> {
    let route = |(_, paths, methods): UtoipaMethodRouter<App>| {
        let mut paths = paths.paths.into_keys();
        let path = paths.next().expect("a handler has a path");
        assert!(paths.next().is_none(), "handlers of one entry have one path");
        (path, methods)
    };
    described().into_iter().map(route).collect()
}

/// Every route, and what all of them share.
pub fn router(app: App) -> Router {
    routes()
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| router.route(&path, methods))
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
