//! A cluster with the operator installed, as tests at level node use it. They run inside the node
//! (`tests/cluster/in-node.sh`), so that Services are reached by name and containers by process id.

use audittrail_crds::{AuditForwarding, AuditTrail};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt};
use serde_json::Value;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// How long a trail may take to be Ready: Postgres initialises, images are there already.
pub const READY_WITHIN: Duration = Duration::from_mins(3);

/// Pause between two looks at something that is waited for.
const POLL: Duration = Duration::from_millis(100);

/// Where a collector's pod listens.
const COLLECTOR_PORT: u16 = 8443;

/// Field manager of what tests apply.
const FIELD_MANAGER: &str = "audittrail-tests";

/// The cluster of `KUBECONFIG`.
///
/// # Panics
/// When it cannot be reached.
pub async fn client() -> Client {
    // Another crate of the process may have done it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::try_default().await.expect("KUBECONFIG names a cluster; tests/cluster/in-node.sh sets it")
}

/// Waits until `look` finds something.
///
/// # Panics
/// When it has not after `within`; the message says what was waited for and what `look` saw last.
#[track_caller]
pub fn eventually<T, F>(what: &str, within: Duration, mut look: impl FnMut() -> F) -> impl Future<Output = T>
where
    F: Future<Output = Result<T, String>>,
{
    let caller = std::panic::Location::caller();
    async move {
        let deadline = tokio::time::Instant::now() + within;
        loop {
            match look().await {
                Ok(found) => return found,
                Err(seen) if tokio::time::Instant::now() > deadline => {
                    panic!("{caller}: not within {within:?}: {what}; last seen: {seen}")
                }
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }
}

/// Applies every object of a YAML text.
///
/// # Panics
/// When the API server refuses one.
pub async fn apply(client: &Client, yaml: &str) {
    for object in objects(yaml) {
        try_apply(client, &object).await.unwrap_or_else(|error| panic!("{error}: {object:#?}"));
    }
}

/// Applies one object, or returns the API server's refusal.
///
/// # Errors
/// The API server's.
pub async fn try_apply(client: &Client, object: &DynamicObject) -> kube::Result<DynamicObject> {
    let types = object.types.as_ref().expect("apiVersion and kind");
    let gvk = GroupVersionKind::try_from(types).expect("apiVersion is group/version");
    let resource = ApiResource::from_gvk(&gvk);
    let api: Api<DynamicObject> = match object.namespace() {
        Some(namespace) => Api::namespaced_with(client.clone(), &namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    api.patch(&object.name_any(), &PatchParams::apply(FIELD_MANAGER).force(), &Patch::Apply(object)).await
}

/// The examples of the README (a trail with two replicas, its forwarding, a source), all in one
/// namespace, with the trail named like it.
///
/// # Panics
/// When the examples are not there.
pub fn workspace(namespace: &str) -> String {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let read = |name: &str| fs::read_to_string(examples.join(name)).expect("an example of ours");
    let trail = read("quickstart.yaml").replace(": acme", &format!(": {namespace}")).replace("Acme", namespace);
    // The namespace of its own which the source has in the README.
    let source = read("source.yaml");
    let (_, source) = source.split_once("---\n").expect("the Namespace, then the rest");
    let in_namespace = format!("namespace: {namespace}");
    let all = format!("{trail}---\n{source}").replace("namespace: audit-source", &in_namespace);
    all.replace("audit-source.audit-source.svc", &format!("audit-source.{namespace}.svc"))
}

/// What the source of [`workspace`] has received, one object an event in order of first arrival.
///
/// # Errors
/// When it does not answer.
pub async fn received(namespace: &str) -> Result<Vec<Value>, String> {
    let url = format!("http://audit-source.{namespace}.svc/received");
    let text = async { reqwest::get(url).await?.error_for_status()?.text().await };
    let text = text.await.map_err(|error: reqwest::Error| error.to_string())?;
    text.lines().map(|line| serde_json::from_str(line).map_err(|error| error.to_string())).collect()
}

/// The objects of a YAML text.
///
/// # Panics
/// When it is not YAML.
pub fn objects(yaml: &str) -> Vec<DynamicObject> {
    serde_saphyr::from_multiple(yaml).expect("valid YAML")
}

/// Deletes a namespace and waits until it is gone, so that the next run starts anew.
///
/// # Panics
/// When it is still there after three minutes.
pub async fn delete_namespace(client: &Client, name: &str) {
    let api: Api<Namespace> = Api::all(client.clone());
    let _ = api.delete(name, &DeleteParams::default()).await;
    eventually(&format!("namespace {name} is gone"), Duration::from_mins(3), || async {
        match api.get_opt(name).await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

/// The condition of this type, of a trail or a forwarding.
pub trait Conditions:
    Clone
    + std::fmt::Debug
    + serde::de::DeserializeOwned
    + kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
{
    /// Its conditions.
    fn conditions(&self) -> &[Condition];

    /// The condition `Ready`.
    fn ready(&self) -> Option<&Condition> {
        self.conditions().iter().find(|condition| condition.type_ == "Ready")
    }
}

impl Conditions for AuditTrail {
    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }
}

impl Conditions for AuditForwarding {
    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }
}

/// Waits until `Ready` has this status and reason, for the generation that stands now.
///
/// # Panics
/// When it has not within `within`.
pub async fn wait_ready<K: Conditions>(
    client: &Client,
    namespace: &str,
    name: &str,
    (status, reason): (&str, &str),
    within: Duration,
) -> K {
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    eventually(&format!("{} {namespace}/{name} is {status} ({reason})", K::kind(&())), within, || async {
        let object = api.get(name).await.map_err(|error| error.to_string())?;
        let reached = object.ready().is_some_and(|ready| {
            ready.status == status && ready.reason == reason && ready.observed_generation == object.meta().generation
        });
        if reached { Ok(object) } else { Err(format!("{:?}", object.ready())) }
    })
    .await
}

/// A client of a trail's collector, through its Service, trusting its CA only.
///
/// # Panics
/// When the trail has no CA yet.
pub async fn collector(client: &Client, namespace: &str, trail: &str) -> Collector {
    let (builder, host) = trusting(client, namespace, trail).await;
    Collector {
        http: builder.build().expect("the client can be built"),
        base: format!("https://{host}"),
        audience: host,
    }
}

/// A client of one replica of a trail's collector: that at this address of a pod.
///
/// # Panics
/// When the trail has no CA yet.
pub async fn collector_at(client: &Client, namespace: &str, trail: &str, pod: IpAddr) -> Collector {
    let (builder, host) = trusting(client, namespace, trail).await;
    let http = builder.resolve(&host, SocketAddr::new(pod, COLLECTOR_PORT)).build().expect("the client can be built");
    Collector { http, base: format!("https://{host}:{COLLECTOR_PORT}"), audience: host }
}

/// What trusts the trail's CA only, and the name of its Service.
async fn trusting(client: &Client, namespace: &str, trail: &str) -> (reqwest::ClientBuilder, String) {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let map = maps.get(&format!("{trail}-ca")).await.expect("the CA's ConfigMap is there");
    let ca = map.data.and_then(|mut data| data.remove("ca.crt")).expect("it holds ca.crt");
    let ca = reqwest::Certificate::from_pem(ca.as_bytes()).expect("it is a certificate");
    let builder = reqwest::Client::builder().tls_certs_only([ca]).timeout(Duration::from_secs(20));
    (builder, format!("{trail}-collector.{namespace}.svc"))
}

/// A trail's collector.
#[derive(Clone, Debug)]
pub struct Collector {
    http: reqwest::Client,
    base: String,
    /// Name of its Service, which is the audience of its tokens.
    pub audience: String,
}

impl Collector {
    /// `GET` with a bearer token.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn get(&self, token: &str, path: &str) -> reqwest::Result<reqwest::Response> {
        self.http.get(format!("{}{path}", self.base)).bearer_auth(token).send().await
    }

    /// `POST` of JSON with a bearer token.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn post(&self, token: &str, path: &str, body: &Value) -> reqwest::Result<reqwest::Response> {
        self.http.post(format!("{}{path}", self.base)).bearer_auth(token).json(body).send().await
    }

    /// Every event of the trail, oldest first, page by page. That is recorded in the trail, and not among these events
    /// unless the first page has to be asked for again.
    ///
    /// # Panics
    /// When a page is refused.
    pub async fn everything(&self, token: &str) -> Vec<Value> {
        let mut events = Vec::new();
        let mut cursor = String::new();
        loop {
            let path = format!("/v1/events?order=asc&limit=1000{cursor}");
            let mut page = eventually("a page of events", Duration::from_secs(30), || async {
                let answer = self.get(token, &path).await.map_err(|error| error.to_string())?;
                let status = answer.status();
                let page: Value = answer.json().await.map_err(|error| error.to_string())?;
                if status.is_success() { Ok(page) } else { Err(format!("{status} {page}")) }
            })
            .await;
            events.append(page["events"].as_array_mut().expect("a list of events"));
            match page["nextCursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return events,
            }
        }
    }
}

/// The events that clients wrote: all but those by which the collector records who looked.
pub fn written_by_clients(events: &[Value]) -> Vec<Value> {
    events.iter().filter(|event| event["submittedBy"]["kind"] != "collector").cloned().collect()
}

/// A value of a Secret.
///
/// # Panics
/// When it is not there or not text.
pub async fn secret_value(client: &Client, namespace: &str, name: &str, key: &str) -> String {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = api.get(name).await.unwrap_or_else(|error| panic!("Secret {namespace}/{name}: {error}"));
    let value =
        secret.data.and_then(|mut data| data.remove(key)).unwrap_or_else(|| panic!("Secret {name} has no {key}"));
    String::from_utf8(value.0).expect("text")
}

/// A token of a service account.
///
/// # Panics
/// When the API server makes none.
pub async fn token(client: &Client, namespace: &str, account: &str, audience: &str) -> String {
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: vec![audience.to_owned()],
            expiration_seconds: Some(3_600),
            ..Default::default()
        },
        ..Default::default()
    };
    let answer = api.create_token_request(account, &PostParams::default(), &request).await.expect("a token is made");
    answer.status.expect("it has a status").token
}

/// Ends every process of one container of a pod with SIGKILL, as the kernel's out-of-memory killer would.
/// Returns how many there were.
///
/// # Panics
/// When processes cannot be listed.
pub fn kill9(pod: &Pod) -> usize {
    let uid = pod.uid().expect("a pod of the API server");
    let ours: Vec<String> = fs::read_dir("/proc")
        .expect("/proc is there")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .filter(|pid| is_of_pod(pid, &uid))
        .collect();
    if !ours.is_empty() {
        // One that ends meanwhile makes kill complain, and nothing is wrong.
        let _ = Command::new("kill").arg("-KILL").args(&ours).output();
    }
    ours.len()
}

/// Whether a process runs in a container of the pod, other than the one that holds its namespaces.
fn is_of_pod(pid: &str, uid: &str) -> bool {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    read("cgroup").contains(&format!("pod{uid}")) && !read("cmdline").starts_with("/pause")
}
