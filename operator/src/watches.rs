//! What wakes which resource. The mappings are pure. Everything but our own resources is watched
//! by metadata alone, so that the operator never holds other people's Secrets in memory.

use crate::changes::{self, Item, Watched, changes};
use crate::forwarding::trail_key;
use crate::names::{CHILDREN_SELECTOR, Key, TRAIL_LABEL};
use audittrail_crds::condition::{Reason, Type};
use audittrail_crds::{AuditForwarding, AuditTrail};
use futures::Stream;
use kube::api::{Api, ObjectMeta, PartialObjectMeta};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use kube::runtime::{Predicate, PredicateConfig, WatchStreamExt, predicates};
use kube::{Client, Resource, ResourceExt};
use std::sync::Arc;

/// Metadata of all objects of kind `K`: those that resources name may be anybody's.
pub fn anybodys<K: Resource<DynamicType = ()>>(
    client: &Client,
) -> impl Stream<Item = Item<PartialObjectMeta<K>>> + Send + use<K>
where
    PartialObjectMeta<K>: Watched,
{
    changes(Api::all(client.clone()), watcher::Config::default(), changes::any)
}

/// Metadata of the children of all trails.
pub fn children<K: Resource<DynamicType = ()>>(
    client: &Client,
) -> impl Stream<Item = Item<PartialObjectMeta<K>>> + Send + use<K>
where
    PartialObjectMeta<K>: Watched,
{
    changes(Api::all(client.clone()), watcher::Config::default().labels(CHILDREN_SELECTOR), changes::any)
}

/// Forwardings as triggers for their trail.
pub fn forwardings(client: &Client) -> impl Stream<Item = Item<AuditForwarding>> + Send + use<> {
    changes(Api::all(client.clone()), watcher::Config::default(), changes::spec)
}

/// A resource of ours as a trigger: changes of its spec and its finalizers, but not of its
/// status, which we write ourselves. All of them go to `writer`.
pub fn ours<K: Watched>(client: &Client, writer: Writer<K>) -> impl Stream<Item = Item<K>> + Send + use<K> {
    changes::events(Api::<K>::all(client.clone()), watcher::Config::default())
        .reflect(writer)
        .applied_objects()
        .predicate_filter(predicates::generation.combine(predicates::finalizers), PredicateConfig::default())
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
