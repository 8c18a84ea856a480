//! Gathers requests into groups: while one group commits, the next gathers, so that concurrent
//! requests share a COMMIT.

use super::Store;
use super::append::AppendError;
use super::plan::{Outcome, Receipt, Request};
use crate::event::leaf::{Salts, Sealed};
use crate::event::{Event, SubmittedBy};
use crate::ingest::room::Held;
use crate::metrics;
use crate::telemetry::{self, Commit, Committed, SpanContext};
use sqlx::Postgres;
use sqlx::pool::PoolConnection;
use std::time::Duration;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use uuid::Uuid;

/// Events of one group. More would make the first request of a group wait for the last.
const GROUP_MAX_EVENTS: usize = 10_000;

/// Requests that wait for their group.
const QUEUE_MAX_REQUESTS: usize = 1_024;

/// How long a group is tried before its requests are answered 503. A restart of Postgres, or a
/// failover, fits in.
const GIVE_UP_AFTER: Duration = Duration::from_secs(15);

/// How long a small group waits for requests that are expected. Timers are exact to a millisecond.
const LINGER: Duration = Duration::from_millis(1);

/// Groups with as many events are not small: while one is written, the next is better read and checked.
const LINGER_MAX_EVENTS: usize = 256;

/// How long the connection is held with nothing to write. Others need connections too.
const HELD_IDLE_MAX: Duration = Duration::from_secs(1);

/// Pause between tries of a group.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// Handle to the writer. It ends, after what is queued was written, when the last handle is dropped.
#[derive(Clone, Debug)]
pub struct Writer {
    queue: mpsc::Sender<Pending>,
}

/// An event from another trail.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// The event.
    pub event: Event,
    /// Logs of the trails that it passed, oldest first.
    pub passed: Vec<Uuid>,
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
    room: Held,
    /// The span of the request, where it is traced.
    traced: Option<SpanContext>,
}

impl Writer {
    /// Starts the writer of the log which `claim` has claimed.
    pub fn start(store: Store, claim: String) -> Self {
        let (queue, requests) = mpsc::channel(QUEUE_MAX_REQUESTS);
        tokio::spawn(run(store, claim, requests));
        Self { queue }
    }

    /// Appends `events`, which begin here, as a whole and returns once they are durable. The `room` of the request they
    /// came in is held until then.
    pub async fn append(
        &self,
        events: Vec<Event>,
        submitted_by: SubmittedBy,
        room: Held,
    ) -> Result<Receipt, WriteError> {
        let events = events.into_iter().map(|event| Sealed::new(event, random_salts())).collect();
        self.append_sealed(events, submitted_by, room).await
    }

    /// [`Writer::append`] of events that may have passed other trails.
    pub async fn append_arrived(
        &self,
        events: Vec<Arrived>,
        submitted_by: SubmittedBy,
        room: Held,
    ) -> Result<Receipt, WriteError> {
        let seal = |Arrived { event, passed }| Sealed { passed, ..Sealed::new(event, random_salts()) };
        self.append_sealed(events.into_iter().map(seal).collect(), submitted_by, room).await
    }

    async fn append_sealed(
        &self,
        events: Vec<Sealed>,
        submitted_by: SubmittedBy,
        room: Held,
    ) -> Result<Receipt, WriteError> {
        let (answer, outcome) = oneshot::channel();
        let request = Request { events, submitted_by };
        let pending = Pending { request, answer, room, traced: telemetry::current() };
        self.queue.try_send(pending).map_err(|error| match error {
            TrySendError::Full(_) => WriteError::Overloaded,
            TrySendError::Closed(_) => WriteError::Unavailable,
        })?;
        outcome.await.unwrap_or(Err(WriteError::Unavailable))
    }

    /// Requests that wait for their group.
    pub fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
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
    let mut log = Log { store, claim, held: None };
    let mut expected = 1;
    while let Some(first) = log.next(&mut requests).await {
        let group = Group::gather(first, &mut requests, expected).await;
        let Group { requests: group, answers, traced, events } = group;
        let commit = Commit::begin(group.len(), events, traced);
        let outcomes = log.write(group).await;
        commit.end(committed(&outcomes));
        expected = answers.len() + requests.len();
        for (answer, outcome) in answers.into_iter().zip(outcomes) {
            // A client that went away does not read its answer.
            let _ = answer.0.send(outcome);
        }
    }
}

type Answer = (oneshot::Sender<Result<Receipt, WriteError>>, Held);

/// Every request of a group that was given up is answered alike.
fn committed(outcomes: &[Result<Receipt, WriteError>]) -> Committed {
    let stored = |outcome: &Result<_, _>| matches!(outcome, Ok(_) | Err(WriteError::Conflict(_)));
    if outcomes.iter().any(stored) { Committed::Yes } else { Committed::No }
}

/// Requests that share a COMMIT.
#[derive(Default)]
struct Group {
    requests: Vec<Request>,
    answers: Vec<Answer>,
    traced: Vec<SpanContext>,
    events: usize,
}

impl Group {
    /// Takes what waits, up to the bound of a group. Who waits for each answer before the next request comes again in the
    /// very moment of being answered: a small group waits briefly for as many requests as are `expected`, since one large
    /// group costs less than two small ones.
    async fn gather(first: Pending, waiting: &mut mpsc::Receiver<Pending>, expected: usize) -> Self {
        let mut group = Self::default();
        group.add(first);
        let until = Instant::now() + LINGER;
        while group.events < GROUP_MAX_EVENTS {
            let next = match waiting.try_recv() {
                Ok(next) => Some(next),
                Err(_) if group.requests.len() < expected && group.events < LINGER_MAX_EVENTS => {
                    timeout_at(until, waiting.recv()).await.ok().flatten()
                }
                Err(_) => None,
            };
            let Some(next) = next else { break };
            group.add(next);
        }
        group
    }

    fn add(&mut self, pending: Pending) {
        self.events += pending.request.events.len();
        self.requests.push(pending.request);
        self.answers.push((pending.answer, pending.room));
        self.traced.extend(pending.traced);
    }
}

/// The log, and the connection to it. That is held while group follows group: taking it from the pool and giving it back
/// are two questions to the server.
struct Log {
    store: Store,
    claim: String,
    held: Option<Connection>,
}

struct Connection {
    connection: PoolConnection<Postgres>,
    since: Instant,
}

impl Log {
    /// The next request. A connection is not held while none comes for a while.
    async fn next(&mut self, requests: &mut mpsc::Receiver<Pending>) -> Option<Pending> {
        if self.held.is_some() {
            if let Ok(next) = timeout(HELD_IDLE_MAX, requests.recv()).await {
                return next;
            }
            self.held = None;
        }
        requests.recv().await
    }

    /// Appends a group. The connection is held again only after it has served, so that nothing is left on it.
    async fn append(&mut self, group: &[Request]) -> Result<Vec<Outcome>, AppendError> {
        let held = self.held.take().filter(|held| self.store.trusts(held.since.into_std()));
        let store = &self.store;
        let done = store.unless_lost(async {
            let mut held = if let Some(held) = held {
                held
            } else {
                let mut connection = store.pool.acquire().await?;
                store.check_written(&mut connection).await?;
                Connection { connection, since: Instant::now() }
            };
            let outcomes = store.append_on(&mut held.connection, &self.claim, group).await?;
            Ok::<_, AppendError>((outcomes, held))
        });
        let (outcomes, held) = done.await?;
        self.held = Some(held);
        Ok(outcomes)
    }

    /// Writes a group, again and again while the database is away. Trying again is safe after a COMMIT of
    /// unknown outcome: what was stored is found under its ids, and known by its salts.
    async fn write(&mut self, group: Vec<Request>) -> Vec<Result<Receipt, WriteError>> {
        let deadline = Instant::now() + GIVE_UP_AFTER;
        loop {
            match timeout_at(deadline, self.append(&group)).await {
                Ok(Ok(outcomes)) => return outcomes.into_iter().map(answer).collect(),
                Ok(Err(error)) if refuses_content(&error) => {
                    tracing::error!(%error, requests = group.len(), "the database refuses a group; its requests are tried one by one");
                    return self.write_one_by_one(group).await;
                }
                Ok(Err(error @ AppendError::Database(_))) if Instant::now() + RETRY_PAUSE < deadline => {
                    tracing::warn!(%error, "a group was not written; trying again");
                    metrics::group_retried();
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
    async fn write_one_by_one(&mut self, group: Vec<Request>) -> Vec<Result<Receipt, WriteError>> {
        let mut answers = Vec::with_capacity(group.len());
        for request in group {
            answers.push(match self.append(&[request]).await {
                Ok(mut outcomes) => outcomes.pop().map_or(Err(WriteError::Unavailable), answer),
                Err(error) if refuses_content(&error) => Err(WriteError::Refused),
                Err(_) => Err(WriteError::Unavailable),
            });
        }
        answers
    }
}

fn answer(outcome: Outcome) -> Result<Receipt, WriteError> {
    match outcome {
        Outcome::Stored(receipt) => Ok(receipt),
        Outcome::Conflict(indices) => Err(WriteError::Conflict(indices)),
    }
}

/// Whether the rows themselves are at fault. Anything else may go away by itself.
fn refuses_content(error: &AppendError) -> bool {
    let AppendError::Database(sqlx::Error::Database(error)) = error else { return false };
    error.code().is_some_and(|code| is_about_rows(&code))
}

/// Classes of SQLSTATE (PostgreSQL documentation, appendix A): data exception, integrity constraint violation, and program
/// limit exceeded, such as an index entry that is too large.
fn is_about_rows(code: &str) -> bool {
    ["22", "23", "54"].iter().any(|class| code.starts_with(class))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_about_the_rows_themselves_is_not_tried_again() {
        for code in ["22021", "22P05", "23502", "54000"] {
            assert!(is_about_rows(code), "{code}");
        }
        // Disk full, too many connections, shut-down, crash, starting up, time-out, connection lost, deadlock, read-only, no rights yet.
        for code in ["53100", "53300", "57P01", "57P02", "57P03", "57014", "08006", "40P01", "25006", "42501"] {
            assert!(!is_about_rows(code), "{code}");
        }
    }
}
