//! What this process knows of each trail besides what stands in Kubernetes: the outcome of the
//! last round, the last poll, and what was written to its status. Statuses are made from it.

use crate::names::Key;
use crate::observe::Observation;
use crate::trail::apply::Running;
use audittrail_crds::AuditTrailStatus;
use audittrail_crds::condition::Reason;
use audittrail_crds::document::Document;
use audittrail_crds::report::{Log, Report};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// One entry for each trail.
#[derive(Debug, Default)]
pub struct Board {
    entries: Mutex<HashMap<Key, Arc<Entry>>>,
}

/// What is known of one trail.
#[derive(Debug, Default)]
pub struct Entry {
    facts: Mutex<Facts>,
    /// What was written last. Held while a status is made and written, so that the round and
    /// the poll, which both do that, do not overtake each other.
    pub written: tokio::sync::Mutex<Option<Written>>,
    /// Asks for a poll at once.
    pub poke: Notify,
    /// Ends the poll of this trail.
    pub gone: tokio_util::sync::CancellationToken,
}

/// What statuses are made from.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The `metadata.generation` that the last round worked on.
    pub generation: Option<i64>,
    /// What stopped the last round; `None` when it went through.
    pub problem: Option<Problem>,
    /// What the last round that went through applied.
    pub applied: Option<Arc<Applied>>,
    /// The last poll; `None` before the first one of this process.
    pub observation: Option<Observation>,
    /// The log, as it was when it was last seen.
    pub last_log: Option<Log>,
    /// The trail's condition `Ready`, as written last.
    pub ready: Option<Condition>,
}

/// What stopped a round.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The condition's reason.
    pub reason: Reason,
    /// What is wrong and what to do.
    pub message: String,
    /// Whether somebody has to do something.
    pub needs_help: bool,
}

/// What a round applied.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The configuration document.
    pub document: Document,
    /// PEM certificate of the trail's authority.
    pub authority: String,
    /// Name of the Secret with the write key.
    pub write_key_secret: String,
    /// How the pods were right after.
    pub running: Running,
}

/// A status that was written.
#[derive(Clone, Debug)]
pub struct Written {
    /// The status.
    pub status: AuditTrailStatus,
    /// When.
    pub at: Timestamp,
}

impl Facts {
    /// Takes the outcome of a poll.
    pub fn observed(&mut self, observation: Observation) {
        if let Ok(Report { log: Some(log), .. }) = &observation {
            self.last_log = Some(log.clone());
        }
        self.observation = Some(observation);
    }

    /// The log now, or else when it was last seen.
    pub fn log(&self) -> Option<&Log> {
        match &self.observation {
            Some(Ok(Report { log: Some(log), .. })) => Some(log),
            _ => self.last_log.as_ref(),
        }
    }

    /// Whether there is enough to judge by. Right after its start a process knows too little,
    /// and what was written before is better than a guess.
    pub fn suffice(&self) -> bool {
        self.problem.is_some() || (self.applied.is_some() && self.observation.is_some())
    }
}

impl Board {
    /// The facts of a trail; `None` when it is unknown here.
    pub fn facts(&self, trail: &Key) -> Option<Facts> {
        lock(&self.entries).get(trail).map(|entry| entry.facts())
    }

    /// The entry of a trail, and whether it was made just now.
    pub fn entry(&self, trail: &Key) -> (Arc<Entry>, Made) {
        let mut entries = lock(&self.entries);
        if let Some(entry) = entries.get(trail) {
            return (Arc::clone(entry), Made::Earlier);
        }
        let entry = Arc::new(Entry::default());
        entries.insert(trail.clone(), Arc::clone(&entry));
        (entry, Made::Now)
    }

    /// Forgets a trail that is gone, and ends its poll.
    pub fn forget(&self, trail: &Key) {
        if let Some(entry) = lock(&self.entries).remove(trail) {
            entry.gone.cancel();
        }
    }
}

/// When an entry was made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Made {
    /// By this call.
    Now,
    /// By an earlier one.
    Earlier,
}

impl Entry {
    /// A copy of the facts.
    pub fn facts(&self) -> Facts {
        lock(&self.facts).clone()
    }

    /// Changes the facts.
    pub fn learn(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut lock(&self.facts));
    }
}

/// A thread that panicked while it held the lock left whole values: there are only assignments.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
