//! Each step of a script as a client sees it, on the bytes of the connection.

use audittrail_source::received::Refused;
use audittrail_source::script::{Poison, PoisonAnswer, Property, Standing, Step};
use audittrail_source::{Settings, Source};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use std::io::{self, Write};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const BATCH: &str = r#"{"batch":[{"type":"track","event":"A","userId":"usr_1","messageId":"a"}],"writeKey":"k"}"#;

async fn start(steps: impl IntoIterator<Item = Step>) -> (Source, std::net::SocketAddr) {
    let source = Source::open(Settings { write_key: Some("k".to_owned()), ..Settings::default() }).expect("no file");
    source.set_script(steps);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("bound");
    let served = source.clone();
    tokio::spawn(async move { served.serve(listener, std::future::pending()).await });
    (source, address)
}

/// Three items with the ids `a`, `b` and `c`, of which the second has the property `bad`.
fn three() -> String {
    let item = |id: &str, bad: bool| json!({"type": "track", "event": "A", "userId": "usr_1", "messageId": id, "properties": {"id": id, "bad": bad}});
    json!({"batch": [item("a", false), item("b", true), item("c", false)], "writeKey": "k", "sentAt": "t"}).to_string()
}

fn ids(source: &Source) -> Vec<String> {
    source.received().messages().iter().map(|message| message.message_id.clone()).collect()
}

/// Sends one request and reads until the source closes the connection.
async fn post(address: std::net::SocketAddr, body: &str) -> io::Result<String> {
    send(address, "POST /v1/batch", "", body.as_bytes()).await
}

async fn send(address: std::net::SocketAddr, what: &str, headers: &str, body: &[u8]) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let length = body.len();
    let head =
        format!("{what} HTTP/1.1\r\nhost: source\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn a_batch_is_stored_once_and_a_wrong_key_is_refused() {
    let (source, address) = start([]).await;
    for _ in 0..2 {
        assert!(post(address, BATCH).await.expect("answered").starts_with("HTTP/1.1 200 OK"));
    }
    assert!(post(address, &BATCH.replace("\"k\"", "\"x\"")).await.expect("answered").starts_with("HTTP/1.1 401"));
    let received = source.received();
    assert_eq!((received.messages().len(), received.counts().deliveries, received.counts().requests), (1, 2, 3));
}

#[tokio::test]
async fn a_scripted_status_carries_its_retry_after() {
    let (source, address) = start([Step::Status { code: 429, retry_after: Some(2) }]).await;
    let answer = post(address, BATCH).await.expect("answered");
    assert!(answer.starts_with("HTTP/1.1 429") && answer.contains("retry-after: 2\r\n"), "{answer}");
    assert!(source.received().messages().is_empty());
}

#[tokio::test]
async fn a_reset_is_seen_as_one_and_stores_nothing() {
    let (source, address) = start([Step::Reset]).await;
    assert_eq!(post(address, BATCH).await.expect_err("reset").kind(), io::ErrorKind::ConnectionReset);
    assert!(source.received().messages().is_empty());
}

#[tokio::test]
async fn half_an_answer_ends_in_its_middle_and_stores_nothing() {
    let (source, address) = start([Step::Half]).await;
    let answer = post(address, BATCH).await.expect("closed");
    assert!(answer.contains("content-length: 16\r\n") && answer.ends_with(r#"{"succes"#), "{answer}");
    assert!(source.received().messages().is_empty());
}

#[tokio::test]
async fn store_then_drop_stores_and_closes_without_an_answer() {
    let (source, address) = start([Step::StoreThenDrop]).await;
    assert_eq!(post(address, BATCH).await.expect("closed"), "");
    assert_eq!(source.received().messages().len(), 1);
}

#[tokio::test]
async fn a_hanging_request_gets_no_answer() {
    let (source, address) = start([Step::Hang]).await;
    tokio::time::timeout(Duration::from_millis(300), post(address, BATCH)).await.expect_err("hangs");
    assert!(source.received().messages().is_empty());
}

#[tokio::test]
async fn store_then_hang_stores_and_does_not_answer() {
    let (source, address) = start([Step::StoreThenHang]).await;
    tokio::time::timeout(Duration::from_millis(300), post(address, BATCH)).await.expect_err("hangs");
    assert_eq!(source.received().messages().len(), 1);
}

#[tokio::test]
async fn a_slow_drip_takes_its_time_for_every_byte_and_ends_well() {
    let (source, address) = start([Step::Drip(Duration::from_millis(20))]).await;
    let begun = Instant::now();
    let answer = post(address, BATCH).await.expect("answered");
    assert!(answer.starts_with("HTTP/1.1 200 OK") && begun.elapsed() > Duration::from_millis(16 * 20), "{answer}");
    assert_eq!(source.received().messages().len(), 1);
}

#[tokio::test]
async fn a_redirect_and_a_loop_are_answered_as_scripted_and_store_nothing() {
    let (source, address) = start([Step::Redirect("http://127.0.0.1:9/".to_owned()), Step::Loop]).await;
    let redirect = post(address, BATCH).await.expect("answered");
    assert!(redirect.starts_with("HTTP/1.1 307") && redirect.contains("location: http://127.0.0.1:9/\r\n"));
    let looping = post(address, BATCH).await.expect("answered");
    assert!(looping.starts_with("HTTP/1.1 403") && looping.contains("application/problem+json"), "{looping}");
    assert!(looping.contains(r#""type":"https://audittrail.dev/problems/forwarding-loop""#), "{looping}");
    assert!(source.received().messages().is_empty());
}

#[tokio::test]
async fn a_request_with_a_poison_item_is_refused_whole_and_the_item_is_remembered() {
    let (source, address) = start([]).await;
    let by_id = Poison { event_ids: ["b".to_owned()].into(), ..Poison::default() };
    let property = Property { pointer: "/properties/bad".to_owned(), value: json!(true) };
    let by_property = Poison { property: Some(property), ..Poison::default() };
    for poison in [by_id, by_property] {
        source.set_standing(Standing { poison, ..Standing::default() });
        assert!(post(address, &three()).await.expect("answered").starts_with("HTTP/1.1 400"));
    }
    assert!(ids(&source).is_empty());
    let refused = source.received().refused().clone();
    assert_eq!(refused.get("b"), Some(&Refused { times: 2, code: 400, requests: (1, 2) }));
    assert_eq!(refused.len(), 1);
}

#[tokio::test]
async fn jitsus_way_stores_the_others_and_says_not_ok() {
    let (source, address) = start([]).await;
    let poison = Poison { event_ids: ["b".to_owned()].into(), answer: PoisonAnswer::OkFalse, ..Poison::default() };
    source.set_standing(Standing { poison, ..Standing::default() });
    let answer = post(address, &three()).await.expect("answered");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(r#""ok":false"#), "{answer}");
    assert_eq!(ids(&source), ["a", "c"]);
}

#[tokio::test]
async fn a_body_above_the_limit_is_413_and_one_at_it_is_taken() {
    let (source, address) = start([]).await;
    for (limit, status) in [(BATCH.len() - 1, "413"), (BATCH.len(), "200")] {
        source.set_standing(Standing { body_max_bytes: Some(limit), ..Standing::default() });
        let answer = post(address, BATCH).await.expect("answered");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
    assert_eq!(source.received().refused()["a"].code, 413, "it was alone in its request");
}

#[tokio::test]
async fn a_source_that_takes_nothing_follows_the_script_first() {
    let (source, address) = start([Step::Status { code: 500, retry_after: None }]).await;
    let standing = r#"{"always":{"status":400}}"#;
    let put = send(address, "PUT /standing", "content-type: application/json\r\n", standing.as_bytes()).await;
    assert!(put.expect("answered").starts_with("HTTP/1.1 204"));
    for status in ["500", "400", "400"] {
        let answer = post(address, BATCH).await.expect("answered");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
    }
    assert!(source.received().messages().is_empty());
}

#[tokio::test]
async fn a_gzip_body_is_read_with_its_key_and_its_moment() {
    let (source, address) = start([]).await;
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(three().as_bytes()).expect("memory");
    let body = encoder.finish().expect("memory");
    let answer = send(address, "POST /v1/batch", "content-encoding: gzip\r\n", &body).await.expect("answered");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let message = source.received().messages()[0].clone();
    assert_eq!((message.write_key.as_deref(), message.sent_at.as_deref()), (Some("k"), Some("t")));
    let answer = send(address, "POST /v1/batch", "content-encoding: gzip\r\n", &body[..20]).await.expect("answered");
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}
