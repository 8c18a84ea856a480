//! What becomes of a source when its forwarding goes, or asks for it no more.

use crate::fixture::SOON;
use crate::scene::{KEY_SECRET, OTHER_ANNOTATION, OTHER_FINALIZER, Scene, slug};
use audittrail_crds::AuditForwarding;
use audittrail_operator::forwarding::source::tie;
use audittrail_source::public_api::{Fault, Step};
use audittrail_tests::cluster::eventually;
use http::Method;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams};
use serde_json::json;
use std::time::{Duration, Instant};

/// A minute, a last try of five seconds, and the rounds.
const GIVES_UP_WITHIN: Duration = Duration::from_secs(68);

#[tokio::test]
async fn delete_deletes_the_source_and_retain_keeps_it() {
    let Some(scene) = Scene::new("policies").await else { return };
    scene.ask("Delete").await;
    scene.is_made().await;
    scene.is_tied(true).await;
    scene.setup.delete::<AuditForwarding>("to-source").await;
    scene.is_gone(SOON).await;
    assert_eq!(scene.workspace().sources(), []);
    // No controller collects garbage here, so the Secret of the first one is still there.
    scene.ask("Retain").await;
    scene.setup.forwarding_says("to-source", "SourceNotCreated").await;
    scene.setup.delete::<Secret>(KEY_SECRET).await;
    scene.is_made().await;
    scene.setup.delete::<AuditForwarding>("to-source").await;
    scene.is_gone(SOON).await;
    assert_eq!((scene.workspace().sources().len(), scene.workspace().made()), (1, 2));
}

#[tokio::test]
async fn the_finalizer_is_there_before_the_source_is() {
    let Some(scene) = Scene::new("before").await else { return };
    scene.workspace().outage(Some(Step::Status(500)));
    scene.ask("Delete").await;
    scene.is_tied(true).await;
    assert_eq!(scene.workspace().made(), 0);
    // Nothing was made: what cannot be found is deleted.
    scene.workspace().outage(None);
    scene.setup.delete::<AuditForwarding>("to-source").await;
    scene.is_gone(SOON).await;
    assert_eq!(scene.workspace().sources(), []);
}

#[tokio::test]
async fn a_source_that_nobody_wrote_down_is_found_by_its_slug_and_deleted() {
    let Some(scene) = Scene::new("unwritten").await else { return };
    scene.workspace().script([Fault::new(&Method::POST, Step::DoThenHang)]);
    scene.ask("Delete").await;
    scene.workspace_becomes("the source is made", |workspace| workspace.made() == 1).await;
    scene.setup.delete::<AuditForwarding>("to-source").await;
    scene.is_gone(SOON).await;
    assert_eq!(scene.workspace().sources(), []);
}

#[tokio::test]
async fn a_source_that_was_made_anew_by_hand_is_found_by_its_slug_and_deleted() {
    let Some(scene) = Scene::new("byslug").await else { return };
    scene.ask("Delete").await;
    let slug = slug(&scene.is_made().await);
    scene.workspace().remove(&slug);
    scene.workspace().make(&slug);
    scene.setup.delete::<AuditForwarding>("to-source").await;
    scene.is_gone(SOON).await;
    assert_eq!(scene.workspace().sources(), []);
}

#[tokio::test]
async fn a_deletion_whose_answers_fail_is_tried_again() {
    let Some(scene) = Scene::new("stumbles").await else { return };
    scene.ask("Delete").await;
    scene.is_made().await;
    let faults = [Step::Status(500), Step::Overload(1000), Step::DoThenReset];
    scene.workspace().script(faults.map(|step| Fault::new(&Method::DELETE, step)));
    scene.setup.delete::<AuditForwarding>("to-source").await;
    // The last one did it, and the answer after it is 404.
    scene.is_gone(SOON).await;
    assert_eq!((scene.workspace().sources().len(), scene.workspace().script_left()), (0, 0));
}

#[tokio::test]
async fn an_api_that_is_gone_delays_a_deletion_by_a_minute_at_most() {
    let Some(scene) = Scene::new("apigone").await else { return };
    scene.ask("Delete").await;
    let made = scene.is_made().await;
    scene.workspace().outage(Some(Step::Hang));
    let start = Instant::now();
    scene.setup.delete::<AuditForwarding>("to-source").await;
    scene.is_gone(GIVES_UP_WITHIN).await;
    println!("a deletion with a Public API that hangs took {:?}", start.elapsed());
    let (type_, note) = scene.event("SourceNotDeleted").await;
    let id = &scene.workspace().sources()[0].id;
    assert!(type_ == "Warning" && note.contains(&slug(&made)) && note.contains(id), "{note}");
}

#[tokio::test]
async fn a_token_that_is_gone_or_refused_ends_a_deletion_at_once() {
    for (namespace, token) in [("tokengone", None), ("tokenbad", Some("sgp_revoked"))] {
        let Some(scene) = Scene::new(namespace).await else { return };
        scene.ask("Delete").await;
        let made = scene.is_made().await;
        match token {
            None => scene.setup.delete::<Secret>("token").await,
            Some(token) => scene.setup.secret("token", json!({"token": token})).await,
        }
        scene.setup.delete::<AuditForwarding>("to-source").await;
        scene.is_gone(SOON).await;
        let (_, note) = scene.event("SourceNotDeleted").await;
        assert!(note.contains(&slug(&made)), "{note}");
        assert_eq!(scene.workspace().sources().len(), 1);
    }
}

#[tokio::test]
async fn a_namespace_that_goes_is_not_held_up() {
    let Some(scene) = Scene::new("going").await else { return };
    scene.ask("Delete").await;
    scene.is_made().await;
    let namespaces = Api::<Namespace>::all(scene.setup.client.clone());
    namespaces.delete("going", &DeleteParams::default()).await.expect("it can be deleted");
    let terminating = |namespace: Namespace| {
        let phase = namespace.status.and_then(|status| status.phase);
        if phase.as_deref() == Some("Terminating") { Ok(()) } else { Err(format!("{phase:?}")) }
    };
    eventually("the namespace terminates", SOON, || async {
        terminating(namespaces.get("going").await.map_err(|error| error.to_string())?)
    })
    .await;
    // What the namespace's controller does; there is none here. Nothing may be made in the namespace any more, Events neither.
    scene.setup.delete::<Secret>("token").await;
    scene.setup.delete::<AuditForwarding>("to-source").await;
    scene.is_gone(SOON).await;
    assert_eq!(scene.workspace().sources().len(), 1);
}

#[tokio::test]
async fn a_forwarding_that_names_a_key_instead_lets_its_source_go_by_its_policy() {
    for (namespace, policy, left) in [("switch-delete", "Delete", 0), ("switch-retain", "Retain", 1)] {
        let Some(scene) = Scene::new(namespace).await else { return };
        scene.setup.secret("named", json!({"writeKey": "named-key"})).await;
        scene.ask(policy).await;
        scene.is_made().await;
        scene.select().await;
        scene.delivers("has the named key", |entry| entry.write_key.reveal() == "named-key").await;
        scene.is_tied(false).await;
        assert_eq!(scene.workspace().sources().len(), left, "{policy}");
        let secret = scene.setup.api::<Secret>().get_opt(KEY_SECRET).await.expect("asked");
        assert_eq!(secret.is_some(), left == 1, "{policy}");
        if left == 0 {
            let cleared =
                |one: &AuditForwarding| one.status.as_ref().is_some_and(|status| status.created_source.is_none());
            scene.setup.becomes("to-source", "names no source", cleared).await;
        }
    }
}

#[tokio::test]
async fn a_policy_that_becomes_retain_lets_go_of_the_finalizer() {
    let Some(scene) = Scene::new("becomes").await else { return };
    scene.ask("Delete").await;
    scene.is_made().await;
    scene.is_tied(true).await;
    scene.ask("Retain").await;
    let untied = scene.is_tied(false).await;
    assert!(untied.annotations().is_empty(), "{:?}", untied.annotations());
    scene.setup.delete::<AuditForwarding>("to-source").await;
    scene.is_gone(SOON).await;
    assert_eq!(scene.workspace().sources().len(), 1);
}

#[tokio::test]
async fn a_finalizer_that_came_with_the_manifest_holds_up_nothing() {
    let Some(scene) = Scene::new("restored").await else { return };
    scene.restore(&[tie::FINALIZER]).await;
    scene.is_made().await;
    scene.setup.delete::<AuditForwarding>("to-source").await;
    scene.is_gone(SOON).await;
    assert_eq!(scene.workspace().sources(), []);
}

#[tokio::test]
async fn a_policy_that_becomes_retain_lets_go_of_a_finalizer_of_the_manifest_and_of_no_other() {
    let Some(scene) = Scene::new("letsgo").await else { return };
    scene.restore(&[tie::FINALIZER, OTHER_FINALIZER]).await;
    scene.is_made().await;
    let retain = json!({"spec": {"source": {"httpApi": {"create": {"deletionPolicy": "Retain"}}}}});
    scene.setup.patch::<AuditForwarding>("to-source", retain).await;
    let untied = scene.is_tied(false).await;
    assert_eq!(untied.finalizers(), [OTHER_FINALIZER]);
    assert_eq!(untied.annotations().keys().collect::<Vec<_>>(), [OTHER_ANNOTATION]);
    scene.setup.patch::<AuditForwarding>("to-source", json!({"metadata": {"finalizers": null}})).await;
}
