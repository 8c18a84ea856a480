//! Forwards the trail to HTTP API sources: one task for each forwarding of the document.
//!
//! | module | what |
//! |---|---|
//! | [`run`] | one forwarding: cursor, lease, reading and delivery |
//! | [`lease`] | who may send: one replica at a time |
//! | [`intake`] | what comes next, ready to be sent |
//! | [`batch`] | how much is sent at once (pure) |
//! | [`delivery`] | send, decide, move the cursor |
//! | [`bisect`] | which event of a batch the source refuses (pure) |
//! | [`replay`] | parked events again |
//! | [`pace`] | how fast (pure) |
//! | [`encode`] | an event in the shape of the source's API (pure) |
//! | [`send`] | the HTTP client |
//! | [`verdict`] | what an answer means (pure) |
//! | [`schedule`] | when to try again (pure) |
//! | [`selection`] | which events are sent (pure) |

pub mod batch;
pub mod bisect;
pub mod delivery;
pub mod encode;
pub mod intake;
pub mod lease;
pub mod pace;
mod replay;
pub mod run;
pub mod schedule;
pub mod selection;
pub mod send;
pub mod verdict;

use crate::store::Store;
use crate::tail::feed::Feed;
use audittrail_crds::address;
use audittrail_crds::catalogue::Catalogue;
use audittrail_crds::document::{self, Document, Forwarding};
use audittrail_crds::filter::EventFilter;
use futures::FutureExt;
use futures::future::join_all;
use intake::FAR_READS_MAX;
use lease::Claim;
use selection::Selection;
use send::Sender;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Pause before a task that panicked is started again.
const PANIC_PAUSE: Duration = Duration::from_secs(1);

/// How long giving back a lease may take; without it, the lease ends by itself.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs the forwardings of the newest document until `shutdown`, then gives their leases back. `feed` is that of the
/// replica; [`Feed::run`] must run.
///
/// A forwarding whose entry changes is aborted, request in flight included, and started anew
/// with the new entry; the others go on.
pub async fn run(
    store: Store,
    feed: Feed,
    mut documents: watch::Receiver<Arc<Document>>,
    replica: Uuid,
    shutdown: CancellationToken,
) {
    let shared = Shared { feed, far_reads: Arc::new(Semaphore::new(FAR_READS_MAX)) };
    let mut tasks = Tasks { store, replica, shared, by_name: BTreeMap::new() };
    loop {
        let document = Arc::clone(&documents.borrow_and_update());
        tasks.apply(&document).await;
        tokio::select! {
            changed = documents.changed() => if changed.is_err() {
                // No more documents will come; the last one stays in force.
                shutdown.cancelled().await;
                break;
            },
            () = shutdown.cancelled() => break,
        }
    }
    let names: Vec<String> = tasks.by_name.keys().cloned().collect();
    tasks.abort(&names).await;
    release(&tasks.store, &names, replica).await;
}

/// What a replica's forwardings share. Clones are cheap.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The newest events.
    pub feed: Feed,
    /// Turns of reads further back: [`FAR_READS_MAX`].
    pub far_reads: Arc<Semaphore>,
}

/// All of the document that a forwarding depends on: with any change of it, its task is another.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Its entry.
    pub entry: Forwarding,
    /// The workspace.
    pub workspace: String,
    /// Networks of sources that may be connected to in any case.
    allowed: Vec<String>,
    /// What the types and areas of its filter mean; none where it has no filter.
    catalogue: Option<document::Catalogue>,
}

struct Tasks {
    store: Store,
    replica: Uuid,
    shared: Shared,
    by_name: BTreeMap<String, Task>,
}

struct Task {
    plan: Plan,
    generation: watch::Sender<i64>,
    running: JoinHandle<()>,
}

impl Tasks {
    /// Brings the tasks in line with a document.
    async fn apply(&mut self, document: &Document) {
        let wanted = |name: &String| document.forwardings.iter().any(|entry| entry.name == *name);
        let gone: Vec<String> = self.by_name.keys().filter(|name| !wanted(name)).cloned().collect();
        self.abort(&gone).await;
        for entry in &document.forwardings {
            let plan = Plan::of(document, entry);
            match self.by_name.get(&entry.name) {
                // Its fence moves on with the document, and nothing else does.
                Some(task) if task.plan == plan => drop(task.generation.send_replace(document.generation)),
                _ => self.start(plan, document.generation).await,
            }
        }
        // However long the database takes: what else changed, now or next, does not wait for it.
        let (store, replica) = (self.store.clone(), self.replica);
        tokio::spawn(async move { release(&store, &gone, replica).await });
    }

    async fn start(&mut self, plan: Plan, document_generation: i64) {
        let entry = &plan.entry;
        if let Some(task) = self.by_name.remove(&entry.name) {
            task.abort().await;
        }
        let (generation, receiver) = watch::channel(document_generation);
        let claim = Claim {
            store: self.store.clone(),
            forwarding: entry.name.clone(),
            entry_generation: entry.generation,
            configuration_hash: entry.configuration_hash(),
            replica: self.replica,
            generation: receiver,
        };
        let running = tokio::spawn(supervise(claim, plan.clone(), self.shared.clone()));
        self.by_name.insert(plan.entry.name.clone(), Task { plan, generation, running });
    }

    async fn abort(&mut self, names: &[String]) {
        let aborted = names.iter().filter_map(|name| self.by_name.remove(name));
        join_all(aborted.map(Task::abort)).await;
    }
}

/// Gives the leases of tasks that have ended back, so that another replica goes on at once.
async fn release(store: &Store, names: &[String], replica: Uuid) {
    join_all(names.iter().map(async |name| {
        fail::fail_point!("forward::before-release");
        match timeout(RELEASE_TIMEOUT, store.release_lease(name, replica)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(forwarding = name, %error, "a lease could not be given back"),
            Err(_) => tracing::warn!(forwarding = name, "a lease could not be given back in time"),
        }
    }))
    .await;
}

impl Plan {
    /// What `document` says about the forwarding of this entry.
    fn of(document: &Document, entry: &Forwarding) -> Self {
        let has_filter = entry.filter != EventFilter::default();
        Self {
            entry: entry.clone(),
            workspace: document.trail.workspace.clone(),
            allowed: document.allowed_source_networks.clone(),
            catalogue: has_filter.then(|| document.catalogue.clone()),
        }
    }

    /// Sends to its source.
    fn sender(&self) -> Sender {
        // A document with a bad network does not come into force; if one did, it would allow nothing.
        Sender::new(&self.entry, &address::networks(&self.allowed).unwrap_or_default())
    }

    /// Its filter; the rule that it breaks, if it does.
    fn selection(&self) -> Result<Selection, String> {
        let Some(catalogue) = &self.catalogue else { return Ok(Selection::default()) };
        // A document with a bad catalogue does not come into force.
        let catalogue = Catalogue::of(catalogue).map_err(|error| error.to_string())?;
        Selection::of(&self.entry.filter, &catalogue)
    }
}

impl Task {
    /// Ends the task where it is, and waits until it is gone: its successor must be alone.
    async fn abort(self) {
        self.running.abort();
        let _aborted = self.running.await;
    }
}

/// Runs one forwarding, again when it panics: that is a defect, but one which must not silently end
/// a forwarding.
async fn supervise(claim: Claim, plan: Plan, shared: Shared) {
    loop {
        let claim = claim.clone();
        let panic = if plan.entry.enabled {
            AssertUnwindSafe(run::forward(claim, &plan, &shared)).catch_unwind().await
        } else {
            AssertUnwindSafe(run::disable(claim, &plan.entry)).catch_unwind().await
        };
        let Err(_) = panic;
        tracing::error!(forwarding = plan.entry.name, "a forwarding's task panicked; it is started again");
        sleep(PANIC_PAUSE).await;
    }
}
