//! Write keys, and where a credential may stand.

use crate::scene::{Answer, EVENTS, IN_FORCE_WITHIN, scene};
use audittrail_tests::cluster::{eventually, secret_value};
use k8s_openapi::api::core::v1::Secret;
use reqwest::Method;
use reqwest::header::WWW_AUTHENTICATE;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_write_key_adds_events_and_sees_nothing() {
    let Some(scene) = scene("keys-only-write").await else { return };
    let key = secret_value(&scene.setup.client, "keys-only-write", "acme-write-key", "writeKey").await;
    assert_eq!(scene.write(&key).await.status, 200);
    assert_eq!(Answer::of(scene.event().basic_auth(&key, Some("")).header("x-any", "1")).await.status, 200);
    for path in
        [EVENTS, "/v1/events.csv", "/v1/events.ndjson", "/v1/events/stream", "/v1/actors", "/v1/status", "/metrics"]
    {
        scene.get(path, &key).await.refuses(403, "this is a write key, which only adds events");
    }
    let request = scene.request(Method::GET, EVENTS).basic_auth(&key, Some(""));
    Answer::of(request).await.refuses(403, "this is a write key");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_write_keys_are_good_at_once_and_a_removed_one_is_out() {
    let Some(scene) = scene("keys-two").await else { return };
    let old = secret_value(&scene.setup.client, "keys-two", "acme-write-key", "writeKey").await;
    let new = "atk_0123456789abcdef0123456789abcdef";
    let keys = json!({"stringData": {"writeKey": new, "writeKeyPrevious": old}});
    scene.setup.patch::<Secret>("acme-write-key", keys).await;
    scene.setup.document("acme", "has two keys", |document| document.ingest.write_keys.len() == 2).await;
    eventually("the new key is good", IN_FORCE_WITHIN, || async {
        let answer = scene.write(new).await;
        if answer.status == 200 { Ok(()) } else { Err(answer.detail) }
    })
    .await;
    assert_eq!(scene.write(&old).await.status, 200);

    scene.setup.patch::<Secret>("acme-write-key", json!({"data": {"writeKeyPrevious": null}})).await;
    scene.setup.document("acme", "has one key", |document| document.ingest.write_keys.len() == 1).await;
    let refused = eventually("the old key is out", IN_FORCE_WITHIN, || async {
        let answer = scene.write(&old).await;
        if answer.status == 200 { Err("taken".to_owned()) } else { Ok(answer) }
    })
    .await;
    refused.refuses(401, "the write key is not one of this trail: it may have been replaced");
    assert_eq!(scene.write(new).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_taken_as_bearer_and_nowhere_else() {
    let Some(scene) = scene("keys-places").await else { return };
    let token = scene.token("reader");
    let ask = async |path: &str| Answer::of(scene.request(Method::GET, path)).await;
    let nothing = ask(EVENTS).await;
    nothing.refuses(401, "send one header Authorization: Bearer TOKEN");
    assert_eq!(nothing.headers[WWW_AUTHENTICATE], r#"Bearer realm="audittrail""#);
    for name in ["access_token", "token", "key"] {
        ask(&format!("{EVENTS}?{name}={token}")).await.refuses(401, "send one header");
        let both = scene.get(&format!("{EVENTS}?{name}={token}"), &token).await;
        both.refuses(400, &format!("{name} is unknown here"));
        assert!(!both.detail.contains(&token));
    }
    Answer::of(scene.request(Method::GET, EVENTS).header("cookie", format!("token={token}")))
        .await
        .refuses(401, "send");
    Answer::of(scene.request(Method::GET, EVENTS).basic_auth(&token, Some(""))).await.refuses(401, "the write key");
    Answer::of(scene.request(Method::GET, EVENTS).basic_auth("reader", Some(&token)))
        .await
        .refuses(401, "the write key");
    let twice = scene.request(Method::GET, EVENTS).bearer_auth(&token).bearer_auth(&token);
    Answer::of(twice).await.refuses(401, "cannot be read");
    // Any part of it would be found, also of what was answered 400.
    let (_, signature) = token.rsplit_once('.').expect("a JWT");
    assert!(scene.program.stderr().contains("answered"));
    assert!(!scene.program.stderr().contains(signature));
}
