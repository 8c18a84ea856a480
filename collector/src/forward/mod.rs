//! Forwards the trail to HTTP API sources: one task for each forwarding of the document.
//!
//! | module | what |
//! |---|---|
//! | [`run`] | the loop of one forwarding |
//! | [`lease`] | who may send: one replica at a time |
//! | [`encode`] | an event in the shape of the source's API (pure) |
//! | [`send`] | the HTTP client |
//! | [`verdict`] | what an answer means (pure) |
//! | [`schedule`] | when to try again (pure) |

pub mod encode;
pub mod lease;
pub mod run;
pub mod schedule;
pub mod send;
pub mod verdict;

use crate::store::Store;
use audittrail_crds::document::{Document, Forwarding};
use futures::FutureExt;
use futures::future::join_all;
use lease::Claim;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// Pause before a task that panicked is started again.
const PANIC_PAUSE: Duration = Duration::from_secs(1);

/// How long giving back a lease may take; without it, the lease ends by itself.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs the forwardings of the newest document until `shutdown`, then gives their leases back.
///
/// A forwarding whose entry changes is aborted, request in flight included, and started anew
/// with the new entry; the others go on.
pub async fn run(
    store: Store,
    mut documents: watch::Receiver<Arc<Document>>,
    replica: Uuid,
    shutdown: CancellationToken,
) {
    let mut tasks = Tasks { store, replica, by_name: BTreeMap::new() };
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
    tasks.end(names).await;
}

struct Tasks {
    store: Store,
    replica: Uuid,
    by_name: BTreeMap<String, Task>,
}

struct Task {
    entry: Forwarding,
    generation: watch::Sender<i64>,
    running: JoinHandle<()>,
}

impl Tasks {
    /// Brings the tasks in line with a document.
    async fn apply(&mut self, document: &Document) {
        let wanted = |name: &String| document.forwardings.iter().any(|entry| entry.name == *name);
        let gone: Vec<String> = self.by_name.keys().filter(|name| !wanted(name)).cloned().collect();
        self.end(gone).await;
        for entry in &document.forwardings {
            match self.by_name.get(&entry.name) {
                // Its fence moves on with the document, and nothing else does.
                Some(task) if task.entry == *entry => drop(task.generation.send_replace(document.generation)),
                _ => self.start(entry, document.generation).await,
            }
        }
    }

    async fn start(&mut self, entry: &Forwarding, document_generation: i64) {
        if let Some(task) = self.by_name.remove(&entry.name) {
            task.abort().await;
        }
        let (generation, receiver) = watch::channel(document_generation);
        let claim = Claim {
            store: self.store.clone(),
            forwarding: entry.name.clone(),
            entry_generation: entry.generation,
            replica: self.replica,
            generation: receiver,
        };
        let running = tokio::spawn(supervise(claim, entry.clone()));
        self.by_name.insert(entry.name.clone(), Task { entry: entry.clone(), generation, running });
    }

    /// Ends tasks and gives their leases back, so that another replica goes on at once.
    async fn end(&mut self, names: Vec<String>) {
        let ended = names.iter().filter_map(|name| self.by_name.remove(name));
        join_all(ended.map(Task::abort)).await;
        join_all(names.iter().map(|name| self.release(name))).await;
    }

    async fn release(&self, name: &str) {
        match timeout(RELEASE_TIMEOUT, self.store.release_lease(name, self.replica)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(forwarding = name, %error, "a lease could not be given back"),
            Err(_) => tracing::warn!(forwarding = name, "a lease could not be given back in time"),
        }
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
async fn supervise(claim: Claim, entry: Forwarding) {
    loop {
        let claim = claim.clone();
        let panic = if entry.enabled {
            AssertUnwindSafe(run::forward(claim, &entry)).catch_unwind().await
        } else {
            AssertUnwindSafe(run::disable(claim, &entry)).catch_unwind().await
        };
        let Err(_) = panic;
        tracing::error!(forwarding = entry.name, "a forwarding's task panicked; it is started again");
        sleep(PANIC_PAUSE).await;
    }
}
