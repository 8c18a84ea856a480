//! The far end, for tests and the demo: an HTTP API source in the shape of Segment's Tracking API.
//!
//! | endpoint | what |
//! |---|---|
//! | `POST /v1/batch`, `/v1/track` | takes events as Segment does, see [`tracking`] |
//! | `GET /received` | one JSON line a [`received::Message`], in order of first arrival |
//! | `GET /count` | [`received::Counts`] |
//! | `PUT /script` | how to misbehave, one [`script::Step`] for each request to come; after them it behaves |
//!
//! | module | what |
//! |---|---|
//! | [`script`] | the steps of a script |
//! | [`connection`] | connections that a handler can cut |
//! | [`tracking`] | the Tracking API |
//! | [`received`] | what was received |
//! | [`control`] | the endpoints for tests |

pub mod connection;
pub mod control;
pub mod received;
pub mod script;
pub mod tracking;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post, put};
use received::Received;
use script::Step;
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
}

#[derive(Debug)]
struct Inner {
    write_key: Option<String>,
    print: bool,
    received: Mutex<Received>,
    script: Mutex<VecDeque<Step>>,
}

impl Source {
    /// Opens a source with what its file holds.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn open(settings: Settings) -> io::Result<Self> {
        let Settings { write_key, file, print } = settings;
        let received = Mutex::new(Received::open(file.as_deref())?);
        Ok(Self { inner: Arc::new(Inner { write_key, print, received, script: Mutex::default() }) })
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
            // The limits of the Tracking API are ours to answer for.
            .layer(DefaultBodyLimit::disable())
            .with_state(self.clone());
        let service = routes.into_make_service_with_connect_info::<connection::Cutter>();
        axum::serve(connection::Listener(listener), service).with_graceful_shutdown(shutdown).await
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

    fn next_step(&self) -> Option<Step> {
        self.script().pop_front()
    }

    fn script(&self) -> MutexGuard<'_, VecDeque<Step>> {
        self.inner.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
