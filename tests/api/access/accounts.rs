//! Service accounts.

use crate::fixture::SOON;
use crate::scene::{make_account, scene};
use audittrail_tests::cluster::{apply, eventually};
use audittrail_tests::control_plane::{OPERATOR_ACCOUNT, OPERATOR_NAMESPACE};
use audittrail_tests::people::changed;
use k8s_openapi::api::rbac::v1::RoleBinding;
use rcgen::KeyPair;
use reqwest::header::WWW_AUTHENTICATE;
use serde_json::{Value, json};

/// An hour, in seconds.
const HOUR: i64 = 3600;

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_reads_and_a_writer_writes_and_neither_does_more() {
    let Some(scene) = scene("access-accounts").await else { return };
    let (reader, app, stranger) = (scene.token("reader"), scene.token("app"), scene.token("stranger"));
    assert_eq!(scene.read(&reader).await.status, 200);
    let who = "service account \"access-accounts/reader\" may not";
    scene
        .write(&reader)
        .await
        .refuses(403, &format!("{who} create audittrails/events of \"acme\" in namespace \"access-accounts\""));
    scene.get("/v1/status", &reader).await.refuses(403, &format!("{who} get audittrails/health"));
    scene.get("/metrics", &reader).await.refuses(403, "nonResourceURLs [/metrics]");

    assert_eq!(scene.write(&app).await.status, 200);
    scene.read(&app).await.refuses(403, "list them in spec.access.owners of the AuditTrail");

    // The trail has no forwarding, which only those are told who may replay.
    scene.replay(&reader).await.refuses(404, "this trail has no forwarding");
    scene.replay(&app).await.refuses(403, "may not update audittrails/events of \"acme\"");

    scene
        .read(&stranger)
        .await
        .refuses(403, "service account \"access-accounts/stranger\" may not get audittrails/events");
    scene.write(&stranger).await.refuses(403, "may not create");
    scene.replay(&stranger).await.refuses(403, "may not update");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_for_those_who_may_get_the_url() {
    let Some(scene) = scene("access-metrics").await else { return };
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "access-metrics"},
            "rules": [{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "access-metrics"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "access-metrics"},
            "subjects": [{"kind": "ServiceAccount", "name": "stranger", "namespace": "access-metrics"}],
        },
    ]});
    scene.control_plane.kubectl(&["apply", "--server-side", "-f", "-"], &list.to_string());
    let stranger = scene.token("stranger");
    eventually("the metrics are shown", SOON, || async {
        let answer = scene.get("/metrics", &stranger).await;
        if answer.status == 200 { Ok(()) } else { Err(answer.detail) }
    })
    .await;
    scene.read(&stranger).await.refuses(403, "may not get audittrails/events");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_must_be_made_for_this_trail_and_be_alive() {
    let Some(scene) = scene("access-tokens").await else { return };
    let namespace = &scene.setup.namespace;
    let refused = async |token: &str, words: &str| {
        let answer = scene.read(token).await;
        answer.refuses(401, words);
        assert!(answer.headers[WWW_AUTHENTICATE].to_str().expect("text").contains(r#"error="invalid_token""#));
    };
    let how = format!("kubectl create token NAME --audience={}", scene.audience());

    let of_api_server = scene.control_plane.token(namespace, "reader", None);
    refused(&of_api_server, "the token of service account \"access-tokens/reader\" was not made for this trail").await;
    refused(&of_api_server, &how).await;
    let of_another = scene.control_plane.token(namespace, "reader", Some("other-collector.access-tokens.svc"));
    refused(&of_another, "the cluster does not know this token, or it has expired").await;
    refused("not-a-token", &how).await;

    // The same token an hour later; and signed anew without a change, which shows that only the time was wrong.
    let token = scene.token("reader");
    let expired = scene.control_plane.changed(&token, |claims| {
        for claim in ["iat", "nbf", "exp"] {
            claims[claim] = json!(claims[claim].as_i64().expect("a time") - 2 * HOUR);
        }
    });
    refused(&expired, "or it has expired").await;
    assert_eq!(scene.read(&scene.control_plane.changed(&token, |_| {})).await.status, 200);
    let forged = changed(&token, &KeyPair::generate().expect("a key"), |_| {});
    refused(&forged, "the cluster does not know this token").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_of_another_trail_sees_nothing_of_this_one() {
    let Some(scene) = scene("access-others").await else { return };
    make_account(&scene.setup, "neighbour").await;
    let spec = json!({"access": {"owners": [{"kind": "ServiceAccount", "name": "neighbour"}]}});
    scene.setup.trail("other", spec).await;
    scene.setup.appears::<RoleBinding>("other-owner").await;
    let may = ["auth", "can-i", "get", "audittrails.audittrail.dev/other", "--subresource=events"];
    let neighbour = "--as=system:serviceaccount:access-others:neighbour";
    let said = scene.control_plane.kubectl(&[&may[..], &["--namespace=access-others", neighbour]].concat(), "");
    assert_eq!(said.trim(), "yes");
    for account in ["neighbour", "other-owner"] {
        scene.read(&scene.token(account)).await.refuses(403, "may not get audittrails/events of \"acme\"");
        let for_the_other =
            scene.control_plane.token("access-others", account, Some("other-collector.access-others.svc"));
        scene.read(&for_the_other).await.refuses(401, "the cluster does not know this token");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_sees_how_the_trail_is_and_no_event() {
    let Some(scene) = scene("access-operator").await else { return };
    let token = scene.control_plane.token(OPERATOR_NAMESPACE, OPERATOR_ACCOUNT, Some(&scene.audience()));
    assert_eq!(scene.get("/v1/status", &token).await.status, 200);
    for path in ["/v1/events", "/v1/events.csv", "/v1/events/x", "/audit-events", "/v1/forwardings"] {
        assert_eq!(scene.get(path, &token).await.status, 403, "{path}");
    }
    scene.read(&token).await.refuses(403, "this is the operator's account");
    scene.write(&token).await.refuses(403, "this is the operator's account");
    scene.replay(&token).await.refuses(403, "this is the operator's account");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binding_to_the_owners_role_is_as_good_as_the_list() {
    let Some(scene) = scene("access-binding").await else { return };
    let binding: Value = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "more-owners", "namespace": "access-binding"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "acme-owner"},
        "subjects": [{"kind": "ServiceAccount", "name": "stranger", "namespace": "access-binding"}],
    });
    apply(&scene.setup.client, &binding.to_string()).await;
    scene.becomes(200, &scene.token("stranger"), SOON).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_with_get_alone_reads_and_does_not_replay() {
    let Some(scene) = scene("access-get").await else { return };
    let role = json!({"apiVersion": "v1", "kind": "List", "items": [
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": "sees", "namespace": "access-get"},
            "rules": [{
                "apiGroups": ["audittrail.dev"], "resources": ["audittrails/events"], "resourceNames": ["acme"],
                "verbs": ["get"],
            }],
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "sees", "namespace": "access-get"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "sees"},
            "subjects": [{"kind": "ServiceAccount", "name": "stranger", "namespace": "access-get"}],
        },
    ]});
    scene.control_plane.kubectl(&["apply", "--server-side", "-f", "-"], &role.to_string());
    let stranger = scene.token("stranger");
    scene.becomes(200, &stranger, SOON).await;
    assert_eq!(scene.get("/v1/forwardings", &stranger).await.status, 200);
    scene.replay(&stranger).await.refuses(403, "may not update audittrails/events of \"acme\"");
}
