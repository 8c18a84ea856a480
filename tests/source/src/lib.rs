//! The far end, for tests and the demo: an HTTP API source in the shape of Segment's Tracking API.
//!
//! | endpoint | what |
//! |---|---|
//! | `POST /v1/batch`, `/v1/track` | takes events as Segment does, see [`tracking`] |
//! | `GET /received` | one JSON line a [`received::Message`], in order of first arrival |
//! | `GET /count` | [`received::Counts`] |
//! | `PUT /standing` | [`script::Standing`]: what is refused, whatever the script says nothing of |
//! | `/sources`, `/sources/{id}` | the sources of a workspace, as in Segment's Public API, see [`public_api`] |
//! | `PUT /script` | how to misbehave, one [`script::Step`] for each request to come; after them it behaves |
//!
//! | module | what |
//! |---|---|
//! | [`script`] | the steps of a script |
//! | [`connection`] | connections that a handler can cut |
//! | [`tracking`] | the Tracking API |
//! | [`public_api`] | the Public API, as far as sources go |
//! | [`received`] | what was received |
//! | [`control`] | the endpoints for tests |

pub mod connection;
pub mod control;
pub mod public_api;
pub mod received;
pub mod script;
pub mod tracking;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post, put};
use public_api::Workspace;
use received::Received;
use script::{Standing, Step};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpListener;

/// A source. Clones share what was received, so one can stop serving and serve again.
#[derive(Clone, Debug)]
pub struct Source {
    inner: Arc<Inner>,
}

/// How a source is set up.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// Key that requests must carry; any other is answered 401. Without it, every key is taken.
    pub write_key: Option<String>,
    /// File that keeps what was received, so that the source goes on after a restart where it was.
    pub file: Option<PathBuf>,
    /// Prints one line on stdout for each new event.
    pub print: bool,
    /// Token that the Public API takes. Without it, it takes none.
    pub workspace_token: Option<String>,
}

#[derive(Debug)]
struct Inner {
    write_key: Option<String>,
    print: bool,
    workspace: Workspace,
    received: Mutex<Received>,
    script: Mutex<VecDeque<Step>>,
    standing: Mutex<Arc<Standing>>,
}

impl Source {
    /// Opens a source with what its file holds.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn open(settings: Settings) -> io::Result<Self> {
        let Settings { write_key, file, print, workspace_token } = settings;
        let workspace = Workspace::new(workspace_token);
        let received = Mutex::new(Received::open(file.as_deref())?);
        Ok(Self {
            inner: Arc::new(Inner {
                write_key,
                print,
                workspace,
                received,
                script: Mutex::default(),
                standing: Mutex::default(),
            }),
        })
    }

    /// Serves until `shutdown` completes; then it takes no more connections and finishes the
    /// requests it has.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let routes = Router::new()
            .route("/v1/batch", post(tracking::batch))
            .route("/v1/track", post(tracking::track))
            .route("/received", get(control::received))
            .route("/count", get(control::count))
            .route("/script", put(control::script))
            .route("/standing", put(control::standing))
            .merge(public_api::routes())
            // The limits of the Tracking API are ours to answer for.
            .layer(DefaultBodyLimit::disable())
            .with_state(self.clone());
        let service = routes.into_make_service_with_connect_info::<connection::Cutter>();
        axum::serve(connection::Listener(listener), service).with_graceful_shutdown(shutdown).await
    }

    /// The workspace behind the Public API.
    pub fn workspace(&self) -> &Workspace {
        &self.inner.workspace
    }

    /// What was received.
    pub fn received(&self) -> MutexGuard<'_, Received> {
        // A test that panicked while it looked has changed nothing.
        self.inner.received.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Steps for the requests to come, instead of those that are left.
    pub fn set_script(&self, steps: impl IntoIterator<Item = Step>) {
        *self.script() = steps.into_iter().collect();
    }

    /// Steps that no request has taken yet.
    pub fn script_left(&self) -> usize {
        self.script().len()
    }

    /// How requests are treated that no step is for, instead of what was said before.
    pub fn set_standing(&self, standing: Standing) {
        *self.inner.standing.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(standing);
    }

    fn standing(&self) -> Arc<Standing> {
        Arc::clone(&self.inner.standing.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn next_step(&self) -> Option<Step> {
        self.script().pop_front()
    }

    fn script(&self) -> MutexGuard<'_, VecDeque<Step>> {
        self.inner.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
