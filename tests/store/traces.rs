//! Traces that leave the collector by OTLP, and what neither they, the log nor the metrics may hold.

#[expect(dead_code, reason = "these tests need less of it than others")]
mod program;
use audittrail_collector::telemetry::FLUSH_TIMEOUT;
use audittrail_crds::document::Sensitive;
use audittrail_tests::postgres::Postgres;
use audittrail_tests::served::{OWNER, WRITE_KEY, document};
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use program::{Program, until};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const TRACE_BYTES: [u8; 16] =
    [0x0a, 0xf7, 0x65, 0x19, 0x16, 0xcd, 0x43, 0xdd, 0x84, 0x48, 0xeb, 0x21, 0x1c, 0x80, 0x31, 0x9c];

/// Exports come soon in tests that wait for them.
const SOON: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "50");

/// Far more than a test waits.
const LATE: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "600000");

type Received = Arc<Mutex<Vec<u8>>>;

/// An OTLP receiver that keeps every byte posted to `/v1/traces`.
async fn receiver() -> (String, Received) {
    let received = Received::default();
    let keep = |State(received): State<Received>, body: Bytes| async move {
        received.lock().expect("no panic").extend_from_slice(&body);
    };
    let router = Router::new().route("/v1/traces", post(keep)).with_state(Arc::clone(&received));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, router).await });
    (format!("http://{address}"), received)
}

fn holds(received: &Received, bytes: &[u8]) -> bool {
    received.lock().expect("no panic").windows(bytes.len()).any(|window| window == bytes)
}

fn event(id: &str) -> Value {
    json!({"id": id, "type": "Tried", "actor": {"type": "system", "id": "test"}})
}

async fn post_traced(program: &Program, id: &str) {
    let request =
        program.post("/v1/events", WRITE_KEY).header("traceparent", format!("00-{TRACE}-b7ad6b7169203331-01"));
    assert_eq!(request.json(&event(id)).send().await.expect("answered").status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_and_its_commit_go_on_with_the_clients_trace() {
    let (endpoint, received) = receiver().await;
    let uri = Postgres::shared().create_database().await;
    let program = Program::serve(&document(&uri), &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), SOON]).await;
    post_traced(&program, "1").await;
    let expected: [&[u8]; 6] = [
        &TRACE_BYTES,
        b"POST /v1/events",
        b"http.response.status_code",
        b"commit",
        b"audittrail.group.events",
        b"audittrail-collector",
    ];
    for bytes in expected {
        until("it was exported", || async { holds(&received, bytes) }).await;
    }
    let log = program.stderr();
    let line = log.lines().find(|line| line.contains(TRACE)).expect("the log has the trace");
    let line: Value = serde_json::from_str(line).expect("JSON");
    assert_eq!((&line["span"]["trace_id"], &line["status"]), (&json!(TRACE), &json!(200)));
    assert_eq!((&line["span"]["method"], &line["span"]["route"]), (&json!("POST"), &json!("/v1/events")));
    assert!(line["milliseconds"].is_u64() && line["span"]["id"].is_string(), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_spans_are_sent_before_the_end() {
    let (endpoint, received) = receiver().await;
    let uri = Postgres::shared().create_database().await;
    let mut program = Program::serve(&document(&uri), &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), LATE]).await;
    post_traced(&program, "1").await;
    assert!(!holds(&received, &TRACE_BYTES));
    program.signal("TERM");
    assert!(program.ended().await.success());
    assert!(holds(&received, &TRACE_BYTES));
}

/// A receiver that takes the connection and never answers.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_receiver_neither_slows_requests_nor_the_end() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let endpoint = format!("http://{}", silent.local_addr().expect("bound"));
    let uri = Postgres::shared().create_database().await;
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), SOON, ("OTEL_BSP_MAX_QUEUE_SIZE", "8")];
    let mut program = Program::serve(&document(&uri), &variables).await;
    // More spans than the queue holds, while the first export hangs.
    let begun = Instant::now();
    for number in 0..20 {
        post_traced(&program, &number.to_string()).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "an export takes that long to be given up");
    let begun = Instant::now();
    program.signal("TERM");
    assert!(program.ended().await.success());
    assert!(begun.elapsed() < FLUSH_TIMEOUT + Duration::from_secs(3), "it took {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_an_event_and_no_secret_is_seen_from_outside() {
    const MARKER: &str = "MaRkEr";
    let (endpoint, received) = receiver().await;
    let uri = Postgres::shared().create_database().await.replace("postgres@", &format!("postgres:{MARKER}@"));
    let mut document = document(&uri);
    let (key, owner) = (format!("atk_{MARKER}"), format!("owner_{MARKER}"));
    document.ingest.write_keys[0].key = Sensitive::new(&key);
    if let audittrail_crds::document::Access::Tokens(tokens) = &mut document.access {
        tokens.push(audittrail_crds::document::OwnerToken { name: "bo".to_owned(), token: Sensitive::new(&owner) });
    }
    let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), SOON, ("RUST_LOG", "debug")];
    let program = Program::serve(&document, &variables).await;

    let marked = json!({
        "id": MARKER, "type": MARKER, "outcome": "success",
        "actor": {"type": "user", "id": MARKER, "name": MARKER, "email": format!("{MARKER}@acme.example")},
        "resource": {"type": MARKER, "id": MARKER, "name": MARKER},
        "context": {"ip": "198.51.100.23", "userAgent": MARKER, "requestId": MARKER},
        "changes": [{"field": MARKER, "before": MARKER, "after": MARKER}],
        "details": {MARKER: MARKER},
    });
    let mut other = marked.clone();
    other["details"] = json!({MARKER: 2});
    let mut bad = marked.clone();
    bad[MARKER] = json!(MARKER);
    let write = |body: &Value, token: &str| {
        let request = program.post("/v1/events", token).header("tracestate", format!("a={MARKER}"));
        request.header("traceparent", format!("00-{TRACE}-b7ad6b7169203331-01")).json(body).send()
    };
    for (body, token, status) in [
        (&marked, key.as_str(), 200),
        (&marked, &key, 200),
        (&other, &key, 409),
        (&bad, &key, 400),
        (&marked, MARKER, 401),
        (&marked, &owner, 403),
    ] {
        assert_eq!(write(body, token).await.expect("answered").status(), status);
    }
    let path = format!("/v1/events?type={MARKER}&actor={MARKER}");
    for (path, status) in [(path.as_str(), 200), (&format!("/{MARKER}"), 404), (&format!("/v1/events?{MARKER}=1"), 400)]
    {
        assert_eq!(program.get(path, &owner).send().await.expect("answered").status(), status, "{path}");
    }
    let segment = json!({"writeKey": key, "event": MARKER, "userId": MARKER, "properties": {MARKER: MARKER}});
    let call = program.client.post(format!("http://{}/v1/track", program.address)).json(&segment);
    assert_eq!(call.send().await.expect("answered").status(), 200);
    let cloud_event = program
        .client
        .post(format!("http://{}/v1/events", program.address))
        .basic_auth(&key, Some(""))
        .header("ce-specversion", "1.0")
        .header("ce-id", MARKER)
        .header("ce-source", format!("/{MARKER}"))
        .header("ce-type", MARKER)
        .header("ce-subject", MARKER)
        .header("content-type", "application/json")
        .header("x-request-id", "an-id-that-is-to-be-seen");
    let answer = cloud_event.body(format!(r#"{{"{MARKER}": "{MARKER}"}}"#)).send().await.expect("answered");
    assert!(answer.status().as_u16() < 500);
    let metrics = program.get("/metrics", OWNER).send().await.expect("answered").text().await.expect("text");
    until("the refusals were exported", || async { holds(&received, b"GET /metrics") }).await;

    // What may be seen is: the log is as talkative as it was asked to be.
    assert!(program.stderr().contains("DEBUG") && program.stderr().contains("an-id-that-is-to-be-seen"));
    for (place, text) in [("log", program.stderr()), ("output", program.stdout()), ("metrics", metrics)] {
        let line = text.lines().find(|line| line.to_lowercase().contains(&MARKER.to_lowercase()));
        assert_eq!(line, None, "seen in the {place}");
    }
    assert!(!holds(&received, MARKER.as_bytes()), "seen in a span");
}
