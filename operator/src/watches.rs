//! What wakes which resource. The mappings are pure. Everything but our own resources is watched
//! by metadata alone, so that the operator never holds other people's Secrets in memory.

use crate::api::guarded::{self, Guarded};
use crate::changes::{self, Item, Watched, changes};
use crate::context::Context;
use crate::forwarding::trail_key;
use crate::names::{CHILDREN_SELECTOR, Key, TRAIL_LABEL};
use audittrail_crds::condition::{Reason, Type};
use audittrail_crds::{AuditForwarding, AuditTrail};
use futures::{Stream, StreamExt};
use kube::api::{ObjectMeta, PartialObjectMeta};
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
    changes(client, watcher::Config::default(), changes::any)
}

/// Metadata of the children of all trails.
pub fn children<K: Resource<DynamicType = ()>>(
    client: &Client,
) -> impl Stream<Item = Item<PartialObjectMeta<K>>> + Send + use<K>
where
    PartialObjectMeta<K>: Watched,
{
    changes(client, watcher::Config::default().labels(CHILDREN_SELECTOR), changes::any)
}

/// Forwardings as triggers for their trail.
pub fn forwardings(client: &Client) -> impl Stream<Item = Item<AuditForwarding>> + Send + use<> {
    changes(client, watcher::Config::default(), changes::spec)
}

/// A resource of ours as a trigger: changes of its spec and its finalizers, but not of its
/// status, which we write ourselves. All of them go to `writer`, but for what cannot be read: an Event on it says so.
pub fn ours<K: Watched>(context: &Arc<Context>, writer: Writer<K>) -> impl Stream<Item = Item<K>> + Send + use<K> {
    let (teller, known) = (Arc::clone(context), writer.as_reader());
    changes::events::<K>(&context.client, watcher::Config::default())
        .then(move |event| tell_unreadable(Arc::clone(&teller), event))
        .filter_map(move |event| {
            let event = event.map(|event| guarded::readable(event, |metadata| as_known(&known, metadata)));
            std::future::ready(event.transpose())
        })
        .reflect(writer)
        .applied_objects()
        .predicate_filter(predicates::generation.combine(predicates::finalizers), PredicateConfig::default())
}

async fn tell_unreadable<K: Watched>(
    context: Arc<Context>,
    event: Item<watcher::Event<Guarded<K>>>,
) -> Item<watcher::Event<Guarded<K>>> {
    if let Some((object, why)) = event.as_ref().ok().and_then(guarded::unreadable) {
        context.warn(object, "Unreadable", "Read", &why.to_string()).await;
    }
    event
}

fn as_known<K: Watched>(known: &Store<K>, metadata: &ObjectMeta) -> Option<K> {
    let key = ObjectRef::new(metadata.name.as_deref()?).within(metadata.namespace.as_deref()?);
    known.get(&key).map(|object| (*object).clone())
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
        let names = match self {
            Self::Secret => {
                let token = source.create.as_ref().map(|create| create.token_secret_ref.name.clone());
                [Some(forwarding.write_key_secret().name), token]
            }
            Self::ConfigMap => [source.ca_config_map_ref.as_ref().map(|reference| reference.name.clone()), None],
        };
        forwarding.metadata.namespace == object.namespace && names.contains(&object.name) && object.name.is_some()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{external, forwarding, managed, trail_made_at};
    use k8s_openapi::api::core::v1::{ConfigMap, Secret};
    use kube::runtime::reflector;
    use kube::runtime::watcher::Event;
    use serde_json::{Value, json};

    /// The trails `acme` (managed) and `far` (external), and the forwarding `to-source` of `acme`.
    fn known() -> Known {
        let (trails, mut trail_writer) = reflector::store();
        let (forwardings, mut forwarding_writer) = reflector::store();
        for (name, spec) in [("acme", managed()), ("far", external())] {
            trail_writer.apply_watcher_event(&Event::Apply(trail_made_at(name, 1, &spec)));
        }
        let source = json!({"region": "US", "caConfigMapRef": {"name": "authorities"}});
        forwarding_writer.apply_watcher_event(&Event::Apply(forwarding(&source)));
        Known { trails, forwardings }
    }

    fn object<K>(name: &str, namespace: &str, labels: &Value) -> PartialObjectMeta<K> {
        let metadata = json!({"name": name, "namespace": namespace, "labels": labels});
        PartialObjectMeta {
            types: None,
            metadata: serde_json::from_value(metadata).expect("metadata"),
            _phantom: std::marker::PhantomData,
        }
    }

    fn names(keys: &[Key]) -> Vec<&str> {
        keys.iter().map(|key| key.name.as_str()).collect()
    }

    #[test]
    fn a_child_concerns_its_trail() {
        let child = object::<Secret>("acme-ca", "ns", &json!({TRAIL_LABEL: "acme"}));
        assert_eq!(names(&known().trails_concerned(&child, Named::Secret)), ["acme"]);
    }

    #[test]
    fn a_named_secret_concerns_the_trail_that_names_it() {
        let secret = object::<Secret>("database", "ns", &json!({}));
        assert_eq!(names(&known().trails_concerned(&secret, Named::Secret)), ["far"]);
    }

    #[test]
    fn what_a_forwarding_names_concerns_it_and_its_trail() {
        let secret = object::<Secret>("source", "ns", &json!({}));
        let map = object::<ConfigMap>("authorities", "ns", &json!({}));
        assert_eq!(names(&known().trails_concerned(&secret, Named::Secret)), ["acme"]);
        assert_eq!(names(&known().trails_concerned(&map, Named::ConfigMap)), ["acme"]);
        assert_eq!(known().forwardings_concerned(&secret.metadata, Named::Secret).len(), 1);
        assert_eq!(known().forwardings_concerned(&map.metadata, Named::ConfigMap).len(), 1);
    }

    #[test]
    fn a_token_concerns_the_forwarding_that_has_a_source_made_with_it() {
        let asking = forwarding(&json!({"region": "US", "create": {"tokenSecretRef": {"name": "token"}}}));
        let concerns = |name: &str| {
            let secret = object::<Secret>(name, "ns", &json!({}));
            Named::Secret.by_forwarding(&asking, &secret.metadata)
        };
        assert!(concerns("token") && concerns("source") && !concerns("another"));
    }

    #[test]
    fn the_same_name_elsewhere_concerns_nobody() {
        let known = known();
        assert!(known.trails_concerned(&object::<Secret>("source", "other", &json!({})), Named::Secret).is_empty());
        assert!(known.trails_concerned(&object::<Secret>("database", "other", &json!({})), Named::Secret).is_empty());
        assert!(known.trails_concerned(&object::<ConfigMap>("source", "ns", &json!({})), Named::ConfigMap).is_empty());
    }

    #[test]
    fn a_trail_has_its_forwardings() {
        let of = |name: &str| known().forwardings_of(&ObjectRef::new(name).within("ns")).len();
        assert_eq!((of("acme"), of("far")), (1, 0));
    }
}
