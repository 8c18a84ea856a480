//! One trail forwarded to another: real collectors on a real Postgres.

use audittrail_collector::problem::{self, FORWARDING_LOOP};
use audittrail_collector::segment::passed::PASSED_MAX;
use audittrail_crds::document::{Document, Format, Forwarding, Sensitive, StartFrom};
use audittrail_tests::postgres::Postgres;
use audittrail_tests::served::{Served, WRITE_KEY, body, document};
use reqwest::Response;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

/// A document on a database of its own.
async fn fresh() -> Document {
    document(&Postgres::shared().create_database().await)
}

/// A forwarding of everything to another trail.
fn to(receiving: &Served, format: Format) -> Forwarding {
    let entry = Forwarding::new("to-the-other", format!("http://{}", receiving.address), Sensitive::new(WRITE_KEY));
    Forwarding { generation: 1, start_from: StartFrom::Beginning, format, ..entry }
}

/// What was written with the key, oldest first. The collector records who looks beside it.
async fn events(served: &Served) -> Vec<Value> {
    let mut page = served.page("/v1/events?order=asc&limit=1000&submittedBy=acme%2FwriteKey").await;
    let Value::Array(events) = page["events"].take() else { panic!("events") };
    events
}

async fn connect(document: &Document) -> PgConnection {
    PgConnection::connect(document.database.uri.reveal()).await.expect("the database answers")
}

async fn log_id(document: &Document) -> Uuid {
    sqlx::query_scalar("SELECT log_id FROM head").fetch_one(&mut connect(document).await).await.expect("a head")
}

/// The trails that an event passed, as its row has them.
async fn passed(document: &Document, id: &str) -> Option<Vec<Uuid>> {
    let passed = sqlx::query_scalar("SELECT passed FROM event WHERE id = $1").bind(id);
    passed.fetch_one(&mut connect(document).await).await.expect("an event")
}

#[tokio::test(flavor = "multi_thread")]
async fn events_forwarded_from_trail_to_trail_arrive_equal() {
    let receiving = Served::start(&fresh().await).await;
    let mut sending = fresh().await;
    sending.forwardings.push(to(&receiving, Format::Named));
    let sending = Served::start(&sending).await;
    sending.add(various()).await;
    let all = various().len();
    receiving.until("every event is there", || async { events(&receiving).await.len() == all }).await;

    // In this order: that somebody looks at the sending trail is forwarded too.
    let mut arrived = events(&receiving).await;
    let mut sent = events(&sending).await;
    let last = (sent.pop().expect("the large one"), arrived.pop().expect("the large one"));
    for event in sent.iter_mut().chain(&mut arrived) {
        for member in ["sequence", "epoch", "receivedAt", "submittedBy"] {
            event.as_object_mut().expect("an event").remove(member);
        }
    }
    assert_eq!(arrived, sent);
    assert_eq!(last.0["details"]["text"].as_str().map(str::len), Some(40_000));
    assert_eq!(last.1["details"], json!({"cut": ["details"]}));
    assert_eq!(last.1["changes"], last.0["changes"]);
}

/// Events with everything and with little; the last is too large for an item.
fn various() -> Vec<Value> {
    let whole = json!({
        "id": "evt_1", "timestamp": "2026-03-02T09:14:05.123456Z", "type": "Warehouse Disabled",
        "actor": {"type": "accessToken", "id": "tok_1", "name": "CI", "email": "ci@acme.example"},
        "resource": {"type": "warehouse", "id": "whs_1", "name": "Production"}, "outcome": "denied",
        "context": {"ip": "2001:db8::1", "userAgent": "curl", "requestId": "r1"},
        "changes": [{"field": "enabled", "before": true, "after": false}, {"field": "note", "after": "é\u{1f600}"}],
        "details": {"odd": [1, 0.1, -0.5e-7, "", null, {"": {"a\nb": "\u{7f}"}}], "cut": "of diamond", "id": 9_007_199_254_740_992_u64},
    });
    let system = json!({"id": "evt_2", "type": "Unheard Of", "actor": {"type": "system", "id": "__system__"}});
    let bare = json!({"type": "A", "actor": {"type": "user", "id": "u"}, "details": {}, "context": {}, "changes": []});
    let large = json!({"id": "evt_4", "type": "A", "details": {"text": "x".repeat(40_000)}, "changes": [{"field": "a", "after": 1}]});
    vec![whole, system, bare, large]
}

#[tokio::test(flavor = "multi_thread")]
async fn events_forwarded_in_segments_own_shape_arrive_with_their_details_as_text() {
    let receiving = Served::start(&fresh().await).await;
    let mut sending = fresh().await;
    sending.forwardings.push(to(&receiving, Format::SegmentAudit));
    let sending = Served::start(&sending).await;
    sending
        .add(vec![json!({
            "id": "evt_1", "timestamp": "2026-03-02T09:14:05.123456Z", "type": "Warehouse Disabled", "outcome": "denied",
            "actor": {"type": "accessToken", "id": "tok_1", "name": "CI"}, "context": {"ip": "192.0.2.7"},
            "resource": {"type": "warehouse", "id": "whs_1", "name": "Production"},
            "changes": [{"field": "enabled", "before": true, "after": false}],
            "details": {"count": 3, "target": "own"},
        })])
        .await;
    receiving.until("the event is there", || async { events(&receiving).await.len() == 1 }).await;

    let mut arrived = events(&receiving).await.remove(0);
    for member in ["sequence", "epoch", "receivedAt", "submittedBy"] {
        arrived.as_object_mut().expect("an event").remove(member);
    }
    assert_eq!(
        arrived,
        json!({
            "id": "evt_1", "timestamp": "2026-03-02T09:14:05.123456Z", "type": "Warehouse Disabled", "outcome": "denied",
            "actor": {"type": "accessToken", "id": "tok_1", "name": "CI"}, "context": {"ip": "192.0.2.7"},
            "resource": {"type": "warehouse", "id": "whs_1", "name": "Production"},
            "changes": [{"field": "enabled", "before": true, "after": false}],
            "details": {"count": "3", "target": "own"},
        })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_carries_every_trail_that_it_passed() {
    let documents = (fresh().await, fresh().await, fresh().await);
    let last = Served::start(&documents.2).await;
    let second = Document { forwardings: vec![to(&last, Format::SegmentAudit)], ..documents.1.clone() };
    let second = Served::start(&second).await;
    let first = Document { forwardings: vec![to(&second, Format::Named)], ..documents.0.clone() };
    let first = Served::start(&first).await;
    first.add(vec![json!({"id": "evt_1", "type": "Warehouse Disabled"})]).await;
    last.until("the event is there", || async { !events(&last).await.is_empty() }).await;

    let logs = (log_id(&documents.0).await, log_id(&documents.1).await);
    assert_eq!(passed(&documents.0, "evt_1").await, None);
    assert_eq!(passed(&documents.1, "evt_1").await, Some(vec![logs.0]));
    assert_eq!(passed(&documents.2, "evt_1").await, Some(vec![logs.0, logs.1]));
    assert!(events(&last).await[0].get("passed").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn trails_that_forward_to_each_other_send_nothing_round() {
    let mut first = fresh().await;
    let beginning = Served::start(&first).await;
    let second = Document { forwardings: vec![to(&beginning, Format::Named)], ..fresh().await };
    let back = Served::start(&second).await;
    first.generation += 1;
    first.forwardings.push(Forwarding { generation: first.generation, ..to(&back, Format::Named) });
    beginning.apply(&first);
    beginning.add(vec![json!({"id": "evt_1", "type": "Warehouse Disabled"})]).await;

    let forwarding = || async { back.page("/v1/status").await["forwardings"][0].take() };
    back.until("the loop is noticed", || async { forwarding().await["state"] == "Loop" }).await;
    let forwarding = forwarding().await;
    assert_eq!((&forwarding["delivered"], &forwarding["parked"]), (&json!(0), &json!(0)));
    assert!(forwarding["lastError"].as_str().expect("the source's words").contains("team-a/acme"), "{forwarding}");
    let ids = |events: Vec<Value>| events.into_iter().map(|event| event["id"].clone()).collect::<Vec<_>>();
    assert_eq!((ids(events(&beginning).await), ids(events(&back).await)), (vec![json!("evt_1")], vec![json!("evt_1")]));
}

fn track(id: &str, passed: &Value) -> Value {
    json!({"type": "track", "event": "Invoice Sent", "userId": "usr_1", "messageId": id, "timestamp": "2026-03-02T09:14:05Z",
        "context": {"audittrail": {"passed": passed}}})
}

async fn batch(served: &Served, items: &[Value]) -> Response {
    served.post("/v1/batch").json(&json!({ "batch": items })).send().await.expect("answered")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_with_an_event_that_was_here_is_refused_whole_with_a_type_of_its_own() {
    let document = fresh().await;
    let served = Served::start(&document).await;
    let (here, other) = (log_id(&document).await, Uuid::new_v4());
    let round = track("b", &json!([other, here]));
    for answer in [
        batch(&served, &[track("a", &json!([other])), round.clone(), track("c", &json!(null))]).await,
        served.post("/v1/track").json(&round).send().await.expect("answered"),
    ] {
        assert_eq!(answer.status(), 403);
        assert_eq!(answer.headers()[CONTENT_TYPE], problem::MEDIA_TYPE);
        let document = body(answer).await;
        assert_eq!((&document["type"], &document["status"]), (&json!(FORWARDING_LOOP), &json!(403)));
        let detail = document["detail"].as_str().expect("text");
        assert!(
            ["team-a/acme", &here.to_string(), "AuditForwarding"].iter().all(|word| detail.contains(word)),
            "{detail}"
        );
    }
    assert_eq!(events(&served).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_may_pass_sixteen_trails_and_no_more() {
    let document = fresh().await;
    let served = Served::start(&document).await;
    let logs = |count: usize| (0..count).map(|_| Uuid::new_v4()).collect::<Vec<_>>();
    let most = logs(PASSED_MAX);
    assert_eq!(batch(&served, &[track("a", &json!(most))]).await.status(), 200);
    let answer = batch(&served, &[track("b", &json!(logs(PASSED_MAX + 1)))]).await;
    assert_eq!(answer.status(), 403);
    assert_eq!(body(answer).await["type"], FORWARDING_LOOP);
    assert_eq!(passed(&document, "a").await, Some(most));
    assert_eq!(events(&served).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_not_ours_is_ignored() {
    let document = fresh().await;
    let served = Served::start(&document).await;
    let here = log_id(&document).await;
    let odd = [json!(here), json!([here, "x"]), json!({"a": here}), json!([[here]]), json!(null), json!([])];
    for (number, odd) in odd.into_iter().enumerate() {
        let id = number.to_string();
        assert_eq!(batch(&served, &[track(&id, &odd)]).await.status(), 200);
        assert_eq!(passed(&document, &id).await, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_comes_by_two_ways_is_stored_once() {
    let document = fresh().await;
    let served = Served::start(&document).await;
    let ways = [vec![Uuid::new_v4()], vec![Uuid::new_v4(), Uuid::new_v4()], Vec::new()];
    for way in &ways {
        let answer = batch(&served, &[track("a", &json!(way)), track("a", &json!([Uuid::new_v4()]))]).await;
        assert_eq!(answer.status(), 200);
    }
    assert_eq!(events(&served).await.len(), 1);
    assert_eq!(passed(&document, "a").await.as_ref(), Some(&ways[0]));
}
