//! One forwarding on one replica: take the lease, read after the cursor, encode, send, decide, move the
//! cursor.

use super::encode::{self, Item};
use super::lease::{Claim, Lease, Stop};
use super::schedule;
use super::send::{Fault, Sender};
use super::verdict::Verdict;
use crate::event::StoredEvent;
use crate::store::Store;
use crate::store::forwarding::Delivered;
use audittrail_crds::document::Forwarding;
use audittrail_crds::report::State;
use jiff::Timestamp;
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Events of one read: a body full of usual ones, and at most some 64 MiB of the largest.
const READ_MAX_EVENTS: usize = 500;

/// How often a forwarding which has caught up looks for new events.
const IDLE_POLL: Duration = Duration::from_millis(200);

/// How often a replica that does not hold the lease tries to take it.
const TAKE_PAUSE: Duration = Duration::from_millis(500);

/// How often a forwarding that cannot be set up yet is tried: mostly, another part of this replica is
/// about to raise the generation.
const SETUP_PAUSE: Duration = Duration::from_millis(200);

/// Pause after an error of the database.
const DATABASE_PAUSE: Duration = Duration::from_secs(1);

/// How often a source that there is nothing to send to is probed.
const PROBE_EVERY: Duration = Duration::from_mins(1);

/// Forwards until it is aborted. Whatever happens, it goes on; it ends with the entry that it was
/// started for.
pub async fn forward(claim: Claim, entry: &Forwarding) -> Infallible {
    let sender = Sender::new(entry);
    let mut outage = Outage::new(&claim.forwarding);
    prepare(&claim, entry, &mut outage).await;
    loop {
        match hold(&claim, &sender).await {
            Ok(()) | Err(Stop::Lost) => {
                outage.is_over();
                sleep(TAKE_PAUSE).await;
            }
            Err(Stop::Database(error)) => outage.wait(&error).await,
        }
    }
}

/// Turns the forwarding off, however long the database takes to hear of it.
pub async fn disable(claim: Claim, entry: &Forwarding) -> Infallible {
    let mut outage = Outage::new(&claim.forwarding);
    prepare(&claim, entry, &mut outage).await;
    while !outage.settled(claim.store.disable_forwarding(claim.asker()).await).await {}
    std::future::pending().await
}

/// Makes the cursor where there is none, also of a forwarding that is off: `startFrom: Now` means the moment of its
/// creation.
async fn prepare(claim: &Claim, entry: &Forwarding, outage: &mut Outage<'_>) {
    while !outage.settled(claim.store.prepare_forwarding(entry, claim.asker().generation).await).await {}
}

/// Waits for the database, and logs once that it does.
struct Outage<'a> {
    forwarding: &'a str,
    logged: bool,
}

impl<'a> Outage<'a> {
    fn new(forwarding: &'a str) -> Self {
        Self { forwarding, logged: false }
    }

    fn is_over(&mut self) {
        self.logged = false;
    }

    async fn wait(&mut self, error: &sqlx::Error) {
        if !self.logged {
            tracing::warn!(forwarding = self.forwarding, %error, "forwarding waits for the database");
        }
        self.logged = true;
        sleep(DATABASE_PAUSE).await;
    }

    /// Whether something was done. If not, waits until it is worth another try.
    async fn settled(&mut self, outcome: Result<bool, sqlx::Error>) -> bool {
        match outcome {
            Ok(done) => {
                self.is_over();
                if !done {
                    sleep(SETUP_PAUSE).await;
                }
                done
            }
            Err(error) => {
                self.wait(&error).await;
                false
            }
        }
    }
}

/// Takes the lease where it is free, and delivers for as long as it lasts.
async fn hold(claim: &Claim, sender: &Sender) -> Result<(), Stop> {
    let Some(lease) = claim.take().await? else { return Ok(()) };
    let mut delivery = Delivery {
        store: &claim.store,
        sender,
        name: &claim.forwarding,
        lease,
        written: None,
        failed_probes: 0,
        probe_at: Instant::now(),
    };
    loop {
        delivery.step().await?;
    }
}

/// Delivery under one lease.
struct Delivery<'a> {
    store: &'a Store,
    sender: &'a Sender,
    name: &'a str,
    lease: Lease,
    /// State and error as last written.
    written: Option<(State, Option<String>)>,
    failed_probes: u32,
    /// When to probe, if there is nothing to send until then.
    probe_at: Instant,
}

impl Delivery<'_> {
    /// One read of the log, and all that it takes to deliver it.
    async fn step(&mut self) -> Result<(), Stop> {
        let events = self.next_events().await?;
        let log_id = self.lease.cursor().log_id;
        let items: Vec<Item> = events.iter().map(|event| encode::item(log_id, event)).collect();
        let mut rest = items.as_slice();
        while !rest.is_empty() {
            let (batch, after) = rest.split_at(encode::fitting(rest));
            self.deliver(batch).await?;
            rest = after;
        }
        Ok(())
    }

    /// Waits for events after the cursor.
    async fn next_events(&mut self) -> Result<Vec<StoredEvent>, Stop> {
        loop {
            let next_sequence = self.lease.cursor().next_sequence;
            let head = self.lease.keep(self.store.head()).await??;
            if head.next_sequence > next_sequence {
                let events = self.lease.keep(self.store.events_from(next_sequence, READ_MAX_EVENTS)).await??;
                if !events.is_empty() {
                    return Ok(events);
                }
            }
            if Instant::now() >= self.probe_at {
                self.probe().await?;
            }
            self.lease.keep(sleep(IDLE_POLL)).await?;
        }
    }

    /// Asks the source whether it is there, since there is nothing to send that would show it.
    async fn probe(&mut self) -> Result<(), Stop> {
        match self.lease.keep(self.sender.probe(Timestamp::now())).await? {
            Ok(()) => {
                self.failed_probes = 0;
                self.probe_at = Instant::now() + PROBE_EVERY;
                self.record(State::Accepting, None).await
            }
            Err(fault) => {
                self.probe_at = Instant::now() + schedule::wait(fault.verdict, self.failed_probes, rand::random());
                self.failed_probes = self.failed_probes.saturating_add(1);
                self.record(fault.state(), Some(fault.error)).await
            }
        }
    }

    /// Sends a batch until the source accepts it, and moves the cursor past it.
    async fn deliver(&mut self, batch: &[Item]) -> Result<(), Stop> {
        let mut attempt = 0;
        while let Err(fault) = self.lease.keep(self.sender.batch(batch, Timestamp::now())).await? {
            self.wait_out(fault, &mut attempt).await?;
        }
        let Some(newest) = batch.last() else { return Ok(()) };
        let events = i64::try_from(batch.len()).unwrap_or(i64::MAX);
        self.lease.advance(Delivered { last_sequence: newest.sequence, epoch: newest.epoch, events }).await?;
        self.turn(State::Accepting, None);
        self.failed_probes = 0;
        self.probe_at = Instant::now() + PROBE_EVERY;
        Ok(())
    }

    /// Waits until there is reason to send again: after a refusal of key or endpoint, a probe has to
    /// pass first, so that no event is shown to a place which may be the wrong one.
    async fn wait_out(&mut self, mut fault: Fault, attempt: &mut u32) -> Result<(), Stop> {
        loop {
            let wait = schedule::wait(fault.verdict, *attempt, rand::random());
            *attempt = attempt.saturating_add(1);
            let needs_probe = matches!(fault.verdict, Verdict::KeyRefused | Verdict::EndpointRefused);
            self.record(fault.state(), Some(fault.error)).await?;
            self.lease.keep(sleep(wait)).await?;
            if !needs_probe {
                return Ok(());
            }
            match self.lease.keep(self.sender.probe(Timestamp::now())).await? {
                Ok(()) => return Ok(()),
                Err(next) => fault = next,
            }
        }
    }

    /// Writes how delivery stands, if that is news. A success always is: it has a time.
    async fn record(&mut self, state: State, error: Option<String>) -> Result<(), Stop> {
        let news = (state, error);
        if state == State::Accepting || self.written.as_ref() != Some(&news) {
            self.lease.record(state, news.1.as_deref()).await?;
            self.turn(news.0, news.1);
        }
        Ok(())
    }

    /// Remembers what was written, and logs a turn.
    fn turn(&mut self, state: State, error: Option<String>) {
        let turned = self.written.as_ref().is_none_or(|(written, _)| *written != state);
        match (&error, turned) {
            (None, true) => tracing::info!(forwarding = self.name, "the source accepts"),
            (Some(error), true) => tracing::warn!(forwarding = self.name, ?state, error, "the source does not accept"),
            (_, false) => {}
        }
        self.written = Some((state, error));
    }
}
