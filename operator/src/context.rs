//! What both controllers share.

use crate::board::Board;
use crate::conditions::find;
use crate::forwarding::source::attempts::Attempts;
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
    /// When sources of forwardings were asked for.
    pub sources: Attempts,
    /// Wakes the forwardings of a trail of which there is news.
    pub news: mpsc::Sender<Key>,
    /// Asks for a round of a trail.
    pub rounds: mpsc::Sender<Key>,
    recorder: Recorder,
}

impl Context {
    /// Reads which cluster this is, and makes the rest.
    pub async fn new(
        client: Client,
        settings: Settings,
        news: mpsc::Sender<Key>,
        rounds: mpsc::Sender<Key>,
    ) -> Result<Self, kube::Error> {
        let system = Api::<Namespace>::all(client.clone()).get("kube-system").await?;
        let reporter = Reporter { controller: OPERATOR.to_owned(), instance: std::env::var("POD_NAME").ok() };
        Ok(Self {
            recorder: Recorder::new(client.clone(), reporter),
            cluster: system.uid().unwrap_or_default(),
            board: Board::default(),
            failures: Failures::default(),
            sources: Attempts::default(),
            client,
            settings,
            news,
            rounds,
        })
    }

    /// Tells turns of `Ready`, a log that does not go on, and the first parked event, to the log and, as Events, to whoever describes the resource.
    pub async fn announce<K>(&self, object: &K, before: &[Condition], after: &[Condition])
    where
        K: Resource<DynamicType = ()>,
    {
        let (kind, name, namespace) = (K::kind(&()), object.name_any(), object.namespace());
        for (turned, type_) in turns(before, after) {
            let Condition { type_: condition, status, reason, message, .. } = turned;
            tracing::info!(%kind, name, namespace, condition, status, reason, message, "turned");
            self.publish(object, type_, reason, "Observe", message).await;
        }
    }

    /// Tells what a condition cannot, since it is no turn of the resource or the resource is going.
    pub async fn warn<K>(&self, object: &K, reason: &str, action: &str, message: &str)
    where
        K: Resource<DynamicType = ()>,
    {
        let (kind, name, namespace) = (K::kind(&()), object.name_any(), object.namespace());
        tracing::warn!(%kind, name, namespace, reason, message, "needs a look");
        self.publish(object, EventType::Warning, reason, action, message).await;
    }

    async fn publish<K>(&self, object: &K, type_: EventType, reason: &str, action: &str, message: &str)
    where
        K: Resource<DynamicType = ()>,
    {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note(message)),
            action: action.to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &object.object_ref(&())).await {
            // Events are a courtesy; the condition or the log says the same.
            tracing::warn!(kind = %K::kind(&()), name = object.name_any(), %error, "cannot write an Event");
        }
    }
}

/// What is worth an Event. Only what needs help is a warning: a start is not, and events that are gone or parked are.
fn turns<'a>(before: &[Condition], after: &'a [Condition]) -> Vec<(&'a Condition, EventType)> {
    let turned = |type_| {
        let now = find(after, type_)?;
        let same = find(before, type_).is_some_and(|then| (&then.status, &then.reason) == (&now.status, &now.reason));
        (!same).then_some(now)
    };
    let stalled = find(after, Type::Stalled).is_some_and(|stalled| stalled.status == "True");
    let ready = turned(Type::Ready).map(|ready| (ready, if stalled { EventType::Warning } else { EventType::Normal }));
    let broken = turned(Type::Continuous).filter(|continuous| continuous.status == "False");
    let parked = turned(Type::EventsParked);
    ready.into_iter().chain(broken.into_iter().chain(parked).map(|one| (one, EventType::Warning))).collect()
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
    use crate::conditions::{Status, Verdict, conditions};
    use crate::testing::now;
    use audittrail_crds::condition::Reason;

    fn told(before: &[Condition], verdicts: Vec<Verdict>) -> (Vec<Condition>, Vec<(String, bool)>) {
        let after = conditions(before, verdicts, Some(1), now());
        let warned =
            |(turned, type_): (&Condition, EventType)| (turned.reason.clone(), matches!(type_, EventType::Warning));
        let turned = turns(before, &after).into_iter().map(warned).collect();
        (after, turned)
    }

    #[test]
    fn a_log_that_does_not_go_on_is_a_warning_beside_the_turns_of_ready() {
        let verdicts = |ready: (Status, Reason), continuous: (Status, Reason)| {
            vec![
                Verdict::new(Type::Ready, ready.0, ready.1, ""),
                Verdict::new(Type::Continuous, continuous.0, continuous.1, ""),
            ]
        };
        let (up, sound) = ((Status::True, Reason::Verified), (Status::True, Reason::AsExpected));
        let rewound = (Status::False, Reason::DatabaseRewound);
        let (first, turned) = told(&[], verdicts(up, sound));
        assert_eq!(turned, [("Verified".to_owned(), false)]);
        let (second, turned) = told(&first, verdicts(up, rewound));
        assert_eq!(turned, [("DatabaseRewound".to_owned(), true)]);
        assert_eq!(told(&second, verdicts(up, rewound)).1, []);
        assert_eq!(told(&second, verdicts(up, sound)).1, []);
        let down = (Status::False, Reason::CollectorNotReady);
        assert_eq!(told(&second, verdicts(down, rewound)).1, [("CollectorNotReady".to_owned(), false)]);
    }

    #[test]
    fn the_first_parked_event_is_a_warning_and_the_next_ones_are_none() {
        let verdicts = |parked: Option<&str>| {
            let ready = Verdict::new(Type::Ready, Status::True, Reason::SourceAccepts, "");
            let parked =
                parked.map(|words| Verdict::new(Type::EventsParked, Status::True, Reason::RefusedForGood, words));
            [ready].into_iter().chain(parked).collect::<Vec<_>>()
        };
        let warning = [("RefusedForGood".to_owned(), true)];
        let (none, _) = told(&[], verdicts(None));
        let (one, turned) = told(&none, verdicts(Some("1 event")));
        assert_eq!(turned, warning);
        let (two, turned) = told(&one, verdicts(Some("2 events")));
        assert_eq!(turned, []);
        let (replayed, turned) = told(&two, verdicts(None));
        assert_eq!(turned, []);
        assert_eq!(told(&replayed, verdicts(Some("1 event"))).1, warning);
    }

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
