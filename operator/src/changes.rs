//! Watches that outlive the API server's restarts.
//!
//! A controller pauses all of its watches when one of them fails. After a restart of the API server
//! every one fails, one by one, and the controller is deaf for minutes. So here each watch pauses
//! by itself, and its errors end here. And it remembers what it has seen: a new list tells nothing
//! that is known already, and does tell what was deleted while nobody looked.

use crate::api::guarded::{self, Guarded};
use futures::{Stream, StreamExt};
use kube::api::{Api, ObjectMeta};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::collections::{HashMap, HashSet};
use std::fmt::Debug;
use std::time::Duration;

/// First pause of a watch after an error; it doubles with each.
const PAUSE_FIRST: Duration = Duration::from_millis(250);

/// Longest pause of a watch after an error. Short: what the operator does not see, it does not do.
const PAUSE_LONGEST: Duration = Duration::from_secs(5);

/// An object, as an item of a stream that never has an error.
pub type Item<K> = Result<K, watcher::Error>;

/// Whatever is watched.
pub trait Watched: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static {}
impl<K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static> Watched for K {}

/// Events of a watch of all namespaces, without its errors. What cannot be read comes too.
pub fn events<K: Watched>(
    client: &Client,
    config: watcher::Config,
) -> impl Stream<Item = Item<Event<Guarded<K>>>> + Send + use<K> {
    without_errors(watcher(Api::all(client.clone()), config), tokio::time::sleep)
}

/// Takes out the errors, and pauses after each.
fn without_errors<K: Resource<DynamicType = ()> + Send, F: Future<Output = ()> + Send>(
    events: impl Stream<Item = Item<Event<K>>> + Send,
    sleep: impl Fn(Duration) -> F + Send,
) -> impl Stream<Item = Item<Event<K>>> + Send {
    let state = (Box::pin(events), Pause::default(), sleep);
    futures::stream::unfold(state, async |(mut events, mut pause, sleep)| {
        loop {
            match events.next().await? {
                Ok(event) => {
                    if is_progress(&event) {
                        pause = Pause::default();
                    }
                    return Some((Ok(event), (events, pause, sleep)));
                }
                Err(error) => {
                    tracing::warn!(kind = %K::kind(&()), %error, "a watch failed and is tried again");
                    sleep(pause.after_an_error()).await;
                }
            }
        }
    })
}

/// Whether the API server answered as it should. That a list begins is told before it is asked for, and its first page is not
/// the whole: a list that fails each time would be asked for at the shortest pause for ever.
fn is_progress<K>(event: &Event<K>) -> bool {
    !matches!(event, Event::Init | Event::InitApply(_))
}

/// Objects whose `version` changed, and objects that were deleted.
pub fn changes<K: Watched>(
    client: &Client,
    config: watcher::Config,
    version: fn(&K) -> String,
) -> impl Stream<Item = Item<K>> + Send + use<K> {
    let mut seen = Seen { objects: HashMap::new(), listed: HashSet::new(), version };
    events(client, config).flat_map(move |event| {
        let changed =
            event.map_or_else(|error| vec![Err(error)], |event| seen.changed(event).into_iter().map(Ok).collect());
        futures::stream::iter(changed)
    })
}

/// Any change of the object.
pub fn any<K: Resource>(object: &K) -> String {
    object.resource_version().unwrap_or_default()
}

/// Changes of what is wished, not of what is.
pub fn spec<K: Resource>(object: &K) -> String {
    object.meta().generation.unwrap_or_default().to_string()
}

/// What a watch has seen so far.
struct Seen<K> {
    /// By UID; without the fields that only other people need.
    objects: HashMap<String, (String, K)>,
    /// UIDs in the list that is under way.
    listed: HashSet<String>,
    version: fn(&K) -> String,
}

impl<K: Watched> Seen<K> {
    fn changed(&mut self, event: Event<Guarded<K>>) -> Vec<K> {
        if let Some((_, unreadable)) = guarded::unreadable(&event) {
            let ObjectMeta { name, namespace, .. } = &unreadable.metadata;
            tracing::debug!(kind = %K::kind(&()), name, namespace, %unreadable, "left out");
        }
        match guarded::readable(event, |metadata| self.known(metadata)) {
            None => Vec::new(),
            Some(event) => self.readable(event),
        }
    }

    fn known(&self, metadata: &ObjectMeta) -> Option<K> {
        self.objects.get(metadata.uid.as_ref()?).map(|(_, object)| object.clone())
    }

    fn readable(&mut self, event: Event<K>) -> Vec<K> {
        match event {
            Event::Init => {
                self.listed.clear();
                Vec::new()
            }
            Event::InitApply(object) => {
                self.listed.insert(object.uid().unwrap_or_default());
                self.applied(object).into_iter().collect()
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                self.objects.extract_if(|uid, _| !listed.contains(uid)).map(|(_, (_, object))| object).collect()
            }
            Event::Apply(object) => self.applied(object).into_iter().collect(),
            Event::Delete(object) => {
                self.objects.remove(&object.uid().unwrap_or_default());
                vec![object]
            }
        }
    }

    fn applied(&mut self, object: K) -> Option<K> {
        let version = (self.version)(&object);
        let mut kept = object.clone();
        kept.meta_mut().managed_fields = None;
        kept.meta_mut().annotations = None;
        let before = self.objects.insert(object.uid().unwrap_or_default(), (version.clone(), kept));
        before.is_none_or(|(before, _)| before != version).then_some(object)
    }
}

/// Pauses of a watch after errors in a row.
#[derive(Default)]
struct Pause {
    errors: u32,
}

impl Pause {
    fn after_an_error(&mut self) -> Duration {
        let pause = PAUSE_FIRST.saturating_mul(2_u32.saturating_pow(self.errors)).min(PAUSE_LONGEST);
        self.errors = self.errors.saturating_add(1);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::{Value, json};
    use std::sync::Mutex;

    fn metadata(name: &str, version: i32) -> Value {
        json!({"name": name, "uid": name, "resourceVersion": version.to_string(), "generation": 1})
    }

    fn object(name: &str, version: i32) -> Guarded<ConfigMap> {
        guarded(&json!({"metadata": metadata(name, version)}))
    }

    fn unreadable(name: &str, version: i32) -> Guarded<ConfigMap> {
        guarded(&json!({"metadata": metadata(name, version), "data": 7}))
    }

    fn guarded(value: &Value) -> Guarded<ConfigMap> {
        serde_json::from_str(&value.to_string()).expect("a ConfigMap, or none")
    }

    fn told(seen: &mut Seen<ConfigMap>, events: Vec<Event<Guarded<ConfigMap>>>) -> Vec<String> {
        events.into_iter().flat_map(|event| seen.changed(event)).map(|object| object.name_any()).collect()
    }

    fn seen(version: fn(&ConfigMap) -> String) -> Seen<ConfigMap> {
        let mut seen = Seen { objects: HashMap::new(), listed: HashSet::new(), version };
        let list =
            vec![Event::Init, Event::InitApply(object("a", 1)), Event::InitApply(object("b", 1)), Event::InitDone];
        assert_eq!(told(&mut seen, list), ["a", "b"]);
        seen
    }

    #[test]
    fn a_second_list_tells_what_changed_and_what_is_gone() {
        let list =
            vec![Event::Init, Event::InitApply(object("a", 1)), Event::InitApply(object("c", 2)), Event::InitDone];
        assert_eq!(told(&mut seen(any), list), ["c", "b"]);
    }

    #[test]
    fn a_deletion_is_told_once() {
        let mut seen = seen(any);
        assert_eq!(told(&mut seen, vec![Event::Delete(object("b", 2))]), ["b"]);
        let list = vec![Event::Init, Event::InitApply(object("a", 1)), Event::InitDone];
        assert!(told(&mut seen, list).is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_told_as_gone_once_where_it_was_known() {
        let mut seen = seen(any);
        assert!(told(&mut seen, vec![Event::Apply(unreadable("c", 2))]).is_empty());
        assert_eq!(told(&mut seen, vec![Event::Apply(unreadable("b", 2))]), ["b"]);
        assert!(told(&mut seen, vec![Event::Apply(unreadable("b", 3)), Event::Delete(unreadable("b", 4))]).is_empty());
        assert_eq!(told(&mut seen, vec![Event::Apply(object("b", 5))]), ["b"]);
        let list =
            vec![Event::Init, Event::InitApply(unreadable("a", 6)), Event::InitApply(object("b", 5)), Event::InitDone];
        assert_eq!(told(&mut seen, list), ["a"]);
    }

    #[test]
    fn a_change_of_the_status_is_no_change_of_the_spec() {
        assert!(told(&mut seen(spec), vec![Event::Apply(object("a", 2))]).is_empty());
        assert_eq!(told(&mut seen(any), vec![Event::Apply(object("a", 2))]), ["a"]);
    }

    /// The pauses between these events, in milliseconds.
    async fn pauses(events: Vec<Item<Event<Guarded<ConfigMap>>>>) -> Vec<u128> {
        let pauses = Mutex::new(Vec::new());
        let (all, errors) = (events.len(), events.iter().filter(|event| event.is_err()).count());
        let told = without_errors(futures::stream::iter(events), |pause| {
            pauses.lock().expect("no other thread").push(pause.as_millis());
            std::future::ready(())
        });
        assert_eq!(told.count().await, all - errors);
        pauses.into_inner().expect("no other thread")
    }

    #[tokio::test]
    async fn pauses_grow_to_five_seconds_while_lists_fail() {
        let failed = || Err(watcher::Error::NoResourceVersion);
        let mut events: Vec<_> = (0..7).flat_map(|_| [Ok(Event::Init), failed()]).collect();
        // The second page of a list.
        events.extend([Ok(Event::Init), Ok(Event::InitApply(object("a", 1))), failed()]);
        assert_eq!(pauses(events).await, [250, 500, 1000, 2000, 4000, 5000, 5000, 5000]);
    }

    #[tokio::test]
    async fn pauses_start_anew_after_a_whole_list_and_after_a_change() {
        let failed = || Err(watcher::Error::NoResourceVersion);
        for good in [Event::InitDone, Event::Apply(object("a", 2)), Event::Delete(object("a", 2))] {
            let events = vec![failed(), failed(), Ok(Event::Init), Ok(good), failed(), failed()];
            assert_eq!(pauses(events).await, [250, 500, 250, 500]);
        }
    }
}
