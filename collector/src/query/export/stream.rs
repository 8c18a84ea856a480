//! From the database to the client: a task reads chunk after chunk and hands frames to the connection.
//!
//! While the client takes a chunk, the next is read; then nothing more is read until the client has taken the first. So an
//! export holds two chunks, and while it waits for its client neither a read turn nor a connection to the database.

use super::Format;
use super::chunk::{Chunk, ROWS_FIRST};
use super::row::Row;
use crate::server::App;
use crate::store::read::Window;
use crate::store::walk::Walk;
use crate::tail::stream::{Ended, PACE, refused};
use axum::body::{Body, Bytes};
use axum::http::HeaderMap;
use futures::stream;
use sqlx::FromRow;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, mpsc};
use tokio::time::timeout;
use tracing::Instrument;

/// Frames between the task and the connection, at most: the connection does not wait while the task has much to do.
const FRAMES_WAITING_MAX: usize = 4;

/// How long a client may take nothing before its export is given up. It can go on with `after`.
const CLIENT_PAUSE_MAX: Duration = Duration::from_mins(1);

/// An export that has not come to its end.
#[derive(Debug)]
pub struct Export {
    app: App,
    /// What it began with, which has to be there until it ends.
    pinned: Window,
    walk: Walk,
    format: Format,
    /// Rows to be read next, at most.
    rows: usize,
}

/// What the task hands to the connection. Only the end makes an answer complete: a task that ends before, in whatever way,
/// breaks it off.
#[derive(Debug)]
enum Part {
    Frame(Bytes),
    End,
}

/// Why an export broke off.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error("the database stopped answering: {0}")]
    Database(#[from] sqlx::Error),
    #[error("the database was restored or rewound to before what the export began with")]
    Rewound,
    #[error("the collector stops: {0}")]
    Stopped(#[from] AcquireError),
    #[error("the client took nothing for {} s", CLIENT_PAUSE_MAX.as_secs())]
    Paused,
    #[error("the client went away")]
    Gone,
    /// With the status that a request would be answered with now.
    #[error("the credential is not accepted any more")]
    Refused(Ended),
}

/// What the connection is told of it, which then ends without the mark of a complete answer.
#[derive(Debug, thiserror::Error)]
#[error("the export broke off")]
struct BrokenOff;

impl Export {
    /// An export of all that is left of a walk through what was `pinned`.
    pub fn new(app: App, pinned: Window, walk: Walk, format: Format) -> Self {
        Self { app, pinned, walk, format, rows: ROWS_FIRST }
    }

    /// Appends the next rows to a chunk: none if there were none in the part of the log that was looked at. Takes no turn.
    pub async fn read(&mut self, mut chunk: Chunk) -> Result<Chunk, sqlx::Error> {
        let mut take = |row: &_| {
            chunk.row(&Row::from_row(row)?).map_err(|error| sqlx::Error::Decode(error.into()))?;
            Ok(if chunk.is_full() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        };
        self.walk.each(self.rows, &mut take).await?;
        self.rows = chunk.rows_of_next(self.rows);
        Ok(chunk)
    }

    /// The frames of the next rows; none at the end. In its turn: between two reads, others have theirs.
    async fn next(&mut self) -> Result<Option<Vec<Bytes>>, ExportError> {
        let reads = Arc::clone(&self.app.reads);
        loop {
            let turn = reads.acquire().await?;
            // After what was read so far, so that all of that was there when it was read.
            if !self.pinned.stands_in(&self.app.store.head().await?) {
                return Err(ExportError::Rewound);
            }
            if self.walk.left().is_empty() {
                return Ok(None);
            }
            let chunk = self.read(Chunk::new(self.format)).await?;
            drop(turn);
            let frames = chunk.into_frames();
            if !frames.is_empty() {
                return Ok(Some(frames));
            }
        }
    }

    /// The body of the answer: `first`, and then chunk after chunk. `headers` hold the client's credential. `place` is given back
    /// when nothing is held any more.
    pub fn into_body(self, headers: HeaderMap, first: Chunk, place: OwnedSemaphorePermit) -> Body {
        let (parts, taken) = mpsc::channel(FRAMES_WAITING_MAX);
        tokio::spawn(self.run(headers, first, parts, place).in_current_span());
        body(taken)
    }

    /// Runs to the end, or until the client is gone or may not any more: then a query in flight is given up with everything else.
    async fn run(self, headers: HeaderMap, first: Chunk, parts: mpsc::Sender<Part>, _place: OwnedSemaphorePermit) {
        let app = self.app.clone();
        let outcome = tokio::select! {
            biased;
            () = parts.closed() => Err(ExportError::Gone),
            ended = refused(&app, &headers, PACE) => Err(ExportError::Refused(ended)),
            outcome = self.deliver(first, &parts) => outcome,
        };
        match outcome {
            Ok(()) => tracing::debug!("an export is complete"),
            Err(error @ (ExportError::Gone | ExportError::Paused | ExportError::Refused(_))) => {
                tracing::info!(%error, "an export broke off");
            }
            Err(error) => tracing::error!(%error, "an export broke off; its connection is closed"),
        }
    }

    /// Sends a chunk while the next is read.
    async fn deliver(mut self, first: Chunk, parts: &mpsc::Sender<Part>) -> Result<(), ExportError> {
        let mut frames = Some(first.into_frames());
        while let Some(taken) = frames {
            let (sent, next) = tokio::join!(send(taken, parts, CLIENT_PAUSE_MAX), self.next());
            sent?;
            frames = next?;
        }
        parts.send(Part::End).await.map_err(|_| ExportError::Gone)
    }
}

/// What the connection sends.
fn body(taken: mpsc::Receiver<Part>) -> Body {
    Body::from_stream(stream::unfold(Some(taken), async |taken| {
        let mut taken = taken?;
        match taken.recv().await {
            Some(Part::Frame(frame)) => Some((Ok(frame), Some(taken))),
            Some(Part::End) => None,
            None => Some((Err(BrokenOff), None)),
        }
    }))
}

async fn send(frames: Vec<Bytes>, parts: &mpsc::Sender<Part>, pause_max: Duration) -> Result<(), ExportError> {
    for frame in frames {
        let sent = timeout(pause_max, parts.send(Part::Frame(frame))).await;
        sent.map_err(|_| ExportError::Paused)?.map_err(|_| ExportError::Gone)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::to_bytes;

    const PAUSE: Duration = Duration::from_millis(10);

    fn frames(count: usize) -> Vec<Bytes> {
        vec![Bytes::from_static(b"row\n"); count]
    }

    #[tokio::test]
    async fn only_an_answer_with_an_end_is_complete() {
        let (parts, taken) = mpsc::channel(FRAMES_WAITING_MAX);
        send(frames(2), &parts, PAUSE).await.expect("there is room");
        parts.send(Part::End).await.expect("there is room");
        drop(parts);
        assert_eq!(to_bytes(body(taken), usize::MAX).await.expect("complete"), "row\nrow\n");

        let (parts, taken) = mpsc::channel(FRAMES_WAITING_MAX);
        send(frames(2), &parts, PAUSE).await.expect("there is room");
        drop(parts);
        to_bytes(body(taken), usize::MAX).await.expect_err("broken off");
    }

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_given_up() {
        let (parts, taken) = mpsc::channel(FRAMES_WAITING_MAX);
        send(frames(FRAMES_WAITING_MAX), &parts, PAUSE).await.expect("there is room");
        assert!(matches!(send(frames(1), &parts, PAUSE).await, Err(ExportError::Paused)));
        drop(taken);
        assert!(matches!(send(frames(1), &parts, PAUSE).await, Err(ExportError::Gone)));
    }
}
