//! A collector on a real Postgres, driven over HTTP: the whole of `collector serve` within the test's
//! process, with its document in a file.

use audittrail_collector::serve;
use audittrail_collector::settings::{DocumentPlace, Serve};
use audittrail_crds::document::{
    Access, Catalogue, Database, Document, Ingest, OwnerToken, Sensitive, Tls, Trail, VERSION, WriteKey,
};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// How long anything that is waited for may take.
pub const DEADLINE: Duration = Duration::from_secs(30);

const POLL: Duration = Duration::from_millis(20);

/// The token of an owner.
pub const OWNER: &str = "owner-token";
/// The write key.
pub const WRITE_KEY: &str = "atk_key";

/// A running collector.
pub struct Served {
    /// Where it listens.
    pub address: SocketAddr,
    /// A client that any request may use.
    pub client: Client,
    /// The collector itself.
    pub running: JoinHandle<Result<(), serve::ServeError>>,
    document: PathBuf,
}

/// A document for this database, generation 1, without TLS and without Kubernetes.
pub fn document(uri: &str) -> Document {
    Document {
        version: VERSION,
        generation: 1,
        trail: Trail {
            namespace: "team-a".to_owned(),
            name: "acme".to_owned(),
            workspace: "Acme".to_owned(),
            claim: "team-a/acme".to_owned(),
        },
        database: Database { uri: Sensitive::new(uri), ca: None },
        access: Access::Tokens(vec![OwnerToken { name: "jane".to_owned(), token: Sensitive::new(OWNER) }]),
        ingest: Ingest {
            write_keys: vec![WriteKey { name: "acme/writeKey".to_owned(), key: Sensitive::new(WRITE_KEY) }],
            ..Ingest::default()
        },
        catalogue: Catalogue::default(),
        retention_seconds: None,
        known_log: None,
        tls: None,
        allowed_source_networks: vec!["127.0.0.0/8".to_owned()],
        forwardings: Vec::new(),
    }
}

impl Served {
    /// Starts a collector and waits until it takes events.
    pub async fn start(document: &Document) -> Self {
        let served = Self::start_without_waiting(document).await;
        served.until("the log is open", || async { served.state().await == "verified" }).await;
        served
    }

    /// Starts a collector and waits until it listens.
    pub async fn start_without_waiting(document: &Document) -> Self {
        let _already = rustls::crypto::ring::default_provider().install_default();
        let path = document_path();
        write(&path, document);
        let address = free_address();
        let settings = Serve {
            document: DocumentPlace { config: Some(path.clone()), document_secret: None },
            namespace: None,
            listen: address,
            replica: Some("acme-0".to_owned()),
        };
        let running = tokio::spawn(serve::run(settings));
        let served = Self { address, client: Client::new(), running, document: path };
        served.until("it listens", || async { tokio::net::TcpStream::connect(address).await.is_ok() }).await;
        served
    }

    /// Puts another document in place.
    pub fn apply(&self, document: &Document) {
        write(&self.document, document);
    }

    /// A request as an owner.
    pub fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("http://{}{path}", self.address)).bearer_auth(OWNER)
    }

    /// A request with the write key.
    pub fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(format!("http://{}{path}", self.address)).bearer_auth(WRITE_KEY)
    }

    /// Adds events, and requires that they are stored. Those without an actor are of the system.
    pub async fn add(&self, mut events: Vec<Value>) {
        for event in events.iter_mut().filter(|event| event.get("actor").is_none()) {
            event["actor"] = json!({"type": "system", "id": "test"});
        }
        let answer = self.post("/v1/events").json(&json!({ "events": events })).send().await.expect("answered");
        assert_eq!(answer.status(), 200, "{}", answer.text().await.expect("a body"));
    }

    /// The page at this path, which must be answered 200.
    pub async fn page(&self, path: &str) -> Value {
        let answer = self.get(path).send().await.expect("answered");
        assert_eq!(answer.status(), 200, "{path}");
        body(answer).await
    }

    /// State of the database in the report.
    pub async fn state(&self) -> String {
        let report = self.page("/v1/status").await;
        report["database"]["state"].as_str().expect("a state").to_owned()
    }

    /// Waits until `condition` holds.
    pub async fn until<F: Future<Output = bool>>(&self, what: &str, condition: impl Fn() -> F) {
        let deadline = Instant::now() + DEADLINE;
        while !condition().await {
            assert!(Instant::now() < deadline, "waited in vain until {what}");
            assert!(!self.running.is_finished(), "the collector ended before {what}");
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.running.abort();
        let _gone = std::fs::remove_file(&self.document);
    }
}

/// The JSON of an answer.
pub async fn body(answer: Response) -> Value {
    answer.json().await.expect("JSON")
}

/// A self-signed certificate for localhost, and its key.
pub fn certificate() -> Tls {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    Tls { certificate: signed.cert.pem(), key: Sensitive::new(signed.signing_key.serialize_pem()) }
}

fn document_path() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    std::env::temp_dir().join(format!("audittrail-served-{}-{number}.json", std::process::id()))
}

fn write(path: &PathBuf, document: &Document) {
    let beside = path.with_extension("next");
    std::fs::write(&beside, serde_json::to_vec(document).expect("JSON")).expect("written");
    // At once: nobody reads half a document.
    std::fs::rename(&beside, path).expect("in place");
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}
