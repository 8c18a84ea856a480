//! Asking a collector over HTTP, on a real Postgres: filters, pages, status, and what it says
//! when something is wrong.

use audittrail_tests::postgres::Postgres;
use audittrail_tests::served::{DEADLINE, OWNER, Served, WRITE_KEY, body, certificate, document};
use reqwest::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use serde_json::{Value, json};
use std::time::Duration;

/// A collector on a database of its own.
async fn served() -> Served {
    Served::start(&document(&Postgres::shared().create_database().await)).await
}

fn numbered(numbers: std::ops::Range<i64>) -> Vec<Value> {
    numbers.map(|number| json!({"id": number.to_string(), "type": "Counted"})).collect()
}

fn sequences(page: &Value) -> Vec<i64> {
    let events = page["events"].as_array().expect("events");
    events.iter().map(|event| event["sequence"].as_i64().expect("a sequence")).collect()
}

fn ids(page: &Value) -> Vec<&str> {
    let events = page["events"].as_array().expect("events");
    events.iter().map(|event| event["id"].as_str().expect("an id")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_neither_skip_nor_repeat_while_events_arrive() {
    let served = served().await;
    served.add(numbered(0..250)).await;
    let mut written: Vec<String> = (0..250).map(|number: i64| number.to_string()).collect();
    for order in ["desc", "asc"] {
        let mut expected = written.clone();
        if order == "desc" {
            expected.reverse();
        }
        let mut seen = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = served.page(&format!("/v1/events?type=Counted&limit=37&order={order}{cursor}")).await;
            seen.extend(ids(&page).into_iter().map(str::to_owned));
            // Arrives between two pages.
            let next = written.len();
            served.add(vec![json!({"id": next.to_string(), "type": "Counted"})]).await;
            written.push(next.to_string());
            let Some(next) = page["nextCursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        assert_eq!(seen, expected, "{order}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_page_has_no_cursor() {
    let served = served().await;
    served.add(numbered(0..10)).await;
    let full = served.page("/v1/events?limit=10").await;
    assert_eq!(sequences(&full).len(), 10);
    assert_eq!(full["nextCursor"], Value::Null);
    assert!(served.page("/v1/events?type=Counted&limit=10").await["nextCursor"].is_null());
    assert!(served.page("/v1/events?type=Counted&limit=9").await["nextCursor"].is_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_trail_is_an_empty_page() {
    let served = served().await;
    assert_eq!(served.page("/v1/events").await, json!({"events": [], "nextCursor": null}));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_comes_back_as_it_was_sent() {
    let served = served().await;
    let event = json!({
        "id": "evt_1",
        "timestamp": "2026-03-02T09:14:05.000000Z",
        "type": "Warehouse Disabled",
        "actor": {"type": "user", "id": "usr_1", "name": "Jane", "email": "jane@example.com"},
        "resource": {"type": "warehouse", "id": "wh_1", "name": "Main"},
        "outcome": "success",
        "context": {"ip": "192.0.2.1", "userAgent": "curl", "requestId": "r1"},
        "changes": [{"field": "enabled", "before": true, "after": false}],
        "details": {"reason": "cost", "nested": {"a": [1, 2.5, "é"]}},
    });
    served.add(vec![event.clone()]).await;
    let mut stored = served.page("/v1/events").await["events"][0].take();
    let added = stored.as_object_mut().expect("an object");
    assert_eq!(added.remove("sequence"), Some(json!(0)));
    assert_eq!(added.remove("epoch"), Some(json!(0)));
    assert_eq!(added.remove("submittedBy"), Some(json!({"kind": "writeKey", "name": "acme/writeKey"})));
    assert!(added.remove("receivedAt").is_some_and(|moment| moment.is_string()));
    assert_eq!(stored, event);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_filter_finds_its_events() {
    let served = served().await;
    let event = |id: &str, r#type: &str, actor: (&str, &str), resource: (&str, &str), outcome: &str, hour: &str| {
        json!({
            "id": id,
            "type": r#type,
            "timestamp": format!("2026-03-02T{hour}:00:00Z"),
            "actor": {"type": actor.0, "id": actor.1},
            "resource": {"type": resource.0, "id": resource.1},
            "outcome": outcome,
        })
    };
    served
        .add(vec![
            event("a", "Created", ("user", "ann"), ("warehouse", "w1"), "success", "08"),
            event("b", "Deleted", ("user", "joe"), ("warehouse", "w2"), "denied", "09"),
            event("c", "Deleted", ("system", "cron"), ("source", "s1"), "success", "10"),
        ])
        .await;
    // Each question is an event itself, of the collector and of now: some have to leave those out.
    for (query, expected) in [
        ("type=Deleted", vec!["c", "b"]),
        ("type=deleted", vec![]),
        ("type=Deleted&type=Created", vec!["c", "b", "a"]),
        ("type=Deleted&actor=joe", vec!["b"]),
        ("type=Created&actor=joe", vec![]),
        ("actor=ann&actor=cron", vec!["c", "a"]),
        ("actorType=user", vec!["b", "a"]),
        ("resource=s1", vec!["c"]),
        ("resourceType=warehouse", vec!["b", "a"]),
        ("outcome=denied", vec!["b"]),
        ("submittedBy=acme%2FwriteKey", vec!["c", "b", "a"]),
        ("submittedBy=other", vec![]),
        ("from=2026-03-02T09:00:00Z&submittedBy=acme%2FwriteKey", vec!["c", "b"]),
        ("to=2026-03-02T09:00:00Z", vec!["a"]),
        ("from=2026-03-02T11:00:00%2B02:00&to=2026-03-02T10:00:00Z", vec!["b"]),
        ("from=9000-01-01T00:00:00Z", vec![]),
        // Finer than a microsecond, which is what moments are stored in.
        ("from=2026-03-02T09:00:00.0000005Z&submittedBy=acme%2FwriteKey", vec!["c"]),
        ("to=2026-03-02T09:00:00.0000005Z", vec!["b", "a"]),
        ("from=2026-03-02T08:59:59.9999991Z&to=2026-03-02T08:59:59.9999995Z", vec![]),
        ("order=asc&submittedBy=acme%2FwriteKey", vec!["a", "b", "c"]),
    ] {
        assert_eq!(ids(&served.page(&format!("/v1/events?{query}")).await), expected, "{query}");
    }
}

/// The locale says what a letter's other case is, and not every one says the same.
#[tokio::test(flavor = "multi_thread")]
async fn words_are_found_whatever_the_case_and_the_locale_are() {
    for locale in ["C", "C.UTF-8"] {
        let options = format!("TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE '{locale}' LC_CTYPE '{locale}'");
        let served = Served::start(&document(&Postgres::shared().create_database_with(&options).await)).await;
        let names = ["Élodie", "İstanbul", "ΓΙΏΡΓΟΣ", "Γιώργος", "Łódź (a|b)", "100% *ö*", "Straße"];
        let event = |(number, name): (usize, &&str)| json!({"id": number.to_string(), "type": "Named", "resource": {"type": "place", "id": "x", "name": name}});
        served.add(names.iter().enumerate().map(event).collect()).await;
        for (words, expected) in [
            ("Élodie", vec!["0"]),
            ("élodie", vec!["0"]),
            ("LODIE", vec!["0"]),
            ("ÉLO DIE", vec!["0"]),
            ("İstanbul", vec!["1"]),
            ("İSTANBUL", vec!["1"]),
            ("γιώργος", vec!["3", "2"]),
            ("ΓΙΏΡΓΟΣ", vec!["3", "2"]),
            ("łódź", vec!["4"]),
            ("ŁÓDŹ (a|b)", vec!["4"]),
            ("ŁÓDŹ (b|a)", vec![]),
            ("ł.dź", vec![]),
            ("*Ö*", vec!["5"]),
            ("Ö 100%", vec!["5"]),
            ("1%Ö", vec![]),
            ("STRAßE", vec!["6"]),
            ("straẞe", vec!["6"]),
            ("Elodie", vec![]),
        ] {
            let mut url = reqwest::Url::parse("http://localhost/v1/events?type=Named").expect("a URL");
            url.query_pairs_mut().append_pair("q", words);
            let path = format!("{}?{}", url.path(), url.query().expect("a query"));
            assert_eq!(ids(&served.page(&path).await), expected, "{words} in {locale}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_does_not_belong_here_is_refused_with_the_reason() {
    let (served, other) = (served().await, served().await);
    for each in [&served, &other] {
        each.add(numbered(0..3)).await;
    }
    let cursor = |page: Value| page["nextCursor"].as_str().expect("a cursor").to_owned();
    let own = cursor(served.page("/v1/events?limit=1").await);
    let foreign = cursor(other.page("/v1/events?limit=1").await);
    for (query, reason) in [
        (format!("cursor={foreign}"), "not a cursor of this trail"),
        ("cursor=AAAA".to_owned(), "not a cursor of this trail"),
        (format!("cursor={own}&type=Counted"), "other filters"),
        (format!("cursor={own}&order=asc"), "another order"),
    ] {
        let answer = served.get(&format!("/v1/events?{query}")).send().await.expect("answered");
        assert_eq!(answer.status(), 400, "{query}");
        let problem = body(answer).await;
        assert!(problem["errors"][0]["rule"].as_str().expect("a rule").contains(reason), "{problem}");
    }
    served.page(&format!("/v1/events?limit=2&cursor={own}")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_is_said_and_comes_back_by_itself() {
    let mut postgres = Postgres::start();
    let served = Served::start(&document(&postgres.create_database().await)).await;
    served.add(numbered(0..1)).await;
    postgres.kill9();
    let message = served.page("/v1/status").await["database"]["message"].to_string();
    assert!(message.contains("Connection refused"), "{message}");
    let refused = served.get("/v1/events").send().await.expect("answered");
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()[RETRY_AFTER], "2");
    assert_eq!(body(refused).await["detail"], "the database does not answer");
    assert_eq!(served.state().await, "unreachable");
    let ready = served.client.get(format!("http://{}/readyz", served.address)).send().await.expect("answered");
    assert_eq!(ready.status(), 200);
    postgres.restart();
    served.until("the database is back", || async { served.state().await == "verified" }).await;
    assert_eq!(served.page("/v1/events").await["events"][0]["id"], "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_there_yet_is_waited_for() {
    let mut postgres = Postgres::start();
    let uri = postgres.create_database().await;
    postgres.stop();
    let served = Served::start_without_waiting(&document(&uri)).await;
    assert_eq!(served.state().await, "unreachable");
    let event = json!({"type": "Early", "actor": {"type": "system", "id": "test"}});
    let refused = served.post("/v1/events").json(&event).send().await.expect("answered");
    assert_eq!(refused.status(), 503);
    assert_eq!(body(refused).await["detail"], "the database is not ready");
    postgres.restart();
    served.until("the log is open", || async { served.state().await == "verified" }).await;
    served.add(numbered(0..1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_another_trail_is_not_touched() {
    let uri = Postgres::shared().create_database().await;
    let _owner = Served::start(&document(&uri)).await;
    let mut second = document(&uri);
    second.trail.claim = "team-b/other".to_owned();
    let served = Served::start_without_waiting(&second).await;
    served.until("it is noticed", || async { served.state().await == "inUse" }).await;
    let report = served.page("/v1/status").await;
    assert_eq!(report["database"], json!({"state": "inUse", "claim": "team-a/acme"}));
    let refused = served.get("/v1/events").send().await.expect("answered");
    assert_eq!(refused.status(), 503);
    assert!(body(refused).await["detail"].as_str().is_some_and(|detail| detail.contains("team-a/acme")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_is_verified_for_the_answer() {
    let served = served().await;
    served.add(numbered(0..3)).await;
    let report = served.page("/v1/status").await;
    assert_eq!(report["replica"], "acme-0");
    assert_eq!(report["generation"], 1);
    assert_eq!(report["database"]["durability"]["fsync"], true);
    assert_eq!(report["database"]["durability"]["synchronousCommit"], "on");
    assert_eq!(report["log"]["nextSequence"], 3);
    assert_eq!(report["replicas"][0]["name"], "acme-0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_document_is_in_force_within_seconds() {
    let uri = Postgres::shared().create_database().await;
    let served = Served::start(&document(&uri)).await;
    let mut next = document(&uri);
    next.generation = 2;
    next.ingest.write_keys.clear();
    served.apply(&next);
    served
        .until("generation 2 is reported", || async {
            served.page("/v1/status").await["replicas"][0]["generation"] == 2
        })
        .await;
    let refused = served.post("/v1/events").json(&json!({"type": "Late"})).send().await.expect("answered");
    assert_eq!(refused.status(), 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_database_in_the_document_ends_the_process_to_be_started_again() {
    let mut served = served().await;
    let mut next = document(&Postgres::shared().create_database().await);
    next.generation = 2;
    served.apply(&next);
    let ended = tokio::time::timeout(DEADLINE, &mut served.running).await.expect("in time").expect("no panic");
    assert!(ended.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_but_the_probes_wants_a_credential() {
    let served = served().await;
    let bare = |path: &str| served.client.get(format!("http://{}{path}", served.address));
    for path in ["/v1/events", "/v1/events.csv", "/v1/status"] {
        let refused = bare(path).send().await.expect("answered");
        assert_eq!(refused.status(), 401, "{path}");
        assert_eq!(refused.headers()[WWW_AUTHENTICATE], "Bearer realm=\"audittrail\"");
        assert_eq!(refused.headers()[CONTENT_TYPE], "application/problem+json");
        let key = bare(path).bearer_auth(WRITE_KEY).send().await.expect("answered");
        assert_eq!(key.status(), 403, "{path}");
    }
    let owner = served.client.post(format!("http://{}/v1/events", served.address)).bearer_auth(OWNER);
    assert_eq!(owner.json(&json!({"type": "A"})).send().await.expect("answered").status(), 403);
    for path in ["/livez", "/readyz"] {
        assert_eq!(bare(path).send().await.expect("answered").status(), 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_a_problem_too() {
    let served = served().await;
    let missing = served.get("/v2/events").send().await.expect("answered");
    assert_eq!(missing.status(), 404);
    assert_eq!(body(missing).await["type"], "https://audittrail.dev/problems/not-found");
    let method = served.client.delete(format!("http://{}/v1/events", served.address)).send().await.expect("answered");
    assert_eq!(method.status(), 405);
    assert_eq!(method.headers()[ALLOW], "GET,HEAD,POST");
    assert_eq!(body(method).await["type"], "https://audittrail.dev/problems/method-not-allowed");
    let unknown = served.get("/v1/events?area=billing").send().await.expect("answered");
    assert_eq!(unknown.status(), 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_taken_up_to_its_limit() {
    const LIMIT: usize = audittrail_collector::server::BODY_MAX_BYTES;
    let served = served().await;
    let padded = |length: usize| {
        let mut body = br#"{"type":"Padded","actor":{"type":"system","id":"test"}}"#.to_vec();
        body.resize(length, b' ');
        served.post("/v1/events").header(CONTENT_TYPE, "application/json").body(body)
    };
    assert_eq!(padded(LIMIT).send().await.expect("answered").status(), 200);
    let refused = padded(LIMIT + 1).send().await.expect("answered");
    assert_eq!(refused.status(), 413);
    assert_eq!(body(refused).await["detail"], format!("a body may have {LIMIT} bytes at most, as sent and decoded"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_answered_with_its_id() {
    let served = served().await;
    let own = served.get("/v1/events").header("x-request-id", "mine-1").send().await.expect("answered");
    assert_eq!(own.headers()["x-request-id"], "mine-1");
    let new = served.get("/v1/events").send().await.expect("answered");
    assert_eq!(new.headers()["x-request-id"].len(), 36);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_used_without_a_restart() {
    let mut document = document(&Postgres::shared().create_database().await);
    let (first, second) = (certificate(), certificate());
    document.tls = Some(first.clone());
    let served = Served::start_without_waiting(&document).await;
    let trusting = |pem: &str| {
        let root = reqwest::Certificate::from_pem(pem.as_bytes()).expect("a certificate");
        let client = reqwest::Client::builder().tls_certs_only([root]).pool_max_idle_per_host(0);
        client.resolve("localhost", served.address).build().expect("a client")
    };
    let url = format!("https://localhost:{}/livez", served.address.port());
    let answers =
        async |client: &reqwest::Client| client.get(&url).timeout(Duration::from_secs(5)).send().await.is_ok();
    let (old, new) = (trusting(&first.certificate), trusting(&second.certificate));
    assert!(answers(&old).await && !answers(&new).await);
    document.generation = 2;
    document.tls = Some(second);
    served.apply(&document);
    served.until("the new certificate is shown", || answers(&new)).await;
    assert!(!answers(&old).await);
}
