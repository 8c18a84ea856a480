//! Attempts against real servers on 127.0.0.1.

use super::addresses::Addresses;
use super::connections::Connections;
use super::target::tls;
use super::*;
use audittrail_crds::document::{Compression, Delivery};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, State as AppState};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum_server::tls_rustls::RustlsConfig;
use flate2::read::GzDecoder;
use futures::stream;
use rcgen::CertifiedKey;
use reqwest::dns::{Name, Resolve, Resolving};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::Value;
use std::collections::{HashSet, VecDeque};
use std::future::{Ready, ready};
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

const DAY_SECONDS: u64 = 24 * 60 * 60;

/// Endpoints on this machine: each way to write 127.0.0.1, and a name.
const LOOPBACK_HOSTS: [&str; 7] =
    ["127.0.0.1", "127.1", "0x7f.1", "2130706433", "0177.0.0.1", "[::ffff:127.0.0.1]", "localhost"];

fn loopback() -> Vec<IpNet> {
    vec!["127.0.0.0/8".parse().expect("a network")]
}

fn entry(endpoint: &str) -> Forwarding {
    Forwarding::new("f", endpoint, Sensitive::new("secret"))
}

fn sender(endpoint: &str) -> Sender {
    Sender::new(&entry(endpoint), &loopback())
}

async fn refusal(sender: &Sender) -> Fault {
    sender.probe(NOW).await.expect_err("a fault")
}

/// A request, as it came in.
struct Seen {
    /// Address of the other end, which stands for the connection.
    peer: SocketAddr,
    headers: HeaderMap,
    body: Bytes,
}

/// A source that answers what it is told to, then 200, and remembers what it was asked.
#[derive(Clone, Default)]
struct Source {
    answers: Arc<Mutex<VecDeque<Response>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Source {
    /// Starts a source; returns it and its port.
    async fn start(answers: impl IntoIterator<Item = Response>) -> (Self, u16) {
        let source = Self { answers: Arc::new(Mutex::new(answers.into_iter().collect())), ..Self::default() };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port is free");
        let port = listener.local_addr().expect("bound").port();
        let routes = Router::new().fallback(post(Self::answer)).with_state(source.clone());
        let service = routes.into_make_service_with_connect_info::<SocketAddr>();
        tokio::spawn(async move { axum::serve(listener, service).await });
        (source, port)
    }

    fn answer(
        AppState(source): AppState<Self>,
        ConnectInfo(peer): ConnectInfo<SocketAddr>,
        headers: HeaderMap,
        body: Bytes,
    ) -> Ready<Response> {
        source.seen.lock().expect("no panic").push(Seen { peer, headers, body });
        let answer = source.answers.lock().expect("no panic").pop_front();
        ready(answer.unwrap_or_else(|| StatusCode::OK.into_response()))
    }

    fn requests(&self) -> usize {
        self.seen.lock().expect("no panic").len()
    }

    fn connections(&self) -> usize {
        self.seen.lock().expect("no panic").iter().map(|seen| seen.peer).collect::<HashSet<_>>().len()
    }

    /// Values of a header, request by request.
    fn header(&self, name: &str) -> Vec<Option<String>> {
        let text = |seen: &Seen| Some(seen.headers.get(name)?.to_str().expect("text").to_owned());
        self.seen.lock().expect("no panic").iter().map(text).collect()
    }
}

fn status(code: u16) -> Response {
    StatusCode::from_u16(code).expect("a status code").into_response()
}

/// Counts how often a name is looked up.
struct Counting(Addresses, Arc<AtomicUsize>);

impl Resolve for Counting {
    fn resolve(&self, name: Name) -> Resolving {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.resolve(name)
    }
}

/// Connections that count how often the source's name was looked up.
fn counting() -> (Connections, Arc<AtomicUsize>) {
    let looked_up = Arc::new(AtomicUsize::new(0));
    let resolver = Counting(Addresses::new(&loopback()), Arc::clone(&looked_up));
    (Connections::new(tls(None).expect("the public authorities"), Arc::new(resolver)), looked_up)
}

#[tokio::test]
async fn an_endpoint_that_is_no_base_url_is_a_fault_of_the_endpoint() {
    for endpoint in ["nowhere", "ftp://host", "", "https://user:password@host", "https://host?query"] {
        let fault = refusal(&sender(endpoint)).await;
        assert_eq!((fault.state(), fault.code), (State::EndpointRefused, None), "{endpoint}");
    }
}

#[tokio::test]
async fn a_ca_without_certificates_is_a_fault_of_the_endpoint() {
    let entry = Forwarding { ca: Some("nothing".to_owned()), ..entry("https://host") };
    let fault = refusal(&Sender::new(&entry, &[])).await;
    assert_eq!(fault.error, "the CA is not a list of PEM certificates");
}

#[tokio::test]
async fn a_refused_connection_is_retried_and_says_why() {
    for endpoint in ["http://127.0.0.1:1", "https://127.0.0.1:1"] {
        let fault = refusal(&sender(endpoint)).await;
        assert_eq!((fault.state(), fault.code), (State::Retrying, None));
        assert!(fault.error.contains("Connection refused") && !fault.error.contains("/v1/"), "{}", fault.error);
    }
}

#[tokio::test]
async fn a_loopback_source_is_not_connected_to_however_it_is_written_unless_allowed() {
    let (source, port) = Source::start([]).await;
    for host in LOOPBACK_HOSTS {
        let entry = entry(&format!("http://{host}:{port}"));
        let fault = refusal(&Sender::new(&entry, &[])).await;
        assert_eq!((fault.state(), fault.code), (State::EndpointRefused, None), "{host}");
        assert!(fault.error.contains("(loopback), where nothing is sent to"), "{host}: {}", fault.error);
        assert_eq!(source.requests(), 0, "{host}");
    }
    for (count, host) in (1..).zip(LOOPBACK_HOSTS) {
        assert_eq!(sender(&format!("http://{host}:{port}")).probe(NOW).await, Ok(()), "{host}");
        assert_eq!(source.requests(), count, "{host}");
    }
}

#[tokio::test]
async fn a_refused_address_is_named_with_its_host_and_its_rule_and_what_to_do() {
    let error = async |host: &str| refusal(&sender(&format!("https://{host}"))).await.error;
    assert_eq!(
        error("169.254.169.254").await,
        "169.254.169.254 leads to 169.254.169.254 (cloud metadata), where nothing is sent to: name another endpoint, \
         or have the network allowed (value forwarding.allowedNetworks of the chart, allowedSourceNetworks of a document)"
    );
    assert!(error("[64:ff9b::a9fe:a9fe]").await.contains("(cloud metadata)"));
    let entry = entry("https://localhost");
    let fault = refusal(&Sender::new(&entry, &["10.0.0.0/8".parse().expect("a network")])).await;
    assert!(fault.error.starts_with("localhost leads to "), "{}", fault.error);
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_retried() {
    let fault = refusal(&sender("https://nothing.invalid")).await;
    assert_eq!((fault.state(), fault.code), (State::Retrying, None));
    assert!(fault.error.contains("dns error"), "{}", fault.error);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    for code in [301, 302, 303, 307, 308] {
        let (other, other_port) = Source::start([]).await;
        let elsewhere = [("location", format!("http://127.0.0.1:{other_port}/v1/batch"))];
        let code = StatusCode::from_u16(code).expect("a status code");
        let (source, port) = Source::start([(code, elsewhere).into_response()]).await;
        let fault = refusal(&sender(&format!("http://127.0.0.1:{port}"))).await;
        assert_eq!((fault.state(), fault.code), (State::EndpointRefused, Some(code.as_u16())));
        assert_eq!((source.requests(), other.requests()), (1, 0));
    }
}

#[tokio::test]
async fn many_good_requests_use_one_connection() {
    let (source, port) = Source::start([status(200), status(429), status(400), status(401)]).await;
    let mut sender = sender(&format!("http://localhost:{port}"));
    let (connections, looked_up) = counting();
    sender.target.as_mut().expect("a target").connections = connections;
    for _ in 0..20 {
        let _refused_by_some = sender.batch(&[], NOW).await;
    }
    assert_eq!((source.requests(), source.connections()), (20, 1));
    assert_eq!(looked_up.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn after_a_503_the_name_is_looked_up_again_and_the_next_request_uses_a_new_connection() {
    let (source, port) = Source::start([status(200), status(503), status(200), status(200)]).await;
    let mut sender = sender(&format!("http://localhost:{port}"));
    let (connections, looked_up) = counting();
    sender.target.as_mut().expect("a target").connections = connections;
    let mut after = Vec::new();
    for _ in 0..4 {
        let delivered = sender.batch(&[], NOW).await.is_ok();
        after.push((delivered, source.connections(), looked_up.load(Ordering::Relaxed)));
    }
    assert_eq!(after, [(true, 1, 1), (false, 1, 1), (true, 2, 2), (true, 2, 2)]);
}

#[tokio::test]
async fn connections_are_replaced_after_a_day() {
    let (source, port) = Source::start([]).await;
    let (connections, looked_up) = counting();
    let start = Instant::now();
    let mut after = Vec::new();
    for age in [0, DAY_SECONDS - 1, DAY_SECONDS, 2 * DAY_SECONDS - 1] {
        let client = connections.client(start + Duration::from_secs(age)).expect("a client");
        let answer = client.post(format!("http://localhost:{port}/")).send().await.expect("an answer");
        // Read to its end, the connection can be used again.
        answer.bytes().await.expect("its body");
        after.push((source.connections(), looked_up.load(Ordering::Relaxed)));
    }
    assert_eq!(after, [(1, 1), (1, 1), (2, 2), (2, 2)]);
}

/// The environment belongs to the process, so the test above runs in one with another.
#[tokio::test]
async fn a_proxy_of_the_environment_is_not_used() {
    let this = std::env::current_exe().expect("a program");
    let mut again = tokio::process::Command::new(this);
    again.args(["--exact", "forward::send::tests::many_good_requests_use_one_connection"]);
    for name in ["http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"] {
        again.env(name, "http://127.0.0.1:1");
    }
    let outcome = again.env_remove("no_proxy").env_remove("NO_PROXY").output().await.expect("it runs");
    let told = String::from_utf8_lossy(&outcome.stdout);
    assert!(outcome.status.success() && told.contains("1 passed"), "{told}");
}

#[tokio::test]
async fn retries_are_counted_until_the_batch_is_done() {
    let codes = [503, 429, 200, 200, 500, 400, 200, 502];
    let (source, port) = Source::start(codes.map(status)).await;
    let sender = sender(&format!("http://127.0.0.1:{port}"));
    for _ in codes {
        let _refused_by_some = sender.batch(&[], NOW).await;
    }
    sender.probe(NOW).await.expect("accepted");
    let counts = source.header("x-retry-count");
    let counts: Vec<Option<&str>> = counts.iter().map(Option::as_deref).collect();
    assert_eq!(counts, [None, Some("1"), Some("2"), None, None, Some("1"), None, None, None]);
}

#[tokio::test]
async fn a_body_is_compressed_where_the_forwarding_says_so() {
    let (source, port) = Source::start([]).await;
    let plain = entry(&format!("http://127.0.0.1:{port}"));
    let gzip =
        Forwarding { delivery: Delivery { compression: Compression::Gzip, ..Delivery::default() }, ..plain.clone() };
    for entry in [plain, gzip] {
        Sender::new(&entry, &loopback()).batch(&[], NOW).await.expect("accepted");
    }
    assert_eq!(source.header("content-encoding"), [None, Some("gzip".to_owned())]);
    assert_eq!(source.header("content-type"), vec![Some("application/json".to_owned()); 2]);
    let seen = source.seen.lock().expect("no panic");
    let mut body = Vec::new();
    GzDecoder::new(&seen[1].body[..]).read_to_end(&mut body).expect("gzip");
    for body in [&seen[0].body[..], &body] {
        let body: Value = serde_json::from_slice(body).expect("JSON");
        assert_eq!(body["writeKey"], "secret");
    }
}

#[tokio::test]
async fn a_fault_has_the_code_and_the_words_of_the_source_without_the_key() {
    for (code, body, state, error) in [
        (401, r#"{"message":"secret is no key"}"#, State::KeyRefused, "the source answered 401: [redacted] is no key"),
        (400, "Basic c2VjcmV0Og==\nis bad", State::EventRefused, "the source answered 400: Basic [redacted] is bad"),
        (500, "", State::Retrying, "the source answered 500"),
        (200, r#"{"ok":false,"errors":["x"]}"#, State::EventRefused, "the source answered 200: x"),
    ] {
        let answer = (StatusCode::from_u16(code).expect("a status code"), body).into_response();
        let (_source, port) = Source::start([answer]).await;
        let sender = sender(&format!("http://127.0.0.1:{port}"));
        let fault = sender.batch(&[], NOW).await.expect_err("a fault");
        assert_eq!((fault.state(), fault.code, fault.error.as_str()), (state, Some(code), error));
    }
}

#[tokio::test]
async fn an_answer_is_read_up_to_a_mebibyte() {
    let answer =
        |code: u16, bytes: usize| (StatusCode::from_u16(code).expect("known"), "x".repeat(bytes)).into_response();
    let mebibyte = 1024 * 1024;
    let answers = [answer(200, mebibyte), answer(200, mebibyte + 1), answer(400, mebibyte + 1)];
    let (_source, port) = Source::start(answers).await;
    let sender = sender(&format!("http://127.0.0.1:{port}"));
    assert_eq!(sender.batch(&[], NOW).await, Ok(()));
    let fault = sender.batch(&[], NOW).await.expect_err("too large");
    assert_eq!((fault.state(), fault.code), (State::Retrying, None));
    assert!(fault.error.ends_with("its answer is larger than 1048576 bytes"), "{}", fault.error);
    let fault = sender.batch(&[], NOW).await.expect_err("refused");
    assert_eq!((fault.state(), fault.code), (State::EventRefused, Some(400)));
}

/// Bytes without end, so slowly that no pause between two of them is a time-out.
fn drip() -> Response {
    let drops = stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(b"x")));
    let slowly = futures::StreamExt::then(drops, async |drop| {
        sleep(Duration::from_millis(20)).await;
        drop
    });
    Body::from_stream(slowly).into_response()
}

#[tokio::test]
async fn an_answer_that_drips_is_not_waited_for() {
    let (_source, port) = Source::start([drip(), drip()]).await;
    let mut sender = sender(&format!("http://127.0.0.1:{port}"));
    let target = sender.target.as_mut().expect("a target");
    assert_eq!(target.connections.request_timeout, Duration::from_secs(10));
    target.connections.request_timeout = Duration::from_millis(400);
    let started = Instant::now();
    let fault = sender.batch(&[], NOW).await.expect_err("too slow");
    assert!(started.elapsed() >= Duration::from_millis(400));
    assert_eq!((fault.state(), fault.code), (State::Retrying, None));
    assert!(fault.error.contains("it took longer than 10 s"), "{}", fault.error);
}

/// A source at https://localhost with a certificate of its own; returns its port and the certificate.
async fn https_source() -> (u16, String) {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate can be made");
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("PKCS #8");
    let mut server = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("known versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("they belong together");
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    let handle = axum_server::Handle::new();
    let listening = axum_server::bind_rustls(([127, 0, 0, 1], 0).into(), RustlsConfig::from_config(Arc::new(server)))
        .handle(handle.clone());
    let routes = Router::new().route("/v1/batch", post(async || "ok"));
    tokio::spawn(listening.serve(routes.into_make_service()));
    let address: SocketAddr = handle.listening().await.expect("a port is free");
    (address.port(), cert.pem())
}

#[tokio::test]
async fn the_ca_of_the_entry_is_trusted_and_without_it_the_public_ones_are() {
    let (port, certificate) = https_source().await;
    let entry = entry(&format!("https://localhost:{port}"));
    let trusting = Forwarding { ca: Some(certificate), ..entry.clone() };
    assert_eq!(Sender::new(&trusting, &loopback()).probe(NOW).await, Ok(()));
    let fault = refusal(&Sender::new(&entry, &loopback())).await;
    assert_eq!(fault.state(), State::Retrying);
    assert!(fault.error.contains("certificate"), "{}", fault.error);
}
