//! A source is made once, whatever happens in the middle.

use crate::fixture::SOON;
use crate::scene::{KEY_SECRET, Scene, kill_operator, serve, slug};
use audittrail_crds::AuditForwarding;
use audittrail_operator::forwarding::source::secret::API_ANNOTATION;
use audittrail_source::public_api::{Fault, Step};
use audittrail_tests::cluster::eventually;
use http::Method;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use serde_json::json;
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_source_is_made_and_its_key_kept_in_a_secret_of_the_forwarding() {
    let Some(scene) = Scene::new("made").await else { return };
    scene.ask("Retain").await;
    let forwarding = scene.is_made().await;
    let sources = scene.workspace().sources();
    assert_eq!((sources.len(), sources[0].slug.as_str()), (1, slug(&forwarding).as_str()));
    let created = forwarding.status.as_ref().and_then(|status| status.created_source.clone()).expect("a source");
    assert_eq!((created.id, created.slug), (sources[0].id.clone(), sources[0].slug.clone()));
    scene.delivers("has the key", |entry| entry.write_key.reveal() == sources[0].write_key).await;
    scene.setup.forwarding_says("to-source", "TrailNotReady").await;
    let secret = scene.setup.appears::<Secret>(KEY_SECRET).await;
    let owner = &secret.owner_references()[0];
    assert_eq!((owner.kind.as_str(), Some(&owner.uid)), ("AuditForwarding", forwarding.uid().as_ref()));
    assert_eq!(secret.labels()["app.kubernetes.io/managed-by"], "audittrail-operator");
    assert_eq!(secret.labels()["audittrail.dev/trail"], "acme");
    // Nothing is undone with this one, so nothing holds it.
    assert!(forwarding.finalizers().is_empty());
}

#[tokio::test]
async fn a_source_whose_answer_was_lost_is_found_again_on_its_page() {
    let Some(scene) = Scene::new("lost").await else { return };
    for number in 0..450 {
        scene.workspace().make(&format!("another-{number}"));
    }
    scene.workspace().script([Fault::new(&Method::POST, Step::DoThenReset)]);
    scene.ask("Retain").await;
    let forwarding = scene.is_made().await;
    assert_eq!((scene.workspace().made(), scene.workspace().script_left()), (451, 0));
    assert_eq!(scene.workspace().sources()[450].slug, slug(&forwarding));
}

#[tokio::test]
async fn a_creation_that_is_refused_since_its_source_is_there_takes_that_one() {
    let Some(scene) = Scene::new("taken").await else { return };
    scene.workspace().script([Fault::new(&Method::POST, Step::DoThenStatus(422))]);
    scene.ask("Retain").await;
    scene.is_made().await;
    assert_eq!(scene.workspace().made(), 1);
    assert_eq!(scene.workspace().requests(), ["GET /sources", "POST /sources", "GET /sources"]);
}

#[tokio::test]
async fn an_operator_that_died_between_the_source_and_its_secret_makes_no_second_one() {
    let Some(scene) = Scene::new("died").await else { return };
    scene.workspace().script([Fault::new(&Method::POST, Step::DoThenHang)]);
    scene.ask("Delete").await;
    scene.workspace_becomes("the source is made", |workspace| workspace.made() == 1).await;
    tokio::task::spawn_blocking(kill_operator).await.expect("it is gone");
    assert_eq!(scene.setup.api::<Secret>().get_opt(KEY_SECRET).await.expect("asked"), None);
    // The next scene starts one too, whoever is first.
    crate::scene::start_operator();
    scene.is_made().await;
    assert_eq!(scene.workspace().made(), 1);
}

#[tokio::test]
async fn forwardings_of_one_name_in_two_namespaces_have_a_source_each() {
    let (source, endpoint) = serve().await;
    let Some(one) = Scene::beside("twin-one", source.clone(), endpoint.clone()).await else { return };
    let Some(two) = Scene::beside("twin-two", source, endpoint).await else { return };
    one.ask("Delete").await;
    two.ask("Delete").await;
    let (first, second) = (one.is_made().await, two.is_made().await);
    let mut slugs: Vec<String> = one.workspace().sources().into_iter().map(|source| source.slug).collect();
    let mut expected = [slug(&first), slug(&second)];
    slugs.sort();
    expected.sort();
    assert_eq!(slugs, expected);
    // The end of one is not the end of the other.
    one.setup.delete::<AuditForwarding>("to-source").await;
    one.is_gone(SOON).await;
    assert_eq!(two.workspace().sources().into_iter().map(|source| source.slug).collect::<Vec<_>>(), [slug(&second)]);
}

#[tokio::test]
async fn what_fails_by_itself_is_tried_again_with_pauses_and_said_meanwhile() {
    let Some(scene) = Scene::new("later").await else { return };
    scene.workspace().outage(Some(Step::Status(503)));
    let start = Instant::now();
    scene.ask("Retain").await;
    let forwarding = scene.setup.forwarding_says("to-source", "SourceNotCreated").await;
    let ready = crate::fixture::condition(&forwarding, "Ready");
    assert_eq!(crate::fixture::condition(&forwarding, "Reconciling").status, "True");
    assert!(ready.message.contains("it answered 503: scripted"), "{}", ready.message);
    // One, two and four seconds lie between them; a restart of the operator, which another test does, is one more.
    scene.workspace_becomes("four attempts", |workspace| workspace.requests().len() >= 4).await;
    assert!(start.elapsed() > Duration::from_secs(3), "{:?}", start.elapsed());
    scene.workspace().outage(None);
    scene.is_made().await;
    assert_eq!(scene.workspace().made(), 1);
}

#[tokio::test]
async fn a_reset_connection_and_an_overload_pass_too() {
    let Some(scene) = Scene::new("passes").await else { return };
    scene.workspace().script([
        Fault::new(&Method::GET, Step::Reset),
        Fault::new(&Method::GET, Step::Overload(2000)),
        Fault::new(&Method::POST, Step::Status(500)),
    ]);
    scene.ask("Retain").await;
    scene.is_made().await;
    assert_eq!((scene.workspace().made(), scene.workspace().script_left()), (1, 0));
}

#[tokio::test]
async fn a_secret_that_was_deleted_comes_again_with_the_same_key() {
    let Some(scene) = Scene::new("again").await else { return };
    scene.ask("Retain").await;
    scene.is_made().await;
    let before = scene.setup.appears::<Secret>(KEY_SECRET).await;
    scene.setup.delete::<Secret>(KEY_SECRET).await;
    let anew = |secret: &Secret| secret.uid() != before.uid() && secret.data == before.data;
    scene.setup.becomes::<Secret>(KEY_SECRET, "is there again", anew).await;
    assert_eq!(scene.workspace().made(), 1);
}

#[tokio::test]
async fn a_source_that_is_gone_from_its_workspace_is_made_anew() {
    let Some(scene) = Scene::new("anew").await else { return };
    scene.ask("Retain").await;
    let forwarding = scene.is_made().await;
    let gone = scene.workspace().sources()[0].clone();
    scene.workspace().remove(&slug(&forwarding));
    scene.touch(false).await;
    scene.workspace_becomes("there is another", |workspace| workspace.made() == 2).await;
    let key = scene.workspace().sources()[0].write_key.clone();
    scene.delivers("has the new key", |entry| entry.write_key.reveal() == key).await;
    let (type_, note) = scene.event("SourceReplaced").await;
    assert!(type_ == "Warning" && note.contains(&gone.id) && note.contains(&gone.slug), "{note}");
}

#[tokio::test]
async fn a_source_that_is_switched_off_is_said_so() {
    let Some(scene) = Scene::new("off").await else { return };
    scene.ask("Retain").await;
    let slug = slug(&scene.is_made().await);
    scene.workspace().switch(&slug, false);
    scene.touch(false).await;
    let forwarding = scene.setup.forwarding_says("to-source", "SourceSwitchedOff").await;
    assert!(crate::fixture::condition(&forwarding, "Ready").message.contains(&slug));
    scene.workspace().switch(&slug, true);
    scene.touch(true).await;
    scene.setup.forwarding_says("to-source", "TrailNotReady").await;
}

#[tokio::test]
async fn a_key_that_was_changed_in_the_secret_by_hand_is_put_right() {
    let Some(scene) = Scene::new("byhand").await else { return };
    scene.ask("Retain").await;
    scene.is_made().await;
    scene.setup.patch::<Secret>(KEY_SECRET, json!({"stringData": {"writeKey": "of-nobody"}})).await;
    let key = scene.workspace().sources()[0].write_key.clone();
    eventually("the key of the source", SOON, || async {
        let secret = scene.setup.api::<Secret>().get(KEY_SECRET).await.map_err(|error| error.to_string())?;
        if crate::scene::key(&secret).as_ref() == Some(&key) { Ok(()) } else { Err("another key".to_owned()) }
    })
    .await;
    // Nor is a key used whose Public API is not known.
    let nobodys = json!({"metadata": {"annotations": {API_ANNOTATION: null}}});
    scene.setup.patch::<Secret>(KEY_SECRET, nobodys).await;
    let known = |secret: &Secret| secret.annotations().get(API_ANNOTATION) == Some(&scene.endpoint);
    scene.setup.becomes::<Secret>(KEY_SECRET, "has its Public API", known).await;
}

#[tokio::test]
async fn the_authority_of_the_config_map_is_trusted_for_the_public_api() {
    let Some(scene) = Scene::new("tls").await else { return };
    let (endpoint, certificate) = crate::scene::https(scene.endpoint.clone()).await;
    let create = json!({"tokenSecretRef": {"name": "token"}, "apiEndpoint": endpoint});
    let source = |more: serde_json::Value| {
        let mut source = json!({"region": "US", "create": create});
        source.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        source
    };
    scene.apply(source(json!({}))).await;
    let forwarding = scene.setup.forwarding_says("to-source", "SourceNotCreated").await;
    let tried = |one: &AuditForwarding| crate::fixture::condition(one, "Ready").message.contains("certificate");
    scene.setup.becomes("to-source", "names the certificate", tried).await;
    assert_eq!((scene.workspace().made(), forwarding.finalizers().len()), (0, 0));
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"ca.crt": certificate},
        "metadata": {"name": "authorities", "namespace": scene.setup.namespace}});
    audittrail_tests::cluster::apply(&scene.setup.client, &map.to_string()).await;
    scene.apply(source(json!({"caConfigMapRef": {"name": "authorities"}}))).await;
    scene.is_made().await;
}
