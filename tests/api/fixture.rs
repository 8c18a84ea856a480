//! What tests of the operator at level api share: the operator itself, with the chart's
//! permissions, on the control plane, and a namespace for each test.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use audittrail_crds::document::{Document, SECRET_KEY};
use audittrail_crds::{AuditForwarding, AuditTrail};
use audittrail_operator::settings::Settings;
use audittrail_tests::cluster::{Conditions, apply, eventually};
use audittrail_tests::control_plane::{ControlPlane, OPERATOR_ACCOUNT, OPERATOR_NAMESPACE};
use http::{Method, Request};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::client::{Body, ClientBuilder};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::{Mutex, Once};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long the operator may take to react. Two cores, and other tests beside it.
pub const SOON: Duration = Duration::from_secs(30);

/// A test's namespace, and an administrator in it.
pub struct Setup {
    pub client: Client,
    pub namespace: String,
}

/// Starts the operator once for the binary, and makes a namespace; `None` where the control
/// plane's programs are missing.
pub async fn setup(namespace: &str) -> Option<Setup> {
    setup_with(namespace, None).await
}

/// The same, with an operator that polls every collector at `collector`.
pub async fn setup_with(namespace: &str, collector: Option<SocketAddr>) -> Option<Setup> {
    static OPERATOR: Once = Once::new();
    let control_plane = ControlPlane::shared()?;
    OPERATOR.call_once(|| start_operator(control_plane, collector));
    let setup = Setup { client: control_plane.admin().await, namespace: namespace.to_owned() };
    let made = serde_json::from_value(json!({"metadata": {"name": namespace}})).expect("a namespace");
    Api::<Namespace>::all(setup.client.clone()).create(&PostParams::default(), &made).await.expect("a new namespace");
    Some(setup)
}

/// In a thread with a runtime of its own, since each test has one and takes it along.
fn start_operator(control_plane: &'static ControlPlane, collector_address: Option<SocketAddr>) {
    let settings = settings(collector_address);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let client = recording(control_plane.operator().await);
            let stop = CancellationToken::new();
            audittrail_operator::run(client, settings, stop, || {}).await.expect("the operator starts");
        });
    });
}

/// What the operator is told at its start.
pub fn settings(collector_address: Option<SocketAddr>) -> Settings {
    Settings {
        collector_image: "localhost/collector:test".to_owned(),
        postgres_image: "localhost/postgres:test".to_owned(),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        namespace: OPERATOR_NAMESPACE.to_owned(),
        service_account: OPERATOR_ACCOUNT.to_owned(),
        reviews_cluster_role: "audittrail-collector-reviews".to_owned(),
        collector_address,
        // The sources of these tests.
        allowed_source_networks: vec!["127.0.0.0/8".parse().expect("a network")],
        probe_address: SocketAddr::from(([127, 0, 0, 1], 0)),
    }
}

/// What the operator wrote so far, as `METHOD path`. Server-side apply that changes nothing shows
/// in no object, so requests are looked at.
static WRITES: Mutex<Vec<String>> = Mutex::new(Vec::new());

fn recording(config: kube::Config) -> Client {
    let record = |request: Request<Body>| {
        if request.method() != Method::GET {
            let line = format!("{} {}", request.method(), request.uri().path());
            WRITES.lock().expect("no test holds it").push(line);
        }
        request
    };
    let builder = ClientBuilder::try_from(config).expect("a client can be made");
    builder.with_layer(&tower::util::MapRequestLayer::new(record)).build()
}

impl Setup {
    /// What the operator wrote so far to children in this namespace.
    pub fn writes(&self) -> Vec<String> {
        let ours = format!("/namespaces/{}/", self.namespace);
        let child = |line: &&String| line.contains(&ours) && !line.ends_with("/status") && !line.contains("/events");
        WRITES.lock().expect("no test holds it").iter().filter(child).cloned().collect()
    }

    pub fn api<K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Applies a trail with managed storage and this `spec` besides.
    pub async fn trail(&self, name: &str, spec: Value) {
        let mut whole = json!({"workspace": name, "storage": {"managed": {"size": "1Gi"}}});
        whole.as_object_mut().expect("an object").extend(spec.as_object().expect("an object").clone());
        self.apply("AuditTrail", name, whole).await;
    }

    /// Applies a forwarding of `trail` to a source whose key is in the Secret `secret`.
    pub async fn forwarding(&self, name: &str, trail: &str, secret: &str) {
        let source = json!({"httpApi": {"endpoint": "https://source.example/", "writeKeySecretRef": {"name": secret}}});
        self.apply("AuditForwarding", name, json!({"trailRef": {"name": trail}, "source": source})).await;
    }

    async fn apply(&self, kind: &str, name: &str, spec: Value) {
        let object = json!({
            "apiVersion": "audittrail.dev/v1alpha1",
            "kind": kind,
            "metadata": {"name": name, "namespace": self.namespace},
            "spec": spec,
        });
        apply(&self.client, &object.to_string()).await;
    }

    /// Applies a Secret.
    pub async fn secret(&self, name: &str, data: Value) {
        let metadata = json!({"name": name, "namespace": self.namespace});
        let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data});
        apply(&self.client, &object.to_string()).await;
    }

    /// Merges `change` into an object.
    pub async fn patch<K>(&self, name: &str, change: Value)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        self.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(change)).await.expect("it can be changed");
    }

    /// Says what no controller says here: that a child's pods run.
    pub async fn patch_status<K>(&self, name: &str, status: Value)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let patch = Patch::Merge(json!({"status": status}));
        self.api::<K>().patch_status(name, &PatchParams::default(), &patch).await.expect("a status can be changed");
    }

    /// Waits until `name` is there.
    pub async fn appears<K>(&self, name: &str) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        eventually(&format!("{} {name} is there", K::kind(&())), SOON, || async {
            self.api::<K>().get(name).await.map_err(|error| error.to_string())
        })
        .await
    }

    /// Waits until `name` is as `test` wants it.
    pub async fn becomes<K>(&self, name: &str, what: &str, test: impl Fn(&K) -> bool) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        eventually(&format!("{} {name}: {what}", K::kind(&())), SOON, || async {
            let object = self.api::<K>().get(name).await.map_err(|error| error.to_string())?;
            if test(&object) { Ok(object) } else { Err(format!("{object:?}")) }
        })
        .await
    }

    /// Waits until `name` is gone.
    pub async fn goes<K>(&self, name: &str)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        eventually(&format!("{} {name} is gone", K::kind(&())), SOON, || async {
            match self.api::<K>().get_opt(name).await {
                Ok(None) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    /// Deletes `name` without waiting.
    pub async fn delete<K>(&self, name: &str)
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        self.api::<K>().delete(name, &DeleteParams::default()).await.expect("it can be deleted");
    }

    /// Waits until the trail's `Ready` has this reason, for the generation that stands now.
    pub async fn trail_says(&self, name: &str, reason: &str) -> AuditTrail {
        self.says(name, reason).await
    }

    /// Waits until the forwarding's `Ready` has this reason, for the generation that stands now.
    pub async fn forwarding_says(&self, name: &str, reason: &str) -> AuditForwarding {
        self.says(name, reason).await
    }

    async fn says<K: Conditions>(&self, name: &str, reason: &str) -> K {
        let api = Api::<K>::namespaced(self.client.clone(), &self.namespace);
        eventually(&format!("{} {name} says {reason}", K::kind(&())), SOON, || async {
            let object = api.get(name).await.map_err(|error| error.to_string())?;
            let said = object
                .ready()
                .is_some_and(|ready| ready.reason == reason && ready.observed_generation == object.meta().generation);
            if said { Ok(object) } else { Err(format!("{:?}", object.ready())) }
        })
        .await
    }

    /// Waits until the trail's document is as `test` wants it.
    pub async fn document(&self, trail: &str, what: &str, test: impl Fn(&Document) -> bool) -> Document {
        let name = format!("{trail}-collector");
        let secret = self.becomes::<Secret>(&name, what, |secret| test(&parse(secret))).await;
        parse(&secret)
    }
}

/// The document in a Secret.
pub fn parse(secret: &Secret) -> Document {
    let data = secret.data.as_ref().and_then(|data| data.get(SECRET_KEY)).expect("the Secret has the document");
    serde_json::from_slice(&data.0).expect("the document can be read")
}

/// A condition of a trail or forwarding, by type.
pub fn condition<K: Conditions>(object: &K, type_: &str) -> Condition {
    let found = object.conditions().iter().find(|condition| condition.type_ == type_);
    found.unwrap_or_else(|| panic!("no condition {type_}")).clone()
}
