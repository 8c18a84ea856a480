//! What both controllers share.

use crate::board::Board;
use crate::names::{Key, OPERATOR};
use crate::settings::Settings;
use audittrail_crds::condition::Type;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, DynamicObject};
use kube::runtime::controller::Action;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::runtime::reflector::ObjectRef;
use kube::{Client, Resource, ResourceExt};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// Without any change, a resource gets a round this often: certificates are renewed in time, and
/// what was changed by hand in a child without a watch is put right.
pub const RECHECK: Duration = Duration::from_hours(1);

/// First pause after a failed round; it doubles with each.
const BACKOFF_FIRST: Duration = Duration::from_secs(1);

/// Longest pause after a failed round.
const BACKOFF_LONGEST: Duration = Duration::from_mins(1);

/// Longest note of an Event, in bytes (events.k8s.io/v1, `note`).
const NOTE_MAX_BYTES: usize = 1024;

/// What both controllers share.
pub struct Context {
    /// The API server.
    pub client: Client,
    /// What this process was told at its start.
    pub settings: Settings,
    /// UID of the namespace `kube-system`, which stands for the cluster.
    pub cluster: String,
    /// What is known of each trail.
    pub board: Board,
    /// Rounds that failed in a row, by resource.
    pub failures: Failures,
    /// Wakes the forwardings of a trail of which there is news.
    pub news: mpsc::Sender<Key>,
    recorder: Recorder,
}

impl Context {
    /// Reads which cluster this is, and makes the rest.
    pub async fn new(client: Client, settings: Settings, news: mpsc::Sender<Key>) -> Result<Self, kube::Error> {
        let system = Api::<Namespace>::all(client.clone()).get("kube-system").await?;
        let reporter = Reporter { controller: OPERATOR.to_owned(), instance: std::env::var("POD_NAME").ok() };
        Ok(Self {
            recorder: Recorder::new(client.clone(), reporter),
            cluster: system.uid().unwrap_or_default(),
            board: Board::default(),
            failures: Failures::default(),
            client,
            settings,
            news,
        })
    }

    /// Tells a turn of `Ready` to the log and, as an Event, to whoever describes the resource.
    pub async fn announce<K>(&self, object: &K, before: &[Condition], after: &[Condition])
    where
        K: Resource<DynamicType = ()>,
    {
        let find = |conditions| crate::conditions::find(conditions, Type::Ready);
        let Some(ready) = find(after) else { return };
        if find(before).is_some_and(|before| (&before.status, &before.reason) == (&ready.status, &ready.reason)) {
            return;
        }
        let (kind, name, namespace) = (K::kind(&()), object.name_any(), object.namespace());
        tracing::info!(%kind, name, namespace, ready = ready.status, reason = ready.reason, message = ready.message, "turned");
        let event = Event {
            type_: event_type(after),
            reason: ready.reason.clone(),
            note: Some(note(&ready.message)),
            action: "Observe".to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &object.object_ref(&())).await {
            // Events are a courtesy; the condition says the same.
            tracing::warn!(%kind, name, %error, "cannot write an Event");
        }
    }
}

/// Only what needs help is a warning: a start is not.
fn event_type(conditions: &[Condition]) -> EventType {
    let stalled = crate::conditions::find(conditions, Type::Stalled).is_some_and(|stalled| stalled.status == "True");
    if stalled { EventType::Warning } else { EventType::Normal }
}

fn note(message: &str) -> String {
    let mut end = message.len().min(NOTE_MAX_BYTES);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message[..end].to_owned()
}

/// Rounds that failed in a row, by resource.
#[derive(Debug, Default)]
pub struct Failures(Mutex<HashMap<ObjectRef<DynamicObject>, u32>>);

impl Failures {
    /// A round went through, or the resource is gone.
    pub fn clear(&self, resource: &ObjectRef<DynamicObject>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(resource);
    }

    /// A round failed. Returns how many did before it.
    fn count(&self, resource: &ObjectRef<DynamicObject>) -> u32 {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = all.entry(resource.clone()).or_default();
        *count += 1;
        *count - 1
    }
}

/// The pause after a failed round.
pub fn error_backoff(context: &Context, resource: &ObjectRef<DynamicObject>) -> Action {
    Action::requeue(pause(context.failures.count(resource)))
}

fn pause(failures_before: u32) -> Duration {
    BACKOFF_FIRST.saturating_mul(2_u32.saturating_pow(failures_before)).min(BACKOFF_LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_up_to_a_minute() {
        let seconds: Vec<u64> = [0, 1, 2, 5, 6, 40].map(|count| pause(count).as_secs()).to_vec();
        assert_eq!(seconds, [1, 2, 4, 32, 60, 60]);
    }

    #[test]
    fn a_note_is_cut_between_characters() {
        assert_eq!(note(&"ä".repeat(600)).len(), NOTE_MAX_BYTES);
        assert_eq!(note(&format!("a{}", "ä".repeat(600))).len(), NOTE_MAX_BYTES - 1);
    }
}
