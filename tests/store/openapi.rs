//! The description of the interface against a collector on a real Postgres: who gets it, that routes are those of it, and that
//! real answers of each operation are as described. `tests/openapi` has schemathesis try it with much more.

use audittrail_collector::openapi;
use audittrail_collector::server::BODY_MAX_BYTES;
use audittrail_crds::document::{Document, Forwarding, Sensitive};
use audittrail_tests::postgres::Postgres;
use audittrail_tests::served::{OWNER, Served, WRITE_KEY, body, document};
use jsonschema::{Draft, Validator};
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::LazyLock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Made from the code, as the collector serves it.
static DOCUMENT: LazyLock<Value> = LazyLock::new(openapi::document);

/// What owners post to.
const REPLAY: &str = "/v1/forwardings/{name}/replay";

/// Methods of OpenAPI's operations.
const METHODS: [&str; 7] = ["get", "put", "post", "delete", "options", "patch", "trace"];

async fn served() -> Served {
    let uri = Postgres::shared().create_database().await;
    let entry = Forwarding::new("to-segment", "http://127.0.0.1:9", Sensitive::new("key"));
    let forwardings = vec![Forwarding { enabled: false, ..entry }];
    let served = Served::start(&Document { forwardings, ..document(&uri) }).await;
    served.add(vec![full(), json!({"type": "Smallest"})]).await;
    served
}

/// The path, with a value for each of its parameters.
fn concrete(path: &str) -> String {
    path.replace("{id}", "evt_1").replace("{name}", "to-segment")
}

/// Whether an operation is asked with a write key, and not with an owner's token.
fn writes(method: &str, path: &str) -> bool {
    method == "post" && path != REPLAY
}

fn full() -> Value {
    json!({
        "id": "evt_1", "timestamp": "2026-03-02T09:14:05Z", "type": "Warehouse Disabled",
        "actor": {"type": "user", "id": "usr_1", "name": "Jane", "email": "jane@acme.example"},
        "resource": {"type": "warehouse", "id": "wh_1", "name": "Main"}, "outcome": "success",
        "context": {"ip": "192.0.2.1", "userAgent": "curl", "requestId": "req_1"},
        "changes": [{"field": "enabled", "before": true, "after": false}], "details": {"reason": "cost"},
    })
}

fn request(served: &Served, method: &str, path: &str) -> RequestBuilder {
    let method: Method = method.to_uppercase().parse().expect("a method");
    served.client.request(method, format!("http://{}{path}", served.address))
}

/// Answers get more members in time, and then they are described: no schema takes those that it does not know.
fn strict() -> Value {
    let mut components = DOCUMENT["components"].clone();
    for (name, schema) in components["schemas"].as_object_mut().expect("an object") {
        // `StoredEvent` is `Event` with more.
        let is_object = schema["type"] == "object" || schema.get("allOf").is_some() || schema.get("oneOf").is_some();
        if is_object && name != "Event" {
            schema["unevaluatedProperties"] = json!(false);
        }
    }
    components
}

fn validator(schema: &Value) -> Validator {
    let mut schema = schema.clone();
    schema["components"] = strict();
    let options = jsonschema::options().with_draft(Draft::Draft202012).should_validate_formats(true);
    options.build(&schema).unwrap_or_else(|error| panic!("{error}"))
}

/// What `value` or the component that it names is.
fn resolved(value: &'static Value) -> &'static Value {
    match value["$ref"].as_str() {
        Some(reference) => DOCUMENT.pointer(reference.trim_start_matches('#')).expect("is there"),
        None => value,
    }
}

/// Requires that the answer has a status, headers, a media type and content as described.
async fn require_described(method: &str, path: &str, answer: Response) {
    let status = answer.status();
    let place = format!("{method} {path}: {status}");
    let described = &DOCUMENT["paths"][path][method]["responses"][status.as_str()];
    assert!(described.is_object(), "{place} is not described: {:?}", answer.text().await);
    let described = resolved(described);
    for (name, header) in described["headers"].as_object().into_iter().flatten() {
        let required = resolved(header)["required"] == json!(true);
        assert!(!required || answer.headers().contains_key(name), "{place} has no {name}");
    }
    let content_type = answer.headers()[header::CONTENT_TYPE].to_str().expect("text").to_owned();
    let essence = content_type.split(';').next().unwrap_or_default();
    let content = &described["content"][essence];
    assert!(content.is_object(), "{place} is {content_type}");
    let (values, schema) = match essence {
        "application/x-ndjson" => (lines(answer).await, &json!({"$ref": "#/components/schemas/StoredEvent"})),
        _ if essence.ends_with("json") => (vec![body(answer).await], &content["schema"]),
        // Text; and the live tail, which has no end.
        _ => return,
    };
    let validator = validator(schema);
    assert!(!values.is_empty(), "{place} is empty");
    for value in values {
        let faults: Vec<String> = validator.iter_errors(&value).map(|error| error.to_string()).collect();
        assert!(faults.is_empty(), "{place}: {faults:?}: {value}");
    }
}

async fn lines(answer: Response) -> Vec<Value> {
    let text = answer.text().await.expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[tokio::test]
async fn the_description_is_for_those_who_may_read() {
    let served = served().await;
    let answer = served.get("/openapi.json").send().await.expect("answered");
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/json");
    assert_eq!(body(answer).await, *DOCUMENT);
    let status = |request: RequestBuilder| async { request.send().await.expect("answered").status() };
    assert_eq!(status(request(&served, "get", "/openapi.json")).await, StatusCode::UNAUTHORIZED);
    let writer = request(&served, "get", "/openapi.json").bearer_auth(WRITE_KEY);
    assert_eq!(status(writer).await, StatusCode::FORBIDDEN);
}

/// A route whose handler does not describe itself cannot be made; this is the other way round.
#[tokio::test]
async fn methods_that_are_described_are_routed_and_no_others_are() {
    let served = served().await;
    for (path, item) in DOCUMENT["paths"].as_object().expect("an object") {
        let mut allowed = BTreeSet::new();
        for method in METHODS {
            let answer = request(&served, method, &concrete(path)).send().await.expect("answered");
            if item.get(method).is_some() {
                // Without a credential, and without a body where that might hold it.
                assert!([200, 400, 401].contains(&answer.status().as_u16()), "{method} {path}: {}", answer.status());
                allowed.insert(method.to_uppercase());
                continue;
            }
            assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            let told = answer.headers()[header::ALLOW].to_str().expect("text").split(',').map(str::to_owned);
            let described: BTreeSet<String> =
                item.as_object().expect("an object").keys().map(|name| name.to_uppercase()).collect();
            assert_eq!(told.filter(|name| name != "HEAD").collect::<BTreeSet<_>>(), described, "{path}");
        }
        assert!(!allowed.is_empty(), "{path}");
    }
}

/// A request of each operation that is answered with success.
fn welcome(served: &Served, method: &str, path: &str) -> RequestBuilder {
    let concrete = match path {
        "/v1/events" if method == "get" => "/v1/events?limit=1".to_owned(),
        "/audit-events" => "/audit-events?pagination.count=1".to_owned(),
        other => concrete(other),
    };
    if method == "get" {
        return served.get(&concrete);
    }
    let content = &DOCUMENT["paths"][path]["post"]["requestBody"]["content"]["application/json"];
    let example = content.get("example").or_else(|| content.pointer("/examples/many/value")).expect("an example");
    let credential = if writes(method, path) { WRITE_KEY } else { OWNER };
    request(served, method, &concrete).bearer_auth(credential).json(example)
}

#[tokio::test]
async fn what_each_operation_answers_is_as_described() {
    let served = served().await;
    for (path, item) in DOCUMENT["paths"].as_object().expect("an object") {
        for method in item.as_object().expect("an object").keys() {
            let answer = welcome(&served, method, path).send().await.expect("answered");
            let expected = if path == REPLAY { StatusCode::ACCEPTED } else { StatusCode::OK };
            assert_eq!(answer.status(), expected, "{method} {path}");
            require_described(method, path, answer).await;
        }
    }
}

/// Examples of every content type that events may have.
#[tokio::test]
async fn events_are_taken_in_each_described_media_type() {
    let served = served().await;
    let contents = DOCUMENT["paths"]["/v1/events"]["post"]["requestBody"]["content"].as_object().expect("an object");
    assert_eq!(contents.len(), 4);
    for (name, content) in contents {
        let many = content["examples"].as_object().into_iter().flatten().map(|(_, example)| &example["value"]);
        for example in content.get("example").into_iter().chain(many) {
            let text = example.as_str().map_or_else(|| example.to_string(), str::to_owned);
            let answer =
                served.post("/v1/events").header(header::CONTENT_TYPE, name).body(text).send().await.expect("answered");
            assert_eq!(answer.status(), StatusCode::OK, "{name}");
            require_described("post", "/v1/events", answer).await;
        }
    }
}

/// Operations that ask for a credential.
fn guarded() -> impl Iterator<Item = (&'static String, &'static String)> {
    let paths = DOCUMENT["paths"].as_object().expect("an object").iter();
    let operations = paths.flat_map(|(path, item)| {
        item.as_object().expect("an object").iter().map(move |(method, operation)| (path, method, operation))
    });
    operations.filter(|(_, _, operation)| operation["security"] != json!([])).map(|(path, method, _)| (path, method))
}

#[tokio::test]
async fn who_may_not_is_told_as_described() {
    let served = served().await;
    for (path, method) in guarded() {
        let stranger = if writes(method, path) { OWNER } else { WRITE_KEY };
        for (credential, expected) in [(None, 401), (Some("nobody"), 401), (Some(stranger), 403)] {
            let asked = request(&served, method, &concrete(path)).json(&json!({}));
            let answer =
                credential.into_iter().fold(asked, RequestBuilder::bearer_auth).send().await.expect("answered");
            assert_eq!(answer.status(), expected, "{method} {path}");
            require_described(method, path, answer).await;
        }
    }
}

#[tokio::test]
async fn errors_are_as_described() {
    let served = served().await;
    let (get, post) = (|path| ("get", served.get(path)), |path| ("post", served.post(path)));
    let replay = |path, body: &str| ("post", request(&served, "post", path).bearer_auth(OWNER).body(body.to_owned()));
    let mut other = full();
    other["type"] = json!("Warehouse Enabled");
    let wrong = [
        (400, "/v1/events", get("/v1/events?outcome=ok")),
        (400, "/v1/events.csv", get("/v1/events.csv?limit=1")),
        (400, "/v1/events/stream", get("/v1/events/stream?after=1")),
        (404, "/v1/events/{id}", get("/v1/events/unheard-of")),
        (400, "/v1/forwardings", get("/v1/forwardings?limit=1")),
        (400, "/v1/forwardings/{name}/parked", get("/v1/forwardings/to-segment/parked?limit=0")),
        (404, "/v1/forwardings/{name}/parked", get("/v1/forwardings/unheard-of/parked")),
        (404, REPLAY, replay("/v1/forwardings/unheard-of/replay", "{}")),
        (400, REPLAY, replay("/v1/forwardings/to-segment/replay", "[")),
        (413, REPLAY, replay("/v1/forwardings/to-segment/replay", &" ".repeat(BODY_MAX_BYTES + 1))),
        (422, "/audit-events", get("/audit-events?pagination.count=0")),
        (400, "/v1/events", with(post("/v1/events"), |request| request.json(&json!({})))),
        (400, "/v1/events", with(post("/v1/events"), |request| request.json(&json!({"events": [full(), {}]})))),
        (409, "/v1/events", with(post("/v1/events"), |request| request.json(&other))),
        (413, "/v1/events", with(post("/v1/events"), |request| request.json(&"a".repeat(BODY_MAX_BYTES)))),
        (415, "/v1/events", with(post("/v1/events"), |request| request.body("{}"))),
        (
            415,
            "/v1/kubernetes",
            with(post("/v1/kubernetes"), |request| request.header("content-encoding", "br").body("{}")),
        ),
        (400, "/v1/batch", with(post("/v1/batch"), |request| request.json(&json!({"batch": [{"type": "track"}, 1]})))),
        (406, "/audit-events", with(get("/audit-events"), |request| request.header(header::ACCEPT, "text/html"))),
    ];
    for (expected, path, (method, request)) in wrong {
        let answer = request.send().await.expect("answered");
        assert_eq!(answer.status(), expected, "{method} {path}");
        require_described(method, path, answer).await;
    }
}

/// What the HTTP server answers by itself.
#[tokio::test]
async fn a_url_past_its_length_is_answered_as_described() {
    let served = served().await;
    for status in ["414", "431"] {
        let described = resolved(&DOCUMENT["paths"]["/v1/actors"]["get"]["responses"][status]);
        assert!(described.get("content").is_none() && described.get("headers").is_none());
    }
    for (length, expected) in [(65_534, "HTTP/1.1 400 "), (65_535, "HTTP/1.1 414 "), (300_000, "HTTP/1.1 431 ")] {
        let start = "/v1/actors?prefix=";
        let target = format!("{start}{}", "a".repeat(length - start.len()));
        let request =
            format!("GET {target} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {OWNER}\r\nConnection: close\r\n\r\n");
        let mut stream = TcpStream::connect(served.address).await.expect("it listens");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answered");
        assert!(answer.starts_with(expected), "{length}: {answer:.100}");
    }
}

fn with(
    (method, request): (&'static str, RequestBuilder),
    change: impl FnOnce(RequestBuilder) -> RequestBuilder,
) -> (&'static str, RequestBuilder) {
    (method, change(request))
}
