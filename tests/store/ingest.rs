//! The accepting edge of a real collector: each format and encoding, and the answer that each bad request must get.

use audittrail_collector::ingest::room::ROOM_MAX_BYTES;
use audittrail_collector::server::BODY_MAX_BYTES;
use audittrail_tests::postgres::Postgres;
use audittrail_tests::served::{DEADLINE, Served, WRITE_KEY, body, document};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use reqwest::{Body, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use std::io::Write;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::task::block_in_place;
use tokio::time::timeout;

const JSON: &str = "application/json";

async fn collector() -> Served {
    Served::start(&document(&Postgres::shared().create_database().await)).await
}

fn event(id: &str) -> Value {
    json!({"id": id, "type": "Ingest Tried", "actor": {"type": "system", "id": "test"}})
}

fn cloud_event(id: &str) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/shop", "type": "Ingest Tried"})
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 0).expect("memory")
}

fn events(served: &Served, content_type: &str, body: impl Into<Body>) -> RequestBuilder {
    served.post("/v1/events").header("content-type", content_type).body(body)
}

/// Ids of all events, oldest first.
async fn ids(served: &Served) -> Vec<String> {
    let page = served.page("/v1/events?order=asc&type=Ingest%20Tried&limit=1000").await;
    page["events"]
        .as_array()
        .expect("events")
        .iter()
        .map(|event| event["id"].as_str().expect("text").to_owned())
        .collect()
}

async fn answer(request: RequestBuilder) -> Response {
    request.send().await.expect("answered")
}

/// The problem that a request is answered with.
async fn problem(request: RequestBuilder, status: u16) -> Value {
    let answer = answer(request).await;
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let found = answer.status();
    let problem = body(answer).await;
    assert_eq!(found, status, "{problem}");
    problem
}

#[tokio::test(flavor = "multi_thread")]
async fn each_format_is_stored() {
    let served = collector().await;
    let one = |id: &str| event(id).to_string();
    let two = |first: &str, second: &str| json!({"events": [event(first), event(second)]}).to_string();
    let accepted = async |request: RequestBuilder, count: usize| {
        let answer = answer(request).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(body(answer).await["accepted"], count);
    };
    accepted(events(&served, JSON, one("json")), 1).await;
    accepted(events(&served, "application/json; charset=UTF-8", two("batch-1", "batch-2")), 2).await;
    for content_type in ["application/x-ndjson", "application/ndjson", "application/jsonl"] {
        let ids = ["1", "2"].map(|number| format!("{content_type}-{number}"));
        accepted(events(&served, content_type, format!("{}\n\n{}\n", event(&ids[0]), event(&ids[1]))), 2).await;
    }
    accepted(events(&served, "application/cloudevents+json", cloud_event("structured").to_string()), 1).await;
    let batch = json!([cloud_event("batched-1"), cloud_event("batched-2")]).to_string();
    accepted(events(&served, "application/cloudevents-batch+json", batch), 2).await;
    accepted(events(&served, "application/cloudevents-batch+json", "[]"), 0).await;
    let attributes =
        [("ce-specversion", "1.0"), ("ce-id", "binary"), ("ce-source", "/shop"), ("ce-type", "Ingest%20Tried")];
    let binary =
        attributes.iter().fold(events(&served, "text/plain", "hello"), |all, (name, value)| all.header(*name, *value));
    accepted(binary, 1).await;
    accepted(events(&served, JSON, gzip(one("gzip").as_bytes())).header("content-encoding", "gzip"), 1).await;
    accepted(events(&served, JSON, zstd(one("zstd").as_bytes())).header("content-encoding", "zstd"), 1).await;
    assert_eq!(
        ids(&served).await,
        [
            "json",
            "batch-1",
            "batch-2",
            "application/x-ndjson-1",
            "application/x-ndjson-2",
            "application/ndjson-1",
            "application/ndjson-2",
            "application/jsonl-1",
            "application/jsonl-2",
            "/shop structured",
            "/shop batched-1",
            "/shop batched-2",
            "/shop binary",
            "gzip",
            "zstd",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cloud_event_sent_twice_is_a_duplicate_in_any_mode() {
    let served = collector().await;
    let structured = events(&served, "application/cloudevents+json", cloud_event("1").to_string());
    assert_eq!(body(answer(structured).await).await["accepted"], 1);
    let attributes = [("ce-specversion", "1.0"), ("ce-id", "1"), ("ce-source", "/shop"), ("ce-type", "Ingest Tried")];
    let binary = attributes.iter().fold(served.post("/v1/events"), |all, (name, value)| all.header(*name, *value));
    assert_eq!(body(answer(binary).await).await["duplicates"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_answered_with_what_is_wrong() {
    let served = collector().await;
    let text = event("a").to_string();
    let encoded = |coding: &str, bytes: Vec<u8>| events(&served, JSON, bytes).header("content-encoding", coding);

    // Content types.
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/cloudevents+avro"] {
        let problem = problem(events(&served, content_type, text.clone()), 415).await;
        let detail = problem["detail"].as_str().expect("text").to_owned();
        assert!(detail.contains("application/x-ndjson") && detail.contains("cloudevents"), "{detail}");
    }
    problem(served.post("/v1/events").body(text.clone()), 415).await;
    problem(events(&served, "application/json; charset=iso-8859-1", text.clone()), 415).await;
    // Content encodings.
    for coding in ["br", "deflate", "gzip, gzip"] {
        let answer = answer(encoded(coding, text.clone().into_bytes())).await;
        assert_eq!(
            (answer.status(), &answer.headers()["accept-encoding"]),
            (StatusCode::UNSUPPORTED_MEDIA_TYPE, &"gzip, zstd".parse().expect("a value"))
        );
    }
    let whole = gzip(text.as_bytes());
    problem(encoded("gzip", text.clone().into_bytes()), 400).await;
    problem(encoded("gzip", whole[..whole.len() - 4].to_vec()), 400).await;
    problem(encoded("zstd", whole), 400).await;
    // Text encodings.
    for bytes in [
        text.replace("test", "t\u{fc}st").chars().map(|char| u8::try_from(u32::from(char)).expect("Latin 1")).collect(),
        text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>(),
        format!("\u{feff}{text}").into_bytes(),
    ] {
        problem(events(&served, JSON, bytes), 400).await;
    }
    // Not JSON, or not an event.
    for malformed in ["", "{", "{} {}", "[]", "null", "{\"a\":1,\"a\":2}", "\"\\ud800\"", &"[".repeat(200)] {
        problem(events(&served, JSON, malformed.to_owned()), 400).await;
        problem(events(&served, "application/x-ndjson", malformed.to_owned()), 400).await;
        problem(events(&served, "application/cloudevents+json", malformed.to_owned()), 400).await;
    }
    assert_eq!(ids(&served).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_batch_is_refused_whole_with_every_index_field_and_rule() {
    let served = collector().await;
    let mut batch: Vec<Value> = (0..5_000).map(|number| event(&number.to_string())).collect();
    for number in (0..5_000).step_by(10) {
        batch[number]["type"] = "".into();
        batch[number]["details"] = json!([]);
    }
    let problem = problem(events(&served, JSON, json!({"events": batch}).to_string()), 400).await;
    let errors = problem["errors"].as_array().expect("errors");
    assert_eq!(errors.len(), 1_000);
    assert_eq!(errors[2], json!({"index": 10, "field": "type", "rule": "must not be empty"}));
    assert_eq!(errors[999], json!({"index": 4_990, "field": "details", "rule": "must be an object"}));
    assert_eq!(ids(&served).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_taken_up_to_its_limit_and_no_further() {
    let served = collector().await;
    let padded = |length: usize| {
        let mut text = event("padded").to_string();
        text.push_str(&" ".repeat(length - text.len()));
        text
    };
    assert_eq!(answer(events(&served, JSON, padded(BODY_MAX_BYTES))).await.status(), 200);
    let one_more = padded(BODY_MAX_BYTES + 1);
    for (coding, bytes) in [("gzip", gzip(one_more.as_bytes())), ("zstd", zstd(one_more.as_bytes()))] {
        assert!(bytes.len() < 100_000, "a bomb is small");
        problem(events(&served, JSON, bytes).header("content-encoding", coding), 413).await;
    }
}

/// Sends the head of a request as it is, and what of its body there is.
async fn send(served: &Served, head: &str, body: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(served.address).await.expect("reachable");
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {WRITE_KEY}\r\ncontent-type: {JSON}\r\n{head}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream.write_all(body).await.expect("sent");
    stream
}

async fn first_line(mut stream: TcpStream) -> String {
    let mut answer = [0; 12];
    timeout(DEADLINE, stream.read_exact(&mut answer)).await.expect("in time").expect("answered");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_past_the_limit_is_refused_before_the_body_is_sent_if_the_client_asks_first() {
    let served = collector().await;
    let stream = send(&served, &format!("expect: 100-continue\r\ncontent-length: {}", BODY_MAX_BYTES + 1), b"").await;
    assert_eq!(first_line(stream).await, "HTTP/1.1 413");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_unknown_length_is_refused_past_the_limit() {
    let served = collector().await;
    let mut chunk = format!("{:x}\r\n", BODY_MAX_BYTES + 1).into_bytes();
    chunk.resize(chunk.len() + BODY_MAX_BYTES + 1, b' ');
    chunk.extend_from_slice(b"\r\n0\r\n\r\n");
    let stream = send(&served, "transfer-encoding: chunked", &chunk).await;
    assert_eq!(first_line(stream).await, "HTTP/1.1 413");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_room_a_request_is_answered_503_and_with_room_again_200() {
    let served = collector().await;
    let length = 2 * 1024 * 1024;
    let mut text = event("a").to_string();
    text.push_str(&" ".repeat(length - text.len()));
    let probe = || async { answer(events(&served, JSON, text.clone())).await };
    // Bodies that do not end hold what room they got.
    let mut unfinished = Vec::new();
    let refused = loop {
        let answer = probe().await;
        if answer.status() != 200 {
            break answer;
        }
        assert!(unfinished.len() * length <= ROOM_MAX_BYTES, "more is held than there is room for");
        let body = &text.as_bytes()[..length - 1];
        unfinished.push(send(&served, &format!("content-length: {length}"), body).await);
    };
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key("retry-after"));
    assert!(unfinished.len() * length > ROOM_MAX_BYTES / 3, "there is room for {} only", unfinished.len());
    drop(unfinished);
    served.until("there is room", || async { probe().await.status() == 200 }).await;
}

/// Bytes with something of what is expected here and there.
fn any_body() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        r#"[\[\]{}:,"0-9a-z\\ \n\u{0}\u{ff}-]{0,200}"#.prop_map(String::into_bytes),
        (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(place, byte)| {
            let mut bytes = json!({"events": [event("property"), cloud_event("property")]}).to_string().into_bytes();
            let at = place.index(bytes.len());
            bytes[at] = byte;
            bytes
        }),
        Just(event("property").to_string().into_bytes()),
        Just(cloud_event("property").to_string().into_bytes()),
    ]
}

fn any_headers() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let content_type = prop_oneof![
        prop::sample::select(vec![
            "application/json",
            "application/x-ndjson",
            "application/cloudevents+json",
            "application/cloudevents-batch+json",
            "text/plain",
            "image/png",
        ])
        .prop_map(str::to_owned),
        "[a-z/;= -~]{0,30}",
    ];
    let coding = prop_oneof![
        6 => Just(String::new()),
        2 => prop::sample::select(vec!["gzip", "zstd", "identity", "br"]).prop_map(str::to_owned),
        1 => "[!-~]{0,10}",
    ];
    let attribute = (
        prop::sample::select(vec![
            "ce-specversion",
            "ce-id",
            "ce-source",
            "ce-type",
            "ce-time",
            "ce-subject",
            "ce-x",
            "ce-x-y",
        ]),
        prop_oneof![Just("1.0".to_owned()), "[ -~]{0,20}"],
    );
    (content_type, coding, prop::collection::vec(attribute, 0..6)).prop_map(|(content_type, coding, mut headers)| {
        headers.push(("content-type", content_type));
        headers.push(("content-encoding", coding));
        headers
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_whatever_is_answered_5xx() {
    let served = collector().await;
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&(any_body(), any_headers(), any::<bool>()), |(bytes, headers, encode)| {
        let encoding = headers.iter().find(|(name, _)| *name == "content-encoding").map(|(_, value)| value.as_str());
        let bytes = match encoding {
            Some("gzip") if encode => gzip(&bytes),
            Some("zstd") if encode => zstd(&bytes),
            _ => bytes,
        };
        let request =
            headers.iter().fold(served.post("/v1/events").body(bytes), |all, (name, value)| all.header(*name, value));
        let status = block_in_place(|| Handle::current().block_on(answer(request))).status();
        prop_assert!(status == 200 || status.is_client_error(), "{status}");
        Ok(())
    });
    outcome.expect("200 or 4xx");
}
