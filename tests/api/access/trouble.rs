//! When the cluster cannot be asked.

use crate::fixture::setup;
use crate::program::{Program, directory};
use crate::scene::{Answer, FORGOTTEN_WITHIN, Scene, make_account, scene};
use audittrail_crds::document::{Access, ClusterAccess, Document};
use audittrail_tests::cluster::{eventually, secret_value};
use audittrail_tests::control_plane::ControlPlane;
use audittrail_tests::postgres::Postgres;
use audittrail_tests::served::{self, DEADLINE};
use reqwest::header::RETRY_AFTER;

#[tokio::test(flavor = "multi_thread")]
async fn while_the_api_server_is_away_readers_are_told_when_to_come_back_and_keys_still_write() {
    let Some(scene) = scene("trouble-away").await else { return };
    let key = secret_value(&scene.setup.client, "trouble-away", "acme-write-key", "writeKey").await;
    let (reader, leaver) = (scene.token("reader"), scene.token("leaver"));
    assert_eq!(scene.read(&reader).await.status, 200);
    scene.network.cut();
    let unknown = scene.read(&leaver).await;
    unknown.refuses(503, "the cluster could not be asked who you are");
    assert_eq!(unknown.headers[RETRY_AFTER], "2");
    assert_eq!(scene.write(&key).await.status, 200);
    // What was decided before holds for its ten seconds, and no longer for that nobody can be asked.
    scene.becomes(503, &reader, FORGOTTEN_WITHIN).await;
    scene.network.resume();
    scene.becomes(200, &leaver, DEADLINE).await;
    scene.becomes(200, &reader, DEADLINE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_hangs_is_a_503_in_time() {
    let Some(scene) = scene("trouble-hangs").await else { return };
    let token = scene.token("leaver");
    scene.network.stall();
    let answer = scene.read(&token).await;
    answer.refuses(503, "the cluster did not answer in time");
    assert_eq!(answer.headers[RETRY_AFTER], "2");
    scene.network.resume();
    scene.becomes(200, &token, DEADLINE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_may_not_ask_lets_nobody_in() {
    let Some(setup) = setup("trouble-unasked").await else { return };
    let Some(control_plane) = ControlPlane::shared() else { return };
    make_account(&setup, "powerless").await;
    let token = control_plane.token("trouble-unasked", "powerless", None);
    let kubeconfig = control_plane.bearer("trouble-unasked", &token, control_plane.port());
    let uri = Postgres::shared().create_database().await;
    let access = Access::Kubernetes(ClusterAccess { audience: "a".to_owned(), ..ClusterAccess::default() });
    let document = Document { access, ..served::document(&uri) };
    let directory = directory();
    let config = directory.path().join("document.json");
    std::fs::write(&config, serde_json::to_vec(&document).expect("JSON")).expect("written");
    let arguments = ["serve", "--config", config.to_str().expect("text")];
    let program = Program::start(directory, &arguments, &[("KUBECONFIG", kubeconfig.to_str().expect("text"))]);
    eventually("it listens", DEADLINE, || async {
        program.get("/livez", "").send().await.map_err(|error| error.to_string())
    })
    .await;
    let answer = Answer::of(program.get(crate::scene::EVENTS, &token)).await;
    answer.refuses(503, "the cluster could not be asked");
    assert_eq!(answer.headers[RETRY_AFTER], "2");
}

/// Nothing of a token may be in what a collector says of a review that failed.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_review_is_logged_without_the_token() {
    let Some(scene) = scene("trouble-logged").await else { return };
    let token = scene.token("leaver");
    scene.network.cut();
    scene.read(&token).await.refuses(503, "the cluster could not be asked");
    said(&scene, "a review failed").await;
    let (_, signature) = token.rsplit_once('.').expect("a JWT");
    assert!(!scene.program.stderr().contains(signature));
}

async fn said(scene: &Scene, words: &str) {
    eventually(&format!("the log says {words}"), DEADLINE, || async {
        let log = scene.program.stderr();
        if log.contains(words) { Ok(()) } else { Err(log) }
    })
    .await;
}
