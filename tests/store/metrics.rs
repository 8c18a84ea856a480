//! What Prometheus reads of a collector that takes and refuses events.

#[expect(dead_code, reason = "these tests need less of it than others")]
mod program;
use audittrail_collector::metrics::ALL;
use audittrail_crds::document::{Document, Forwarding, Sensitive};
use audittrail_tests::postgres::Postgres;
use audittrail_tests::served::{OWNER, WRITE_KEY, document};
use program::Program;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::postgres::PgPoolOptions;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

async fn page(program: &Program) -> String {
    let answer = program.get("/metrics", OWNER).send().await.expect("answered");
    assert_eq!(answer.status(), StatusCode::OK);
    let media_type = answer.headers()["content-type"].to_str().expect("text").to_owned();
    assert_eq!(media_type, "text/plain; version=0.0.4; charset=utf-8");
    answer.text().await.expect("text")
}

async fn post(program: &Program, path: &str, key: &str, body: &Value) -> StatusCode {
    program.post(path, key).json(body).send().await.expect("answered").status()
}

fn event(id: &str) -> Value {
    json!({"id": id, "type": "Tried", "actor": {"type": "system", "id": "test"}, "timestamp": "2026-03-02T09:14:05Z"})
}

#[track_caller]
fn assert_lines(page: &str, lines: &[&str]) {
    for line in lines {
        assert!(page.lines().any(|there| there == *line), "{line} is not in\n{page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_is_counted() {
    let uri = Postgres::shared().create_database().await;
    let program = Program::serve(&document(&uri), &[]).await;
    assert_lines(
        &page(&program).await,
        &[
            r#"audittrail_events_accepted_total{input="native"} 0"#,
            r#"audittrail_events_duplicate_total{input="segment"} 0"#,
            r#"audittrail_ingest_refused_total{reason="conflict"} 0"#,
            r"audittrail_commit_failures_total 0",
            r"audittrail_last_sequence -1",
        ],
    );

    let two = json!({"events": [event("1"), event("2")]});
    assert_eq!(post(&program, "/v1/events", WRITE_KEY, &two).await, 200);
    assert_eq!(post(&program, "/v1/events", WRITE_KEY, &two).await, 200);
    let mut other = event("1");
    other["type"] = json!("Other");
    assert_eq!(post(&program, "/v1/events", WRITE_KEY, &other).await, 409);
    assert_eq!(post(&program, "/v1/events", WRITE_KEY, &json!({"type": 7})).await, 400);
    assert_eq!(post(&program, "/v1/events", "atk_wrong", &event("3")).await, 401);
    assert_eq!(post(&program, "/v1/events", OWNER, &event("3")).await, 403);
    let list = json!({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "items": [
        {"auditID": "a-1", "stage": "ResponseComplete", "verb": "create", "user": {"username": "jane"},
         "objectRef": {"resource": "pods", "name": "p"}, "stageTimestamp": "2026-03-02T09:14:05.000000Z"},
    ]});
    assert_eq!(post(&program, "/v1/kubernetes", WRITE_KEY, &list).await, 200);

    let page = page(&program).await;
    assert_lines(
        &page,
        &[
            r#"audittrail_events_accepted_total{input="native"} 2"#,
            r#"audittrail_events_duplicate_total{input="native"} 2"#,
            r#"audittrail_events_accepted_total{input="kubernetes"} 1"#,
            r#"audittrail_ingest_refused_total{reason="conflict"} 1"#,
            r#"audittrail_ingest_refused_total{reason="invalid"} 1"#,
            r#"audittrail_ingest_refused_total{reason="unauthenticated"} 1"#,
            r#"audittrail_ingest_refused_total{reason="forbidden"} 1"#,
            r#"audittrail_http_requests_total{method="POST",route="/v1/events",status="200"} 2"#,
            // The two batches, the event that was refused by its id, and the list.
            "audittrail_commit_group_requests_sum 4",
            "audittrail_commit_group_events_sum 6",
            "audittrail_commit_duration_seconds_count 4",
            "audittrail_last_sequence 2",
            "audittrail_database_up 1",
            r#"audittrail_segments{state="open"} 1"#,
            "audittrail_queue_requests 0",
            "audittrail_queue_bytes 0",
        ],
    );
    assert!(!page.contains("process_resident_memory_bytes 0\n"), "{page}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_what_is_documented_and_nothing_of_it_is_the_clients() {
    let uri = Postgres::shared().create_database().await;
    let program = Program::serve(&document(&uri), &[]).await;
    let marked = json!({"id": "MARKER", "type": "MARKER", "actor": {"type": "user", "id": "MARKER"}});
    assert_eq!(post(&program, "/v1/events", WRITE_KEY, &marked).await, 200);
    assert_eq!(post(&program, "/MARKER?MARKER=MARKER", WRITE_KEY, &marked).await, 404);
    assert_eq!(program.get("/v1/events?type=MARKER", OWNER).send().await.expect("answered").status(), 200);
    let odd = Method::from_bytes(b"MARKER").expect("a token");
    let answer = program.client.request(odd, format!("http://{}/v1/events", program.address)).send().await;
    assert_eq!(answer.expect("answered").status(), 405);

    let page = page(&program).await;
    assert!(!page.contains("MARKER"), "{page}");
    assert_lines(&page, &[r#"audittrail_http_requests_total{method="_OTHER",route="/v1/events",status="405"} 1"#]);
    assert_lines(&page, &[r#"audittrail_http_requests_total{method="POST",route="none",status="404"} 1"#]);
    let documented: BTreeSet<&str> = ALL.iter().map(|metric| metric.name).collect();
    let there: BTreeSet<&str> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    assert_eq!(there, documented);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_not_for_everybody_and_survive_the_database() {
    let mut postgres = Postgres::start();
    let uri = postgres.create_database().await;
    let program = Program::serve(&document(&uri), &[]).await;
    let plain = program.client.get(format!("http://{}/metrics", program.address)).send().await.expect("answered");
    assert_eq!(plain.status(), 401);
    assert_eq!(program.get("/metrics", WRITE_KEY).send().await.expect("answered").status(), 403);

    postgres.kill9();
    assert_lines(&page(&program).await, &["audittrail_database_up 0"]);
}

/// The registry is the process's: what other collectors of these tests do is not in it.
#[tokio::test(flavor = "multi_thread")]
async fn forwardings_are_measured_all_together_and_by_the_worst() {
    let uri = Postgres::shared().create_database().await;
    let entry = |name: &str| Forwarding::new(name, "http://127.0.0.1:9", Sensitive::new("key"));
    let off = Forwarding { enabled: false, ..entry("off") };
    let forwardings = vec![entry("failing"), off];
    let program = Program::serve(&Document { forwardings, ..document(&uri) }, &[]).await;
    let deadline = Instant::now() + Duration::from_secs(30);
    while !page(&program).await.contains("audittrail_forwardings{state=\"retrying\"} 1\n") {
        assert!(Instant::now() < deadline, "waited in vain until it fails");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let pool = PgPoolOptions::new().max_connections(1).connect(&uri).await.expect("the server answers");
    let statements = "
        UPDATE forwarding SET filtered = 2, delivered = 3, retrying_since = clock_timestamp() - interval '100 s';
        INSERT INTO parked (forwarding, sequence, epoch, received_at, id, \"timestamp\", type, submitted_by_kind,
                            submitted_by_name, parked_at, reason)
        SELECT name, sequence, 0, now(), sequence::text, now(), 'Tried', 'writeKey', 'key', now(), 'refused'
        FROM forwarding, generate_series(1, 3) AS sequence WHERE name = 'failing' OR sequence = 1";
    sqlx::raw_sql(statements).execute(&pool).await.expect("valid");
    let page = page(&program).await;
    assert_lines(
        &page,
        &[
            r#"audittrail_forwardings{state="disabled"} 1"#,
            "audittrail_forwarded_events 6",
            "audittrail_forwarding_filtered_events 4",
            "audittrail_forwarding_parked_events 4",
            "audittrail_forwarding_parked_events_max 3",
        ],
    );
    let retrying = page.lines().find_map(|line| line.strip_prefix("audittrail_forwarding_retrying_seconds_max "));
    let seconds: u32 = retrying.and_then(|value| value.parse().ok()).expect("a whole number");
    assert!((100..130).contains(&seconds), "{seconds}");
}
