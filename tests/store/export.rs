//! Exports on a real Postgres: CSV and NDJSON, whole and gone on with, and what becomes of them when the database or the client
//! goes away.

use audittrail_collector::query::export::EXPORTS_MAX;
use audittrail_collector::query::export::csv::COLUMNS;
use audittrail_collector::server::READS_MAX;
use audittrail_crds::document::{Access, OwnerToken, Sensitive};
use audittrail_tests::postgres::Postgres;
use audittrail_tests::served::{DEADLINE, OWNER, Served, body, document};
use csv::StringRecord;
use futures::future::join_all;
use reqwest::header::{CONTENT_DISPOSITION, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Leaves out what the collector records of the questions themselves.
const OURS: &str = "submittedBy=acme%2FwriteKey";

/// How soon everything is free again after a client went away.
const FREED_WITHIN: Duration = Duration::from_secs(1);

const POLL: Duration = Duration::from_millis(10);

/// A collector, and its database.
struct Trail {
    served: Served,
    pool: PgPool,
}

impl Trail {
    async fn start() -> Self {
        Self::on(&Postgres::shared().create_database().await).await
    }

    async fn on(uri: &str) -> Self {
        let served = Served::start(&document(uri)).await;
        let pool = PgPoolOptions::new().max_connections(1).connect(uri).await.expect("the server answers");
        Self { served, pool }
    }

    /// A collector with more events than the buffers between server and client hold: 40 MB.
    async fn with_much(uri: &str) -> Self {
        let trail = Self::on(uri).await;
        let filler = "x".repeat(8_000);
        for batch in 0..10 {
            let event =
                |number| json!({"id": format!("{batch}/{number}"), "type": "Big", "details": {"filler": filler}});
            trail.served.add((0..500).map(event).collect()).await;
        }
        trail
    }

    async fn get(&self, path: &str) -> Response {
        self.served.get(path).send().await.expect("answered")
    }

    /// The whole of an export.
    async fn export(&self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status(), 200, "{path}");
        answer.text().await.expect("complete")
    }

    /// The rule that a request for this path is refused with.
    async fn refusal(&self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status(), 400, "{path}");
        body(answer).await["errors"][0]["rule"].as_str().expect("a rule").to_owned()
    }

    async fn run(&self, statement: &'static str) {
        sqlx::raw_sql(statement).execute(&self.pool).await.expect("the statement is valid");
    }

    /// Connections of the collector on which something is under way.
    async fn busy_connections(&self) -> i64 {
        let count = "SELECT count(*) FROM pg_stat_activity
                     WHERE datname = current_database() AND application_name = 'audittrail-collector' AND state <> 'idle'";
        sqlx::query_scalar(count).fetch_one(&self.pool).await.expect("a number")
    }

    /// As many exports as may run at once, begun after the last ones were `closed`: by then nothing of those is held, within
    /// [`FREED_WITHIN`].
    async fn all_at_once(&self, path: &str, closed: Instant) -> Vec<Response> {
        while self.busy_connections().await > 0 {
            still_in_time(closed).await;
        }
        let mut running = Vec::new();
        while running.len() < EXPORTS_MAX {
            let answer = self.get(path).await;
            match answer.status() {
                StatusCode::OK => running.push(answer),
                status => {
                    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
                    still_in_time(closed).await;
                }
            }
        }
        running
    }

    /// An export whose answer nobody reads, past its first bytes.
    async fn unread(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.served.address).await.expect("the collector listens");
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {OWNER}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("the collector reads");
        let mut begun = [0; "HTTP/1.1 200".len()];
        stream.read_exact(&mut begun).await.expect("the collector answers");
        assert_eq!(&begun, b"HTTP/1.1 200");
        stream
    }
}

fn numbered(numbers: std::ops::Range<i64>) -> Vec<Value> {
    numbers.map(|number| json!({"id": number.to_string(), "type": "Counted"})).collect()
}

/// The rows of a CSV text with a header, or of one without.
fn rows(text: &str, header: &str) -> Vec<StringRecord> {
    let text = header.to_owned() + text;
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    assert_eq!(reader.headers().expect("a header"), &COLUMNS[..]);
    reader.records().collect::<Result<_, _>>().expect("RFC 4180")
}

fn sequences(rows: &[StringRecord]) -> Vec<i64> {
    rows.iter().map(|row| row[0].parse().expect("a number")).collect()
}

/// `after` for what follows this row.
fn after(row: &StringRecord) -> String {
    format!("{}.{}", &row[1], &row[0])
}

/// A pause, for as long as what is `closed` may still be held.
async fn still_in_time(closed: Instant) {
    assert!(closed.elapsed() < FREED_WITHIN, "still held after {:?}", closed.elapsed());
    tokio::time::sleep(POLL).await;
}

/// Reads the rest of an answer: whether it breaks off.
async fn ends_broken(answer: &mut Response) -> bool {
    loop {
        match timeout(DEADLINE, answer.chunk()).await.expect("in time") {
            Ok(Some(_)) => {}
            Ok(None) => return false,
            Err(_) => return true,
        }
    }
}

fn header() -> String {
    COLUMNS.join(",") + "\r\n"
}

#[tokio::test(flavor = "multi_thread")]
async fn csv_has_what_the_list_has_in_chunks_without_end() {
    let trail = Trail::start().await;
    trail.served.add(numbered(0..2_500)).await;
    trail.served.add(vec![json!({"id": "=1+1", "type": "Odd, \"quoted\"", "details": {"a": 1}})]).await;
    for (order, first) in [("desc", 2_500), ("asc", 0)] {
        let answer = trail.get(&format!("/v1/events.csv?order={order}&{OURS}")).await;
        assert_eq!(answer.headers()[CONTENT_TYPE], "text/csv; charset=utf-8");
        let disposition = answer.headers()[CONTENT_DISPOSITION].to_str().expect("ASCII").to_owned();
        assert!(disposition.starts_with("attachment; filename=\"audit-team-a-acme-20"), "{disposition}");
        assert!(disposition.ends_with(".csv\""), "{disposition}");
        let rows = rows(&answer.text().await.expect("complete"), "");
        let found = sequences(&rows);
        let mut expected: Vec<i64> = (0..=2_500).collect();
        if order == "desc" {
            expected.reverse();
        }
        assert_eq!(found, expected);
        assert_eq!(found[0], first);
        let odd = rows.iter().find(|row| &row[0] == "2500").expect("there");
        assert_eq!((&odd[3], &odd[5], &odd[20]), ("'=1+1", "Odd, \"quoted\"", r#"{"a":1}"#));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ndjson_is_the_events_of_the_list_a_line_each() {
    let trail = Trail::start().await;
    let full = json!({
        "id": "evt \"1\" é", "timestamp": "2026-03-02T09:14:05.12Z", "type": "Warehouse Disabled",
        "actor": {"type": "user", "id": "usr_1", "name": "Jané \u{1f600}", "email": "jane@example.com"},
        "resource": {"type": "warehouse", "id": "wh_1", "name": "Main\\"},
        "outcome": "success",
        "context": {"ip": "192.0.2.1", "userAgent": "curl \"8\"", "requestId": "r1"},
        "changes": [{"field": "enabled", "before": true, "after": null}, {"field": "x", "after": {"b": 1, "a": [1.5]}}],
        "details": {"reason": "cost", "nested": {"é": [1, 2.5, "é\u{2028}"]}},
    });
    trail.served.add(vec![full, json!({"id": "least", "type": "Least"})]).await;
    trail.served.add(vec![json!({"id": "part", "type": "Part", "resource": {"type": "a", "id": "b"}, "context": {"ip": "::1"}, "details": {}})]).await;
    trail.served.add(numbered(0..1_100)).await;
    for order in ["desc", "asc"] {
        let answer = trail.get(&format!("/v1/events.ndjson?order={order}&{OURS}")).await;
        assert_eq!(answer.headers()[CONTENT_TYPE], "application/x-ndjson");
        let disposition = answer.headers()[CONTENT_DISPOSITION].to_str().expect("ASCII").to_owned();
        assert!(disposition.ends_with(".ndjson\""), "{disposition}");
        let text = answer.text().await.expect("complete");
        assert!(text.ends_with("}\n"), "each line ends");
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        let mut listed = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = trail.served.page(&format!("/v1/events?limit=1000&order={order}&{OURS}{cursor}")).await;
            listed.extend(page["events"].as_array().expect("events").clone());
            let Some(next) = page["nextCursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(lines.len(), 1_103);
        assert_eq!(lines, listed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_take_filters_and_no_pages() {
    let trail = Trail::start().await;
    trail.served.add(vec![json!({"id": "a", "type": "A"}), json!({"id": "b", "type": "B"})]).await;
    assert_eq!(sequences(&rows(&trail.export("/v1/events.csv?type=B").await, "")), [1]);
    let line = trail.export("/v1/events.ndjson?type=B").await;
    assert_eq!(serde_json::from_str::<Value>(&line).expect("one line")["id"], "b");
    for path in ["/v1/events.csv?limit=10", "/v1/events.ndjson?limit=10", "/v1/events.ndjson?bom=true"] {
        assert!(trail.refusal(path).await.starts_with("is unknown here"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_of_nothing_is_complete() {
    let trail = Trail::start().await;
    assert_eq!(trail.export("/v1/events.csv?type=Unheard").await, header());
    assert_eq!(trail.export("/v1/events.ndjson?type=Unheard").await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_order_mark_stands_before_the_header_for_whoever_wants_one() {
    let trail = Trail::start().await;
    let marked = trail.get("/v1/events.csv?type=Unheard&bom=true").await.bytes().await.expect("complete");
    assert_eq!(marked, [b"\xef\xbb\xbf", header().as_bytes()].concat());
    let plain = trail.get("/v1/events.csv?type=Unheard&bom=false").await.bytes().await.expect("complete");
    assert_eq!(plain, header());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_goes_on_after_any_row_while_events_arrive() {
    let trail = Trail::start().await;
    trail.served.add(numbered(0..2_000)).await;
    for order in ["desc", "asc"] {
        let path = format!("/v1/events.csv?order={order}&{OURS}");
        let whole = rows(&trail.export(&path).await, "");
        let newest = sequences(&whole).into_iter().max().expect("events");
        for kept in [1, 1_000, whole.len() - 1, whole.len()] {
            // Arrives between the first request and the second.
            trail.served.add(vec![json!({"type": "Counted", "details": {"order": order, "kept": kept}})]).await;
            let text = trail.export(&format!("{path}&after={}", after(&whole[kept - 1]))).await;
            let mut rest = rows(&text, &header());
            // Oldest first goes on to what is the newest now; newest first never comes to it.
            assert_eq!(rest.iter().any(|row| sequences(std::slice::from_ref(row))[0] > newest), order == "asc");
            rest.retain(|row| sequences(std::slice::from_ref(row))[0] <= newest);
            assert_eq!(rest, whole[kept..], "{order} after {kept} rows");
        }
        let lines = trail.export(&format!("/v1/events.ndjson?order={order}&{OURS}&after={}", after(&whole[10]))).await;
        let next: Value = serde_json::from_str(lines.lines().next().expect("a line")).expect("JSON");
        assert_eq!(next["sequence"].to_string(), whole[11][0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_goes_on_only_where_the_log_is_what_the_client_has_seen() {
    let trail = Trail::start().await;
    trail.served.add(numbered(0..10)).await;
    for path in ["/v1/events.csv?after=", "/v1/events.ndjson?order=asc&after="] {
        for unreadable in ["9", "0.", "0.-1", "0.9x"] {
            let rule = trail.refusal(&format!("{path}{unreadable}")).await;
            assert!(rule.starts_with("must be the epoch and the sequence of an event"), "{rule}");
        }
        for ahead in ["0.1000", "1.0"] {
            let rule = trail.refusal(&format!("{path}{ahead}")).await;
            assert!(rule.starts_with("is past the newest event"), "{rule}");
        }
    }
    // Restored to when there were five events, which was noticed at ten.
    trail.run("INSERT INTO epoch (epoch, first_sequence, raised_at, reason) VALUES (1, 5, now(), 'test')").await;
    trail.run("UPDATE head SET epoch = 1").await;
    for lost in ["0.5", "0.9"] {
        let rule = trail.refusal(&format!("/v1/events.csv?after={lost}")).await;
        assert!(rule.contains("lost when the database was restored"), "{rule}");
    }
    for standing in ["0.4", "1.4"] {
        let text = trail.export(&format!("/v1/events.csv?{OURS}&after={standing}")).await;
        assert_eq!(sequences(&rows(&text, &header())), [3, 2, 1, 0], "{standing}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_breaks_off_and_never_ends_cleanly_when_the_database_dies() {
    for path in ["/v1/events.csv", "/v1/events.ndjson"] {
        let mut postgres = Postgres::start();
        let trail = Trail::with_much(&postgres.create_database().await).await;
        let mut answer = trail.get(path).await;
        assert_eq!(answer.status(), 200);
        assert!(answer.chunk().await.expect("begun").is_some());
        postgres.kill9();
        assert!(ends_broken(&mut answer).await, "{path}: a clean end");
    }
}

/// Restored to a point in its past while the export runs: what it has not read yet is not there any more.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_breaks_off_when_the_log_is_rewound() {
    for path in ["/v1/events.csv", "/v1/events.ndjson?order=asc"] {
        let trail = Trail::with_much(&Postgres::shared().create_database().await).await;
        let mut answer = trail.get(path).await;
        assert_eq!(answer.status(), 200);
        assert!(answer.chunk().await.expect("begun").is_some());
        trail
            .run(
                "BEGIN;
                 DELETE FROM event WHERE sequence >= 1000;
                 DELETE FROM event_id WHERE sequence >= 1000;
                 UPDATE head SET next_sequence = 1000;
                 COMMIT",
            )
            .await;
        let raised = || async {
            let epoch: i64 =
                sqlx::query_scalar("SELECT epoch FROM head").fetch_one(&trail.pool).await.expect("a number");
            epoch == 1
        };
        trail.served.until("the epoch is raised", raised).await;
        assert!(ends_broken(&mut answer).await, "{path}: a clean end");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_said_before_an_export_begins() {
    let mut postgres = Postgres::start();
    let trail = Trail::on(&postgres.create_database().await).await;
    postgres.kill9();
    assert_eq!(trail.get("/v1/events.csv").await.status(), 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_stop_reading_hold_up_nobody_and_free_everything_when_they_close() {
    let trail = Trail::with_much(&Postgres::shared().create_database().await).await;
    let path = "/v1/events.csv";
    let unread = join_all((0..EXPORTS_MAX).map(|_| trail.unread(path))).await;
    let idle = || async { trail.busy_connections().await == 0 };
    trail.served.until("nothing is read for clients that take nothing", idle).await;
    // More lists than there are turns, at once.
    let lists = join_all((0..=READS_MAX).map(|_| trail.get("/v1/events?limit=1"))).await;
    assert!(lists.iter().all(|list| list.status() == StatusCode::OK));
    let refused = trail.get(path).await;
    assert_eq!(refused.status(), 503);
    assert!(refused.headers().contains_key(RETRY_AFTER));
    assert_eq!(body(refused).await["detail"], format!("{EXPORTS_MAX} exports are running, and no more may at once"));

    drop(unread);
    trail.all_at_once(path, Instant::now()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_closes_in_the_middle_frees_everything() {
    let trail = Trail::with_much(&Postgres::shared().create_database().await).await;
    let mut closed = Instant::now();
    for _ in 0..4 {
        let mut answers = trail.all_at_once("/v1/events.ndjson", closed).await;
        for answer in &mut answers {
            assert!(answer.chunk().await.expect("begun").is_some());
        }
        drop(answers);
        closed = Instant::now();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_breaks_off_when_its_reader_may_not_any_more() {
    let uri = Postgres::shared().create_database().await;
    let trail = Trail::with_much(&uri).await;
    let mut answer = trail.get("/v1/events.csv").await;
    assert!(answer.chunk().await.expect("begun").is_some());
    let mut next = document(&uri);
    next.generation = 2;
    next.access = Access::Tokens(vec![OwnerToken { name: "joe".to_owned(), token: Sensitive::new("other") }]);
    trail.served.apply(&next);
    let refused = || async { trail.get("/v1/events?limit=1").await.status() == 401 };
    trail.served.until("the document is in force", refused).await;
    assert!(ends_broken(&mut answer).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_http_cannot_mark_an_end_is_refused() {
    let trail = Trail::start().await;
    let mut stream = TcpStream::connect(trail.served.address).await.expect("the collector listens");
    let request = format!("GET /v1/events.csv HTTP/1.0\r\nauthorization: Bearer {OWNER}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("the collector reads");
    let mut answer = String::new();
    timeout(DEADLINE, stream.read_to_string(&mut answer)).await.expect("in time").expect("text");
    assert!(answer.starts_with("HTTP/1.0 400") && answer.contains("an export needs HTTP/1.1"), "{answer}");
}

/// Rows of a hundred kilobytes come right after rows of a few hundred bytes.
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_any_size_follow_each_other() {
    let trail = Trail::start().await;
    let filler = "\"".repeat(30_000);
    for _ in 0..2 {
        trail.served.add((0..3_000).map(|_| json!({"type": "Small"})).collect()).await;
        trail.served.add((0..100).map(|_| json!({"type": "Large", "details": {"filler": filler}})).collect()).await;
    }
    let found = rows(&trail.export(&format!("/v1/events.csv?order=asc&{OURS}")).await, "");
    assert_eq!(sequences(&found), (0..6_200).collect::<Vec<i64>>());
    let large = found.iter().filter(|row| row[20].len() > 60_000).count();
    assert_eq!(large, 200);
}
