//! What is in the way of a source, and how it is mended.

use crate::fixture::condition;
use crate::scene::{KEY_SECRET, Scene, TOKEN, key};
use audittrail_source::public_api::Step;
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

#[tokio::test]
async fn a_wrong_token_is_said_and_mended_in_its_secret() {
    let Some(scene) = Scene::new("token").await else { return };
    scene.setup.secret("token", json!({"token": "sgp_wrong"})).await;
    scene.ask("Delete").await;
    let forwarding = scene.setup.forwarding_says("to-source", "TokenRefused").await;
    let ready = condition(&forwarding, "Ready");
    assert!(
        ready.message.contains("Secret token") && ready.message.contains("not one of this workspace"),
        "{}",
        ready.message
    );
    assert!(!ready.message.contains("sgp_wrong"), "{}", ready.message);
    assert_eq!(condition(&forwarding, "Stalled").status, "True");
    assert_eq!(scene.workspace().made(), 0);
    scene.setup.secret("token", json!({"token": TOKEN})).await;
    scene.is_made().await;
    scene.setup.forwarding_says("to-source", "TrailNotReady").await;
}

#[tokio::test]
async fn a_missing_token_is_named_and_nobody_is_asked() {
    let Some(scene) = Scene::new("notoken").await else { return };
    scene.setup.delete::<Secret>("token").await;
    scene.ask("Retain").await;
    let forwarding = scene.setup.forwarding_says("to-source", "SecretMissing").await;
    assert!(condition(&forwarding, "Ready").message.contains("Secret token does not exist"));
    assert_eq!(scene.workspace().requests(), Vec::<String>::new());
    scene.setup.secret("token", json!({"other": "x"})).await;
    scene.setup.forwarding_says("to-source", "SecretInvalid").await;
    scene.setup.secret("token", json!({"token": TOKEN})).await;
    scene.is_made().await;
}

#[tokio::test]
async fn once_the_key_is_kept_the_token_may_go() {
    let Some(scene) = Scene::new("spent").await else { return };
    scene.ask("Retain").await;
    scene.is_made().await;
    scene.setup.delete::<Secret>("token").await;
    scene.touch(false).await;
    scene.delivers("is off", |entry| !entry.enabled && !entry.incomplete).await;
    scene.setup.forwarding_says("to-source", "TrailNotReady").await;
}

#[tokio::test]
async fn a_refusal_is_said_in_the_words_of_the_api() {
    let Some(scene) = Scene::new("refused").await else { return };
    scene.workspace().outage(Some(Step::Status(422)));
    scene.ask("Retain").await;
    let forwarding = scene.setup.forwarding_says("to-source", "SourceRefused").await;
    let message = condition(&forwarding, "Ready").message;
    assert!(message.contains("it answered 422: scripted"), "{message}");
    assert_eq!(condition(&forwarding, "Stalled").status, "True");
}

#[tokio::test]
async fn a_server_that_is_no_public_api_is_said_to_be_none() {
    let Some(scene) = Scene::new("elsewhere").await else { return };
    // It answers 404 to every path of the Public API.
    let create = json!({"tokenSecretRef": {"name": "token"}, "apiEndpoint": format!("{}/nowhere/", scene.endpoint)});
    scene.apply(json!({"endpoint": scene.endpoint, "insecure": true, "create": create})).await;
    let forwarding = scene.setup.forwarding_says("to-source", "SourceRefused").await;
    let message = condition(&forwarding, "Ready").message;
    assert!(message.contains("it answered 404"), "{message}");
}

#[tokio::test]
async fn an_address_that_nobody_may_connect_to_is_named() {
    let Some(scene) = Scene::new("metadata").await else { return };
    let create = json!({"tokenSecretRef": {"name": "token"}, "apiEndpoint": "http://169.254.169.254"});
    scene.apply(json!({"endpoint": scene.endpoint, "insecure": true, "create": create})).await;
    let forwarding = scene.setup.forwarding_says("to-source", "SourceRefused").await;
    let message = condition(&forwarding, "Ready").message;
    assert!(message.contains("a cloud metadata address, which is refused"), "{message}");
}

#[tokio::test]
async fn a_secret_of_somebody_else_is_neither_used_nor_overwritten() {
    let Some(scene) = Scene::new("foreign").await else { return };
    scene.setup.secret(KEY_SECRET, json!({"writeKey": "foreign"})).await;
    let before = scene.setup.appears::<Secret>(KEY_SECRET).await;
    scene.ask("Retain").await;
    let forwarding = scene.setup.forwarding_says("to-source", "ApplyFailed").await;
    let message = condition(&forwarding, "Ready").message;
    assert!(
        message.contains("Secret to-source-source exists and does not belong to this AuditForwarding"),
        "{message}"
    );
    // The trail's document is made of the same look at the Secret.
    scene.setup.trail("acme", json!({"retention": "30d"})).await;
    let document =
        scene.setup.document("acme", "has a retention", |document| document.retention_seconds.is_some()).await;
    let keys: Vec<_> = document.forwardings.iter().map(|one| (one.enabled, one.write_key.reveal())).collect();
    assert_eq!(keys, [(false, "")]);
    assert_eq!(scene.setup.appears::<Secret>(KEY_SECRET).await, before);
    assert_eq!(scene.workspace().requests(), Vec::<String>::new());
    scene.setup.delete::<Secret>(KEY_SECRET).await;
    scene.is_made().await;
    let made = scene.setup.appears::<Secret>(KEY_SECRET).await;
    assert_eq!(key(&made).as_ref(), scene.workspace().sources().first().map(|source| &source.write_key));
}
