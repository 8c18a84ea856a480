//! The lease on a forwarding, as its holder has it.

use crate::store::Store;
use crate::store::forwarding::{Asker, Cursor, Delivered, Fact, LEASE, Passed, Standing};
use crate::store::parked::{PARKED_MAX, Place};
use crate::store::parking::{Parking, Refused};
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
    /// Tells its configuration from others.
    pub configuration_hash: String,
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
    standing: Standing,
    /// Counted from before the database was asked, so never later than the database has it.
    taken: Instant,
}

impl Claim {
    /// Takes the lease. None while another replica holds it, or when this document is not the newest.
    pub async fn take(&self) -> Result<Option<Lease>, sqlx::Error> {
        let taken = Instant::now();
        let standing = self.store.take_lease(self.asker()).await?;
        Ok(standing.map(|standing| Lease { claim: self.clone(), standing, taken }))
    }

    /// Who asks, by the newest document.
    pub fn asker(&self) -> Asker<'_> {
        Asker {
            forwarding: &self.forwarding,
            entry_generation: self.entry_generation,
            configuration_hash: &self.configuration_hash,
            replica: self.replica,
            generation: *self.generation.borrow(),
        }
    }
}

impl Lease {
    /// Where delivery stands.
    pub fn cursor(&self) -> Cursor {
        self.standing.cursor
    }

    /// What the database said last.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Nothing is left to be sent again, until the database says otherwise.
    pub fn replays_are_done(&mut self) {
        self.standing.replays = false;
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

    /// Moves the cursor past what the source accepted, of which `sent` may be parked.
    pub async fn advance(&mut self, passed: Passed, delivered: Delivered, sent: &[Place]) -> Result<(), Stop> {
        let taken = Instant::now();
        let Claim { store, .. } = &self.claim;
        let moved = store.move_cursor(self.claim.asker(), self.cursor(), passed, delivered, sent);
        let moved = self.in_time(moved).await?;
        self.shown(taken, moved)
    }

    /// Moves the cursor past what the filter left out.
    pub async fn pass_filtered(&mut self, passed: Passed) -> Result<(), Stop> {
        let taken = Instant::now();
        let Claim { store, .. } = &self.claim;
        let moved = self.in_time(store.pass_filtered(self.claim.asker(), self.cursor(), passed)).await?;
        self.shown(taken, moved)
    }

    /// Parks a refused event and moves the cursor past it, and past `filtered` events before it. False when no more can
    /// be parked.
    pub async fn park(&mut self, filtered: i64, refused: Refused<'_>) -> Result<bool, Stop> {
        let taken = Instant::now();
        let Claim { store, .. } = &self.claim;
        let parked = store.park(self.claim.asker(), self.cursor(), filtered, refused, PARKED_MAX);
        match self.in_time(parked).await? {
            Parking::Done(standing) => self.shown(taken, Some(standing)).map(|()| true),
            Parking::Full => Ok(false),
            Parking::Lost => Err(Stop::Lost),
        }
    }

    /// Takes the events back that were parked since the source last accepted any, and the cursor with them.
    pub async fn unpark(&mut self, refused: Refused<'_>) -> Result<(), Stop> {
        let taken = Instant::now();
        let Claim { store, .. } = &self.claim;
        let moved = self.in_time(store.unpark(self.claim.asker(), self.cursor(), refused)).await?;
        self.shown(taken, moved)
    }

    /// Forgets parked events which the source has accepted now.
    pub async fn finish_replay(&mut self, events: &[Place]) -> Result<(), Stop> {
        let taken = Instant::now();
        let Claim { store, .. } = &self.claim;
        let shown = self.in_time(store.finish_replay(self.claim.asker(), events)).await?;
        self.shown(taken, shown)
    }

    /// Keeps a parked event which the source has refused again.
    pub async fn refuse_replay(&mut self, refused: Refused<'_>) -> Result<(), Stop> {
        let taken = Instant::now();
        let Claim { store, .. } = &self.claim;
        let shown = self.in_time(store.refuse_replay(self.claim.asker(), refused)).await?;
        self.shown(taken, shown)
    }

    /// Writes how delivery stands.
    pub async fn record(&self, fact: Fact<'_>) -> Result<(), Stop> {
        let Claim { store, .. } = &self.claim;
        let written = self.in_time(store.record_state(self.claim.asker(), fact)).await?;
        if written { Ok(()) } else { Err(Stop::Lost) }
    }

    /// Waits for the database no longer than the lease lasts: a connection that is forgotten on the way does not say so.
    async fn in_time<T>(&self, work: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, Stop> {
        let done = timeout_at(self.taken + LEASE, Box::pin(self.claim.store.unless_lost(work))).await;
        done.map_err(|_| Stop::Lost)?.map_err(Stop::Database)
    }

    /// The lease was shown to the database at this moment, and lasts from then on.
    fn shown(&mut self, taken: Instant, standing: Option<Standing>) -> Result<(), Stop> {
        self.standing = standing.ok_or(Stop::Lost)?;
        self.taken = taken;
        Ok(())
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
                // Somebody else moved the cursor (retention does, or a restored log): delivery has to begin anew.
                Ok(Ok(Some(standing))) if !self.goes_on_with(&standing) => return,
                Ok(Ok(Some(standing))) => (self.standing, self.taken) = (standing, taken),
                Ok(Ok(None)) | Err(_) => return,
                // Perhaps it answers before the lease ends.
                Ok(Err(_)) => sleep(RENEW_PAUSE).await,
            }
        }
    }

    fn goes_on_with(&self, standing: &Standing) -> bool {
        (standing.cursor, standing.log_epoch) == (self.standing.cursor, self.standing.log_epoch)
    }
}
