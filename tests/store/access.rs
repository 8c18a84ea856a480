//! Who may, without Kubernetes: keys and owners from the file, followed while the collector runs; and what a credential may
//! look like on the wire.

use audittrail_collector::access::credential::CREDENTIAL_MAX_BYTES;
use audittrail_collector::listener::{HEAD_MAX_BYTES, HEADERS_MAX};
use audittrail_crds::document::{Access, Document, OwnerToken, Sensitive, WriteKey};
use audittrail_tests::postgres::Postgres;
use audittrail_tests::served::{OWNER, Served, WRITE_KEY, document};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a change of the file may take to be in force, and a little more.
const IN_FORCE_WITHIN: Duration = Duration::from_millis(2500);

async fn served() -> (Served, Document) {
    let document = document(&Postgres::shared().create_database().await);
    (Served::start(&document).await, document)
}

async fn status(request: RequestBuilder) -> StatusCode {
    request.send().await.expect("answered").status()
}

fn read(served: &Served, token: &str) -> RequestBuilder {
    served.client.get(format!("http://{}/v1/events", served.address)).bearer_auth(token)
}

fn write(served: &Served, key: &str) -> RequestBuilder {
    let event = json!({"type": "Warehouse Disabled", "actor": {"type": "system", "id": "test"}});
    served.client.post(format!("http://{}/v1/events", served.address)).bearer_auth(key).json(&event)
}

/// Waits until `request` is answered so, and requires that this took no longer than a change may.
async fn comes_into_force(request: impl Fn() -> RequestBuilder, wanted: StatusCode) {
    let begun = Instant::now();
    while status(request()).await != wanted {
        assert!(begun.elapsed() < IN_FORCE_WITHIN, "it is not {wanted} yet");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_come_and_go_with_the_file() {
    let (served, document) = served().await;
    assert_eq!(status(read(&served, "joe-token")).await, StatusCode::UNAUTHORIZED);
    let owner = |name: &str, token: &str| OwnerToken { name: name.to_owned(), token: Sensitive::new(token) };
    let both = Access::Tokens(vec![owner("jane", OWNER), owner("joe", "joe-token")]);
    served.apply(&Document { generation: 2, access: both, ..document.clone() });
    comes_into_force(|| read(&served, "joe-token"), StatusCode::OK).await;
    assert_eq!(status(read(&served, OWNER)).await, StatusCode::OK);

    let only_joe = Access::Tokens(vec![owner("joe", "joe-token")]);
    served.apply(&Document { generation: 3, access: only_joe, ..document });
    comes_into_force(|| read(&served, OWNER), StatusCode::UNAUTHORIZED).await;
    assert_eq!(status(read(&served, "joe-token")).await, StatusCode::OK);
    assert_eq!(status(write(&served, "joe-token")).await, StatusCode::FORBIDDEN);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_write_keys_are_good_at_once_and_a_removed_one_is_out() {
    let (served, mut document) = served().await;
    let key = |name: &str, key: &str| WriteKey { name: name.to_owned(), key: Sensitive::new(key) };
    document.ingest.write_keys = vec![key("new", "atk_new"), key("old", WRITE_KEY)];
    document.generation = 2;
    served.apply(&document);
    comes_into_force(|| write(&served, "atk_new"), StatusCode::OK).await;
    assert_eq!(status(write(&served, WRITE_KEY)).await, StatusCode::OK);
    let basic = |key: &str| write(&served, "").basic_auth(key, Some(""));
    // The later header is a second one, and two are none.
    assert_eq!(status(basic(WRITE_KEY)).await, StatusCode::UNAUTHORIZED);

    document.ingest.write_keys.pop();
    document.generation = 3;
    served.apply(&document);
    comes_into_force(|| write(&served, WRITE_KEY), StatusCode::UNAUTHORIZED).await;
    assert_eq!(status(write(&served, "atk_new")).await, StatusCode::OK);
    // Each event says which key wrote it.
    let names = ["old", "new"].map(|name| format!("/v1/events?submittedBy={name}&limit=1"));
    for path in names {
        assert_eq!(served.page(&path).await["events"].as_array().map(Vec::len), Some(1), "{path}");
    }
}

/// The longest credential gets its own answer, and not that of a head that is too long: in both versions of HTTP.
#[tokio::test(flavor = "multi_thread")]
async fn the_longest_credential_is_looked_at_in_both_versions_of_http() {
    let (served, _) = served().await;
    let longest = "x".repeat(CREDENTIAL_MAX_BYTES - "Bearer ".len());
    let second = Client::builder().no_proxy().http2_prior_knowledge().build().expect("a client");
    for client in [&served.client, &second] {
        let ask = async |token: &str| {
            let request = client.get(format!("http://{}/v1/events", served.address)).bearer_auth(token);
            let answer = request.send().await.expect("answered");
            (answer.status(), answer.text().await.expect("a body"))
        };
        let (status, body) = ask(&longest).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        assert!(body.contains("not one that this collector's document lists"), "{body}");
        let (status, body) = ask(&format!("{longest}x")).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        assert!(body.contains("cannot be read"), "{body}");
    }
    let request = second.get(format!("http://{}/livez", served.address)).header("x-long", "x".repeat(HEAD_MAX_BYTES));
    assert_eq!(status(request).await, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_is_taken_up_to_its_length_and_its_number_of_headers() {
    let (served, _) = served().await;
    let of_length = |bytes: usize| {
        let empty = head(&["x-long: "]);
        head(&[&format!("x-long: {}", "x".repeat(bytes - empty.len()))])
    };
    assert_eq!(answer(&served, &of_length(HEAD_MAX_BYTES - 1)).await, "HTTP/1.1 200 OK");
    let too_large = "HTTP/1.1 431 Request Header Fields Too Large";
    // What arrives in one piece may be a little longer; twice the length never is.
    assert_eq!(answer(&served, &of_length(2 * HEAD_MAX_BYTES)).await, too_large);

    // Two stand in every head.
    let headers = |count: usize| head(&vec!["x-one: 1"; count - 2]);
    assert_eq!(answer(&served, &headers(HEADERS_MAX)).await, "HTTP/1.1 200 OK");
    assert_eq!(answer(&served, &headers(HEADERS_MAX + 1)).await, too_large);
}

fn head(headers: &[&str]) -> String {
    let headers = headers.join("\r\n") + "\r\n";
    format!("GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n")
}

/// The first line of what is answered.
async fn answer(served: &Served, head: &str) -> String {
    let mut stream = TcpStream::connect(served.address).await.expect("it listens");
    // A server that has read enough may close before everything is sent.
    let _ = stream.write_all(head.as_bytes()).await;
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes).await;
    let text = String::from_utf8_lossy(&bytes);
    text.lines().next().unwrap_or_default().to_owned()
}
