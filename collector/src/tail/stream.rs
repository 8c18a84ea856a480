//! One stream: passes on what its reader finds, shows signs of life, and ends when it has to.

use super::reader::{Next, Reader};
use super::sse;
use crate::access::{self, Verb};
use crate::query::place::Place;
use crate::server::App;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Chunks that wait for the client, beside the one that is being read.
pub const CHUNKS_WAITING: usize = 1;

/// Pause after the database did not answer.
const RETRY_EVERY: Duration = Duration::from_millis(250);

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// After as long a silence there is a sign of life: proxies take silence of half a minute or more for death.
    pub heartbeat_every: Duration,
    /// How long a client may leave a chunk untouched. Megabytes wait for it in buffers by then, and it loses nothing: it goes
    /// on with its last id.
    pub blocked_max: Duration,
    /// How often it is asked again whether the client may. A document that comes into force is a reason too.
    pub authorize_every: Duration,
    /// How long a stream goes on while nobody can say whether the client may. A short outage of the API server must not end
    /// every stream, and a long one must not keep alive what was forbidden.
    pub unauthorized_max: Duration,
}

/// The pace of every stream.
pub const PACE: Pace = Pace {
    heartbeat_every: Duration::from_secs(15),
    blocked_max: Duration::from_secs(10),
    authorize_every: Duration::from_secs(10),
    unauthorized_max: Duration::from_mins(1),
};

/// Why a stream ended.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Ended {
    /// The collector stops.
    #[error("the collector stops")]
    Stopping,
    /// The client closed it.
    #[error("the client went away")]
    Gone,
    /// The client did not read.
    #[error("the client is too slow")]
    TooSlow,
    /// The client may not any more, or nobody could say for too long.
    #[error("the credential is not accepted any more")]
    Refused(StatusCode),
    /// Sequences are given anew.
    #[error("the database was restored")]
    Restored,
}

/// The way to the client.
#[derive(Debug)]
pub struct Outlet {
    chunks: mpsc::Sender<Bytes>,
    pace: Pace,
    /// Everything that matches, up to here, was sent.
    passed: Option<Place>,
    heartbeat_due: Instant,
}

impl Outlet {
    /// Whatever is sent goes into `chunks`. The stream is at the place `passed`.
    pub fn new(chunks: mpsc::Sender<Bytes>, passed: Option<Place>, pace: Pace) -> Self {
        Self { chunks, pace, passed, heartbeat_due: Instant::now() + pace.heartbeat_every }
    }

    /// Sends a chunk, after which the stream is at the place.
    pub async fn send(&mut self, chunk: Bytes, passed: Option<Place>) -> Result<(), Ended> {
        self.passed = passed;
        if chunk.is_empty() {
            return Ok(());
        }
        let sent = timeout(self.pace.blocked_max, self.chunks.send(chunk)).await;
        self.heartbeat_due = Instant::now() + self.pace.heartbeat_every;
        sent.map_err(|_| Ended::TooSlow)?.map_err(|_| Ended::Gone)
    }

    /// Waits for something, with signs of life meanwhile.
    async fn during<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Ended> {
        let mut work = pin!(work);
        loop {
            if let Ok(done) = timeout_at(self.heartbeat_due, &mut work).await {
                return Ok(done);
            }
            self.send(sse::heartbeat(self.passed), self.passed).await?;
        }
    }
}

/// Runs a stream to its end. `headers` hold the client's credential.
pub async fn run(app: App, headers: HeaderMap, mut reader: Reader, mut outlet: Outlet) {
    let chunks = outlet.chunks.clone();
    let pace = outlet.pace;
    let ended = tokio::select! {
        () = app.tail.stopping() => Ended::Stopping,
        () = chunks.closed() => Ended::Gone,
        ended = refused(&app, &headers, pace) => ended,
        Err(ended) = pass_on(&mut reader, &mut outlet) => ended,
    };
    tracing::info!(reason = %ended, "a live tail ended");
    // For people who look at the stream; a client that does not read does not get it.
    let _ = chunks.try_send(sse::comment(&ended));
}

/// Passes on what comes. Ends with an error only, and never because of the database.
async fn pass_on(reader: &mut Reader, outlet: &mut Outlet) -> Result<Infallible, Ended> {
    loop {
        match outlet.during(reader.next()).await? {
            Ok(Next::Chunk(chunk, passed)) => outlet.send(chunk, passed).await?,
            Ok(Next::Restored) => return Err(Ended::Restored),
            Err(error) => {
                tracing::warn!(%error, "a live tail could not read the log; trying again");
                outlet.during(sleep(RETRY_EVERY)).await?;
            }
        }
    }
}

/// Waits until the client may not read any more.
pub async fn refused(app: &App, headers: &HeaderMap, pace: Pace) -> Ended {
    let mut documents = app.documents.clone();
    let mut allowed_at = Instant::now();
    loop {
        documents.mark_unchanged();
        match access::authorize(app, headers, Verb::Read).await {
            Ok(_) => allowed_at = Instant::now(),
            Err(problem) if is_unknown(problem.status()) && allowed_at.elapsed() < pace.unauthorized_max => {}
            Err(problem) => return Ended::Refused(problem.status()),
        }
        if let Ok(Err(_)) = timeout(pace.authorize_every, documents.changed()).await {
            // No more documents will come, which ends the process.
            sleep(pace.authorize_every).await;
        }
    }
}

/// Whether the question could not be answered, which is no no.
fn is_unknown(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Option<Place> = Some(Place { epoch: 0, sequence: 7 });

    /// Short, so that tests do not wait.
    const SHORT: Pace = Pace {
        heartbeat_every: Duration::from_millis(5),
        blocked_max: Duration::from_millis(20),
        authorize_every: Duration::from_millis(5),
        unauthorized_max: Duration::from_millis(20),
    };

    fn outlet() -> (Outlet, mpsc::Receiver<Bytes>) {
        let (sender, receiver) = mpsc::channel(CHUNKS_WAITING);
        (Outlet::new(sender, None, SHORT), receiver)
    }

    #[tokio::test]
    async fn silence_has_signs_of_life_that_tell_the_place() {
        let (mut outlet, mut chunks) = outlet();
        outlet.send(Bytes::from_static(b"first"), HERE).await.expect("sent");
        let silence = tokio::spawn(async move { outlet.during(std::future::pending::<()>()).await });
        for expected in ["first", ":\nid: 0.7\n\n", ":\nid: 0.7\n\n"] {
            assert_eq!(chunks.recv().await.expect("open"), expected);
        }
        drop(chunks);
        assert_eq!(silence.await.expect("no panic"), Err(Ended::Gone));
    }

    #[tokio::test]
    async fn what_matches_nothing_moves_the_place_and_sends_nothing() {
        let (mut outlet, mut chunks) = outlet();
        outlet.send(Bytes::new(), HERE).await.expect("nothing to wait for");
        assert!(chunks.try_recv().is_err());
        assert_eq!(outlet.passed, HERE);
    }

    #[tokio::test]
    async fn a_client_that_reads_nothing_is_dropped() {
        let (mut outlet, chunks) = outlet();
        let chunk = Bytes::from_static(b"chunk");
        for _ in 0..CHUNKS_WAITING {
            assert_eq!(outlet.send(chunk.clone(), HERE).await, Ok(()));
        }
        assert_eq!(outlet.send(chunk, HERE).await, Err(Ended::TooSlow));
        drop(chunks);
    }

    #[tokio::test]
    async fn a_client_that_reads_in_time_is_kept() {
        let (mut outlet, mut chunks) = outlet();
        let reading = tokio::spawn(async move { while chunks.recv().await.is_some() {} });
        for _ in 0..100 {
            outlet.send(Bytes::from_static(b"chunk"), HERE).await.expect("read");
        }
        drop(outlet);
        reading.await.expect("no panic");
    }

    #[test]
    fn only_an_answer_ends_a_stream_at_once() {
        for status in
            [StatusCode::SERVICE_UNAVAILABLE, StatusCode::INTERNAL_SERVER_ERROR, StatusCode::TOO_MANY_REQUESTS]
        {
            assert!(is_unknown(status));
        }
        for status in [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN] {
            assert!(!is_unknown(status));
        }
    }
}
