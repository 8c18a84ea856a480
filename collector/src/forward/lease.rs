//! The lease on a forwarding, as its holder has it.

use crate::store::Store;
use crate::store::forwarding::{Asker, Cursor, Delivered, LEASE};
use audittrail_crds::report::State;
use std::future::Future;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use uuid::Uuid;

/// Age at which a lease is renewed. A replica that is cut off from Kubernetes finds out by renewing that there is a
/// newer configuration, so this is also how long it can go on with an old toggle or key: less than the two seconds
/// that are promised.
const RENEW_AFTER: Duration = Duration::from_millis(1_500);

/// Pause before another try to renew, when the database did not answer.
const RENEW_PAUSE: Duration = Duration::from_millis(250);

/// Whose forwarding it is, and who wants to hold it.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The database.
    pub store: Store,
    /// Name of the forwarding.
    pub forwarding: String,
    /// Generation of its entry.
    pub entry_generation: i64,
    /// This replica.
    pub replica: Uuid,
    /// Generation of the newest document that has this very entry.
    pub generation: watch::Receiver<i64>,
}

/// Why delivery stopped.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// Another replica holds the lease, or there is a newer configuration.
    #[error("another replica goes on with this forwarding, or there is a newer configuration")]
    Lost,
    /// The database does not answer.
    #[error("the database does not answer: {0}")]
    Database(#[from] sqlx::Error),
}

/// The lease. It is given up by not renewing it; see [`Store::release_lease`] for doing it at once.
#[derive(Debug)]
pub struct Lease {
    claim: Claim,
    cursor: Cursor,
    /// Counted from before the database was asked, so never later than the database has it.
    taken: Instant,
}

impl Claim {
    /// Takes the lease. None while another replica holds it, or when this document is not the newest.
    pub async fn take(&self) -> Result<Option<Lease>, sqlx::Error> {
        let taken = Instant::now();
        let cursor = self.store.take_lease(self.asker()).await?;
        Ok(cursor.map(|cursor| Lease { claim: self.clone(), cursor, taken }))
    }

    /// Who asks, by the newest document.
    pub fn asker(&self) -> Asker<'_> {
        Asker {
            forwarding: &self.forwarding,
            entry_generation: self.entry_generation,
            replica: self.replica,
            generation: *self.generation.borrow(),
        }
    }
}

impl Lease {
    /// Where delivery stands.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// Does `work` while renewing the lease. When the lease is lost, work ends where it is; it does not
    /// even begin when the lease ended meanwhile, as it does in a process that was paused.
    pub async fn keep<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Stop> {
        tokio::select! {
            biased;
            () = self.renew_until_lost() => Err(Stop::Lost),
            done = work => Ok(done),
        }
    }

    /// Moves the cursor past what the source accepted.
    pub async fn advance(&mut self, delivered: Delivered) -> Result<(), Stop> {
        let taken = Instant::now();
        let moved = self.claim.store.move_cursor(self.claim.asker(), self.cursor, delivered).await?;
        self.cursor = moved.ok_or(Stop::Lost)?;
        self.taken = taken;
        Ok(())
    }

    /// Writes how delivery stands.
    pub async fn record(&self, state: State, error: Option<&str>) -> Result<(), Stop> {
        let written = self.claim.store.record_state(self.claim.asker(), state, error).await?;
        if written { Ok(()) } else { Err(Stop::Lost) }
    }

    async fn renew_until_lost(&mut self) {
        loop {
            let end = self.taken + LEASE;
            if Instant::now() >= end {
                return;
            }
            sleep_until(self.taken + RENEW_AFTER).await;
            let taken = Instant::now();
            match timeout_at(end, self.claim.store.take_lease(self.claim.asker())).await {
                Ok(Ok(Some(_))) => self.taken = taken,
                Ok(Ok(None)) | Err(_) => return,
                // Perhaps it answers before the lease ends.
                Ok(Err(_)) => sleep(RENEW_PAUSE).await,
            }
        }
    }
}
