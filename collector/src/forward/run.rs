//! One forwarding on one replica: make the cursor, take the lease, read and deliver for as long as it lasts.

use super::delivery::{Delivery, Route};
use super::encode::Bounds;
use super::intake::{BATCHES_WAITING, Intake};
use super::lease::{Claim, Lease, Stop};
use super::pace::Pace;
use super::send::Sender;
use super::{Plan, Shared};
use crate::store::forwarding::Fact;
use crate::tail::feed::{Encoding, Log};
use audittrail_crds::document::Forwarding;
use audittrail_crds::report::State;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

/// How often a replica that does not hold the lease tries to take it.
const TAKE_PAUSE: Duration = Duration::from_millis(500);

/// How often a forwarding that cannot be set up yet is tried: mostly, another part of this replica is
/// about to raise the generation.
const SETUP_PAUSE: Duration = Duration::from_millis(200);

/// Pause after an error of the database.
const DATABASE_PAUSE: Duration = Duration::from_secs(1);

/// Forwards until it is aborted. Whatever happens, it goes on; it ends with the entry that it was
/// started for.
pub async fn forward(claim: Claim, plan: &Plan, shared: &Shared) -> Infallible {
    let sender = plan.sender();
    let mut outage = Outage::new(&claim.forwarding);
    prepare(&claim, &plan.entry, &mut outage).await;
    loop {
        let Err(stop) = hold(&claim, plan, shared, &sender).await;
        match stop {
            Stop::Lost => {
                outage.is_over();
                sleep(TAKE_PAUSE).await;
            }
            Stop::Database(error) => outage.wait(&error).await,
        }
    }
}

/// Turns the forwarding off, however long the database takes to hear of it.
pub async fn disable(claim: Claim, entry: &Forwarding) -> Infallible {
    let mut outage = Outage::new(&claim.forwarding);
    prepare(&claim, entry, &mut outage).await;
    let store = &claim.store;
    while !outage.settled(store.unless_lost(store.disable_forwarding(claim.asker())).await).await {}
    std::future::pending().await
}

/// Makes the cursor where there is none, also of a forwarding that is off: `startFrom: Now` means the moment of its
/// creation.
async fn prepare(claim: &Claim, entry: &Forwarding, outage: &mut Outage<'_>) {
    let store = &claim.store;
    let prepared = || store.unless_lost(store.prepare_forwarding(entry, claim.asker().generation));
    while !outage.settled(prepared().await).await {}
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
async fn hold(claim: &Claim, plan: &Plan, shared: &Shared, sender: &Sender) -> Result<Infallible, Stop> {
    let Some(lease) = claim.take().await? else { return Err(Stop::Lost) };
    fail::fail_point!("forward::leased");
    let selection = match plan.selection() {
        Ok(selection) => Arc::new(selection),
        Err(error) => return wait_for_a_filter(lease, &error).await,
    };
    let entry = &plan.entry;
    let log_id = lease.cursor().log_id;
    let encoding = Encoding { log_id, workspace: plan.workspace.as_str().into(), format: entry.format };
    let pace = Pace::new(entry.delivery.max_events_per_second, Instant::now());
    let bounds = Bounds::of(&entry.delivery);
    let bounds = Bounds { items: bounds.items.min(pace.batch_max()), ..bounds };
    let route = Route { store: &claim.store, name: &entry.name, encoding: &encoding, sender };
    let mut delivery = Delivery::new(route, lease, pace, bounds);
    loop {
        let (sender, mut batches) = mpsc::channel(BATCHES_WAITING);
        let standing = delivery.lease().standing();
        let intake = Intake {
            store: claim.store.clone(),
            listener: shared.feed.listen(),
            far_reads: Arc::clone(&shared.far_reads),
            selection: Arc::clone(&selection),
            encoding: encoding.clone(),
            bounds,
            log: Log { id: log_id, epoch: standing.log_epoch },
        };
        let cursor = standing.cursor;
        tokio::select! {
            stop = intake.run(cursor.next_sequence, cursor.epoch, sender) => return Err(stop),
            done = delivery.run(&mut batches) => done?,
        }
    }
}

/// Says that the filter cannot be used. Another entry or another catalogue starts another task.
async fn wait_for_a_filter(mut lease: Lease, error: &str) -> Result<Infallible, Stop> {
    lease.record(Fact { state: State::FilterInvalid, error: Some(error), code: None }).await?;
    lease.keep(std::future::pending()).await
}
