//! The document, followed in its Secret with the permissions that a collector has.

use crate::fixture::{Setup, setup};
use crate::scene::IN_FORCE_WITHIN;
use audittrail_collector::document::{Follower, Source};
use audittrail_crds::AuditTrail;
use audittrail_crds::document::{Document, SECRET_KEY};
use audittrail_tests::control_plane::ControlPlane;
use audittrail_tests::served;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Client;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::timeout;

/// Name of the Secret and of the collector's account.
const NAME: &str = "acme-collector";

#[tokio::test]
async fn the_document_is_followed_in_its_secret() {
    let Some(setup) = setup("document-followed").await else { return };
    let client = without_its_trail(&setup).await;
    let put = async |text: String| setup.secret(NAME, json!({ SECRET_KEY: text })).await;
    let text = |generation| {
        let document = Document { generation, ..served::document("postgresql://localhost/acme") };
        serde_json::to_string(&document).expect("JSON")
    };

    let mut follower =
        Follower::new(Source::Secret { client, namespace: setup.namespace.clone(), name: NAME.to_owned() });
    // Not there yet, and then unreadable: waited for.
    assert!(timeout(Duration::from_millis(500), follower.first()).await.is_err());
    put("{".to_owned()).await;
    assert!(timeout(Duration::from_millis(500), follower.first()).await.is_err());
    put(text(1)).await;
    let first = timeout(IN_FORCE_WITHIN, follower.first()).await.expect("in time");
    assert_eq!(first.generation, 1);

    let documents = watch::Sender::new(Arc::new(first));
    let mut seen = documents.subscribe();
    let running = tokio::spawn(follower.run(documents));
    let in_force = async |seen: &mut watch::Receiver<Arc<Document>>| {
        timeout(IN_FORCE_WITHIN, seen.changed()).await.expect("in time").expect("followed");
        seen.borrow_and_update().generation
    };
    put(text(3)).await;
    assert_eq!(in_force(&mut seen).await, 3);
    put(text(2)).await;
    setup.delete::<Secret>(NAME).await;
    assert!(timeout(Duration::from_millis(500), seen.changed()).await.is_err());
    put(text(4)).await;
    assert_eq!(in_force(&mut seen).await, 4);
    running.abort();
}

/// A client that is a collector, with what the operator lets it. Its trail is gone, so that the operator leaves the Secret to
/// the test; what owner references reach stays, since no garbage collector runs here.
async fn without_its_trail(setup: &Setup) -> Client {
    setup.trail("acme", json!({})).await;
    setup.appears::<RoleBinding>(NAME).await;
    setup.appears::<Secret>(NAME).await;
    setup.delete::<AuditTrail>("acme").await;
    setup.goes::<AuditTrail>("acme").await;
    setup.delete::<Secret>(NAME).await;
    let control_plane = ControlPlane::shared().expect("setup has it");
    let mut config = control_plane.operator().await;
    config.auth_info.impersonate = Some(format!("system:serviceaccount:{}:{NAME}", setup.namespace));
    Client::try_from(config).expect("a client")
}
