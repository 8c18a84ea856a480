//! A namespace with a trail, a workspace that sources are made in, and an operator that can be killed.

use crate::fixture::{SOON, Setup, parse, settings};
use audittrail_crds::AuditForwarding;
use audittrail_crds::document::{Document, Forwarding};
use audittrail_operator::forwarding::source::tie;
use audittrail_source::public_api::Workspace;
use audittrail_source::{Settings, Source};
use audittrail_tests::cluster::{apply, eventually};
use audittrail_tests::control_plane::ControlPlane;
use axum::Router;
use axum::body::Bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use axum_server::tls_rustls::RustlsConfig;
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::{Api, ListParams, PostParams, WatchEvent, WatchParams};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// The workspace's token.
pub const TOKEN: &str = "sgp_the-token";

/// The Secret of the forwarding `to-source`.
pub const KEY_SECRET: &str = "to-source-source";

/// The Secret with the trail's document.
pub const DOCUMENT_SECRET: &str = "acme-collector";

/// What other programs put on a forwarding.
pub const OTHER_FINALIZER: &str = "example.com/other";
pub const OTHER_ANNOTATION: &str = "example.com/other";

/// The operator of this binary. Ends abruptly when killed: nothing that is under way is finished.
static OPERATOR: Mutex<Option<(oneshot::Sender<()>, thread::JoinHandle<()>)>> = Mutex::new(None);

/// Starts the operator, unless it is running.
pub fn start_operator() {
    let mut operator = OPERATOR.lock().unwrap_or_else(PoisonError::into_inner);
    operator.get_or_insert_with(|| {
        let control_plane = ControlPlane::shared().expect("it is running");
        let (kill, killed) = oneshot::channel();
        let run = async move {
            let client = kube::Client::try_from(control_plane.operator().await).expect("a client can be made");
            let running = audittrail_operator::run(client, settings(None), CancellationToken::new(), || {});
            tokio::select! {
                ended = running => ended.expect("the operator starts"),
                _ = killed => {}
            }
        };
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(run);
            runtime.shutdown_background();
        });
        (kill, thread)
    });
}

/// Kills the operator; returns when it is gone.
pub fn kill_operator() {
    let taken = OPERATOR.lock().unwrap_or_else(PoisonError::into_inner).take();
    let (kill, thread) = taken.expect("it is running");
    kill.send(()).expect("it is running");
    thread.join().expect("it ended without a panic");
}

pub struct Scene {
    pub setup: Setup,
    pub source: Source,
    pub endpoint: String,
}

impl Scene {
    /// A namespace with the trail `acme` and the Secret `token`; `None` where the control plane's programs are missing.
    pub async fn new(namespace: &str) -> Option<Self> {
        let (source, endpoint) = serve().await;
        Self::beside(namespace, source, endpoint).await
    }

    /// The same with a workspace that is there.
    pub async fn beside(namespace: &str, source: Source, endpoint: String) -> Option<Self> {
        let client = ControlPlane::shared()?.admin().await;
        start_operator();
        let made = serde_json::from_value(json!({"metadata": {"name": namespace}})).expect("a namespace");
        Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &made).await.expect("a new namespace");
        let setup = Setup { client, namespace: namespace.to_owned() };
        setup.secret("token", json!({"token": TOKEN})).await;
        setup.trail("acme", json!({})).await;
        setup.trail_says("acme", "StorageNotReady").await;
        Some(Self { setup, source, endpoint })
    }

    pub fn workspace(&self) -> &Workspace {
        self.source.workspace()
    }

    /// Applies the forwarding `to-source`, which asks for a source.
    pub async fn ask(&self, policy: &str) {
        self.apply(self.asking(policy)).await;
    }

    /// Applies the forwarding `to-source` with the key of the Secret `named`.
    pub async fn select(&self) {
        let named = json!({"name": "named"});
        self.apply(json!({"endpoint": self.endpoint, "insecure": true, "writeKeySecretRef": named})).await;
    }

    /// The same with Segment's own endpoint of a region, and this Public API.
    pub async fn ask_in(&self, region: &str, api_endpoint: &str) {
        let create =
            json!({"tokenSecretRef": {"name": "token"}, "apiEndpoint": api_endpoint, "deletionPolicy": "Delete"});
        self.apply(json!({"region": region, "insecure": true, "create": create})).await;
    }

    pub async fn apply(&self, http_api: Value) {
        apply(&self.setup.client, &self.forwarding(&http_api).to_string()).await;
    }

    /// Creates the forwarding `to-source` from a backup, which has these finalizers and an annotation of another program.
    pub async fn restore(&self, finalizers: &[&str]) {
        let mut object = self.forwarding(&self.asking("Delete"));
        object["metadata"]["finalizers"] = json!(finalizers);
        object["metadata"]["annotations"] = json!({OTHER_ANNOTATION: "anything"});
        let object = serde_json::from_value(object).expect("a forwarding");
        self.setup.api::<AuditForwarding>().create(&PostParams::default(), &object).await.expect("it is admitted");
    }

    fn asking(&self, policy: &str) -> Value {
        let create =
            json!({"tokenSecretRef": {"name": "token"}, "apiEndpoint": self.endpoint, "deletionPolicy": policy});
        json!({"endpoint": self.endpoint, "insecure": true, "create": create})
    }

    fn forwarding(&self, http_api: &Value) -> Value {
        json!({
            "apiVersion": "audittrail.dev/v1alpha1",
            "kind": "AuditForwarding",
            "metadata": {"name": "to-source", "namespace": self.setup.namespace},
            "spec": {"trailRef": {"name": "acme"}, "source": {"httpApi": http_api}},
        })
    }

    /// Any change of the spec, after which the operator looks at the source again.
    pub async fn touch(&self, enabled: bool) {
        self.setup.patch::<AuditForwarding>("to-source", json!({"spec": {"enabled": enabled}})).await;
    }

    /// Waits until the trail's document has the forwarding with a key that `test` wants.
    pub async fn delivers(&self, what: &str, test: impl Fn(&Forwarding) -> bool) {
        let has = |entries: &[Forwarding]| entries.iter().any(|entry| entry.name == "to-source" && test(entry));
        self.setup.document("acme", what, |document| has(&document.forwardings)).await;
    }

    /// Every document of the trail since the one of the version `since`, up to the first that `last` wants.
    pub async fn documents(&self, since: &str, last: impl Fn(&Document) -> bool) -> Vec<Document> {
        let only = WatchParams::default().fields(&format!("metadata.name={DOCUMENT_SECRET}"));
        let mut events = pin!(self.setup.api::<Secret>().watch(&only, since).await.expect("it can be watched"));
        let mut documents = Vec::new();
        let collected = async {
            while let Some(event) = events.try_next().await.expect("the watch goes on") {
                if let WatchEvent::Added(secret) | WatchEvent::Modified(secret) = event {
                    documents.push(parse(&secret));
                }
                if documents.last().is_some_and(&last) {
                    return;
                }
            }
        };
        timeout(SOON, collected).await.expect("the document comes");
        documents
    }

    /// Waits until the forwarding has its source and its Secret, and the document the key.
    pub async fn is_made(&self) -> AuditForwarding {
        let secret = self.setup.becomes::<Secret>(KEY_SECRET, "has the key", |secret| key(secret).is_some()).await;
        let key = key(&secret).expect("the key");
        self.delivers("has the key of the source", |entry| entry.write_key.reveal() == key).await;
        let has_id = |one: &AuditForwarding| one.status.as_ref().is_some_and(|status| status.created_source.is_some());
        self.setup.becomes("to-source", "names its source", has_id).await
    }

    /// Waits until the forwarding has the finalizer, or until it has it no more.
    pub async fn is_tied(&self, tied: bool) -> AuditForwarding {
        let what = if tied { "has the finalizer" } else { "has no finalizer" };
        self.setup.becomes("to-source", what, |one: &AuditForwarding| tie::is_tied(one) == tied).await
    }

    /// Waits until the forwarding is gone.
    pub async fn is_gone(&self, within: Duration) {
        eventually("the forwarding is gone", within, || async {
            match self.setup.api::<AuditForwarding>().get_opt("to-source").await {
                Ok(None) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    /// Waits until the workspace is as `test` wants it.
    pub async fn workspace_becomes(&self, what: &str, test: impl Fn(&Workspace) -> bool) {
        eventually(what, SOON, || async {
            let workspace = self.workspace();
            if test(workspace) { Ok(()) } else { Err(format!("{workspace:?}")) }
        })
        .await;
    }

    /// Waits for the Event with this reason, and returns its type and note.
    pub async fn event(&self, reason: &str) -> (String, String) {
        eventually(&format!("an Event {reason}"), SOON, || async {
            let events =
                self.setup.api::<Event>().list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let found = events.items.iter().find(|event| event.reason.as_deref() == Some(reason));
            let told =
                found.map(|event| (event.type_.clone().unwrap_or_default(), event.note.clone().unwrap_or_default()));
            told.ok_or_else(|| format!("{:?}", events.items))
        })
        .await
    }
}

/// The write key in a Secret.
pub fn key(secret: &Secret) -> Option<String> {
    let bytes = secret.data.as_ref()?.get("writeKey")?;
    String::from_utf8(bytes.0.clone()).ok()
}

/// The slug of a forwarding's source.
pub fn slug(forwarding: &AuditForwarding) -> String {
    format!("audittrail-{}", forwarding.uid().expect("a uid"))
}

/// A workspace, and its base URL.
pub async fn serve() -> (Source, String) {
    let token = Some(TOKEN.to_owned());
    let source = Source::open(Settings { workspace_token: token, ..Settings::default() }).expect("no file");
    let endpoint = listen(&source).await;
    (source, endpoint)
}

/// Another base URL of a workspace.
pub async fn listen(source: &Source) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let endpoint = format!("http://{}", listener.local_addr().expect("bound"));
    let served = source.clone();
    tokio::spawn(async move { served.serve(listener, std::future::pending()).await });
    endpoint
}

/// `endpoint` behind TLS: its base URL, and the certificate.
pub async fn https(endpoint: String) -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate can be made");
    let (der, key) = (made.cert.der().to_vec(), made.signing_key.serialize_der());
    let tls = RustlsConfig::from_der(vec![der], key).await.expect("they belong together");
    let handle = axum_server::Handle::new();
    let relay = move |request: Request| relay(endpoint.clone(), request);
    let serving = axum_server::bind_rustls(([127, 0, 0, 1], 0).into(), tls).handle(handle.clone());
    tokio::spawn(serving.serve(Router::new().fallback(relay).into_make_service()));
    let address: SocketAddr = handle.listening().await.expect("a port is free");
    (format!("https://localhost:{}", address.port()), made.cert.pem())
}

async fn relay(endpoint: String, request: Request) -> (StatusCode, Bytes) {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("it is whole");
    let url = format!("{endpoint}{}", parts.uri.path_and_query().expect("a path"));
    let mut headers = parts.headers;
    headers.remove(axum::http::header::HOST);
    let sent = reqwest::Client::new().request(parts.method, url).headers(headers).body(body).send().await;
    let answer = sent.expect("the workspace answers");
    (answer.status(), answer.bytes().await.expect("the answer is whole"))
}
