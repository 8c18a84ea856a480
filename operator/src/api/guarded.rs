//! Objects as anybody may have written them.
//!
//! The API server admits what no schema can bound: an `AuditTrail` with a JSON Schema of 200 levels, or what an older
//! definition let through. Lists come as one text, so one object that cannot be read would fail the list, and nobody would be
//! served.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::runtime::watcher::Event;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error as _};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// An object, or what is known of one that cannot be read.
///
/// Unlike kube's `DeserializeGuard`, it skips over the text first, which has no limit of depth, and metadata alone stays
/// metadata alone ([`Resource::metadata_api`]).
#[derive(Clone, Debug)]
pub struct Guarded<K>(pub Result<K, Unreadable>);

/// An object that cannot be read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the operator cannot read it, and leaves it out until it is changed: {words}")]
pub struct Unreadable {
    /// Name, namespace, UID and resource version. Managed fields are as deep as what they manage.
    pub metadata: ObjectMeta,
    /// Why not, and where.
    words: String,
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        let error = match serde_json::from_str(text.get()) {
            Ok(object) => return Ok(Self(Ok(object))),
            Err(error) => error,
        };
        let Identified { metadata } = serde_json::from_str(text.get()).map_err(D::Error::custom)?;
        let Identity { name, namespace, uid, resource_version } = metadata;
        let metadata = ObjectMeta { name, namespace, uid, resource_version, ..ObjectMeta::default() };
        Ok(Self(Err(Unreadable { metadata, words: error.to_string() })))
    }
}

#[derive(Deserialize)]
struct Identified {
    metadata: Identity,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Identity {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
}

impl<K: Resource> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn metadata_api() -> bool {
        K::metadata_api()
    }

    fn kind(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(dynamic)
    }

    fn group(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::group(dynamic)
    }

    fn version(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::version(dynamic)
    }

    fn plural(dynamic: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(dynamic)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|unreadable| &unreadable.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.as_mut().map_or_else(|unreadable| &mut unreadable.metadata, K::meta_mut)
    }
}

/// The event without what cannot be read: such an object is as good as gone, as it is after a restart. `known` has it as it
/// was when it could be read.
pub fn readable<K>(event: Event<Guarded<K>>, known: impl FnOnce(&ObjectMeta) -> Option<K>) -> Option<Event<K>> {
    match event {
        Event::Init => Some(Event::Init),
        Event::InitDone => Some(Event::InitDone),
        Event::InitApply(Guarded(object)) => object.ok().map(Event::InitApply),
        Event::Apply(Guarded(Ok(object))) => Some(Event::Apply(object)),
        Event::Delete(Guarded(Ok(object))) => Some(Event::Delete(object)),
        Event::Apply(Guarded(Err(unreadable))) | Event::Delete(Guarded(Err(unreadable))) => {
            known(&unreadable.metadata).map(Event::Delete)
        }
    }
}

/// The object of an event that cannot be read, and why.
pub fn unreadable<K>(event: &Event<Guarded<K>>) -> Option<(&Guarded<K>, &Unreadable)> {
    match event {
        Event::Apply(object) | Event::InitApply(object) => object.0.as_ref().err().map(|why| (object, why)),
        // Who deletes it need not be told.
        Event::Delete(_) | Event::Init | Event::InitDone => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use audittrail_crds::{AuditForwarding, AuditTrail};
    use kube::ResourceExt;
    use kube::api::{ObjectList, PartialObjectMeta, WatchEvent};
    use serde_json::{Value, json};

    /// A trail with this schema, and managed fields as deep.
    fn trail(name: &str, levels: usize) -> String {
        let nested = |member: &str| format!("{}{{}}{}", format!(r#"{{"{member}":"#).repeat(levels), "}".repeat(levels));
        let (schema, fields) = (nested("not"), nested("f:not"));
        format!(
            r#"{{"apiVersion": "audittrail.dev/v1alpha1", "kind": "AuditTrail", "metadata": {{"name": "{name}", "namespace": "ns", "uid": "u", "resourceVersion": "7",
            "managedFields": [{{"manager": "kubectl", "fieldsV1": {fields}}}]}}, "spec": {{"workspace": "{name}", "storage": {{"managed": {{}}}},
            "catalogue": {{"eventTypes": [{{"name": "A", "area": "X", "schema": {schema}}}]}}}}}}"#
        )
    }

    fn names<K: Resource<DynamicType = ()> + Clone>(list: &ObjectList<Guarded<K>>) -> Vec<(String, bool)> {
        list.iter().map(|object| (object.name_any(), object.0.is_ok())).collect()
    }

    #[test]
    fn one_object_that_is_too_deep_fails_neither_its_list_nor_a_watch() {
        let list = format!(
            r#"{{"metadata": {{"resourceVersion": "9"}}, "items": [{}, {}]}}"#,
            trail("deep", 200),
            trail("sound", 3)
        );
        let expected = [("deep".to_owned(), false), ("sound".to_owned(), true)];
        assert_eq!(names(&serde_json::from_str::<ObjectList<Guarded<AuditTrail>>>(&list).expect("a list")), expected);
        let metadata: ObjectList<Guarded<PartialObjectMeta<AuditTrail>>> = serde_json::from_str(&list).expect("a list");
        assert_eq!(names(&metadata), expected);
        let event = format!(r#"{{"type": "MODIFIED", "object": {}}}"#, trail("deep", 200));
        match serde_json::from_str(&event).expect("an event") {
            WatchEvent::Modified(Guarded::<AuditTrail>(Err(unreadable))) => {
                let ObjectMeta { name, namespace, uid, resource_version, .. } = &unreadable.metadata;
                let told = [name, namespace, uid, resource_version].map(Option::as_deref);
                assert_eq!(told, [Some("deep"), Some("ns"), Some("u"), Some("7")]);
                assert!(unreadable.to_string().contains("recursion limit"), "{unreadable}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_time_that_cannot_be_read_fails_its_own_object_only() {
        let forwarding = |name: &str, time: &str| -> Value {
            let source = json!({"httpApi": {"region": "US", "writeKeySecretRef": {"name": "source"}}});
            let spec = json!({"trailRef": {"name": "acme"}, "source": source, "startFrom": {"time": time}});
            json!({"metadata": {"name": name}, "spec": spec})
        };
        let late = forwarding("late", "9999-12-31T23:59:59Z");
        let fine = forwarding("fine", "2026-01-01T00:00:00.0000000000Z");
        let sound = forwarding("sound", "2026-01-01T00:00:00Z");
        let list = json!({"metadata": {}, "items": [late, fine, sound]}).to_string();
        let list: ObjectList<Guarded<AuditForwarding>> = serde_json::from_str(&list).expect("a list");
        let expected = [("late", false), ("fine", false), ("sound", true)].map(|(name, good)| (name.to_owned(), good));
        assert_eq!(names(&list), expected);
    }

    fn guarded(name: &str, levels: usize) -> Guarded<AuditTrail> {
        serde_json::from_str(&trail(name, levels)).expect("guarded")
    }

    #[test]
    fn an_object_that_cannot_be_read_any_more_is_as_good_as_gone() {
        let sound = |_: &ObjectMeta| guarded("acme", 3).0.ok();
        for event in [Event::Apply(guarded("acme", 200)), Event::Delete(guarded("acme", 200))] {
            assert!(matches!(readable(event.clone(), sound), Some(Event::Delete(_))));
            assert!(readable(event, |_| None).is_none());
        }
        assert!(readable(Event::InitApply(guarded("acme", 200)), sound).is_none());
        assert!(matches!(readable(Event::Apply(guarded("acme", 3)), sound), Some(Event::Apply(_))));
    }
}
