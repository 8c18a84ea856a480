//! Gathers requests into groups: while one group commits, the next gathers, so that concurrent
//! requests share a COMMIT.

use super::Store;
use super::append::AppendError;
use super::plan::{Outcome, Receipt, Request};
use crate::event::leaf::Salts;
use crate::event::{Event, SubmittedBy};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout_at};

/// Events of one group. More would make the first request of a group wait for the last.
const GROUP_MAX_EVENTS: usize = 10_000;

/// Requests that wait for their group.
const QUEUE_MAX_REQUESTS: usize = 1_024;

/// Bytes of request bodies that wait or are being written, in KiB. Past this, requests are refused
/// with 503: a queue that grows without end helps nobody.
const QUEUE_MAX_KIB: usize = 64 * 1024;

/// How long a group is tried before its requests are answered 503. A restart of Postgres, or a
/// failover, fits in.
const GIVE_UP_AFTER: Duration = Duration::from_secs(15);

/// Pause between tries of a group.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// Handle to the writer. It ends, after what is queued was written, when the last handle is dropped.
#[derive(Clone, Debug)]
pub struct Writer {
    queue: mpsc::Sender<Pending>,
    room: Arc<Semaphore>,
}

/// Why a request was not stored. Nothing of it is in the log, except after [`WriteError::Unavailable`], where a COMMIT
/// may have gone through unseen: the same ids again are duplicates then.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WriteError {
    /// The ids of the events at these indices are taken by other content.
    #[error("ids are taken by other content")]
    Conflict(Vec<usize>),
    /// Too much is waiting already.
    #[error("the collector has as much to write as it can hold; try again")]
    Overloaded,
    /// The database did not take it in time.
    #[error("the database does not take events at the moment; try again")]
    Unavailable,
    /// The database refuses these very events.
    #[error("the database refuses the events")]
    Refused,
}

#[derive(Debug)]
struct Pending {
    request: Request,
    answer: oneshot::Sender<Result<Receipt, WriteError>>,
    /// Given back when the answer is.
    room: OwnedSemaphorePermit,
}

impl Writer {
    /// Starts the writer of the log which `claim` has claimed.
    pub fn start(store: Store, claim: String) -> Self {
        let (queue, requests) = mpsc::channel(QUEUE_MAX_REQUESTS);
        tokio::spawn(run(store, claim, requests));
        Self { queue, room: Arc::new(Semaphore::new(QUEUE_MAX_KIB)) }
    }

    /// Appends `events` as a whole and returns once they are durable. `body_bytes` is the size of the
    /// request they came in, and counts against the bound of the queue.
    pub async fn append(
        &self,
        events: Vec<Event>,
        submitted_by: SubmittedBy,
        body_bytes: usize,
    ) -> Result<Receipt, WriteError> {
        let kib = u32::try_from(body_bytes.div_ceil(1024).max(1)).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).try_acquire_many_owned(kib).map_err(|_| WriteError::Overloaded)?;
        let events = events.into_iter().map(|event| (event, random_salts())).collect();
        let (answer, outcome) = oneshot::channel();
        let pending = Pending { request: Request { events, submitted_by }, answer, room };
        self.queue.try_send(pending).map_err(|error| match error {
            TrySendError::Full(_) => WriteError::Overloaded,
            TrySendError::Closed(_) => WriteError::Unavailable,
        })?;
        outcome.await.unwrap_or(Err(WriteError::Unavailable))
    }

    /// Completes when the writer is gone, which only a panic does while there is a handle.
    pub async fn ended(&self) {
        self.queue.closed().await;
    }
}

fn random_salts() -> Salts {
    Salts { personal: rand::random(), body: rand::random() }
}

async fn run(store: Store, claim: String, mut requests: mpsc::Receiver<Pending>) {
    while let Some(first) = requests.recv().await {
        let (group, answers) = gather(first, &mut requests);
        let outcomes = write(&store, &claim, group).await;
        for (answer, outcome) in answers.into_iter().zip(outcomes) {
            // A client that went away does not read its answer.
            let _ = answer.0.send(outcome);
        }
    }
}

type Answer = (oneshot::Sender<Result<Receipt, WriteError>>, OwnedSemaphorePermit);

/// Takes what waits, up to the bound of a group.
fn gather(first: Pending, requests: &mut mpsc::Receiver<Pending>) -> (Vec<Request>, Vec<Answer>) {
    let mut events = 0;
    let mut group = Vec::new();
    let mut answers = Vec::new();
    let mut next = Some(first);
    while let Some(pending) = next {
        events += pending.request.events.len();
        group.push(pending.request);
        answers.push((pending.answer, pending.room));
        next = if events < GROUP_MAX_EVENTS { requests.try_recv().ok() } else { None };
    }
    (group, answers)
}

/// Writes a group, again and again while the database is away. Trying again is safe after a COMMIT of
/// unknown outcome: what was stored is found under its ids, and known by its salts.
async fn write(store: &Store, claim: &str, group: Vec<Request>) -> Vec<Result<Receipt, WriteError>> {
    let deadline = Instant::now() + GIVE_UP_AFTER;
    loop {
        match timeout_at(deadline, store.append(claim, &group)).await {
            Ok(Ok(outcomes)) => return outcomes.into_iter().map(answer).collect(),
            Ok(Err(error)) if refuses_content(&error) => {
                tracing::error!(%error, requests = group.len(), "the database refuses a group; its requests are tried one by one");
                return write_one_by_one(store, claim, group).await;
            }
            Ok(Err(error @ AppendError::Database(_))) if Instant::now() + RETRY_PAUSE < deadline => {
                tracing::warn!(%error, "a group was not written; trying again");
                sleep(RETRY_PAUSE).await;
            }
            Ok(Err(error)) => {
                tracing::error!(%error, requests = group.len(), "a group was not written; its requests are answered 503");
                return vec![Err(WriteError::Unavailable); group.len()];
            }
            Err(_) => {
                tracing::error!(requests = group.len(), "the database hangs; requests are answered 503");
                return vec![Err(WriteError::Unavailable); group.len()];
            }
        }
    }
}

/// One request that Postgres cannot take must not fail those of others. Validation should have
/// caught it: this is the second line.
async fn write_one_by_one(store: &Store, claim: &str, group: Vec<Request>) -> Vec<Result<Receipt, WriteError>> {
    let mut answers = Vec::with_capacity(group.len());
    for request in group {
        answers.push(match store.append(claim, &[request]).await {
            Ok(mut outcomes) => outcomes.pop().map_or(Err(WriteError::Unavailable), answer),
            Err(error) if refuses_content(&error) => Err(WriteError::Refused),
            Err(_) => Err(WriteError::Unavailable),
        });
    }
    answers
}

fn answer(outcome: Outcome) -> Result<Receipt, WriteError> {
    match outcome {
        Outcome::Stored(receipt) => Ok(receipt),
        Outcome::Conflict(indices) => Err(WriteError::Conflict(indices)),
    }
}

/// Classes 22 (data exception) and 23 (integrity constraint violation) of SQLSTATE speak of the rows themselves.
fn refuses_content(error: &AppendError) -> bool {
    let AppendError::Database(sqlx::Error::Database(error)) = error else { return false };
    error.code().is_some_and(|code| code.starts_with("22") || code.starts_with("23"))
}
