//! The scene of most tests: a trail, its owners and writers, some strangers, and a collector.

use crate::fixture::{SOON, Setup, setup};
use crate::program::{Program, directory};
use audittrail_tests::cluster::{apply, eventually};
use audittrail_tests::control_plane::ControlPlane;
use audittrail_tests::postgres::Postgres;
use audittrail_tests::proxy::Proxy;
use k8s_openapi::api::core::v1::ConfigMap;
use reqwest::header::HeaderMap;
use reqwest::{Certificate, Client, RequestBuilder};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// How long a change of the document may take to be in force.
pub const IN_FORCE_WITHIN: Duration = Duration::from_secs(2);

/// How long a decision may be remembered, and a little more.
pub const FORGOTTEN_WITHIN: Duration = Duration::from_secs(12);

/// What everybody asks for.
pub const EVENTS: &str = "/v1/events";

/// Accounts that are there: two owners, one that may write, one that nobody knows.
const ACCOUNTS: [&str; 4] = ["reader", "leaver", "app", "stranger"];

/// A trail `acme` and its collector.
pub struct Scene {
    pub control_plane: &'static ControlPlane,
    pub setup: Setup,
    pub program: Program,
    /// Between the collector and the API server.
    pub network: Proxy,
    client: Client,
}

/// What was answered.
pub struct Answer {
    pub status: u16,
    /// Of a problem document.
    pub detail: String,
    pub headers: HeaderMap,
}

impl Answer {
    pub async fn of(request: RequestBuilder) -> Self {
        let answer = request.send().await.expect("answered");
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let body: Value =
            answer.text().await.map_or(Value::Null, |text| serde_json::from_str(&text).unwrap_or_default());
        Self { status, headers, detail: body["detail"].as_str().unwrap_or_default().to_owned() }
    }

    /// Requires a refusal whose words contain these.
    #[track_caller]
    pub fn refuses(&self, status: u16, words: &str) {
        assert_eq!(self.status, status, "{}", self.detail);
        assert!(self.detail.contains(words), "{}", self.detail);
    }
}

/// None where the control plane's programs are missing.
pub async fn scene(namespace: &str) -> Option<Scene> {
    let setup = setup(namespace).await?;
    let control_plane = ControlPlane::shared()?;
    for account in ACCOUNTS {
        make_account(&setup, account).await;
    }
    let uri = Postgres::shared().create_database().await;
    setup.secret("database", json!({ "uri": uri })).await;
    setup.trail("acme", spec()).await;
    setup.document("acme", "is there", |_| true).await;
    let network = Proxy::start(control_plane.port()).await;
    // As in its pod: with the account that the operator made for it, and what that may.
    let token = control_plane.token(namespace, "acme-collector", None);
    let kubeconfig = control_plane.bearer(namespace, &token, network.port);
    let arguments = ["serve", "--document-secret", "acme-collector", "--namespace", namespace];
    let variables = [("KUBECONFIG", kubeconfig.to_str().expect("text"))];
    let program = Program::start(directory(), &arguments, &variables);
    let client = client(&setup, &program).await;
    let scene = Scene { control_plane, setup, program, network, client };
    scene.lets_the_reader_in().await;
    Some(scene)
}

pub async fn make_account(setup: &Setup, name: &str) {
    let metadata = json!({"name": name, "namespace": setup.namespace});
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata});
    apply(&setup.client, &account.to_string()).await;
}

fn spec() -> Value {
    json!({
        "storage": {"external": {"uriSecretRef": {"name": "database", "key": "uri"}}},
        "access": {"owners": [
            {"kind": "User", "name": "oidc:jane@acme.example"},
            {"kind": "Group", "name": "oidc:auditors"},
            {"kind": "User", "name": "bo"},
            {"kind": "Group", "name": "security"},
            {"kind": "ServiceAccount", "name": "reader"},
            {"kind": "ServiceAccount", "name": "leaver"},
        ]},
        "ingest": {"serviceAccounts": [{"name": "app"}]},
    })
}

/// Trusts the trail's authority and nobody else, as clients do.
async fn client(setup: &Setup, program: &Program) -> Client {
    let authority = setup.appears::<ConfigMap>("acme-ca").await.data.expect("data")["ca.crt"].clone();
    let authority = Certificate::from_pem(authority.as_bytes()).expect("a certificate");
    let builder = Client::builder().no_proxy().https_only(true).tls_certs_only([authority]);
    builder.resolve("localhost", program.address).build().expect("a client")
}

impl Scene {
    /// The audience of tokens for the trail.
    pub fn audience(&self) -> String {
        format!("acme-collector.{}.svc", self.setup.namespace)
    }

    /// An account's token for the trail.
    pub fn token(&self, account: &str) -> String {
        self.control_plane.token(&self.setup.namespace, account, Some(&self.audience()))
    }

    /// A request without a credential.
    pub fn request(&self, method: reqwest::Method, path: &str) -> RequestBuilder {
        let url = format!("https://localhost:{}{path}", self.program.address.port());
        self.client.request(method, url)
    }

    pub async fn get(&self, path: &str, token: &str) -> Answer {
        Answer::of(self.request(reqwest::Method::GET, path).bearer_auth(token)).await
    }

    /// Asks for events.
    pub async fn read(&self, token: &str) -> Answer {
        self.get(EVENTS, token).await
    }

    /// Adds an event.
    pub async fn write(&self, token: &str) -> Answer {
        Answer::of(self.event().bearer_auth(token)).await
    }

    /// Asks for a replay of what a forwarding has parked.
    pub async fn replay(&self, token: &str) -> Answer {
        let path = "/v1/forwardings/to-segment/replay";
        Answer::of(self.request(reqwest::Method::POST, path).bearer_auth(token)).await
    }

    /// An event to be added by whose credential is missing here.
    pub fn event(&self) -> RequestBuilder {
        let event = json!({"type": "Warehouse Disabled", "actor": {"type": "system", "id": "test"}});
        self.request(reqwest::Method::POST, EVENTS).json(&event)
    }

    /// Waits until `token` is answered with this status, for as long as `within`.
    pub async fn becomes(&self, status: u16, token: &str, within: Duration) -> Answer {
        let begun = Instant::now();
        loop {
            let answer = self.read(token).await;
            if answer.status == status {
                return answer;
            }
            assert!(begun.elapsed() < within, "still answered {}: {}", answer.status, answer.detail);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The operator's bindings have come to the API server, and the collector answers.
    async fn lets_the_reader_in(&self) {
        let token = self.token("reader");
        eventually("the collector lets an owner in", SOON, || async {
            let answer = self.request(reqwest::Method::GET, EVENTS).bearer_auth(&token).send().await;
            match answer {
                Ok(answer) if answer.status() == 200 => Ok(()),
                other => Err(format!("{other:?}; {}", self.program.stderr())),
            }
        })
        .await;
    }
}
