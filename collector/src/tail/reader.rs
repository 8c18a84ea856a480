//! What comes after a place, for one stream: from the log while it is far behind, from the feed near the head.

use super::feed::{Entry, Listener, Log, Near};
use super::sse;
use crate::event::StoredEvent;
use crate::query::filter::{Filter, Order};
use crate::query::place::Place;
use crate::store::Store;
use crate::store::walk::Walk;
use axum::body::Bytes;
use bytes::BytesMut;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Size from which a chunk is sent, in bytes. One event more may be in it.
pub const CHUNK_BYTES: usize = 64 * 1024;

/// Events read from the log at once, at most. What does not fit into a chunk is read again.
const READ_MAX_EVENTS: usize = 200;

/// Reads for one stream.
#[derive(Debug)]
pub struct Reader {
    /// The log.
    pub store: Store,
    /// Turns of reads.
    pub reads: Arc<Semaphore>,
    /// The feed.
    pub listener: Listener,
    /// Which events.
    pub filter: Arc<Filter>,
    /// The log that is followed.
    pub log: Log,
    /// The sequence that comes next.
    pub next: i64,
    /// What is read from the log, and how.
    pub far: Far,
}

/// How the log is read while a stream is behind.
#[derive(Debug)]
pub struct Far {
    walk: Option<Walk>,
    /// Events to read: as many as fit into a chunk, by what the last ones took.
    limit: usize,
}

/// What comes next.
#[derive(Debug)]
pub enum Next {
    /// Events that match, ready to be sent, and the place after which they end. There may be none: then nothing up to the
    /// place matches.
    Chunk(Bytes, Option<Place>),
    /// The log was restored: nothing comes any more.
    Restored,
}

impl Default for Far {
    fn default() -> Self {
        Self { walk: None, limit: READ_MAX_EVENTS }
    }
}

impl Reader {
    /// The next chunk. After an error the same is tried again.
    pub async fn next(&mut self) -> Result<Next, sqlx::Error> {
        let chunk = match self.listener.after(self.log, self.next).await {
            Near::Restored => return Ok(Next::Restored),
            Near::Events(entries, end) => self.of_feed(&entries, end),
            Near::Behind(until) => {
                let events = self.read(until).await;
                // What a walk that failed has passed is not known here.
                let Some((events, end)) = events.inspect_err(|_| self.far.walk = None)? else {
                    return Ok(Next::Restored);
                };
                self.of_log(&events, end)
            }
        };
        Ok(Next::Chunk(chunk, Place::before(self.log.epoch, self.next)))
    }

    /// Events of the feed, as many as fit.
    fn of_feed(&mut self, entries: &[Arc<Entry>], end: i64) -> Bytes {
        self.far = Far::default();
        let mut bytes = BytesMut::new();
        for Entry { event, json, .. } in entries.iter().map(AsRef::as_ref) {
            if self.filter.matches(event) {
                sse::push_event(&mut bytes, place(event), json);
            }
            if bytes.len() >= CHUNK_BYTES {
                self.next = event.sequence + 1;
                return bytes.freeze();
            }
        }
        self.next = end;
        bytes.freeze()
    }

    /// Events of the log before `until`, and where they end; none when the log was restored meanwhile.
    async fn read(&mut self, until: i64) -> Result<Option<(Vec<StoredEvent>, i64)>, sqlx::Error> {
        let _turn = self.reads.acquire().await.expect("turns are never closed");
        let window = self.next..until;
        let walk = self.far.walk.get_or_insert_with(|| self.store.walk(Arc::clone(&self.filter), window, Order::Asc));
        let events: Vec<StoredEvent> = walk.next(self.far.limit).await?;
        let left = walk.left().clone();
        if left.is_empty() {
            self.far.walk = None;
        }
        let restored = events.iter().any(|event| event.epoch > self.log.epoch);
        Ok((!restored).then_some((events, if left.is_empty() { left.end } else { left.start })))
    }

    /// Events of the log, as many as fit; the rest is let go of, so that a slow client holds no more than a chunk.
    fn of_log(&mut self, events: &[StoredEvent], end: i64) -> Bytes {
        let mut bytes = BytesMut::new();
        for (index, event) in events.iter().enumerate() {
            let json = serde_json::to_vec(event).expect("a stored event has only string keys");
            sse::push_event(&mut bytes, place(event), &json);
            if bytes.len() >= CHUNK_BYTES && index + 1 < events.len() {
                self.next = event.sequence + 1;
                self.far = Far { walk: None, limit: index + 1 };
                return bytes.freeze();
            }
        }
        self.next = end;
        self.far.limit = (2 * self.far.limit).min(READ_MAX_EVENTS);
        bytes.freeze()
    }
}

/// The id of an event: that of its JSON.
fn place(event: &StoredEvent) -> Place {
    Place { epoch: event.epoch, sequence: event.sequence }
}
