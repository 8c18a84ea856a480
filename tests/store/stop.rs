//! Stopping in order. Alone in its program, since it sends the signal to itself.

use audittrail_tests::postgres::Postgres;
use audittrail_tests::served::{DEADLINE, Served, document};
use audittrail_tests::sse::Stream;
use reqwest::Body;
use reqwest::header::CONTENT_TYPE;
use std::process::Command;
use tokio::sync::mpsc;

/// One test: a second collector in this process would get the signal too.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_flight_is_finished_after_sigterm() {
    let uri = Postgres::shared().create_database().await;
    let mut served = Served::start(&document(&uri)).await;
    // An answer without an end.
    let mut tail = Stream::open(&served, "/v1/events/stream", None).await;
    // A request whose body is still on its way.
    let (half, halves) = mpsc::unbounded_channel::<Result<&'static str, std::io::Error>>();
    half.send(Ok(r#"{"id":"last","actor":{"type":"system","id":"test"},"type":"#)).expect("open");
    let stream = futures::stream::unfold(halves, |mut halves| async { Some((halves.recv().await?, halves)) });
    let request = served.post("/v1/events").header(CONTENT_TYPE, "application/json").body(Body::wrap_stream(stream));
    let request = tokio::spawn(request.send());
    served
        .until("the request is in flight", || async {
            served.page("/v1/status").await["replicas"][0]["name"] == "acme-0"
        })
        .await;

    let me = std::process::id().to_string();
    Command::new("sh").args(["-c", "kill -TERM $0", &me]).status().expect("sh is there");
    served.until("nobody is let in", || async { tokio::net::TcpStream::connect(served.address).await.is_err() }).await;
    // Long before the time for requests in flight is over: one of them is still there.
    while let Some(block) = tail.block().await {
        assert_eq!(block.data, None);
    }
    assert!(!request.is_finished());
    half.send(Ok(r#""Stopped"}"#)).expect("open");
    drop(half);
    let answer = request.await.expect("no panic").expect("answered");
    assert_eq!(answer.status(), 200);
    let ended = tokio::time::timeout(DEADLINE, &mut served.running).await.expect("in time").expect("no panic");
    assert!(ended.is_ok());

    let again = Served::start(&document(&uri)).await;
    assert_eq!(again.page("/v1/events").await["events"][0]["id"], "last");
}
