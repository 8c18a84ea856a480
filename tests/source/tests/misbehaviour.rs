//! Each step of a script as a client sees it, on the bytes of the connection.

use audittrail_source::script::Step;
use audittrail_source::{Settings, Source};
use std::io;
use std::time::Duration;
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

/// Sends one request and reads until the source closes the connection.
async fn post(address: std::net::SocketAddr, body: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let length = body.len();
    let head =
        format!("POST /v1/batch HTTP/1.1\r\nhost: source\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
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
