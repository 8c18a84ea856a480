//! Segment's own SDKs from npm against a collector on a real Postgres: `@segment/public-api-sdk-typescript` reads,
//! `@segment/analytics-node` writes. Nothing of them is set but where they send, and the credential.

use audittrail_tests::postgres::Postgres;
use audittrail_tests::served::{OWNER, Served, WRITE_KEY, document};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::time::timeout;

/// How long a script may take: some requests, and one retry of analytics-node, which waits two seconds at most.
const SCRIPT_MAX: Duration = Duration::from_mins(1);

/// The SDKs, as `tests/sdk/package-lock.json` pins them.
static SDKS: LazyLock<PathBuf> = LazyLock::new(|| {
    let mut tools = std::process::Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/tools.sh"));
    let answer = tools.arg("sdks").stderr(Stdio::inherit()).output().expect("tests/cluster/tools.sh can be run");
    assert!(answer.status.success(), "tests/cluster/tools.sh sdks could not fetch Segment's SDKs: its words are above");
    PathBuf::from(String::from_utf8(answer.stdout).expect("a path").trim())
});

/// Runs a script of `tests/sdk`, and gives what it printed.
async fn node(script: &str, argument: &Value) -> Value {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("sdk");
    let mut command = Command::new("node");
    command.arg(directory.join(script)).arg(argument.to_string()).env("NODE_PATH", &*SDKS);
    let running = command.stderr(Stdio::inherit()).kill_on_drop(true).output();
    let answer = timeout(SCRIPT_MAX, running).await.expect("the script ends").expect("node can be run");
    assert!(answer.status.success(), "{script} failed: its words are above");
    serde_json::from_slice(&answer.stdout).expect("JSON")
}

async fn served() -> Served {
    Served::start(&document(&Postgres::shared().create_database().await)).await
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

async fn list(served: &Served, mut asked: Value) -> Value {
    asked["url"] = json!(url(served.address));
    if asked.get("token").is_none() {
        asked["token"] = json!(OWNER);
    }
    node("audit-events.js", &asked).await
}

async fn call(host: &str, calls: Value) -> Value {
    node("analytics.js", &json!({"host": host, "writeKey": WRITE_KEY, "calls": calls})).await
}

/// What clients stored, oldest first: without the records of who looked.
async fn stored(served: &Served) -> Vec<Value> {
    let page = served.page("/v1/events?order=asc&limit=1000&submittedBy=acme/writeKey").await;
    page["events"].as_array().expect("events").clone()
}

fn event(number: i64) -> Value {
    json!({
        "id": format!("evt_{number}"),
        "timestamp": format!("2026-03-02T09:14:0{number}.120Z"),
        "type": "Warehouse Disabled",
        "actor": {"type": "user", "id": "usr_1", "email": "ada@acme.example"},
        "resource": {"type": "warehouse", "id": format!("whs_{}", number % 2), "name": "Production"},
    })
}

fn ids(events: &Value) -> Vec<&str> {
    events.as_array().expect("events").iter().map(|event| event["id"].as_str().expect("an id")).collect()
}

fn pages(seen: &Value) -> Vec<Vec<&str>> {
    seen["pages"].as_array().expect("pages").iter().map(|page| ids(&page["events"])).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_public_api_sdk_lists_events_page_by_page_and_back() {
    let served = served().await;
    served.add((0..7).map(event).collect()).await;
    let seen = list(&served, json!({"count": 3})).await;
    assert_eq!(pages(&seen), [vec!["evt_6", "evt_5", "evt_4"], vec!["evt_3", "evt_2", "evt_1"], vec!["evt_0"]]);
    let back: Vec<_> = seen["back"].as_array().expect("pages").iter().map(ids).collect();
    assert_eq!(back, [["evt_3", "evt_2", "evt_1"], ["evt_6", "evt_5", "evt_4"]]);
    let pagination = |page: usize| &seen["pages"][page]["pagination"];
    assert_eq!((&pagination(0)["previous"], &pagination(2)["next"]), (&Value::Null, &Value::Null));
    assert_eq!(
        seen["pages"][2]["events"][0],
        json!({
            "id": "evt_0", "timestamp": "2026-03-02T09:14:00.120Z", "type": "Warehouse Disabled", "actor": "usr_1",
            "actorEmail": "ada@acme.example", "resourceId": "whs_0", "resourceType": "warehouse",
            "resourceName": "Production",
        })
    );
    assert_eq!((&seen["limits"][0], &seen["limits"][1]), (&json!("3"), &json!("297")));
    assert!(seen["limits"][2].as_str().is_some_and(|date| date.ends_with(" +0000")), "{seen}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_public_api_sdk_filters() {
    let served = served().await;
    served.add((0..7).map(event).collect()).await;
    for (asked, expected) in [
        (json!({"resourceId": "whs_1"}), vec!["evt_5", "evt_3", "evt_1"]),
        (json!({"resourceType": "source"}), vec![]),
        // Without the type, the records of the views before are found too.
        (json!({"startTime": "2026-03-02T09:14:05.000Z", "resourceType": "warehouse"}), vec!["evt_6", "evt_5"]),
        (json!({"endTime": "2026-03-02T10:14:01.120+01:00"}), vec!["evt_0"]),
        (
            json!({"startTime": "2026-03-02T09:14:03Z", "endTime": "2026-03-02T09:14:06Z", "resourceId": "whs_1",
                "resourceType": "warehouse"}),
            vec!["evt_5", "evt_3"],
        ),
    ] {
        let mut with_count = asked.clone();
        with_count["count"] = json!(1000);
        assert_eq!(pages(&list(&served, with_count).await), [expected], "{asked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_public_api_sdk_sees_our_errors_as_its_own() {
    let served = served().await;
    for (asked, status, error) in [
        (json!({"count": 1001}), 422, json!({"type": "validation", "field": "pagination.count"})),
        (json!({"count": 1, "cursor": "Mw=="}), 422, json!({"type": "validation", "field": "pagination.cursor"})),
        (json!({"count": 1, "token": "other"}), 401, json!({"type": "unauthorized"})),
        (json!({"count": 1, "token": WRITE_KEY}), 403, json!({"type": "forbidden"})),
    ] {
        let seen = list(&served, asked).await;
        let told = &seen["error"];
        // By its name: the SDK is compiled to a JavaScript where no error is an instance of its own class.
        assert_eq!((&told["name"], &told["statusCode"]), (&json!("HttpError"), &json!(status)), "{seen}");
        let first = &told["body"]["errors"][0];
        assert_eq!((&first["type"], &first["field"]), (&error["type"], &error["field"]), "{told}");
        assert_eq!(first["status"], status);
        assert!(first["message"].is_string());
        assert_eq!(&told["unwrapped"], first);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_analytics_node_tracks_is_in_the_trail() {
    let served = served().await;
    let begun = Timestamp::now();
    let calls = json!([
        ["track", {
            "userId": "usr_1", "anonymousId": "anon_1", "event": "warehouse disabled", "messageId": "msg_1",
            "timestamp": "2026-03-02T09:14:05.120Z", "integrations": {"All": false},
            "properties": {"reason": "costs", "size": 2, "nested": {"list": [1, null, "é"]}},
            "context": {"ip": "192.0.2.7", "userAgent": "Mozilla", "locale": "de",
                "traits": {"name": "Ada", "email": "ada@acme.example"}},
        }],
        ["track", {"anonymousId": "anon_1", "event": "Invoice Sent"}],
    ]);
    let seen = call(&url(served.address), calls).await;
    assert_eq!(seen["answered"], json!([{"status": 200, "items": 2}, {"status": 200, "items": 1}]), "{seen}");
    assert_eq!(seen["errors"], json!([]));
    let mut events = stored(&served).await;
    let first = events[0].as_object_mut().expect("an event");
    for added in ["sequence", "epoch", "receivedAt"] {
        assert!(first.remove(added).is_some());
    }
    assert_eq!(
        events[0],
        json!({
            "id": "msg_1", "timestamp": "2026-03-02T09:14:05.120000Z", "type": "Warehouse Disabled",
            "actor": {"type": "user", "id": "usr_1", "name": "Ada", "email": "ada@acme.example"},
            "context": {"ip": "192.0.2.7", "userAgent": "Mozilla"},
            "details": {"reason": "costs", "size": 2, "nested": {"list": [1, null, "é"]}},
            "submittedBy": {"kind": "writeKey", "name": "acme/writeKey"},
        })
    );
    // What the SDK adds by itself: an id of its own, and the time of the call.
    assert_eq!((&events[1]["type"], &events[1]["actor"]["id"]), (&json!("Invoice Sent"), &json!("anon_1")));
    assert_eq!(events[1]["id"], seen["sent"][0]["items"][1]["messageId"]);
    assert!(events[1]["id"].as_str().is_some_and(|id| id.starts_with("node-next-")));
    let timestamp: Timestamp = events[1]["timestamp"].as_str().expect("a time").parse().expect("a time");
    assert!((begun.as_millisecond()..=Timestamp::now().as_millisecond()).contains(&timestamp.as_millisecond()));
    assert_eq!((events.len(), &events[2]["type"]), (3, &json!("Closed")));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_calls_of_analytics_node_are_answered_and_not_stored() {
    let served = served().await;
    let calls = json!([
        ["identify", {"userId": "usr_1", "traits": {"email": "ada@acme.example"}}],
        ["page", {"userId": "usr_1", "name": "Home"}],
        ["screen", {"userId": "usr_1", "name": "Home"}],
        ["group", {"userId": "usr_1", "groupId": "grp_1"}],
        ["alias", {"userId": "usr_1", "previousId": "usr_0"}],
    ]);
    let seen = call(&url(served.address), calls).await;
    assert_eq!(seen["answered"], json!([{"status": 200, "items": 5}, {"status": 200, "items": 1}]), "{seen}");
    assert_eq!(seen["errors"], json!([]));
    let events = stored(&served).await;
    assert_eq!((events.len(), &events[0]["type"]), (1, &json!("Closed")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_analytics_node_sends_again_after_a_lost_answer_is_stored_once() {
    let served = served().await;
    let network = losing_the_first_answer(served.address).await;
    let calls = json!([["track", {"userId": "usr_1", "event": "Invoice Sent"}]]);
    let seen = call(&url(network), calls).await;
    // The first request was stored, and its answer lost; the second is the same with another `sentAt`.
    assert_eq!(seen["answered"], json!([{"status": 200, "items": 1}, {"status": 200, "items": 1}]), "{seen}");
    let sent = seen["sent"].as_array().expect("requests");
    assert_eq!((sent.len(), &sent[0]["items"]), (3, &sent[1]["items"]));
    assert_eq!(sent[1]["headers"]["X-Retry-Count"], "1");
    let events = stored(&served).await;
    let types: Vec<&Value> = events.iter().map(|event| &event["type"]).collect();
    assert_eq!(types, ["Invoice Sent", "Closed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn analytics_node_is_told_that_its_key_is_refused() {
    let served = served().await;
    let argument = json!({"host": url(served.address), "writeKey": "atk_other", "calls": [["track", {"userId": "usr_1", "event": "Invoice Sent"}]]});
    let seen = node("analytics.js", &argument).await;
    assert_eq!(seen["answered"], json!([{"status": 401, "items": 1}, {"status": 401, "items": 1}]), "{seen}");
    assert_eq!(seen["errors"].as_array().expect("errors").len(), 2, "{seen}");
    assert_eq!(stored(&served).await, Vec::<Value>::new());
}

/// A network that takes the first answer away: its connection is closed once the answer has come.
async fn losing_the_first_answer(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        let lost = AtomicBool::new(false);
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(to).await.expect("the collector listens");
            if lost.swap(true, Ordering::SeqCst) {
                tokio::spawn(pass(client, server));
            } else {
                lose_answer(client, server).await;
            }
        }
    });
    address
}

async fn pass(mut client: TcpStream, mut server: TcpStream) {
    // Ends with an error when either side goes away.
    let _ended = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}

async fn lose_answer(client: TcpStream, server: TcpStream) {
    let (mut from_client, _to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let forwarding = tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
    let mut answer = [0; 1024];
    let read = from_server.read(&mut answer).await.expect("an answer");
    assert!(answer[..read].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..read]));
    forwarding.abort();
}
