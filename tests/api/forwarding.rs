//! `AuditForwarding` on a real API server: its part of the trail's document, and what it says
//! when something that it names is not there.

mod fixture;

use audittrail_crds::AuditForwarding;
use audittrail_crds::document::{Compression, Document, Format, Forwarding, StartFrom};
use fixture::{Setup, condition, setup};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt;
use kube::api::PostParams;
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;

fn entry<'a>(document: &'a Document, name: &str) -> Option<&'a Forwarding> {
    document.forwardings.iter().find(|entry| entry.name == name)
}

/// A trail `acme`, and a Secret `source` for forwardings of it.
async fn with_trail(namespace: &str) -> Option<Setup> {
    let setup = setup(namespace).await?;
    setup.secret("source", json!({"writeKey": "source-key"})).await;
    setup.trail("acme", json!({})).await;
    setup.trail_says("acme", "StorageNotReady").await;
    Some(setup)
}

#[tokio::test]
async fn a_forwarding_comes_into_the_document_and_leaves_it() {
    let Some(setup) = with_trail("comes").await else { return };
    let before = setup.document("acme", "is there", |_| true).await;
    setup.forwarding("to-source", "acme", "source").await;
    let with = setup.document("acme", "has the entry", |document| entry(document, "to-source").is_some()).await;
    let made = entry(&with, "to-source").expect("the entry");
    assert!(with.generation > before.generation && made.generation == with.generation);
    assert_eq!(
        (made.endpoint.as_str(), made.enabled, &made.start_from),
        ("https://source.example", true, &StartFrom::Now)
    );
    assert_eq!(made.write_key.reveal(), "source-key");
    setup.delete::<AuditForwarding>("to-source").await;
    let without = setup.document("acme", "has no entry", |document| document.forwardings.is_empty()).await;
    assert!(without.generation > with.generation);
}

#[tokio::test]
async fn a_toggle_moves_the_generation_of_its_own_entry_only() {
    let Some(setup) = with_trail("toggle").await else { return };
    for name in ["one", "two"] {
        setup.forwarding(name, "acme", "source").await;
    }
    let both = setup.document("acme", "has both", |document| document.forwardings.len() == 2).await;
    setup.patch::<AuditForwarding>("two", json!({"spec": {"enabled": false}})).await;
    let off = |document: &Document| entry(document, "two").is_some_and(|entry| !entry.enabled);
    let after = setup.document("acme", "has one off", off).await;
    let generation = |document: &Document, name: &str| entry(document, name).expect("an entry").generation;
    assert_eq!(generation(&after, "one"), generation(&both, "one"));
    assert_eq!(generation(&after, "two"), after.generation);
}

#[tokio::test]
async fn what_is_sent_and_how_moves_the_generation_and_the_hash_of_its_own_entry_only() {
    let Some(setup) = with_trail("sent").await else { return };
    for name in ["one", "two"] {
        setup.forwarding(name, "acme", "source").await;
    }
    let mut before = setup.document("acme", "has both", |document| document.forwardings.len() == 2).await;
    for spec in [
        json!({"filter": {"include": [{"area": ["Users"]}], "exclude": [{"outcome": ["success"]}]}}),
        json!({"filter": {"exclude": null}}),
        json!({"filter": null}),
        json!({"format": "SegmentAudit"}),
        json!({"delivery": {"maxBatchEvents": 100}}),
        json!({"delivery": {"maxBatchBytes": 100_000}}),
        json!({"delivery": {"maxEventsPerSecond": 10}}),
        json!({"delivery": {"compression": "Gzip"}}),
    ] {
        setup.patch::<AuditForwarding>("two", json!({"spec": spec})).await;
        let after =
            setup.document("acme", &format!("has {spec}"), |document| document.generation > before.generation).await;
        let of = |document: &Document, name: &str| {
            let entry = entry(document, name).expect("an entry");
            (entry.generation, entry.configuration_hash())
        };
        assert_eq!(of(&after, "one"), of(&before, "one"), "{spec}");
        assert_eq!(of(&after, "two").0, after.generation, "{spec}");
        assert_ne!(of(&after, "two").1, of(&before, "two").1, "{spec}");
        before = after;
    }
    let two = entry(&before, "two").expect("an entry");
    assert_eq!((two.format, two.delivery.compression), (Format::SegmentAudit, Compression::Gzip));
    assert_eq!(two.delivery.max_batch_events, Some(100));
}

#[tokio::test]
async fn a_new_key_in_the_secret_reaches_the_document() {
    let Some(setup) = with_trail("rotation").await else { return };
    setup.forwarding("to-source", "acme", "source").await;
    setup.document("acme", "has the entry", |document| entry(document, "to-source").is_some()).await;
    setup.secret("source", json!({"writeKey": "another-key"})).await;
    let rotated =
        |document: &Document| entry(document, "to-source").is_some_and(|one| one.write_key.reveal() == "another-key");
    setup.document("acme", "has the new key", rotated).await;
}

#[tokio::test]
async fn a_missing_secret_is_named_and_blocks_no_other_forwarding() {
    let Some(setup) = with_trail("absent").await else { return };
    setup.forwarding("broken", "acme", "nowhere").await;
    setup.forwarding("sound", "acme", "source").await;
    let broken = setup.forwarding_says("broken", "SecretMissing").await;
    assert!(condition(&broken, "Ready").message.contains("Secret nowhere does not exist"));
    assert_eq!(condition(&broken, "ReferencesResolved").status, "False");
    assert_eq!(condition(&broken, "Stalled").status, "True");
    let both = |document: &Document| entry(document, "sound").is_some() && entry(document, "broken").is_some();
    let document = setup.document("acme", "has both", both).await;
    assert!(entry(&document, "sound").is_some_and(|entry| entry.enabled));
    let incomplete = |document: &Document| {
        entry(document, "broken")
            .is_some_and(|entry| entry.incomplete && !entry.enabled && entry.write_key.reveal().is_empty())
    };
    assert!(incomplete(&document));

    setup.secret("nowhere", json!({"other": "x"})).await;
    let broken = setup.forwarding_says("broken", "SecretInvalid").await;
    assert!(condition(&broken, "Ready").message.contains("Secret nowhere: key writeKey is not there"));
    setup.secret("nowhere", json!({"writeKey": "found"})).await;
    let broken = setup.forwarding_says("broken", "TrailNotReady").await;
    assert_eq!(condition(&broken, "ReferencesResolved").status, "True");
    let complete = |document: &Document| entry(document, "broken").is_some_and(|entry| entry.enabled);
    setup.document("acme", "has all of it", complete).await;

    setup.delete::<Secret>("nowhere").await;
    setup.forwarding_says("broken", "SecretMissing").await;
    setup.document("acme", "lacks something again", incomplete).await;
}

#[tokio::test]
async fn certificates_of_the_source_are_checked() {
    let Some(setup) = with_trail("authorities").await else { return };
    setup.forwarding("to-source", "acme", "source").await;
    let reference = json!({"caConfigMapRef": {"name": "authorities", "key": "bundle.pem"}});
    setup.patch::<AuditForwarding>("to-source", json!({"spec": {"source": {"httpApi": reference}}})).await;
    setup.forwarding_says("to-source", "ConfigMapMissing").await;
    let map = json!({"metadata": {"name": "authorities"}, "data": {"bundle.pem": "nonsense"}});
    let map: ConfigMap = serde_json::from_value(map).expect("a ConfigMap");
    setup.api().create(&PostParams::default(), &map).await.expect("created");
    let forwarding = setup.forwarding_says("to-source", "ConfigMapInvalid").await;
    assert!(condition(&forwarding, "Ready").message.contains("key bundle.pem must be PEM certificates"));
    let key = KeyPair::generate().expect("a key");
    let bundle = CertificateParams::default().self_signed(&key).expect("a certificate").pem();
    setup.patch::<ConfigMap>("authorities", json!({"data": {"bundle.pem": bundle}})).await;
    let trusted =
        |document: &Document| entry(document, "to-source").is_some_and(|one| one.ca.as_ref() == Some(&bundle));
    setup.document("acme", "has the certificate", trusted).await;
}

#[tokio::test]
async fn a_forwarding_waits_for_its_trail() {
    let Some(setup) = setup("orphan").await else { return };
    setup.secret("source", json!({"writeKey": "source-key"})).await;
    setup.forwarding("to-source", "acme", "source").await;
    let forwarding = setup.forwarding_says("to-source", "TrailMissing").await;
    assert_eq!(condition(&forwarding, "Stalled").status, "True");
    setup.trail("acme", json!({})).await;
    let forwarding = setup.forwarding_says("to-source", "TrailNotReady").await;
    let message = condition(&forwarding, "Ready").message;
    assert!(message.contains("AuditTrail acme is not ready: StorageNotReady"), "{message}");
    assert!(forwarding.finalizers().is_empty());
}
