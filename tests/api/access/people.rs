//! People: those of an OpenID Connect issuer, and those with client certificates.

use crate::scene::{IN_FORCE_WITHIN, Scene, scene};
use audittrail_crds::AuditTrail;
use audittrail_crds::document::{Access, ApiServerTokens};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::{Api, PostParams};
use rcgen::KeyPair;
use serde_json::json;
use std::path::Path;

/// An hour, in seconds.
const HOUR: i64 = 3600;

const JANE: &str = "jane@acme.example";

#[tokio::test(flavor = "multi_thread")]
async fn people_read_with_what_they_sign_in_with() {
    let Some(scene) = scene("people-oidc").await else { return };
    let issuer = scene.control_plane.issuer();
    let jane = issuer.claims(JANE, &[]);
    assert_eq!(scene.read(&issuer.token(&jane)).await.status, 200);
    let by_group = issuer.claims("kim@acme.example", &["staff", "auditors"]);
    assert_eq!(scene.read(&issuer.token(&by_group)).await.status, 200);
    let neither = issuer.claims("eve@acme.example", &["staff"]);
    scene
        .read(&issuer.token(&neither))
        .await
        .refuses(403, "user \"oidc:eve@acme.example\" may not get audittrails/events of \"acme\"");
    scene.write(&issuer.token(&jane)).await.refuses(403, "may not create audittrails/events");

    let mut expired = jane.clone();
    (expired["iat"], expired["exp"]) = (
        json!(jane["iat"].as_i64().expect("a time") - 2 * HOUR),
        json!(jane["exp"].as_i64().expect("a time") - 2 * HOUR),
    );
    scene.read(&issuer.token(&expired)).await.refuses(401, "the cluster does not know this token, or it has expired");
    let mut of_another_client = jane.clone();
    of_another_client["aud"] = json!("wiki");
    scene.read(&issuer.token(&of_another_client)).await.refuses(401, "the cluster does not know this token");
    let forged = issuer.token_by(&KeyPair::generate().expect("a key"), &jane);
    scene.read(&forged).await.refuses(401, "the cluster does not know this token");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_for_the_api_server_can_be_refused() {
    let Some(scene) = scene("people-refused").await else { return };
    let issuer = scene.control_plane.issuer();
    let token = issuer.token(&issuer.claims(JANE, &[]));
    assert_eq!(scene.read(&token).await.status, 200);
    scene.setup.patch::<AuditTrail>("acme", json!({"spec": {"access": {"apiServerTokens": "Refuse"}}})).await;
    let refuses = |access: &Access| matches!(access, Access::Kubernetes(cluster) if cluster.api_server_tokens == ApiServerTokens::Refuse);
    scene.setup.document("acme", "refuses them", |document| refuses(&document.access)).await;
    // What was decided under the other rule does not count any more.
    let told = scene.becomes(401, &token, IN_FORCE_WITHIN).await;
    told.refuses(401, "the token of user \"oidc:jane@acme.example\" was made for the API server");
    let command =
        "kubectl create token acme-owner --namespace=people-refused --audience=acme-collector.people-refused.svc";
    told.refuses(401, command);
    // The command is good as it stands, for a person who signs in.
    let kubeconfig = scene.control_plane.bearer("people-refused-jane", &token, scene.control_plane.port());
    let minted = mint(&scene, &kubeconfig, command).expect("an owner may");
    assert_eq!(scene.read(&minted).await.status, 200);
    assert_eq!(scene.read(&scene.token("reader")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn people_with_certificates_mint_a_token_if_they_are_owners() {
    let Some(scene) = scene("people-certificates").await else { return };
    let command =
        format!("kubectl create token acme-owner --namespace=people-certificates --audience={}", scene.audience());
    for owner in [scene.control_plane.person("bo", "staff"), scene.control_plane.person("sue", "security")] {
        let token = mint(&scene, &owner, &command).expect("an owner may");
        assert_eq!(scene.read(&token).await.status, 200);
        scene.write(&token).await.refuses(403, "may not create audittrails/events");
        // Of this one account, and no other.
        let other = command.replace("acme-owner", "acme-collector");
        let refused = mint(&scene, &owner, &other).expect_err("not the collector's");
        assert!(refused.contains("is forbidden"), "{refused}");
    }
    let stranger = scene.control_plane.person("eve", "staff");
    let refused = mint(&scene, &stranger, &command).expect_err("only owners may");
    assert!(refused.contains("is forbidden"), "{refused}");
}

/// What the two reviews of `access/reviews.rs` rest upon.
#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_vouches_for_people_only_under_its_own_audience() {
    let Some(scene) = scene("people-reviewed").await else { return };
    let issuer = scene.control_plane.issuer();
    let (jane, reader) = (issuer.token(&issuer.claims(JANE, &[])), scene.token("reader"));
    let (trail, own) = (scene.audience(), "https://kubernetes.default.svc".to_owned());

    let plain = review(&scene, &jane, None).await;
    assert_eq!((plain.authenticated, plain.audiences), (Some(true), Some(vec![own.clone()])));
    let for_trail = review(&scene, &jane, Some(vec![trail.clone()])).await;
    assert_ne!(for_trail.authenticated, Some(true));
    // One review would do for those who know the API server's audience.
    let both = Some(vec![trail.clone(), own.clone()]);
    let for_both = review(&scene, &jane, both.clone()).await;
    assert_eq!((for_both.authenticated, for_both.audiences), (Some(true), Some(vec![own])));
    let account = review(&scene, &reader, both).await;
    assert_eq!((account.authenticated, account.audiences), (Some(true), Some(vec![trail])));
}

async fn review(scene: &Scene, token: &str, audiences: Option<Vec<String>>) -> TokenReviewStatus {
    let review =
        TokenReview { spec: TokenReviewSpec { token: Some(token.to_owned()), audiences }, ..TokenReview::default() };
    let reviews = Api::all(scene.setup.client.clone());
    reviews.create(&PostParams::default(), &review).await.expect("a review").status.expect("a status")
}

/// Runs such a command as the person whose kubeconfig this is.
fn mint(scene: &Scene, kubeconfig: &Path, command: &str) -> Result<String, String> {
    let arguments: Vec<&str> = command.split(' ').skip(1).collect();
    scene.control_plane.kubectl_as(kubeconfig, &arguments, "").map(|token| token.trim().to_owned())
}
