//! Inputs that are cut instead of refused, Segment's Tracking API and Kubernetes' audit events: a real collector on a real
//! Postgres.

use audittrail_collector::ingest::segment::UNNAMED_MAX_BYTES;
use audittrail_crds::document::{CatalogueMode, Document, EventType, KubernetesObjects};
use audittrail_tests::postgres::Postgres;
use audittrail_tests::served::{OWNER, Served, WRITE_KEY, body, document};
use flate2::Compression;
use flate2::write::GzEncoder;
use jiff::{SignedDuration, Timestamp};
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use std::io::Write;

/// A document on a database of its own.
async fn fresh() -> Document {
    document(&Postgres::shared().create_database().await)
}

fn request(served: &Served, path: &str, body: &Value) -> RequestBuilder {
    served.client.post(format!("http://{}{path}", served.address)).json(body)
}

async fn send(request: RequestBuilder) -> Response {
    request.send().await.expect("answered")
}

/// Sends a batch with the write key in the body, as some SDKs do, and gives status and answer.
async fn batch(served: &Served, items: Value) -> (u16, Value) {
    let answer = send(request(served, "/v1/batch", &json!({"batch": items, "writeKey": WRITE_KEY}))).await;
    (answer.status().as_u16(), body(answer).await)
}

fn compressed(request: RequestBuilder, body: &str) -> RequestBuilder {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    gzip.write_all(body.as_bytes()).expect("written");
    let headers = [(CONTENT_TYPE, "application/json"), (CONTENT_ENCODING, "gzip")];
    let request = headers.into_iter().fold(request, |request, (name, value)| request.header(name, value));
    request.body(gzip.finish().expect("compressed"))
}

fn success() -> (u16, Value) {
    (200, json!({"success": true}))
}

fn track(id: &str) -> Value {
    json!({"type": "track", "event": "Invoice Sent", "userId": "usr_1", "messageId": id})
}

/// What was written with the key, oldest first. The collector records who looks beside it.
async fn events(served: &Served, query: &str) -> Vec<Value> {
    let path = format!("/v1/events?order=asc&limit=1000&submittedBy=acme%2FwriteKey{query}");
    let mut page = served.page(&path).await;
    let Value::Array(events) = page["events"].take() else { panic!("events") };
    events
}

async fn ids(served: &Served) -> Vec<String> {
    events(served, "").await.iter().map(|event| event["id"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_sdk_sends_is_stored() {
    let served = Served::start(&fresh().await).await;
    let now = Timestamp::now();
    let body = json!({
        "sentAt": now.to_string(), "writeKey": WRITE_KEY, "context": {"ip": "192.0.2.7"},
        "batch": [{
            "type": "track", "event": "warehouse disabled", "userId": "usr_1", "messageId": "node-next-1-a",
            "timestamp": "2026-03-02T09:14:05.120Z", "properties": {"reason": "costs"}, "integrations": {},
            "context": {"userAgent": "Mozilla", "traits": {"email": "ada@acme.example"},
                "library": {"name": "@segment/analytics-node", "version": "3.1.0"}},
            "_metadata": {"nodeVersion": "22"},
        }],
    });
    let answer = send(request(&served, "/v1/batch", &body).basic_auth(WRITE_KEY, Some(""))).await;
    assert_eq!(answer.status(), 200);
    // In a type's filter, upper and lower case make no difference.
    let mut stored = events(&served, "&type=WAREHOUSE%20disabled").await.remove(0);
    stored.as_object_mut().expect("an event").remove("receivedAt");
    assert_eq!(
        stored,
        json!({
            "sequence": 0, "epoch": stored["epoch"], "id": "node-next-1-a", "timestamp": "2026-03-02T09:14:05.120000Z",
            "type": "Warehouse Disabled", "actor": {"type": "user", "id": "usr_1", "email": "ada@acme.example"},
            "context": {"ip": "192.0.2.7", "userAgent": "Mozilla"}, "details": {"reason": "costs"},
            "submittedBy": {"kind": "writeKey", "name": "acme/writeKey"},
        })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_comes_as_basic_user_as_bearer_or_in_the_body() {
    let served = Served::start(&fresh().await).await;
    for (path, id) in [("/v1/track", "one"), ("/v1/batch", "many")] {
        let with = |way: &str, key: Option<&str>| {
            let item = track(&format!("{id}-{way}"));
            let mut body = if path == "/v1/track" { item } else { json!({ "batch": [item] }) };
            if let Some(key) = key {
                body["writeKey"] = key.into();
            }
            request(&served, path, &body)
        };
        for request in [
            with("basic", None).basic_auth(WRITE_KEY, Some("")),
            with("bearer", None).bearer_auth(WRITE_KEY),
            with("body", Some(WRITE_KEY)),
            // The header decides.
            with("both", Some("atk_other")).bearer_auth(WRITE_KEY),
        ] {
            let answer = send(request).await;
            assert_eq!((answer.status().as_u16(), body(answer).await), success());
        }
        for request in [
            with("none", None),
            with("other", Some("atk_other")),
            with("part", Some(&WRITE_KEY[..WRITE_KEY.len() - 1])),
            with("empty", Some("")),
            with("header", Some(WRITE_KEY)).bearer_auth("atk_other"),
            with("user", Some(WRITE_KEY)).basic_auth("atk_other", Some("")),
        ] {
            let answer = send(request).await;
            assert_eq!(answer.status(), 401);
            assert!(answer.headers().contains_key(WWW_AUTHENTICATE));
            assert_eq!(body(answer).await["success"], false);
        }
        let owner = send(with("owner", None).bearer_auth(OWNER)).await;
        assert_eq!(owner.status(), 403);
    }
    assert_eq!(ids(&served).await.len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_no_events_are_answered_and_not_stored() {
    let served = Served::start(&fresh().await).await;
    let calls = ["identify", "page", "screen", "group", "alias"];
    for call in calls {
        let item = json!({"userId": "usr_1", "traits": {"email": "ada@acme.example"}, "writeKey": WRITE_KEY});
        let answer = send(request(&served, &format!("/v1/{call}"), &item)).await;
        assert_eq!((answer.status().as_u16(), body(answer).await), success(), "{call}");
        assert_eq!(send(request(&served, &format!("/v1/{call}"), &json!({}))).await.status(), 401, "{call}");
    }
    let mut items: Vec<Value> = calls.iter().map(|call| json!({"type": call, "userId": "usr_1"})).collect();
    items.push(track("a"));
    assert_eq!(batch(&served, items.into()).await, success());
    assert_eq!(batch(&served, json!([])).await, success());
    assert_eq!(ids(&served).await, ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_may_be_compressed() {
    let served = Served::start(&fresh().await).await;
    let request = served.client.post(format!("http://{}/v1/batch", served.address));
    let body = json!({"batch": [track("a")], "writeKey": WRITE_KEY}).to_string();
    assert_eq!(send(compressed(request, &body)).await.status(), 200);
    assert_eq!(ids(&served).await, ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_names_its_sender_itself_has_the_limit_of_segments_batches() {
    let served = Served::start(&fresh().await).await;
    let of_size = |bytes: usize| {
        let frame = json!({"batch": [], "writeKey": WRITE_KEY, "padding": ""}).to_string().len();
        json!({"batch": [], "writeKey": WRITE_KEY, "padding": "x".repeat(bytes - frame)})
    };
    assert_eq!(send(request(&served, "/v1/batch", &of_size(UNNAMED_MAX_BYTES))).await.status(), 200);
    let larger = of_size(UNNAMED_MAX_BYTES + 1);
    let answer = send(request(&served, "/v1/batch", &larger)).await;
    assert_eq!(answer.status(), 413);
    assert!(body(answer).await["message"].as_str().expect("text").contains("524288 bytes"));
    assert_eq!(send(request(&served, "/v1/batch", &larger).bearer_auth(WRITE_KEY)).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_stored_is_stored_and_the_rest_is_told() {
    let served = Served::start(&fresh().await).await;
    let nobody = json!({"type": "track", "event": "Invoice Sent"});
    let nothing = json!({"type": "track", "userId": "usr_1"});
    let items = json!([track("a"), nobody, track("b"), nothing, 7, {"event": "No Type", "userId": "u"}, track("c")]);
    for _ in 0..2 {
        let (status, answer) = batch(&served, items.clone()).await;
        assert_eq!((status, &answer["success"]), (400, &json!(false)));
        let fault = |index: usize, field: &str| (json!(index), json!(field));
        let errors = answer["errors"].as_array().expect("errors").iter();
        let told: Vec<_> = errors.map(|error| (error["index"].clone(), error["field"].clone())).collect();
        assert_eq!(told, [fault(1, "userId"), fault(3, "event"), fault(4, ""), fault(5, "type")]);
        assert!(answer["message"].as_str().expect("text").starts_with("4 items were not stored"), "{answer}");
        // A client that halves the batch finds the good ones as duplicates.
        assert_eq!(ids(&served).await, ["a", "b", "c"]);
    }
    assert_eq!(batch(&served, json!([track("a"), track("c")])).await, success());
    assert_eq!(ids(&served).await, ["a", "b", "c"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_lists_a_hundred_errors_and_counts_the_rest() {
    let served = Served::start(&fresh().await).await;
    for (items, listed) in [(100, 100), (101, 100)] {
        let (status, answer) = batch(&served, vec![json!({"type": "track", "userId": "u"}); items].into()).await;
        assert_eq!((status, answer["errors"].as_array().map(Vec::len)), (400, Some(listed)));
        assert!(answer["message"].as_str().expect("text").starts_with(&format!("{items} items")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_item_sent_again_is_a_duplicate_and_another_under_its_id_is_told() {
    let served = Served::start(&fresh().await).await;
    let with = |id: &str, timestamp: &str| {
        let mut item = track(id);
        item["timestamp"] = timestamp.into();
        item
    };
    let first = with("a", "2026-03-02T09:14:05.120Z");
    for _ in 0..2 {
        assert_eq!(batch(&served, json!([first])).await, success());
    }
    let mut other = first.clone();
    other["event"] = json!("Other");
    let (status, answer) = batch(&served, json!([track("b"), other])).await;
    assert_eq!(
        (status, &answer["errors"][0]["index"], &answer["errors"][0]["field"]),
        (400, &json!(1), &json!("messageId"))
    );
    assert_eq!(ids(&served).await, ["a", "b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_with_a_wrong_clock_may_send_again_too() {
    let served = Served::start(&fresh().await).await;
    let an_hour_ago = || Timestamp::now() - SignedDuration::from_hours(1);
    let mut item = track("a");
    // Noon, so that the correction stays within the day.
    item["timestamp"] = json!("2026-03-02T12:00:00Z");
    for _ in 0..2 {
        let sent = json!({"batch": [item], "writeKey": WRITE_KEY, "sentAt": an_hour_ago().to_string()});
        let answer = send(request(&served, "/v1/batch", &sent)).await;
        assert_eq!((answer.status().as_u16(), body(answer).await), success());
    }
    let stored = events(&served, "").await;
    assert_eq!(stored.len(), 1);
    assert!(stored[0]["timestamp"].as_str().expect("a time").starts_with("2026-03-02T13:00:0"), "{}", stored[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_strict_catalogue_refuses_items_and_not_their_batch() {
    let mut strict = fresh().await;
    strict.catalogue.mode = CatalogueMode::Strict;
    strict.catalogue.event_types.push(EventType {
        name: "Invoice Sent".to_owned(),
        area: "Billing".to_owned(),
        aliases: vec!["Bill Sent".to_owned()],
        schema: Some(json!({"properties": {"sum": {"type": "integer"}}})),
    });
    let served = Served::start(&strict).await;
    let mut unknown = track("unknown");
    unknown["event"] = json!("Unheard Of");
    let mut odd = track("odd");
    odd["properties"] = json!({"sum": "12"});
    let mut alias = track("alias");
    alias["event"] = json!("bill sent");
    let (status, answer) = batch(&served, json!([unknown, alias, odd])).await;
    assert_eq!(status, 400);
    assert_eq!((&answer["errors"][0]["field"], &answer["errors"][1]["field"]), (&json!("type"), &json!("details.sum")));
    let stored = events(&served, "").await;
    assert_eq!((stored.len(), &stored[0]["type"]), (1, &json!("Invoice Sent")));

    strict.generation += 1;
    strict.catalogue.mode = CatalogueMode::Open;
    served.apply(&strict);
    served.until("the catalogue is open", || async { batch(&served, json!([unknown])).await == success() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_the_shape_that_segments_users_expect() {
    let served = Served::start(&fresh().await).await;
    let too_large = " ".repeat(16 * 1024 * 1024 + 1);
    for (sent, status) in [("{", 400), ("[]", 400), ("{}", 400), (r#"{"batch":{}}"#, 400), (&too_large, 413)] {
        let answer = send(compressed(served.post("/v1/batch"), sent)).await;
        assert_eq!(answer.status(), status);
        assert_eq!(answer.headers()[CONTENT_TYPE], "application/json");
        let answer = body(answer).await;
        assert_eq!(answer["success"], false);
        assert!(!answer["message"].as_str().expect("text").is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trail_without_a_database_asks_to_come_again() {
    let served = Served::start_without_waiting(&document("postgresql://127.0.0.1:1/none")).await;
    let answer = send(request(&served, "/v1/batch", &json!({"batch": [track("a")], "writeKey": WRITE_KEY}))).await;
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key(RETRY_AFTER));
    assert_eq!(body(answer).await["success"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_kubernetes_events_are_kept_once_the_document_says_so() {
    let mut changing = fresh().await;
    let served = Served::start(&changing).await;
    let list = |id: String| {
        json!({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "items": [{
            "auditID": id, "verb": "create", "user": {"username": "ada"}, "objectRef": {"resource": "configmaps"},
            "requestObject": {"data": {"a": "b", "odd": u64::MAX}},
        }]})
    };
    assert_eq!(send(served.post("/v1/kubernetes").json(&list("first".to_owned()))).await.status(), 200);
    assert!(events(&served, "").await[0]["details"].get("requestObject").is_none());

    changing.generation += 1;
    changing.ingest.kubernetes_objects = KubernetesObjects::Keep;
    served.apply(&changing);
    let kept = || async {
        let id = events(&served, "").await.len().to_string();
        assert_eq!(send(served.post("/v1/kubernetes").json(&list(id))).await.status(), 200);
        let newest = events(&served, "").await.pop().expect("an event");
        newest["details"]["requestObject"] == json!({"data": {"a": "b", "odd": null}})
            && newest["details"]["cut"] == json!(["details.requestObject.data.odd"])
    };
    served.until("objects are kept", kept).await;
}
