//! The live tail on a real Postgres: neither gap nor repetition, whatever happens to its connections, and what becomes of it when
//! clients, credentials and the log change.

use audittrail_collector::tail::STREAMS_MAX;
use audittrail_crds::document::{Access, OwnerToken, Sensitive};
use audittrail_tests::clients::Clients;
use audittrail_tests::postgres::Postgres;
use audittrail_tests::served::{DEADLINE, OWNER, Served, body, document};
use audittrail_tests::sse::Stream;
use reqwest::StatusCode;
use reqwest::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use std::time::Instant;

const TAIL: &str = "/v1/events/stream";

/// The same without what the collector records of those who look.
const OURS: &str = "/v1/events/stream?submittedBy=acme%2FwriteKey";

/// A collector on a database of its own.
async fn served() -> Served {
    Served::start(&document(&Postgres::shared().create_database().await)).await
}

fn numbered(numbers: std::ops::Range<i64>) -> Vec<Value> {
    numbers.map(|number| json!({"id": number.to_string(), "type": "Counted"})).collect()
}

/// Nothing is missing between the first and the last, and nothing comes twice.
fn assert_whole(sequences: &[i64]) {
    let expected: Vec<i64> = (sequences[0]..).take(sequences.len()).collect();
    assert_eq!(sequences, expected);
}

async fn run(uri: &str, statements: &'static str) {
    let mut connection = PgConnection::connect(uri).await.expect("the server answers");
    sqlx::raw_sql(statements).execute(&mut connection).await.expect("the statements are valid");
}

/// Streams that are open, as the metrics say. One test of this program asks: the registry is one a process.
async fn open_streams(served: &Served) -> usize {
    let metrics = served.get("/metrics").send().await.expect("answered").text().await.expect("text");
    let value = metrics.lines().find_map(|line| line.strip_prefix("audittrail_live_tails "));
    value.expect("the gauge").parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn events_come_in_order_and_without_a_gap_while_many_write() {
    let served = served().await;
    let mut tail = Stream::open(&served, TAIL, None).await;
    let clients = Clients::start(&served, "writer", 4);
    let sequences = tail.sequences(500).await;
    assert_eq!(sequences.len(), 500);
    assert_whole(&sequences);
    clients.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_breaks_again_and_again_neither_skips_nor_repeats() {
    let served = served().await;
    let clients = Clients::start(&served, "writer", 4);
    let mut last: Option<String> = None;
    let mut sequences = Vec::new();
    for count in [1, 50, 3, 120, 0, 7, 200, 90, 33, 150] {
        // Some events more than are read are on their way when it breaks.
        let mut tail = Stream::open(&served, TAIL, last.as_deref()).await;
        tail.block().await.expect("the opening");
        sequences.extend(tail.sequences(count).await);
        last = tail.last_event_id;
        clients.acknowledge(20).await;
    }
    assert_eq!(sequences.len(), 654);
    assert_whole(&sequences);
    clients.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_before_its_first_event_goes_on_as_well() {
    let served = served().await;
    let mut tail = Stream::open(&served, OURS, None).await;
    let head = tail.response().headers();
    assert_eq!(head[CONTENT_TYPE], "text/event-stream");
    assert_eq!(head[CACHE_CONTROL], "no-store");
    assert_eq!(head["x-accel-buffering"], "no");
    let opening = tail.block().await.expect("open");
    assert_eq!(opening.retry.as_deref(), Some("2000"));
    let last = opening.id.expect("a place");
    drop(tail);
    served.add(numbered(0..3)).await;
    let mut tail = Stream::open(&served, &format!("{OURS}&after={last}"), None).await;
    assert_eq!(tail.sequences(3).await, [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_far_behind_gets_all_of_the_log_and_then_what_comes() {
    let served = served().await;
    served.add(numbered(0..2_500)).await;
    // Of these a chunk holds a few only.
    let filler = "x".repeat(30_000);
    let large = |number: i64| json!({"id": format!("large {number}"), "type": "Large", "details": {"filler": filler}});
    served.add((0..50).map(large).collect()).await;
    let mut tail = Stream::open(&served, TAIL, Some("0.0")).await;
    // The record of who opened it comes after them.
    let sequences = tail.sequences(2_550).await;
    assert_eq!(sequences, (1..=2_550).collect::<Vec<i64>>());
    served.add(numbered(2_500..2_501)).await;
    assert_eq!(tail.sequences(1).await, [2_551]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_decides_alike_about_what_is_stored_and_what_comes() {
    let served = served().await;
    let event = |id: &str, r#type: &str, outcome: &str| json!({"id": id, "type": r#type, "outcome": outcome, "resource": {"type": "warehouse", "id": "wh_1"}});
    let some = |when: &str| {
        vec![
            event(&format!("{when} 1"), "Warehouse Disabled", "success"),
            event(&format!("{when} 2"), "Warehouse Disabled", "denied"),
            event(&format!("{when} 3"), "Source Modified", "success"),
            event(&format!("{when} 4"), "Warehouse Created", "success"),
        ]
    };
    served.add(some("stored")).await;
    let path = |filter: &str| format!("{TAIL}?submittedBy=acme%2FwriteKey&{filter}");
    let filters = [
        ("type=warehouse%20disabled", ["1", "2"]),
        ("area=Warehouses&outcome=success", ["1", "4"]),
        ("resource=wh_1&q=disabled", ["1", "2"]),
    ];
    let mut tails = Vec::new();
    for (filter, _) in filters {
        tails.push(Stream::open(&served, &path(filter), Some("0.0")).await);
    }
    // The first stored event is the place that they go on after.
    served.add(some("new")).await;
    for (tail, (filter, expected)) in tails.iter_mut().zip(filters) {
        let expected = ["stored", "new"].into_iter().flat_map(|when| expected.map(|each| format!("{when} {each}")));
        let expected: Vec<String> = expected.skip(1).collect();
        let mut found = Vec::new();
        while found.len() < expected.len() {
            let event = tail.event().await.expect("open");
            found.push(event["id"].as_str().expect("text").to_owned());
        }
        assert_eq!(found, expected, "{filter}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_another_replica_stored_is_seen() {
    let uri = Postgres::shared().create_database().await;
    let (one, other) = (Served::start(&document(&uri)).await, Served::start(&document(&uri)).await);
    let mut tail = Stream::open(&one, OURS, None).await;
    for number in 0..3 {
        other.add(numbered(number..number + 1)).await;
        assert_eq!(tail.event().await.expect("open")["id"], number.to_string());
    }
}

/// More than the buffers between server and client hold: 40 MB.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_read_is_dropped_and_others_go_on() {
    let served = served().await;
    let mut slow = Stream::open(&served, OURS, None).await;
    let mut brisk = Stream::open(&served, OURS, None).await;
    let last = slow.block().await.expect("the opening").id.expect("a place");
    assert_eq!(open_streams(&served).await, 2);
    let filler = "x".repeat(8_000);
    for batch in 0..10 {
        let event = |number| json!({"id": format!("{batch}/{number}"), "type": "Big", "details": {"filler": filler}});
        served.add((0..500).map(event).collect()).await;
        let sequences = brisk.sequences(500).await;
        assert_eq!(sequences.len(), 500);
        assert_whole(&sequences);
    }
    served.until("the slow client is dropped", || async { open_streams(&served).await == 1 }).await;
    served.add(numbered(0..1)).await;
    assert_eq!(brisk.event().await.expect("open")["id"], "0");

    // It gets what was buffered, an end, and with its last id the rest.
    let mut sequences = slow.sequences(usize::MAX).await;
    assert!(!sequences.is_empty() && sequences.len() < 5_000, "{}", sequences.len());
    assert_ne!(slow.last_event_id.as_ref(), Some(&last));
    let mut again = Stream::open(&served, OURS, slow.last_event_id.as_deref()).await;
    sequences.extend(again.sequences(5_001 - sequences.len()).await);
    assert_whole(&sequences);
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_opened_up_to_the_bound_and_closing_one_makes_room() {
    let served = served().await;
    let mut tails = Vec::new();
    for _ in 0..STREAMS_MAX {
        tails.push(Stream::open(&served, TAIL, None).await);
    }
    let refused = served.get(TAIL).send().await.expect("answered");
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()[RETRY_AFTER], "2");
    let detail = body(refused).await["detail"].to_string();
    assert!(detail.contains("100 live tails"), "{detail}");
    tails.pop();
    let closed = Instant::now();
    served
        .until("there is room", || async { served.get(TAIL).send().await.is_ok_and(|answer| answer.status() == 200) })
        .await;
    assert!(closed.elapsed().as_secs() < 5, "{:?}", closed.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_followed_is_refused_with_the_reason() {
    let served = served().await;
    served.add(numbered(0..3)).await;
    for (query, last_event_id, reason) in [
        ("after=17", None, "after must be the epoch and the sequence of an event"),
        ("", Some("x"), "Last-Event-ID must be the epoch and the sequence of an event"),
        ("after=0.3", None, "after is past the newest event"),
        ("", Some("0.3"), "Last-Event-ID is past the newest event"),
        ("after=1.0", None, "after is past the newest event"),
        ("limit=10", None, "limit is unknown here"),
        ("outcome=ok", None, "outcome must be one of"),
    ] {
        let mut request = served.get(&format!("{TAIL}?{query}"));
        if let Some(id) = last_event_id {
            request = request.header("Last-Event-ID", id);
        }
        let answer = request.send().await.expect("answered");
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{query}");
        let detail = body(answer).await["detail"].as_str().expect("text").to_owned();
        assert!(detail.starts_with(reason), "{detail}");
    }
    let written = served.page("/v1/events").await["events"].as_array().expect("a list").len();
    assert_eq!(written, 3, "what is refused is not recorded");
    // The last event that there is.
    let mut tail = Stream::open(&served, OURS, Some("0.2")).await;
    served.add(numbered(3..4)).await;
    assert_eq!(tail.event().await.expect("open")["id"], "3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_taken_away_ends_its_stream_and_no_other() {
    let uri = Postgres::shared().create_database().await;
    let mut both = document(&uri);
    let leaving = OwnerToken { name: "joe".to_owned(), token: Sensitive::new("joes-token") };
    let Access::Tokens(tokens) = &mut both.access else { panic!("tokens of the document") };
    tokens.push(leaving);
    let served = Served::start(&both).await;
    let url = format!("http://{}{TAIL}", served.address);
    let as_joe = || served.client.get(&url).bearer_auth("joes-token").send();
    let mut staying = Stream::open(&served, OURS, None).await;
    let mut leaving = as_joe().await.expect("answered").error_for_status().expect("allowed");
    leaving.chunk().await.expect("open").expect("the opening");

    let mut next = document(&uri);
    next.generation = 2;
    served.apply(&next);
    let mut rest = Vec::new();
    let end = async {
        while let Some(chunk) = leaving.chunk().await.expect("a clean end") {
            rest.extend_from_slice(&chunk);
        }
    };
    tokio::time::timeout(DEADLINE, end).await.expect("it ends in time");
    let rest = String::from_utf8(rest).expect("UTF-8");
    assert!(rest.ends_with(": the credential is not accepted any more\n\n"), "{rest}");
    assert_eq!(as_joe().await.expect("answered").status(), StatusCode::UNAUTHORIZED);
    served.add(numbered(0..1)).await;
    assert_eq!(staying.event().await.expect("open")["id"], "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_key_and_nobody_follow_nothing() {
    let served = served().await;
    let url = format!("http://{}{TAIL}", served.address);
    let bare = served.client.get(&url).send().await.expect("answered");
    assert_eq!(bare.status(), StatusCode::UNAUTHORIZED);
    let writer = served.client.get(&url).bearer_auth("atk_key").send().await.expect("answered");
    assert_eq!(writer.status(), StatusCode::FORBIDDEN);
    let in_url = served.client.get(format!("{url}?token={OWNER}")).send().await.expect("answered");
    assert_eq!(in_url.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_rewound_ends_its_streams_and_what_survived_goes_on() {
    let uri = Postgres::shared().create_database().await;
    let served = Served::start(&document(&uri)).await;
    let mut tail = Stream::open(&served, TAIL, None).await;
    // The opening is event 0.
    served.add(numbered(1..10)).await;
    assert_eq!(tail.sequences(9).await, (1..10).collect::<Vec<i64>>());
    run(
        &uri,
        "DELETE FROM event WHERE sequence >= 5; DELETE FROM event_id WHERE sequence >= 5; UPDATE head SET next_sequence = 5",
    )
    .await;
    assert_eq!(tail.event().await, None, "it ends when the epoch is raised");
    served.add(vec![json!({"id": "after", "type": "Counted"})]).await;

    let lost = served.get(TAIL).header("Last-Event-ID", "0.9").send().await.expect("answered");
    assert_eq!(lost.status(), StatusCode::BAD_REQUEST);
    let detail = body(lost).await["detail"].to_string();
    assert!(detail.contains("lost when the database was restored"), "{detail}");
    let first_lost = served.get(TAIL).header("Last-Event-ID", "0.5").send().await.expect("answered");
    assert_eq!(first_lost.status(), StatusCode::BAD_REQUEST);
    let mut tail = Stream::open(&served, TAIL, Some("0.4")).await;
    let event = tail.event().await.expect("open");
    assert_eq!((&event["id"], &event["sequence"], &event["epoch"]), (&json!("after"), &json!(5), &json!(1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_retention_dropped_is_told_before_what_is_left() {
    let uri = Postgres::shared().create_database().await;
    let served = Served::start(&document(&uri)).await;
    served.add(numbered(0..10)).await;
    run(&uri, "DELETE FROM event_id WHERE sequence < 6; DELETE FROM event WHERE sequence < 6").await;
    let mut tail = Stream::open(&served, OURS, Some("0.1")).await;
    assert_eq!(tail.block().await.expect("open").id.as_deref(), Some("0.5"));
    let told = tail.block().await.expect("open");
    assert_eq!(told.event.as_deref(), Some("dropped"));
    assert_eq!(told.data.as_deref(), Some(r#"{"firstSequence":2,"nextSequence":6}"#));
    assert_eq!(tail.sequences(4).await, [6, 7, 8, 9]);
    // Nothing between the place and the first event that is left.
    let mut tail = Stream::open(&served, OURS, Some("0.5")).await;
    assert_eq!(tail.block().await.expect("open").retry.as_deref(), Some("2000"));
    assert_eq!(tail.block().await.expect("open").event, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_restarts_interrupts_a_stream_and_does_not_end_it() {
    let mut postgres = Postgres::start();
    let served = Served::start(&document(&postgres.create_database().await)).await;
    let mut tail = Stream::open(&served, OURS, None).await;
    served.add(numbered(0..1)).await;
    assert_eq!(tail.event().await.expect("open")["id"], "0");
    postgres.kill9();
    let away = served.get("/v1/events").send().await.expect("answered");
    assert_eq!(away.status(), StatusCode::SERVICE_UNAVAILABLE);
    postgres.restart();
    served.until("it writes again", || async { served.state().await == "verified" }).await;
    served.add(numbered(1..2)).await;
    assert_eq!(tail.event().await.expect("open")["id"], "1");
}
