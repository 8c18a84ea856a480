//! Who looked: every view and export is an event of the trail before it is answered, once a query, and one event by its id.

use audittrail_collector::access::Identity;
use audittrail_collector::event::SubmitterKind;
use audittrail_collector::query::cursor::{Cursor, CursorKey, KEY_BYTES, Scope, Selection};
use audittrail_collector::query::filter::{Filter, Order};
use audittrail_collector::store::segment::SEGMENT_EVENTS;
use audittrail_crds::document::{CatalogueMode, Document, Forwarding, OwnerToken, Sensitive, StartFrom};
use audittrail_tests::postgres::Postgres;
use audittrail_tests::served::{OWNER, Served, WRITE_KEY, body, document};
use futures::future::join_all;
use reqwest::Response;
use reqwest::header::{RETRY_AFTER, USER_AGENT};
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;

/// The token of another owner.
const OTHER_OWNER: &str = "other-owner-token";

/// A collector, and its database, which tells what is recorded without being a view itself.
struct Trail {
    served: Served,
    document: Document,
    pool: PgPool,
}

impl Trail {
    async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    async fn start_with(change: impl FnOnce(&mut Document)) -> Self {
        let uri = Postgres::shared().create_database().await;
        let mut document = document(&uri);
        let joe = OwnerToken { name: "joe".to_owned(), token: Sensitive::new(OTHER_OWNER) };
        let audittrail_crds::document::Access::Tokens(tokens) = &mut document.access else { panic!("tokens") };
        tokens.push(joe);
        change(&mut document);
        let served = Served::start(&document).await;
        let pool = PgPoolOptions::new().max_connections(1).connect(&uri).await.expect("the server answers");
        Self { served, document, pool }
    }

    async fn run(&self, statement: &'static str) {
        sqlx::raw_sql(statement).execute(&self.pool).await.expect("the statement is valid");
    }

    /// What was recorded: type, actor and details, oldest first.
    async fn recorded(&self) -> Vec<(String, String, Value)> {
        sqlx::query_as(
            "SELECT type, actor_id, details FROM event WHERE submitted_by_kind = 'collector' ORDER BY sequence",
        )
        .fetch_all(&self.pool)
        .await
        .expect("readable")
    }

    async fn records(&self) -> usize {
        self.recorded().await.len()
    }

    async fn get(&self, path: &str) -> Response {
        self.served.get(path).send().await.expect("answered")
    }

    /// The rule that a request for this path is refused with.
    async fn refusal(&self, token: &str, path: &str) -> String {
        let url = format!("http://{}{path}", self.served.address);
        let answer = self.served.client.get(url).bearer_auth(token).send().await.expect("answered");
        assert_eq!(answer.status(), 400, "{path}");
        body(answer).await["errors"][0]["rule"].as_str().expect("a rule").to_owned()
    }
}

fn counted(numbers: std::ops::Range<i64>) -> Vec<Value> {
    numbers.map(|number| json!({"id": number.to_string(), "type": "Counted"})).collect()
}

fn cursor(page: &Value) -> String {
    page["nextCursor"].as_str().expect("there is more").to_owned()
}

fn ids(page: &Value) -> Vec<&str> {
    page["events"].as_array().expect("events").iter().map(|event| event["id"].as_str().expect("an id")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_page_says_who_looked_at_what() {
    let trail = Trail::start().await;
    trail.served.add(counted(0..3)).await;
    let path = "/v1/events?type=Counted&actor=test&actor=other&from=2026-03-02T09:14:05%2B02:00&q=Test&limit=2";
    let request = trail.served.get(path).header(USER_AGENT, "a browser").header("x-request-id", "req-1");
    assert_eq!(request.send().await.expect("answered").status(), 200);
    // The record is on none of its own pages, and on every later one.
    let page = trail.served.page("/v1/events?type=Audit%20Trail%20Viewed").await;
    let [event] = page["events"].as_array().expect("events").as_slice() else { panic!("one event: {page}") };
    let mut event = event.clone();
    let members = event.as_object_mut().expect("an object");
    let id = members.remove("id").expect("an id");
    assert_eq!(uuid::Uuid::parse_str(id.as_str().expect("text")).expect("a UUID").get_version_num(), 7);
    assert_eq!(members.remove("receivedAt"), members.remove("timestamp"));
    assert_eq!(
        event,
        json!({
            "sequence": 3, "epoch": 0, "submittedBy": {"kind": "collector", "name": "collector"},
            "type": "Audit Trail Viewed",
            "actor": {"type": "accessToken", "id": "jane"},
            "resource": {"type": "audit_trail", "id": "team-a/acme", "name": "Acme"},
            "context": {"userAgent": "a browser", "requestId": "req-1"},
            "details": {"endpoint": "GET /v1/events", "parameters": {
                "type": ["Counted"], "actor": ["other", "test"], "from": "2026-03-02T07:14:05Z", "q": "test",
                "order": "desc", "limit": "2",
            }},
        })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_endpoint_that_shows_events_is_recorded_and_nothing_else_is() {
    let trail = Trail::start().await;
    trail.served.add(counted(0..3)).await;
    for (path, expected) in [
        ("/v1/events", "Audit Trail Viewed"),
        ("/v1/events/1", "Audit Trail Viewed"),
        ("/v1/events/stream", "Audit Trail Viewed"),
        ("/audit-events", "Audit Trail Viewed"),
        ("/v1/events.csv", "Audit Trail Exported"),
        ("/v1/events.ndjson", "Audit Trail Exported"),
    ] {
        let before = trail.records().await;
        let answer = trail.get(path).await;
        assert_eq!(answer.status(), 200, "{path}");
        // Durable before the answer begins.
        let recorded = trail.recorded().await;
        let [(r#type, actor, details)] = &recorded[before..] else { panic!("one record of {path}: {recorded:?}") };
        assert_eq!((r#type.as_str(), actor.as_str()), (expected, "jane"), "{path}");
        let route = path.replace("/1", "/{id}");
        assert_eq!(details["endpoint"], format!("GET {route}"));
    }
    let before = trail.records().await;
    for path in ["/v1/status", "/metrics", "/livez", "/readyz"] {
        assert_eq!(trail.get(path).await.status(), 200, "{path}");
    }
    for (path, status) in [("/v1/events?tpye=a", 400), ("/v1/events?limit=0", 400), ("/v1/events/1?a=b", 400)] {
        assert_eq!(trail.get(path).await.status(), status, "{path}");
    }
    let url = |path: &str| format!("http://{}{path}", trail.served.address);
    for path in
        ["/v1/events", "/v1/events/1", "/v1/events/stream", "/audit-events", "/v1/events.csv", "/v1/events.ndjson"]
    {
        let nobody = trail.served.client.get(url(path)).send().await.expect("answered");
        let writer = trail.served.client.get(url(path)).bearer_auth(WRITE_KEY).send().await.expect("answered");
        assert_eq!((nobody.status().as_u16(), writer.status().as_u16()), (401, 403), "{path}");
    }
    assert_eq!(trail.records().await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_recorded_once_however_many_pages_it_has() {
    let trail = Trail::start().await;
    trail.served.add(counted(0..10)).await;
    for order in ["desc", "asc"] {
        let before = trail.records().await;
        let mut page = trail.served.page(&format!("/v1/events?type=Counted&limit=2&order={order}")).await;
        for _ in 0..4 {
            let next = cursor(&page);
            page = trail.served.page(&format!("/v1/events?type=Counted&limit=2&order={order}&cursor={next}")).await;
        }
        assert_eq!(page["nextCursor"], Value::Null);
        assert_eq!(trail.records().await, before + 1, "{order}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_answered_that_cannot_be_recorded() {
    let trail = Trail::start().await;
    trail.served.add(vec![json!({"id": "secret", "type": "Counted"}), json!({"id": "other", "type": "Counted"})]).await;
    let next = cursor(&trail.served.page("/v1/events?limit=1").await);
    trail.run("ALTER TABLE event_id ADD CONSTRAINT refused CHECK (id IS NULL) NOT VALID").await;
    for path in [
        "/v1/events",
        "/v1/events/secret",
        "/v1/events/there-is-none",
        "/v1/events/stream",
        "/audit-events",
        "/v1/events.csv",
        "/v1/events.ndjson",
    ] {
        let refused = trail.get(path).await;
        assert_eq!(refused.status(), 503, "{path}");
        assert_eq!(refused.headers()[RETRY_AFTER], "2");
        let text = refused.text().await.expect("a body");
        assert!(text.contains("who asks is recorded in the trail first"), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }
    // What was recorded goes on.
    trail.served.page(&format!("/v1/events?limit=1&cursor={next}")).await;
    trail.run("ALTER TABLE event_id DROP CONSTRAINT refused").await;
    assert_eq!(trail.served.page("/v1/events/secret").await["id"], "secret");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_goes_on_for_nobody_but_who_was_recorded() {
    let trail = Trail::start().await;
    trail.served.add(counted(0..5)).await;
    let own = cursor(&trail.served.page("/v1/events?limit=1").await);
    let recorded = trail.records().await;
    let log_id = sqlx::query_scalar("SELECT log_id FROM head").fetch_one(&trail.pool).await.expect("a head");
    // All that a client can know of how cursors are made, and not the key.
    let forged = Cursor { epoch: 0, sequences: 0..5 }.encode(&Scope {
        key: &CursorKey::new([0; KEY_BYTES]),
        log_id,
        reader: &Identity { kind: SubmitterKind::Token, name: "jane".to_owned() },
        selection: Selection::of(&Filter::default(), Order::Desc),
    });
    for (token, query, reason) in [
        (OWNER, format!("cursor={forged}"), "is not a cursor of this trail"),
        (OWNER, format!("cursor={}", own.replace(&own[50..51], "_")), "is not a cursor of this trail"),
        (OTHER_OWNER, format!("cursor={own}"), "was given to somebody else"),
        (OWNER, format!("cursor={own}&type=Counted"), "belongs to other filters"),
        (OWNER, format!("cursor={own}&order=asc"), "or another order"),
    ] {
        let rule = trail.refusal(token, &format!("/v1/events?{query}")).await;
        assert!(rule.contains(reason), "{query}: {rule}");
    }
    assert_eq!(ids(&trail.served.page(&format!("/v1/events?limit=2&cursor={own}")).await), ["3", "2"]);
    assert_eq!(trail.records().await, recorded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_goes_on_at_every_replica_and_after_a_restart() {
    let trail = Trail::start().await;
    trail.served.add(counted(0..5)).await;
    let other = Served::start(&trail.document).await;
    let first = cursor(&trail.served.page("/v1/events?limit=1").await);
    let page = other.page(&format!("/v1/events?limit=1&cursor={first}")).await;
    assert_eq!(ids(&page), ["3"]);
    drop(other);
    let again = Served::start(&trail.document).await;
    assert_eq!(ids(&again.page(&format!("/v1/events?limit=1&cursor={}", cursor(&page))).await), ["2"]);
    assert_eq!(trail.records().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn views_are_found_like_any_event_also_in_a_strict_catalogue() {
    let trail = Trail::start_with(|document| document.catalogue.mode = CatalogueMode::Strict).await;
    for (query, expected) in [
        ("area=audit%20trail", 0),
        ("type=AUDIT%20trail%20viewed", 1),
        ("type=Audit%20Trail%20Exported", 0),
        ("submittedBy=collector", 3),
        ("resourceType=audit_trail&resource=team-a/acme&actor=jane&actorType=accessToken", 4),
        // What was asked is searched too.
        ("q=audit_trail", 1),
        ("q=submittedby+COLLECTOR", 1),
        ("area=Audit%20Trail", 7),
    ] {
        let page = trail.served.page(&format!("/v1/events?{query}")).await;
        assert_eq!(ids(&page).len(), expected, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn views_are_forwarded_like_any_event() {
    let receiving = Trail::start().await;
    let sending = Trail::start_with(|document| {
        let endpoint = format!("http://{}", receiving.served.address);
        let entry = Forwarding::new("to-the-other", endpoint, Sensitive::new(WRITE_KEY));
        document.forwardings.push(Forwarding { generation: 1, start_from: StartFrom::Beginning, ..entry });
    })
    .await;
    sending.served.page("/v1/events?actor=somebody").await;
    let arrived = "SELECT count(*) FROM event WHERE type = 'Audit Trail Viewed' AND submitted_by_kind = 'writeKey'";
    let there =
        || async { sqlx::query_scalar::<_, i64>(arrived).fetch_one(&receiving.pool).await.expect("readable") == 1 };
    receiving.served.until("the view is there", there).await;
    let details: Value = sqlx::query_scalar("SELECT details FROM event WHERE submitted_by_kind = 'writeKey'")
        .fetch_one(&receiving.pool)
        .await
        .expect("one event");
    assert_eq!(details, sending.recorded().await[0].2);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_at_once_are_each_recorded_and_share_commits() {
    const READERS: usize = 40;
    let trail = Trail::start().await;
    let transactions = "SELECT count(DISTINCT xmin::text) FROM event WHERE submitted_by_kind = 'collector'";
    let answers = join_all((0..READERS).map(|_| trail.get("/v1/events"))).await;
    assert!(answers.iter().all(|answer| answer.status() == 200));
    assert_eq!(trail.records().await, READERS);
    let commits: i64 = sqlx::query_scalar(transactions).fetch_one(&trail.pool).await.expect("readable");
    assert!(usize::try_from(commits).expect("a count") < READERS, "{commits} commits");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_found_by_its_id_and_each_look_is_recorded() {
    let trail = Trail::start().await;
    let uuid = uuid::Uuid::now_v7().to_string();
    let event = |id: &str| json!({"id": id, "type": "Counted", "timestamp": "2026-03-02T09:14:05Z"});
    let all = ["a", "with/slash and é?", "stream", &uuid].map(event);
    trail.served.add(all.to_vec()).await;
    for (path, id, sequence) in [
        ("a", "a", 0),
        ("with%2Fslash%20and%20%C3%A9%3F", "with/slash and é?", 1),
        ("%73tream", "stream", 2),
        (uuid.as_str(), uuid.as_str(), 3),
    ] {
        let found = trail.served.page(&format!("/v1/events/{path}")).await;
        assert_eq!((&found["id"], &found["sequence"]), (&json!(id), &json!(sequence)));
        let (_, _, details) = trail.recorded().await.pop().expect("a record");
        assert_eq!(details, json!({"endpoint": "GET /v1/events/{id}", "parameters": {"id": id}}));
    }
    let before = trail.records().await;
    let none = uuid::Uuid::now_v7().to_string();
    for path in ["b", "A", "with%2Fslash", &none, &"x".repeat(256)] {
        let missing = trail.get(&format!("/v1/events/{path}")).await;
        assert_eq!(missing.status(), 404, "{path}");
        assert_eq!(body(missing).await["type"], "https://audittrail.dev/problems/not-found");
    }
    assert_eq!(trail.records().await, before + 5);
    for path in ["x".repeat(257), "%00".to_owned(), "%FF".to_owned(), "%20a".to_owned()] {
        assert_eq!(trail.get(&format!("/v1/events/{path}")).await.status(), 400, "{path}");
    }
    assert_eq!(trail.records().await, before + 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_an_id_on_several_days_the_latest_that_is_kept_is_answered() {
    let trail = Trail::start().await;
    let second = || async {
        sqlx::query_scalar("SELECT count(*) > 1 FROM segment").fetch_one(&trail.pool).await.expect("readable")
    };
    trail.served.until("there is a second segment", second).await;
    let on = |day: u32| json!({"id": "same", "type": "Counted", "timestamp": format!("2026-03-{day:02}T09:00:00Z")});
    // Not in the order of their days: the last of the first segment is the latest.
    sqlx::query("UPDATE head SET next_sequence = $1")
        .bind(SEGMENT_EVENTS - 1)
        .execute(&trail.pool)
        .await
        .expect("moved");
    trail.served.add(vec![on(20), on(10), on(12), on(11)]).await;
    let day =
        || async { trail.served.page("/v1/events/same").await["timestamp"].as_str().expect("text")[8..10].to_owned() };
    assert_eq!(day().await, "20");
    // Retention takes the first segment, and the ids last.
    trail.run("ALTER TABLE event DETACH PARTITION event_0000000000000000000").await;
    trail.run("UPDATE segment SET dropping_at = now() WHERE first_sequence = 0").await;
    assert_eq!(day().await, "12");
    let forgotten = || async {
        sqlx::query_scalar("SELECT count(*) = 3 FROM event_id WHERE id = 'same'")
            .fetch_one(&trail.pool)
            .await
            .expect("readable")
    };
    trail.served.until("its id is forgotten", forgotten).await;
    assert_eq!(day().await, "12");
}
