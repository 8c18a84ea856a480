//! Forwardings over HTTP: how they are, what is parked, and sending it again.

use audittrail_collector::forwardings::replay::IDS_MAX;
use audittrail_collector::store::parked::PARKED_MAX;
use audittrail_crds::document::{Access, Document, Forwarding, OwnerToken, Sensitive, StartFrom};
use audittrail_source::script::{Poison, Standing};
use audittrail_source::{Settings, Source};
use audittrail_tests::postgres::Postgres;
use audittrail_tests::served::{OWNER, Served, WRITE_KEY, body, document};
use reqwest::header::RETRY_AFTER;
use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::net::TcpListener;

/// The token of another owner.
const OTHER_OWNER: &str = "other-owner-token";
/// The key of the sources; it must be shown nowhere.
const KEY: &str = "key-of-the-source";
/// Where nobody listens.
const NOWHERE: &str = "http://127.0.0.1:9";

const PARKED: &str = "/v1/forwardings/to-segment/parked";
const REPLAY: &str = "/v1/forwardings/to-segment/replay";

/// A collector with forwardings, and its database, where parked events can be made.
struct Trail {
    served: Served,
    document: Document,
    pool: PgPool,
}

fn entry(name: &str, endpoint: &str) -> Forwarding {
    let entry = Forwarding::new(name, endpoint, Sensitive::new(KEY));
    Forwarding { generation: 1, start_from: StartFrom::Beginning, ..entry }
}

fn off(name: &str) -> Forwarding {
    Forwarding { enabled: false, ..entry(name, NOWHERE) }
}

impl Trail {
    /// With two forwardings that are off.
    async fn start() -> Self {
        Self::with(vec![off("to-segment"), off("elsewhere")]).await
    }

    async fn with(forwardings: Vec<Forwarding>) -> Self {
        let uri = Postgres::shared().create_database().await;
        let mut document = Document { forwardings, ..document(&uri) };
        let Access::Tokens(tokens) = &mut document.access else { panic!("tokens") };
        tokens.push(OwnerToken { name: "joe".to_owned(), token: Sensitive::new(OTHER_OWNER) });
        let served = Served::start(&document).await;
        let pool = PgPoolOptions::new().max_connections(1).connect(&uri).await.expect("the server answers");
        Self { served, document, pool }
    }

    async fn run(&self, statement: &'static str) {
        sqlx::raw_sql(statement).execute(&self.pool).await.expect("the statement is valid");
    }

    /// Parks events with these sequences and ids, as the engine does.
    async fn park(&self, forwarding: &str, epoch: i64, sequences: std::ops::Range<i64>) {
        sqlx::query(
            r#"INSERT INTO parked (forwarding, sequence, epoch, received_at, id, "timestamp", type, actor_type, actor_id,
                   submitted_by_kind, submitted_by_name, details, parked_at, code, reason)
               SELECT $1, sequence, $2, '2026-03-02T09:14:06Z', 'evt_' || sequence, '2026-03-02T09:14:05Z', 'Counted',
                   'user', 'usr_secret', 'writeKey', 'acme/writeKey', '{"secret": 1}', '2026-03-02T09:15:00Z', 400,
                   'the property is too long'
               FROM generate_series($3, $4 - 1) AS sequence"#,
        )
        .bind(forwarding)
        .bind(epoch)
        .bind(sequences.start)
        .bind(sequences.end)
        .execute(&self.pool)
        .await
        .expect("the columns are there");
    }

    /// Sequences of a forwarding's events that are to be sent again.
    async fn asked(&self, forwarding: &str) -> Vec<i64> {
        sqlx::query_scalar(
            "SELECT sequence FROM parked WHERE forwarding = $1 AND replay_asked_at IS NOT NULL ORDER BY epoch, sequence",
        )
        .bind(forwarding)
        .fetch_all(&self.pool)
        .await
        .expect("readable")
    }

    /// What was recorded: type, actor, resource and details, oldest first.
    async fn recorded(&self) -> Vec<(String, String, String, Value)> {
        sqlx::query_as(
            "SELECT type, actor_id, resource_id, details FROM event WHERE submitted_by_kind = 'collector' ORDER BY sequence",
        )
        .fetch_all(&self.pool)
        .await
        .expect("readable")
    }

    /// Asks for a replay as an owner.
    fn replay(&self, path: &str) -> RequestBuilder {
        self.served.client.post(format!("http://{}{path}", self.served.address)).bearer_auth(OWNER)
    }

    /// How many a replay with this body is answered to send again.
    async fn replayed(&self, body_of_request: Option<Value>) -> i64 {
        let request = self.replay(REPLAY);
        let request = match body_of_request {
            Some(json) => request.json(&json),
            None => request,
        };
        let answer = request.send().await.expect("answered");
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        body(answer).await["asked"].as_i64().expect("a number")
    }

    /// What a request is refused with.
    async fn refusal(&self, request: RequestBuilder) -> (u16, String) {
        let answer = request.send().await.expect("answered");
        let status = answer.status().as_u16();
        let problem = body(answer).await;
        (status, problem["detail"].as_str().expect("a detail").to_owned())
    }
}

fn sequences(page: &Value) -> Vec<i64> {
    let events = page["events"].as_array().expect("events");
    events.iter().map(|event| event["sequence"].as_i64().expect("a sequence")).collect()
}

fn next(page: &Value) -> String {
    page["nextCursor"].as_str().expect("there is more").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn forwardings_are_told_in_their_order_as_the_status_tells_them_and_without_a_secret() {
    let trail = Trail::start().await;
    trail.park("to-segment", 0, 0..3).await;
    let row = || async { trail.served.page("/v1/forwardings").await["forwardings"][0]["parked"] == 3 };
    trail.served.until("the forwarding has its row", row).await;
    trail.run("UPDATE forwarding SET filtered = 2, delivered = 5 WHERE name = 'to-segment'").await;
    let answer = trail.served.get("/v1/forwardings").send().await.expect("answered").text().await.expect("text");
    assert!(!answer.contains(KEY) && !answer.contains(NOWHERE), "{answer}");
    let told: Value = serde_json::from_str(&answer).expect("JSON");
    let told = told["forwardings"].as_array().expect("a list");
    let report = trail.served.page("/v1/status").await;
    let report = report["forwardings"].as_array().expect("a list");
    assert_eq!(told.len(), report.len());
    for (one, reported) in told.iter().zip(report) {
        for (name, value) in reported.as_object().expect("an object") {
            assert_eq!(one[name], *value, "{name}");
        }
        assert_eq!(one["enabled"], false);
        assert_eq!(one["message"], "Off: nothing is sent, and its place in the trail is kept. No event waits");
    }
    assert_eq!((&told[0]["name"], &told[1]["name"]), (&json!("to-segment"), &json!("elsewhere")));
    assert_eq!((&told[0]["filtered"], &told[0]["delivered"]), (&json!(2), &json!(5)));
    assert_eq!(trail.recorded().await, []);
    let wrong = trail.served.get("/v1/forwardings?name=a");
    assert_eq!(trail.refusal(wrong).await, (400, "name is unknown here: known are none".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn parked_events_are_listed_oldest_first_without_what_is_in_them() {
    let trail = Trail::start().await;
    assert_eq!(trail.served.page(PARKED).await, json!({"events": [], "nextCursor": null}));
    trail.park("to-segment", 1, 3..4).await;
    trail.park("to-segment", 0, 7..8).await;
    trail.park("elsewhere", 0, 1..2).await;
    trail.run("UPDATE parked SET code = NULL, replay_asked_at = '2026-03-02T09:16:00Z' WHERE epoch = 1").await;
    let page = trail.served.page(PARKED).await;
    let event = |sequence, epoch| {
        json!({
            "sequence": sequence, "epoch": epoch, "id": format!("evt_{sequence}"), "type": "Counted",
            "timestamp": "2026-03-02T09:14:05.000000Z", "receivedAt": "2026-03-02T09:14:06.000000Z",
            "parkedAt": "2026-03-02T09:15:00.000000Z", "reason": "the property is too long",
        })
    };
    let (mut first, mut second) = (event(7, 0), event(3, 1));
    first["code"] = json!(400);
    second["replayAskedAt"] = json!("2026-03-02T09:16:00.000000Z");
    assert_eq!(page, json!({"events": [first, second], "nextCursor": null}));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_parked_events_neither_skip_nor_repeat_and_are_recorded_once() {
    let trail = Trail::start().await;
    trail.park("to-segment", 0, 0..5).await;
    let first = trail.served.page(&format!("{PARKED}?limit=2")).await;
    // One that was listed is delivered meanwhile, and another one is parked.
    trail.run("DELETE FROM parked WHERE sequence IN (1, 3)").await;
    trail.park("to-segment", 0, 5..6).await;
    let second = trail.served.page(&format!("{PARKED}?limit=2&cursor={}", next(&first))).await;
    let third = trail.served.page(&format!("{PARKED}?limit=1&cursor={}", next(&second))).await;
    assert_eq!([&first, &second, &third].map(sequences), [vec![0, 1], vec![2, 4], vec![5]]);
    assert_eq!(third["nextCursor"], Value::Null);
    let details = json!({
        "endpoint": "GET /v1/forwardings/{name}/parked", "parameters": {"name": "to-segment", "limit": "2"},
    });
    let record = ("Audit Trail Viewed".to_owned(), "jane".to_owned(), "team-a/acme".to_owned(), details);
    assert_eq!(trail.recorded().await, [record]);

    let cursor = next(&first);
    trail.served.add(vec![json!({"type": "Counted"}), json!({"type": "Counted"})]).await;
    let of_events = next(&trail.served.page("/v1/events?limit=1").await);
    let url = |path: &str| format!("http://{}{path}", trail.served.address);
    let by_joe = trail.served.client.get(url(&format!("{PARKED}?cursor={cursor}"))).bearer_auth(OTHER_OWNER);
    for (request, words) in [
        (by_joe, "was given to somebody else"),
        (trail.served.get(&format!("/v1/forwardings/elsewhere/parked?cursor={cursor}")), "belongs to other filters"),
        (trail.served.get(&format!("{PARKED}?cursor={of_events}")), "is not a cursor of this trail"),
        (trail.served.get(&format!("/v1/events?cursor={cursor}")), "is not a cursor of this trail"),
    ] {
        let (status, told) = trail.refusal(request).await;
        assert!(status == 400 && told.starts_with("cursor ") && told.contains(words), "{status} {told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn as_many_as_can_be_parked_are_listed_and_replayed() {
    let trail = Trail::start().await;
    trail.park("to-segment", 0, 0..PARKED_MAX).await;
    let mut seen = Vec::new();
    let mut path = format!("{PARKED}?limit=1000");
    loop {
        let page = trail.served.page(&path).await;
        seen.extend(sequences(&page));
        let Some(cursor) = page["nextCursor"].as_str() else { break };
        path = format!("{PARKED}?limit=1000&cursor={cursor}");
    }
    assert!(seen.iter().copied().eq(0..PARKED_MAX));
    assert_eq!(trail.replayed(None).await, PARKED_MAX);
    assert!(trail.asked("to-segment").await.into_iter().eq(0..PARKED_MAX));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_asks_for_those_that_are_named_or_for_all_and_again_is_harmless() {
    let trail = Trail::start().await;
    trail.park("to-segment", 0, 0..4).await;
    trail.park("elsewhere", 0, 0..4).await;
    // Those that are not parked, or twice in the list, do not count.
    let some = json!({"events": ["evt_1", "evt_3", "evt_3", "evt_9"]});
    assert_eq!(trail.replayed(Some(some.clone())).await, 2);
    assert_eq!(trail.asked("to-segment").await, [1, 3]);
    let asked_at = async || {
        let page = trail.served.page(PARKED).await;
        page["events"]
            .as_array()
            .expect("events")
            .iter()
            .map(|event| event["replayAskedAt"].clone())
            .collect::<Vec<_>>()
    };
    let before = asked_at().await;
    assert_eq!(before.iter().map(Value::is_null).collect::<Vec<_>>(), [true, false, true, false]);
    assert_eq!(trail.replayed(Some(some)).await, 2);
    assert_eq!(asked_at().await, before);
    assert_eq!(trail.replayed(Some(json!({}))).await, 4);
    assert_eq!(trail.replayed(None).await, 4);
    assert_eq!(trail.asked("to-segment").await, [0, 1, 2, 3]);
    assert_eq!(trail.asked("elsewhere").await, Vec::<i64>::new());
    assert_eq!(asked_at().await[1], before[1]);

    let records: Vec<_> = trail.recorded().await.into_iter().filter(|record| record.0.ends_with("Replayed")).collect();
    let record = |parameters: Value, count| {
        let details = json!({
            "endpoint": "POST /v1/forwardings/{name}/replay", "parameters": parameters, "count": count,
        });
        let text = |text: &str| text.to_owned();
        (text("Audit Forwarding Replayed"), text("jane"), text("team-a/to-segment"), details)
    };
    let ids = json!({"name": "to-segment", "events": ["evt_1", "evt_3", "evt_3", "evt_9"]});
    let all = json!({"name": "to-segment"});
    let expected = [record(ids.clone(), 2), record(ids, 2), record(all.clone(), 4), record(all, 4)];
    assert_eq!(records, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_recorded_is_neither_shown_nor_replayed() {
    let trail = Trail::start().await;
    trail.park("to-segment", 0, 0..1).await;
    trail.run("ALTER TABLE event_id ADD CONSTRAINT refused CHECK (id IS NULL) NOT VALID").await;
    for request in [trail.served.get(PARKED), trail.replay(REPLAY)] {
        let refused = request.send().await.expect("answered");
        assert_eq!((refused.status().as_u16(), &refused.headers()[RETRY_AFTER]), (503, &"2".parse().expect("text")));
        let text = refused.text().await.expect("a body");
        assert!(text.contains("is recorded in the trail first") && !text.contains("evt_0"), "{text}");
    }
    assert_eq!(trail.asked("to-segment").await, Vec::<i64>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_request_is_named() {
    let trail = Trail::start().await;
    trail.park("to-segment", 0, 0..1).await;
    let unknown = "no forwarding of this trail has this name: there are to-segment, elsewhere".to_owned();
    for name in ["to-segmen", "To-Segment", "%FF", "a%2Fb"] {
        let parked = trail.served.get(&format!("/v1/forwardings/{name}/parked"));
        assert_eq!(trail.refusal(parked).await, (404, unknown.clone()), "{name}");
        let replay = trail.replay(&format!("/v1/forwardings/{name}/replay"));
        assert_eq!(trail.refusal(replay).await, (404, unknown.clone()), "{name}");
    }
    for (query, told) in [
        ("limit=0", "limit must be a number from 1 to 1000"),
        ("limit=1001", "limit must be a number from 1 to 1000"),
        ("type=a", "type is unknown here: known are limit, cursor"),
        ("cursor=made-up", "cursor is not a cursor of this trail: start again without it"),
    ] {
        assert_eq!(trail.refusal(trail.served.get(&format!("{PARKED}?{query}"))).await, (400, told.to_owned()));
    }
    let ids = |count: usize| json!({"events": (0..count).map(|id| format!("evt_{id}")).collect::<Vec<_>>()});
    assert_eq!(trail.replayed(Some(ids(IDS_MAX))).await, 1);
    let (status, told) = trail.refusal(trail.replay(REPLAY).json(&ids(IDS_MAX + 1))).await;
    assert!(status == 400 && told.starts_with("events must be an array of 1 to 1000 ids"), "{told}");
    let (status, told) = trail.refusal(trail.replay(REPLAY).json(&json!({"ids": ["evt_0"]}))).await;
    assert_eq!((status, told.as_str()), (400, "ids is not a field here; known are events"));
    let (status, _) = trail.refusal(trail.replay(&format!("{REPLAY}?all=true"))).await;
    assert_eq!(status, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_owners_see_and_replay() {
    let trail = Trail::start().await;
    trail.park("to-segment", 0, 0..1).await;
    let url = |path: &str| format!("http://{}{path}", trail.served.address);
    let client = &trail.served.client;
    for request in [client.get(url("/v1/forwardings")), client.get(url(PARKED)), client.post(url(REPLAY))] {
        let status = async |request: RequestBuilder| request.send().await.expect("answered").status().as_u16();
        let of = |token: &str| request.try_clone().expect("no stream").bearer_auth(token);
        assert_eq!(status(request.try_clone().expect("no stream")).await, 401);
        assert_eq!((status(of("nobody")).await, status(of(WRITE_KEY)).await), (401, 403));
    }
    assert_eq!((trail.asked("to-segment").await, trail.recorded().await), (Vec::new(), Vec::new()));
}

/// A source that refuses one event, a trail that forwards to it, and five events of which that is one.
async fn poisoned() -> (Trail, Source) {
    let source = Source::open(Settings { write_key: Some(KEY.to_owned()), ..Settings::default() }).expect("no file");
    let poison = Poison { event_ids: ["evt_2".to_owned()].into(), ..Poison::default() };
    source.set_standing(Standing { poison, ..Standing::default() });
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn({
        let source = source.clone();
        async move { source.serve(listener, std::future::pending()).await }
    });
    let trail = Trail::with(vec![entry("to-segment", &endpoint)]).await;
    trail.served.add((0..5).map(|number| json!({"id": format!("evt_{number}"), "type": "Counted"})).collect()).await;
    trail.served.until("one is parked and the rest delivered", || async { trail.counts().await == (1, 4) }).await;
    (trail, source)
}

impl Trail {
    /// Parked and delivered events of the first forwarding. To ask is not recorded, so it adds no event.
    async fn counts(&self) -> (i64, i64) {
        let told = &self.served.page("/v1/forwardings").await["forwardings"][0];
        (told["parked"].as_i64().expect("a count"), told["delivered"].as_i64().expect("a count"))
    }

    /// Puts the forwarding into force with the toggle there.
    async fn toggle(&self, enabled: bool, generation: i64) {
        let entry = Forwarding { enabled, generation, ..self.document.forwardings[0].clone() };
        self.served.apply(&Document { generation, forwardings: vec![entry], ..self.document.clone() });
        let in_force = || async { self.served.page("/v1/forwardings").await["forwardings"][0]["enabled"] == enabled };
        self.served.until("the toggle is in force", in_force).await;
    }
}

/// Deliveries of the event that was refused at first.
fn deliveries(source: &Source) -> u64 {
    let received = source.received();
    let of = received.messages().iter().find(|message| message.event_id.as_deref() == Some("evt_2"));
    of.map_or(0, |message| message.deliveries)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_source_refused_is_listed_and_gone_from_the_list_when_a_replay_was_accepted() {
    let (trail, source) = poisoned().await;
    let page = trail.served.page(PARKED).await;
    let [event] = page["events"].as_array().expect("events").as_slice() else { panic!("one event: {page}") };
    assert_eq!((&event["id"], &event["sequence"], &event["code"]), (&json!("evt_2"), &json!(2), &json!(400)));
    assert!(!event["reason"].as_str().expect("text").is_empty());

    // Still refused: it stays, and nobody wishes it to be sent any more.
    assert_eq!(trail.replayed(Some(json!({"events": ["evt_2"]}))).await, 1);
    trail.served.until("it is refused again", || async { trail.asked("to-segment").await.is_empty() }).await;
    assert_eq!((sequences(&trail.served.page(PARKED).await), deliveries(&source)), (vec![2], 0));

    source.set_standing(Standing::default());
    assert_eq!(trail.replayed(None).await, 1);
    trail.served.until("it is parked no more", || async { trail.counts().await.0 == 0 }).await;
    assert_eq!(trail.served.page(PARKED).await, json!({"events": [], "nextCursor": null}));
    assert_eq!(deliveries(&source), 1);
    assert_eq!(trail.replayed(None).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarding_that_is_off_takes_the_wish_and_replays_when_it_is_on() {
    let (trail, source) = poisoned().await;
    trail.toggle(false, 2).await;
    source.set_standing(Standing::default());
    assert_eq!(trail.replayed(None).await, 1);
    assert_eq!((trail.asked("to-segment").await, deliveries(&source)), (vec![2], 0));
    trail.toggle(true, 3).await;
    trail.served.until("it is parked no more", || async { trail.counts().await.0 == 0 }).await;
    assert_eq!(deliveries(&source), 1);
}
