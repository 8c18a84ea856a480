//! A forwarding that asks for its source in another workspace, or in its own by another way.

use crate::fixture::SOON;
use crate::scene::{DOCUMENT_SECRET, KEY_SECRET, Scene, TOKEN, key, listen, serve, slug};
use audittrail_crds::AuditForwarding;
use audittrail_crds::document::Forwarding;
use audittrail_crds::forwarding::Region;
use audittrail_operator::forwarding::source::secret::API_ANNOTATION;
use audittrail_source::Source;
use audittrail_source::public_api::{Fault, Step};
use http::Method;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use serde_json::json;

/// The token of the other workspace.
const OTHER_TOKEN: &str = "sgp_the-other-token";

/// Another workspace with a token of its own. It has a source already, so that the next one's id is not that of the first
/// one's first.
async fn another_workspace() -> (Source, String) {
    let (source, endpoint) = serve().await;
    source.workspace().set_token(OTHER_TOKEN);
    source.workspace().make("another");
    (source, endpoint)
}

#[tokio::test]
async fn the_key_of_one_workspace_never_goes_to_the_region_of_another() {
    let Some(scene) = Scene::new("moved").await else { return };
    let (other, other_api) = another_workspace().await;
    scene.ask_in("US", &scene.endpoint).await;
    scene.is_made().await;
    let old = scene.workspace().sources()[0].clone();
    let before = scene.setup.appears::<Secret>(DOCUMENT_SECRET).await.resource_version().expect("a version");
    scene.ask_in("EU", &other_api).await;
    scene.setup.forwarding_says("to-source", "TokenRefused").await;
    scene.setup.secret("token", json!({"token": OTHER_TOKEN})).await;
    let eu = Region::Eu.endpoint();
    scene.delivers("has the other region", |entry| entry.enabled && entry.endpoint == eu).await;
    let new = other.workspace().sources()[1].clone();
    let in_force = |one: &&Forwarding| one.enabled && one.endpoint == eu;
    let in_eu = scene.documents(&before, |document| document.forwardings.iter().any(|one| in_force(&one))).await;
    let keys: Vec<_> = in_eu.iter().flat_map(|document| &document.forwardings).filter(|one| one.enabled).collect();
    assert!(keys.iter().all(|one| (one.endpoint == eu) == (one.write_key.reveal() == new.write_key)), "{keys:?}");
    // The old source cannot be deleted with the other workspace's token: it stays, and is named.
    assert_eq!(scene.workspace().sources().as_slice(), std::slice::from_ref(&old));
    let (type_, note) = scene.event("SourceReplaced").await;
    let named = [&old.id, &old.slug, &new.id, &scene.endpoint, &other_api];
    assert!(type_ == "Warning" && named.iter().all(|name| note.contains(*name)), "{note}");
    // Ids are of one workspace: nobody was asked there for that of the old source.
    assert!(other.workspace().requests().iter().all(|line| !line.ends_with(&old.id)), "{:?}", other.workspace());
    scene.setup.delete::<AuditForwarding>("to-source").await;
    scene.is_gone(SOON).await;
    assert_eq!((other.workspace().sources().len(), scene.workspace().sources().len()), (1, 1));
}

#[tokio::test]
async fn a_source_that_stays_in_another_workspace_is_named_when_the_forwarding_goes() {
    let Some(scene) = Scene::new("stays").await else { return };
    let (other, other_api) = another_workspace().await;
    other.workspace().set_token(TOKEN);
    other.workspace().script(vec![Fault::new(&Method::POST, Step::Status(422)); 10]);
    scene.ask_in("US", &scene.endpoint).await;
    let made = scene.is_made().await;
    scene.ask_in("EU", &other_api).await;
    scene.setup.forwarding_says("to-source", "SourceRefused").await;
    scene.setup.delete::<AuditForwarding>("to-source").await;
    scene.is_gone(SOON).await;
    let (_, note) = scene.event("SourceNotDeleted").await;
    let named = [&slug(&made), &scene.workspace().sources()[0].id, &scene.endpoint];
    assert!(named.iter().all(|name| note.contains(*name)), "{note}");
}

#[tokio::test]
async fn another_way_to_the_same_workspace_keeps_source_and_key() {
    let Some(scene) = Scene::new("otherway").await else { return };
    let api = listen(&scene.source).await;
    scene.ask_in("US", &scene.endpoint).await;
    scene.is_made().await;
    let before = scene.setup.appears::<Secret>(KEY_SECRET).await;
    scene.ask_in("US", &api).await;
    let renewed = |secret: &Secret| secret.annotations().get(API_ANNOTATION) == Some(&api);
    let after = scene.setup.becomes::<Secret>(KEY_SECRET, "has the other Public API", renewed).await;
    assert_eq!(key(&after), key(&before));
    scene.setup.forwarding_says("to-source", "TrailNotReady").await;
    assert_eq!(scene.workspace().made(), 1);
}
