//! `GET /audit-events` over HTTP, on a real Postgres: what Segment's SDKs do not try of it (`tests/sdk/segment.rs` has those).

use audittrail_collector::public_api::budget::POINTS_MAX;
use audittrail_tests::postgres::Postgres;
use audittrail_tests::served::{OWNER, Served, WRITE_KEY, body, document};
use reqwest::header::{ACCEPT, ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use reqwest::{Method, Response};
use serde_json::{Value, json};

const PATH: &str = "/audit-events";

async fn served() -> Served {
    Served::start(&document(&Postgres::shared().create_database().await)).await
}

fn numbered(numbers: std::ops::Range<i64>) -> Vec<Value> {
    let resource = json!({"type": "counter", "id": "c"});
    numbers.map(|number| json!({"id": number.to_string(), "type": "Counted", "resource": resource})).collect()
}

/// What is answered to this query string.
async fn ask(served: &Served, query: &str) -> Response {
    served.get(&format!("{PATH}?{query}")).send().await.expect("answered")
}

/// The `data` of an answer, which must be a 200.
async fn page(served: &Served, query: &str) -> Value {
    let answer = ask(served, query).await;
    let (status, mut said) = (answer.status(), body(answer).await);
    assert_eq!(status, 200, "{query}: {said}");
    said["data"].take()
}

/// Status and errors of an answer in Segment's envelope.
async fn refusal(answer: Response) -> (u16, Value) {
    let status = answer.status().as_u16();
    assert_eq!(answer.headers()[CONTENT_TYPE], "application/json");
    (status, body(answer).await["errors"].take())
}

fn ids(page: &Value) -> Vec<i64> {
    let events = page["events"].as_array().expect("events");
    events.iter().map(|event| event["id"].as_str().expect("an id").parse().expect("a number")).collect()
}

fn cursor<'a>(page: &'a Value, name: &str) -> &'a str {
    page["pagination"][name].as_str().unwrap_or_else(|| panic!("a cursor {name}: {page}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_neither_skip_nor_repeat_while_events_arrive() {
    let served = served().await;
    served.add(numbered(0..50)).await;
    let mut at = page(&served, "pagination.count=7").await;
    let mut seen = ids(&at);
    while let Some(next) = at["pagination"]["next"].as_str() {
        served.add(vec![json!({"id": format!("{}", 1000 + seen.len()), "type": "Counted"})]).await;
        at = page(&served, &format!("pagination.count=7&pagination.cursor={next}")).await;
        seen.extend(ids(&at));
    }
    assert_eq!(seen, (0..50).rev().collect::<Vec<i64>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn both_spellings_of_pagination_work_encoded_or_not() {
    let served = served().await;
    served.add(numbered(0..5)).await;
    for (count, place) in [
        ("pagination.count", "pagination.cursor"),
        ("pagination[count]", "pagination[cursor]"),
        ("pagination%5Bcount%5D", "pagination%5Bcursor%5D"),
    ] {
        // What is recorded of these views themselves is of another type.
        let query = format!("resourceType=counter&{count}=2");
        let first = page(&served, &query).await;
        let second = page(&served, &format!("{query}&{place}={}", cursor(&first, "next"))).await;
        assert_eq!((ids(&first), ids(&second)), (vec![4, 3], vec![2, 1]), "{count}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_cursor_of_a_page_leads_where_it_says() {
    let served = served().await;
    served.add(numbered(0..5)).await;
    let at = async |cursor: &str| page(&served, &format!("pagination.count=2&pagination.cursor={cursor}")).await;
    let first = page(&served, "pagination.count=2").await;
    assert_eq!(first["pagination"]["previous"], Value::Null);
    let second = at(cursor(&first, "next")).await;
    assert_eq!(ids(&at(cursor(&second, "current")).await), ids(&second));
    let last = at(cursor(&second, "next")).await;
    assert_eq!((ids(&last), &last["pagination"]["next"]), (vec![0], &Value::Null));
    let second_again = at(cursor(&last, "previous")).await;
    assert_eq!(ids(&second_again), ids(&second));
    assert_eq!(ids(&at(cursor(&second_again, "current")).await), ids(&second));
    assert_eq!(ids(&at(cursor(&second_again, "next")).await), ids(&last));
    let first_again = at(cursor(&second_again, "previous")).await;
    assert_eq!(ids(&first_again), ids(&first));
    assert_eq!(first_again["pagination"]["previous"], Value::Null);
    assert_eq!(ids(&at(cursor(&first, "current")).await), ids(&first));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_trail_is_one_empty_page() {
    let served = served().await;
    let empty = page(&served, "").await;
    assert_eq!(empty["events"], json!([]));
    assert_eq!((&empty["pagination"]["next"], &empty["pagination"]["previous"]), (&Value::Null, &Value::Null));
    assert_eq!(page(&served, &format!("pagination.cursor={}", cursor(&empty, "current"))).await["events"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_holds_the_end_of_the_time_and_a_later_one_adds_nothing() {
    let served = served().await;
    let at = |number: i64| json!({"id": number.to_string(), "type": "Counted", "timestamp": format!("2026-03-02T09:00:0{number}Z")});
    // Stored in the opposite order of their times: the newest in time is the last of the walk.
    served.add((0..6).rev().map(at).collect()).await;
    let first = page(&served, "endTime=2026-03-02T09:00:03Z&pagination.count=2").await;
    assert_eq!(ids(&first), [0, 1]);
    let next = format!("pagination.cursor={}", cursor(&first, "next"));
    for (end, expected) in [
        ("", vec![2]),
        ("&endTime=2026-03-02T09:00:03Z", vec![2]),
        ("&endTime=2026-03-02T09:00:05Z", vec![2]),
        ("&endTime=2026-03-02T09:00:02Z", vec![]),
    ] {
        assert_eq!(ids(&page(&served, &format!("{next}{end}")).await), expected, "{end}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_is_forged_foreign_or_of_another_filter_is_refused() {
    let (served, other) = (served().await, served().await);
    served.add(numbered(0..5)).await;
    other.add(numbered(0..5)).await;
    let ours = page(&served, "pagination.count=2").await;
    let theirs = page(&other, "pagination.count=2").await;
    let lists = served.page("/v1/events?limit=1").await;
    let lists = lists["nextCursor"].as_str().expect("a cursor");
    let with_filter = format!("{}&resourceId=a", cursor(&ours, "next"));
    let unknown = "is not a cursor of this trail: start again without it";
    let otherwise =
        "belongs to other filters or another order: send the parameters it was given for, or start again without it";
    for (cursor, rule) in
        [("Mw%3D%3D", unknown), (cursor(&theirs, "next"), unknown), (lists, unknown), (&with_filter, otherwise)]
    {
        let (status, errors) = refusal(ask(&served, &format!("pagination.cursor={cursor}")).await).await;
        let message = format!("pagination.cursor {rule}");
        let expected = json!([{"type": "validation", "message": message, "field": "pagination.cursor", "status": 422}]);
        assert_eq!((status, errors), (422, expected), "{cursor}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wrong_parameter_is_an_error_of_its_field() {
    let served = served().await;
    let (status, errors) =
        refusal(ask(&served, "startTime=now&pagination[count]=0&resourceId=&actor=usr_1").await).await;
    assert_eq!(status, 422);
    let fields: Vec<&Value> = errors.as_array().expect("errors").iter().map(|error| &error["field"]).collect();
    assert_eq!(fields, ["startTime", "resourceId", "pagination.count", "actor"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_has_the_media_type_that_was_asked_for() {
    let served = served().await;
    let accepting = async |accept: &str| {
        let answer = served.get(PATH).header(ACCEPT, accept).send().await.expect("answered");
        (answer.status().as_u16(), answer.headers()[CONTENT_TYPE].to_str().expect("text").to_owned())
    };
    for name in ["application/vnd.segment.v1+json", "application/json", "application/vnd.segment.v1alpha+json"] {
        assert_eq!(accepting(name).await, (200, name.to_owned()));
    }
    assert_eq!(accepting("*/*").await, (200, "application/json".to_owned()));
    assert_eq!(accepting("text/html").await, (406, "application/json".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_is_refused_in_the_envelope() {
    let served = served().await;
    let url = format!("http://{}{PATH}", served.address);
    let nobody = served.client.get(&url).send().await.expect("answered");
    assert!(nobody.headers().contains_key(WWW_AUTHENTICATE));
    let (status, errors) = refusal(nobody).await;
    assert_eq!((status, &errors[0]["type"]), (401, &json!("unauthorized")));
    let writer = served.client.get(&url).bearer_auth(WRITE_KEY).send().await.expect("answered");
    let (status, errors) = refusal(writer).await;
    assert_eq!((status, &errors[0]["type"]), (403, &json!("forbidden")));
    let posted = served.client.request(Method::POST, &url).bearer_auth(OWNER).send().await.expect("answered");
    assert!(posted.headers()[ALLOW].to_str().expect("text").contains("GET"));
    assert_eq!(refusal(posted).await.0, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn past_the_limit_a_caller_waits_for_the_next_window() {
    let served = served().await;
    let header = |answer: &Response, name: &str| answer.headers()[name].to_str().expect("text").to_owned();
    // Most are refused for their parameters, which costs the same.
    for number in 1..=POINTS_MAX {
        let answer = ask(&served, if number < POINTS_MAX { "pagination.count=0" } else { "" }).await;
        assert_eq!(answer.status(), if number < POINTS_MAX { 422 } else { 200 }, "{number}");
        assert_eq!(header(&answer, "x-ratelimit-consumed"), number.to_string());
        assert_eq!(header(&answer, "x-ratelimit-remaining"), (POINTS_MAX - number).to_string());
    }
    let answer = ask(&served, "").await;
    assert!((1..=60).contains(&header(&answer, RETRY_AFTER.as_str()).parse::<u32>().expect("seconds")));
    assert_eq!(header(&answer, "x-ratelimit-consumed"), (POINTS_MAX + 1).to_string());
    assert_eq!(header(&answer, "x-ratelimit-remaining"), "0");
    let (status, errors) = refusal(answer).await;
    let error = &errors[0];
    assert_eq!((status, &error["type"], &error["message"]), (429, &json!("RequestError"), &json!("Too many requests")));
    assert_eq!(
        (&error["data"]["remainingPoints"], &error["data"]["consumedPoints"]),
        (&json!(0), &json!(POINTS_MAX + 1))
    );
    assert!(error["data"]["msBeforeNext"].as_u64().is_some_and(|wait| (1..=60_000).contains(&wait)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_recorded_once_with_its_first_page() {
    let served = served().await;
    served.add(numbered(0..5)).await;
    let first = page(&served, "pagination.count=2").await;
    let second = page(&served, &format!("pagination.cursor={}", cursor(&first, "next"))).await;
    page(&served, &format!("pagination.cursor={}", cursor(&second, "previous"))).await;
    let refused = ask(&served, "pagination.count=0").await;
    assert_eq!(refused.status(), 422);
    let seen = served.page("/v1/events?type=Audit%20Trail%20Viewed").await;
    let views: Vec<&Value> = seen["events"]
        .as_array()
        .expect("events")
        .iter()
        .map(|event| &event["details"])
        .filter(|details| details["endpoint"] == "GET /audit-events")
        .collect();
    assert_eq!(views, [&json!({"endpoint": "GET /audit-events", "parameters": {"limit": "2"}})]);
}
