//! What wakes which resource. The mappings are pure. Everything but our own resources is watched
//! by metadata alone, so that the operator never holds other people's Secrets in memory.

use crate::forwarding::trail_key;
use crate::names::{CHILDREN_SELECTOR, Key, TRAIL_LABEL};
use audittrail_crds::condition::{Reason, Type};
use audittrail_crds::{AuditForwarding, AuditTrail};
use futures::{Stream, TryStreamExt};
use kube::api::{Api, ObjectMeta, PartialObjectMeta};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher::{self, watcher};
use kube::runtime::{Predicate, PredicateConfig, WatchStreamExt, predicates};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;

/// Metadata of objects of kind `K`, in all namespaces.
pub fn metadata<K: Resource<DynamicType = ()>>(client: &Client) -> Api<PartialObjectMeta<K>> {
    Api::all(client.clone())
}

/// Only children of trails.
pub fn children() -> watcher::Config {
    watcher::Config::default().labels(CHILDREN_SELECTOR)
}

/// A resource of ours as a trigger: changes of its spec and its finalizers, but not of its
/// status, which we write ourselves. All of them go to `writer`.
pub fn ours<K>(client: &Client, writer: Writer<K>) -> impl Stream<Item = Result<K, watcher::Error>> + Send + use<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    watcher(Api::<K>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .reflect(writer)
        .applied_objects()
        .predicate_filter(predicates::generation.combine(predicates::finalizers), PredicateConfig::default())
}

/// Forwardings as a trigger for their trail: changes of their spec, and their deletion, which
/// need not change the generation. Not their status, which we write.
pub fn touched(client: &Client) -> impl Stream<Item = Result<AuditForwarding, watcher::Error>> + Send + use<> {
    let mut generations = HashMap::new();
    watcher(Api::<AuditForwarding>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .try_filter_map(move |event| std::future::ready(Ok(spec_change(event, &mut generations))))
}

/// The object, if the event is a change of its spec or its deletion.
fn spec_change<K: Resource>(event: watcher::Event<K>, generations: &mut HashMap<String, i64>) -> Option<K> {
    match event {
        watcher::Event::Apply(object) | watcher::Event::InitApply(object) => {
            let generation = object.meta().generation.unwrap_or_default();
            let before = generations.insert(object.uid().unwrap_or_default(), generation);
            (before != Some(generation)).then_some(object)
        }
        watcher::Event::Delete(object) => {
            generations.remove(&object.uid().unwrap_or_default());
            Some(object)
        }
        watcher::Event::Init | watcher::Event::InitDone => None,
    }
}

/// Both kinds of ours, as they are in memory: what a change elsewhere concerns is looked up here.
#[derive(Clone)]
pub struct Known {
    /// All trails.
    pub trails: Store<AuditTrail>,
    /// All forwardings.
    pub forwardings: Store<AuditForwarding>,
}

impl Known {
    /// The trail of a child, by its label.
    pub fn trail_of_child<K>(child: &PartialObjectMeta<K>) -> Option<Key> {
        let trail = child.metadata.labels.as_ref()?.get(TRAIL_LABEL)?;
        Some(ObjectRef::new(trail).within(child.metadata.namespace.as_deref()?))
    }

    /// Trails that a Secret or ConfigMap concerns: as a child, because they name it, or because
    /// one of their forwardings does.
    pub fn trails_concerned<K>(&self, object: &PartialObjectMeta<K>, names: Named) -> Vec<Key> {
        let mut keys: Vec<Key> = Self::trail_of_child(object).into_iter().collect();
        let naming = self.trails.state_filter(|trail| names.by_trail(trail, &object.metadata));
        keys.extend(naming.iter().map(|trail| ObjectRef::from_obj(&**trail)));
        keys.extend(self.naming_forwardings(&object.metadata, names).iter().map(|one| trail_key(one)));
        keys
    }

    /// Forwardings that name a Secret or ConfigMap.
    pub fn forwardings_concerned(&self, object: &ObjectMeta, names: Named) -> Vec<ObjectRef<AuditForwarding>> {
        self.naming_forwardings(object, names).iter().map(|one| ObjectRef::from_obj(&**one)).collect()
    }

    /// Forwardings of a trail.
    pub fn forwardings_of(&self, trail: &Key) -> Vec<ObjectRef<AuditForwarding>> {
        let all = self.forwardings.state_filter(|one| trail_key(one) == *trail);
        all.iter().map(|one| ObjectRef::from_obj(&**one)).collect()
    }

    /// Trails that wait for another one of their namespace to go.
    pub fn trails_in_waiting(&self, object: &ObjectMeta) -> Vec<Key> {
        let waiting =
            self.trails.state_filter(|trail| trail.metadata.namespace == object.namespace && is_not_unique(trail));
        waiting.iter().map(|trail| ObjectRef::from_obj(&**trail)).collect()
    }

    fn naming_forwardings(&self, object: &ObjectMeta, names: Named) -> Vec<Arc<AuditForwarding>> {
        self.forwardings.state_filter(|one| names.by_forwarding(one, object))
    }
}

/// What kind of object is looked for among the references.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Named {
    /// References to Secrets.
    Secret,
    /// References to ConfigMaps.
    ConfigMap,
}

impl Named {
    fn by_trail(self, trail: &AuditTrail, object: &ObjectMeta) -> bool {
        let write_key = trail.spec.ingest.write_key_secret_ref.as_ref().map(|reference| &reference.name);
        let uri = trail.spec.storage.external.as_ref().map(|external| &external.uri_secret_ref.name);
        self == Self::Secret
            && trail.metadata.namespace == object.namespace
            && [write_key, uri].into_iter().flatten().any(|name| Some(name) == object.name.as_ref())
    }

    fn by_forwarding(self, forwarding: &AuditForwarding, object: &ObjectMeta) -> bool {
        let source = &forwarding.spec.source.http_api;
        let name = match self {
            Self::Secret => Some(&source.write_key_secret_ref.name),
            Self::ConfigMap => source.ca_config_map_ref.as_ref().map(|reference| &reference.name),
        };
        forwarding.metadata.namespace == object.namespace && name.is_some() && name == object.name.as_ref()
    }
}

fn is_not_unique(trail: &AuditTrail) -> bool {
    let conditions = trail.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    crate::conditions::find(conditions, Type::Ready)
        .is_some_and(|ready| ready.reason == Reason::WorkspaceNotUnique.to_string())
}

/// A forwarding concerns its trail, which writes its entry.
pub fn trail_of_forwarding(forwarding: &AuditForwarding) -> Option<Key> {
    forwarding.namespace().is_some().then(|| trail_key(forwarding))
}
