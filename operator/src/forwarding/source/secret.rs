//! The Secret with the write key of a source of its own. Pure.

use super::attempts::Key;
use super::tie;
use crate::names::{Component, Names};
use crate::secret_text::has_value;
use audittrail_crds::AuditForwarding;
use audittrail_crds::document::Sensitive;
use audittrail_crds::forwarding::WRITE_KEY;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::{Resource, ResourceExt};
use std::collections::BTreeMap;

/// On the Secret: base URL of the Public API that the key is from. A key is of one workspace, and so of one Public API.
pub const API_ANNOTATION: &str = "audittrail.dev/source-api";

/// Whose the Secret is that the write key goes into.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Holder {
    /// There is none.
    Nobody,
    /// This forwarding's.
    Ours,
    /// That of a forwarding of the same name which was deleted.
    Leaving,
    /// Somebody else's: it is neither used nor overwritten.
    Foreign,
}

/// Whose `secret` is.
pub fn holder(forwarding: &AuditForwarding, secret: Option<&Secret>) -> Holder {
    let Some(secret) = secret else { return Holder::Nobody };
    let Some(owner) = forwarding.controller_owner_ref(&()) else { return Holder::Foreign };
    let any = |test: &dyn Fn(&OwnerReference) -> bool| secret.owner_references().iter().any(test);
    if any(&|one| one.uid == owner.uid) {
        Holder::Ours
    } else if any(&|one| (&one.kind, &one.name) == (&owner.kind, &owner.name)) {
        Holder::Leaving
    } else {
        Holder::Foreign
    }
}

/// Whether `secret` is this forwarding's and has the write key of the source that it asks for. A key of another Public API
/// is none: Segment answers 200 to any, so what is sent with it would be lost and count as delivered.
pub fn key(forwarding: &AuditForwarding, secret: Option<&Secret>) -> Key {
    let ours = secret.filter(|_| holder(forwarding, secret) == Holder::Ours);
    let of_the_asked = api(secret) == tie::api_endpoint(forwarding);
    if of_the_asked && ours.is_some_and(|secret| has_value(secret, WRITE_KEY)) { Key::Kept } else { Key::Lacking }
}

/// Base URL of the Public API that the key in `secret` is from.
pub fn api(secret: Option<&Secret>) -> Option<&str> {
    secret?.annotations().get(API_ANNOTATION).map(String::as_str)
}

/// The write key in `secret`.
pub fn present(secret: Option<&Secret>) -> Option<&str> {
    let bytes = secret?.data.as_ref()?.get(WRITE_KEY)?;
    str::from_utf8(&bytes.0).ok()
}

/// The Secret as it must be, with a key from the Public API that `forwarding` names. It goes with the forwarding.
pub fn build(forwarding: &AuditForwarding, key: &Sensitive) -> Secret {
    let names =
        Names { namespace: forwarding.namespace().unwrap_or_default(), trail: forwarding.spec.trail_ref.name.clone() };
    Secret {
        metadata: ObjectMeta {
            name: Some(forwarding.write_key_secret().name),
            namespace: Some(names.namespace.clone()),
            labels: Some(names.labels(Component::Access)),
            annotations: tie::api_endpoint(forwarding)
                .map(|api| BTreeMap::from([(API_ANNOTATION.to_owned(), api.to_owned())])),
            owner_references: forwarding.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(BTreeMap::from([(WRITE_KEY.to_owned(), ByteString(key.reveal().as_bytes().to_vec()))])),
        ..Secret::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forwarding::source::tests::asking;
    use audittrail_crds::forwarding::Region;

    fn owned(change: impl FnOnce(&mut OwnerReference)) -> Secret {
        let mut secret = build(&asking("Retain"), &Sensitive::new("key"));
        change(&mut secret.metadata.owner_references.as_mut().expect("owners")[0]);
        secret
    }

    #[test]
    fn the_secret_is_the_forwardings_own_and_has_our_labels() {
        insta::assert_yaml_snapshot!(build(&asking("Retain"), &Sensitive::new("key")).metadata, @r#"
        annotations:
          audittrail.dev/source-api: "https://api.segmentapis.com"
        labels:
          app.kubernetes.io/component: access
          app.kubernetes.io/instance: acme
          app.kubernetes.io/managed-by: audittrail-operator
          app.kubernetes.io/name: audittrail
          audittrail.dev/trail: acme
        name: to-source-source
        namespace: ns
        ownerReferences:
          - apiVersion: audittrail.dev/v1alpha1
            controller: true
            kind: AuditForwarding
            name: to-source
            uid: 3f9cde0a-8a55-4b0c-9f53-0d0c4e2ab001
        "#);
    }

    #[test]
    fn a_secret_is_ours_by_the_uid_of_its_owner() {
        let whose = |secret: &Secret| holder(&asking("Retain"), Some(secret));
        assert_eq!(holder(&asking("Retain"), None), Holder::Nobody);
        assert_eq!(whose(&owned(|_| {})), Holder::Ours);
        assert_eq!(whose(&owned(|owner| owner.uid = "earlier".to_owned())), Holder::Leaving);
        let another = |owner: &mut OwnerReference| (owner.uid, owner.name) = ("other".to_owned(), "other".to_owned());
        assert_eq!(whose(&owned(another)), Holder::Foreign);
        assert_eq!(whose(&crate::testing::secret("to-source-source", &[("writeKey", "key")])), Holder::Foreign);
    }

    #[test]
    fn only_our_own_secret_keeps_the_key() {
        let kept = |secret: &Secret| key(&asking("Retain"), Some(secret));
        assert_eq!(kept(&owned(|_| {})), Key::Kept);
        assert_eq!(kept(&Secret { data: None, ..owned(|_| {}) }), Key::Lacking);
        assert_eq!(kept(&owned(|owner| owner.uid = "earlier".to_owned())), Key::Lacking);
    }

    #[test]
    fn a_key_of_another_public_api_or_of_an_unknown_one_is_not_kept() {
        let mut forwarding = asking("Retain");
        let secret = owned(|_| {});
        forwarding.spec.source.http_api.region = Some(Region::Eu);
        assert_eq!(key(&forwarding, Some(&secret)), Key::Lacking);
        assert_eq!(key(&forwarding, Some(&build(&forwarding, &Sensitive::new("key")))), Key::Kept);
        let mut unknown = owned(|_| {});
        unknown.metadata.annotations = None;
        assert_eq!(key(&asking("Retain"), Some(&unknown)), Key::Lacking);
    }

    #[test]
    fn a_region_and_its_public_api_by_name_are_one() {
        let mut forwarding = asking("Retain");
        let create = forwarding.spec.source.http_api.create.as_mut().expect("it asks");
        create.api_endpoint = Some("https://api.segmentapis.com/".to_owned());
        assert_eq!(key(&forwarding, Some(&owned(|_| {}))), Key::Kept);
    }
}
