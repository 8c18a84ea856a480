//! Every route of the collector, asked by those who may not. Routes come from the server's own table, and methods from what
//! it allows, so that one which is added later is asked too.

use crate::scene::{Scene, scene};
use audittrail_collector::server;
use audittrail_tests::cluster::secret_value;
use reqwest::header::{ALLOW, CONTENT_TYPE};
use reqwest::{Method, RequestBuilder};

/// What answers to nobody: the kubelet has no token.
const PROBES: [&str; 2] = ["/livez", "/readyz"];

/// No route has it: the answer lists those that there are.
const NO_METHOD: &[u8] = b"WALK";

#[tokio::test(flavor = "multi_thread")]
async fn nobody_and_strangers_get_nothing_from_any_route() {
    let Some(scene) = scene("routes-strangers").await else { return };
    let stranger = scene.token("stranger");
    let mut walked = 0;
    for path in paths() {
        let probe = PROBES.contains(&path.as_str());
        for method in methods(&scene, &path).await {
            let asked = format!("{method} {path}");
            let nobody = status(call(&scene, &method, &path)).await;
            assert_eq!(nobody, if probe { 200 } else { 401 }, "{asked} without a credential");
            let as_stranger = status(call(&scene, &method, &path).bearer_auth(&stranger)).await;
            assert_eq!(as_stranger, if probe { 200 } else { 403 }, "{asked} as a stranger");
            let unknown = status(call(&scene, &method, &path).bearer_auth("unknown")).await;
            assert_eq!(unknown, if probe { 200 } else { 401 }, "{asked} with an unknown token");
            walked += 1;
        }
    }
    // Two methods for most: GET is HEAD as well.
    assert!(walked > paths().len(), "{walked} were asked");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_key_reads_and_an_owner_writes_nowhere() {
    let Some(scene) = scene("routes-sides").await else { return };
    let key = secret_value(&scene.setup.client, "routes-sides", "acme-write-key", "writeKey").await;
    let owner = scene.token("reader");
    for path in paths().into_iter().filter(|path| !PROBES.contains(&path.as_str())) {
        for method in methods(&scene, &path).await {
            // Owners replay.
            let credential = if method == Method::POST && !path.ends_with("/replay") { &owner } else { &key };
            let answered = status(call(&scene, &method, &path).bearer_auth(credential)).await;
            assert_eq!(answered, 403, "{method} {path}");
        }
    }
}

/// The table is the only place where the server takes routes from.
#[test]
fn no_route_stands_beside_the_table() {
    let source = include_str!("../../../collector/src/server.rs");
    assert_eq!(source.matches(".route(").count(), 1, "routes come from the table");
    for beside in [".route_service(", ".merge(", ".nest(", ".nest_service(", ".fallback_service("] {
        assert!(!source.contains(beside), "{beside}");
    }
}

/// Every path, with a value for each of its parameters.
fn paths() -> Vec<String> {
    let filled = |segment: &str| if segment.starts_with('{') { "x".to_owned() } else { segment.to_owned() };
    let fill = |path: &str| path.split('/').map(filled).collect::<Vec<_>>().join("/");
    server::routes().iter().map(|(path, _)| fill(path)).collect()
}

async fn methods(scene: &Scene, path: &str) -> Vec<Method> {
    let method = Method::from_bytes(NO_METHOD).expect("a method's word");
    // Where a path refuses strangers before it looks at the method, an owner asks.
    let request = scene.request(method, path).bearer_auth(scene.token("reader"));
    let answer = request.send().await.expect("answered");
    assert_eq!(answer.status(), 405, "{path}");
    let allowed = answer.headers()[ALLOW].to_str().expect("text");
    let methods: Vec<Method> = allowed.split(',').map(|word| word.trim().parse().expect("a method")).collect();
    assert!(!methods.is_empty(), "{path}");
    methods
}

/// A request that has everything but a credential.
fn call(scene: &Scene, method: &Method, path: &str) -> RequestBuilder {
    let request = scene.request(method.clone(), path);
    if method == Method::POST { request.header(CONTENT_TYPE, "application/json").body("{}") } else { request }
}

async fn status(request: RequestBuilder) -> u16 {
    request.send().await.expect("answered").status().as_u16()
}
