//! Whether the log can be used: opened when the collector starts, tried again for as long as it
//! takes, and then a heartbeat every few seconds.

use crate::problem::{Problem, RETRY_AFTER_SECONDS};
use crate::store::Store;
use crate::store::connect::OpenError;
use crate::store::replica::Heartbeat;
use audittrail_crds::document::Document;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

/// How often a replica says that it is there. Three may be missed, see
/// [`audittrail_crds::report::REPLICA_SEEN_SECONDS`].
const HEARTBEAT_EVERY: Duration = Duration::from_secs(3);

/// How long a heartbeat may take: a connection whose packets get lost ends by no error.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long opening may take, all migrations included. Each of their statements has a bound of its own; this one is for
/// a connection whose packets get lost.
const OPEN_TIMEOUT: Duration = Duration::from_mins(5);

/// First and longest pause between tries to open the log.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// How long the reason for a missing connection is looked for.
pub const CAUSE_TIMEOUT: Duration = Duration::from_millis(500);

/// What is known about the log.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum State {
    /// It is being opened; with what went wrong last.
    Opening(String),
    /// It is open; with its identity. Whether the database answers at this moment is another question.
    Open(Uuid),
    /// It belongs to the trail of this claim.
    InUse(String),
    /// Its schema needs a newer collector.
    TooOld(String),
}

impl State {
    /// The identity of the log, or the problem of a request that needs it while it cannot be used. What the database said while it was
    /// opened is for the operator, not for every client.
    pub fn require_open(&self) -> Result<Uuid, Problem> {
        let detail = match self {
            Self::Open(log_id) => return Ok(*log_id),
            Self::Opening(_) => "the database is not ready".to_owned(),
            Self::InUse(_) | Self::TooOld(_) => self.to_string(),
        };
        Err(Problem::unavailable(RETRY_AFTER_SECONDS, detail))
    }

    fn of(error: OpenError) -> Self {
        match error {
            OpenError::InUse { claim } => Self::InUse(claim),
            OpenError::TooOld { .. } => Self::TooOld(error.to_string()),
            OpenError::Uri(_) | OpenError::Database(_) | OpenError::Migration(_) => Self::Opening(error.to_string()),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opening(message) | Self::TooOld(message) => f.write_str(message),
            Self::Open(_) => f.write_str("the log is open"),
            Self::InUse(claim) => {
                write!(f, "the database holds the trail of {claim}: give this trail a database of its own")
            }
        }
    }
}

/// Why the pool has no connection to give: it keeps the reason to itself, so the hosts are asked here.
pub async fn cause(store: &Store) -> String {
    match store.trouble(CAUSE_TIMEOUT).await {
        None => "all connections to the database are busy".to_owned(),
        Some(hosts) => format!("the database cannot be reached: {hosts}"),
    }
}

/// Opens the log and keeps saying that this replica is there. Never ends.
pub async fn keep(
    store: Store,
    replica: Arc<str>,
    documents: watch::Receiver<Arc<Document>>,
    state: watch::Sender<State>,
) {
    open(&store, &documents, &state).await;
    beat(&store, &replica, documents).await;
}

/// Tries until it succeeds: somebody may start the database, empty it or free it.
async fn open(store: &Store, documents: &watch::Receiver<Arc<Document>>, state: &watch::Sender<State>) {
    let claim = documents.borrow().trail.claim.clone();
    let (mut pause, pause_max) = PAUSES;
    loop {
        let known_log = documents.borrow().known_log;
        let opening = async {
            let log_id = store.open(&claim).await?;
            store.check_epoch(known_log).await?;
            Ok(log_id)
        };
        let opened = timeout(OPEN_TIMEOUT, opening).await;
        let next = match opened.unwrap_or(Err(OpenError::Database(sqlx::Error::PoolTimedOut))) {
            Ok(log_id) => {
                tracing::info!(%log_id, "the log is open");
                state.send_replace(State::Open(log_id));
                return;
            }
            Err(OpenError::Database(sqlx::Error::PoolTimedOut | sqlx::Error::Io(_))) => {
                store.suspect();
                State::Opening(cause(store).await)
            }
            Err(error) => State::of(error),
        };
        if *state.borrow() != next {
            tracing::warn!(reason = next.to_string(), "the log cannot be opened; trying again");
            state.send_replace(next);
        }
        sleep(pause).await;
        pause = (2 * pause).min(pause_max);
    }
}

/// A heartbeat every few seconds, and at once when a document comes into force.
async fn beat(store: &Store, replica: &str, mut documents: watch::Receiver<Arc<Document>>) {
    loop {
        let (generation, known_log) = {
            let document = documents.borrow_and_update();
            (document.generation, document.known_log)
        };
        let beating = async {
            heartbeat(store, replica, generation).await?;
            store.check_epoch(known_log).await
        };
        let failure = match timeout(HEARTBEAT_TIMEOUT, beating).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the database does not answer".to_owned()),
        };
        if let Some(failure) = failure {
            tracing::warn!(failure, "no heartbeat was written");
            // Where no connection is left to fail, this is what notices that the primary has moved.
            store.suspect();
        }
        // Either reason to go on is fine, and so is a source of documents that ended.
        let _ = timeout(HEARTBEAT_EVERY, documents.changed()).await;
    }
}

/// Raises the generation first: no replica may report one that does not yet fence the cursors.
pub async fn heartbeat(store: &Store, replica: &str, generation: i64) -> Result<Heartbeat, sqlx::Error> {
    store.apply_generation(generation).await?;
    store.heartbeat(replica, generation).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_that_is_not_open_is_a_503_that_says_why() {
        let detail = |state: State| state.require_open().expect_err("refused").detail().to_owned();
        assert_eq!(State::Open(Uuid::max()).require_open(), Ok(Uuid::max()));
        assert_eq!(detail(State::Opening("refused".to_owned())), "the database is not ready");
        assert!(detail(State::InUse("team-b/other".to_owned())).contains("team-b/other"));
    }
}
