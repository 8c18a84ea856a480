//! Who may, decided by a real API server with real tokens; and the document, followed in its Secret
//! with the permissions that a collector has.

use audittrail_collector::access::{Access, Identity, Verb};
use audittrail_collector::document::{Follower, Source};
use audittrail_collector::event::SubmitterKind;
use audittrail_collector::problem::Problem;
use audittrail_crds::document::{
    Access as AccessBy, Catalogue, Database, Document, Ingest, SECRET_KEY, Sensitive, Trail, VERSION, WriteKey,
};
use audittrail_tests::control_plane::ControlPlane;
use axum::http::{HeaderMap, StatusCode, header};
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::json;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::timeout;

const AUDIENCE: &str = "acme-collector.team.svc";

/// How long a change of the document may take to be in force.
const IN_FORCE_WITHIN: Duration = Duration::from_secs(2);

/// How long a decision may be remembered, and a little more.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(12);

/// What the operator makes for a trail `acme`, in short; accounts, and what they may.
fn manifests(namespace: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Namespace
metadata: {{name: {namespace}}}
---
apiVersion: v1
kind: List
items:
- {{apiVersion: v1, kind: ServiceAccount, metadata: {{name: collector, namespace: {namespace}}}}}
- {{apiVersion: v1, kind: ServiceAccount, metadata: {{name: owner, namespace: {namespace}}}}}
- {{apiVersion: v1, kind: ServiceAccount, metadata: {{name: app, namespace: {namespace}}}}}
- {{apiVersion: v1, kind: ServiceAccount, metadata: {{name: stranger, namespace: {namespace}}}}}
- apiVersion: rbac.authorization.k8s.io/v1
  kind: ClusterRoleBinding
  metadata: {{name: {namespace}-reviews}}
  roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: audittrail-collector-reviews}}
  subjects: [{{kind: ServiceAccount, name: collector, namespace: {namespace}}}]
- apiVersion: rbac.authorization.k8s.io/v1
  kind: Role
  metadata: {{name: collector, namespace: {namespace}}}
  rules:
  - {{apiGroups: [""], resources: [secrets], resourceNames: [acme-collector], verbs: [get, list, watch]}}
- apiVersion: rbac.authorization.k8s.io/v1
  kind: RoleBinding
  metadata: {{name: collector, namespace: {namespace}}}
  roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: collector}}
  subjects: [{{kind: ServiceAccount, name: collector, namespace: {namespace}}}]
- apiVersion: rbac.authorization.k8s.io/v1
  kind: Role
  metadata: {{name: owner, namespace: {namespace}}}
  rules:
  - {{apiGroups: [audittrail.dev], resources: [audittrails/events], resourceNames: [acme], verbs: [get]}}
- apiVersion: rbac.authorization.k8s.io/v1
  kind: RoleBinding
  metadata: {{name: owner, namespace: {namespace}}}
  roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: owner}}
  subjects: [{{kind: ServiceAccount, name: owner, namespace: {namespace}}}]
- apiVersion: rbac.authorization.k8s.io/v1
  kind: Role
  metadata: {{name: writer, namespace: {namespace}}}
  rules:
  - {{apiGroups: [audittrail.dev], resources: [audittrails/events], resourceNames: [acme], verbs: [create]}}
  - {{apiGroups: [audittrail.dev], resources: [audittrails/health], resourceNames: [acme], verbs: [get]}}
- apiVersion: rbac.authorization.k8s.io/v1
  kind: RoleBinding
  metadata: {{name: writer, namespace: {namespace}}}
  roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: writer}}
  subjects: [{{kind: ServiceAccount, name: app, namespace: {namespace}}}]
"#
    )
}

/// A namespace with accounts, on the control plane.
struct Setup {
    control_plane: &'static ControlPlane,
    namespace: String,
}

/// None where the control plane's programs are missing.
fn setup(namespace: &str) -> Option<Setup> {
    let control_plane = ControlPlane::shared()?;
    control_plane.kubectl(&["apply", "--server-side", "-f", "-"], &manifests(namespace));
    Some(Setup { control_plane, namespace: namespace.to_owned() })
}

impl Setup {
    fn document(&self, generation: i64) -> Document {
        Document {
            version: VERSION,
            generation,
            trail: Trail {
                namespace: self.namespace.clone(),
                name: "acme".to_owned(),
                workspace: "Acme".to_owned(),
                claim: format!("{}/acme", self.namespace),
            },
            database: Database { uri: Sensitive::new("postgresql://localhost/acme"), ca: None },
            access: AccessBy::Kubernetes { audience: AUDIENCE.to_owned() },
            ingest: Ingest {
                write_keys: vec![WriteKey { name: "acme/writeKey".to_owned(), key: Sensitive::new("atk_key") }],
                ..Ingest::default()
            },
            catalogue: Catalogue::default(),
            retention_seconds: None,
            known_log: None,
            tls: None,
            forwardings: Vec::new(),
        }
    }

    /// A client with a collector's permissions.
    async fn collector(&self) -> Client {
        let mut config = self.control_plane.operator().await;
        config.auth_info.impersonate = Some(format!("system:serviceaccount:{}:collector", self.namespace));
        Client::try_from(config).expect("a client")
    }

    async fn access(&self, document: Document) -> Access {
        Access::new(watch::Sender::new(Arc::new(document)).subscribe(), Some(self.collector().await))
    }

    /// A token of an account; `audience` as kubectl takes it, none for the API server's own.
    fn token(&self, account: &str, audience: Option<&str>) -> String {
        let audience = audience.map(|audience| format!("--audience={audience}"));
        let mut arguments = vec!["create", "token", account, "--namespace", &self.namespace];
        arguments.extend(audience.as_deref());
        self.control_plane.kubectl(&arguments, "").trim().to_owned()
    }

    fn identity(&self, account: &str) -> Identity {
        Identity { kind: SubmitterKind::ServiceAccount, name: format!("{}/{account}", self.namespace) }
    }
}

async fn ask(access: &Access, token: &str, verb: Verb) -> Result<Identity, Problem> {
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().expect("a header"));
    access.authorize(&headers, verb).await
}

async fn status(access: &Access, token: &str, verb: Verb) -> StatusCode {
    ask(access, token, verb).await.map_or_else(|problem| problem.status(), |_| StatusCode::OK)
}

#[tokio::test]
async fn an_owner_reads_and_nothing_else() {
    let Some(setup) = setup("access-owner") else { return };
    let access = setup.access(setup.document(1)).await;
    let token = setup.token("owner", Some(AUDIENCE));
    assert_eq!(ask(&access, &token, Verb::Read).await, Ok(setup.identity("owner")));
    let refused = ask(&access, &token, Verb::Write).await.expect_err("refused");
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert!(
        refused.detail().starts_with(
            "service account \"access-owner/owner\" may not create audittrails/events of \"acme\" in namespace \"access-owner\": "
        ),
        "{}",
        refused.detail()
    );
    assert_eq!(status(&access, &token, Verb::Health).await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_writer_writes_and_a_poller_polls() {
    let Some(setup) = setup("access-writer") else { return };
    let access = setup.access(setup.document(1)).await;
    let token = setup.token("app", Some(AUDIENCE));
    assert_eq!(ask(&access, &token, Verb::Write).await, Ok(setup.identity("app")));
    assert_eq!(status(&access, &token, Verb::Health).await, StatusCode::OK);
    assert_eq!(status(&access, &token, Verb::Read).await, StatusCode::FORBIDDEN);
    assert_eq!(status(&access, "atk_key", Verb::Write).await, StatusCode::OK);
}

#[tokio::test]
async fn metrics_are_for_those_who_may_get_the_url() {
    let Some(setup) = setup("access-metrics") else { return };
    let cluster_role = r"
apiVersion: v1
kind: List
items:
- apiVersion: rbac.authorization.k8s.io/v1
  kind: ClusterRole
  metadata: {name: access-metrics}
  rules:
  - {nonResourceURLs: [/metrics], verbs: [get]}
- apiVersion: rbac.authorization.k8s.io/v1
  kind: ClusterRoleBinding
  metadata: {name: access-metrics}
  roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: access-metrics}
  subjects: [{kind: ServiceAccount, name: app, namespace: access-metrics}]
";
    setup.control_plane.kubectl(&["apply", "--server-side", "-f", "-"], cluster_role);
    let access = setup.access(setup.document(1)).await;
    assert_eq!(status(&access, &setup.token("app", Some(AUDIENCE)), Verb::Metrics).await, StatusCode::OK);
    let owner = ask(&access, &setup.token("owner", Some(AUDIENCE)), Verb::Metrics).await.expect_err("refused");
    assert_eq!(owner.status(), StatusCode::FORBIDDEN);
    assert!(owner.detail().contains("nonResourceURLs"), "{}", owner.detail());
}

#[tokio::test]
async fn a_stranger_and_an_owner_of_another_trail_see_nothing() {
    let Some(setup) = setup("access-stranger") else { return };
    let access = setup.access(setup.document(1)).await;
    let stranger = setup.token("stranger", Some(AUDIENCE));
    assert_eq!(status(&access, &stranger, Verb::Read).await, StatusCode::FORBIDDEN);
    let mut other = setup.document(1);
    other.trail.name = "other".to_owned();
    let owner = setup.token("owner", Some(AUDIENCE));
    assert_eq!(status(&setup.access(other).await, &owner, Verb::Read).await, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_service_account_must_carry_the_audience_of_the_trail() {
    let Some(setup) = setup("access-audience") else { return };
    let access = setup.access(setup.document(1)).await;
    let of_api_server = ask(&access, &setup.token("owner", None), Verb::Read).await.expect_err("refused");
    assert_eq!(of_api_server.status(), StatusCode::UNAUTHORIZED);
    assert!(of_api_server.detail().contains("access-audience/owner"), "{}", of_api_server.detail());
    assert!(of_api_server.detail().contains(AUDIENCE));
    let of_another = setup.token("owner", Some("other-collector.team.svc"));
    assert_eq!(status(&access, &of_another, Verb::Read).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(&access, "not-a-token", Verb::Read).await, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn who_is_taken_off_the_owners_is_out_within_ten_seconds() {
    let Some(setup) = setup("access-removed") else { return };
    let access = setup.access(setup.document(1)).await;
    let token = setup.token("owner", Some(AUDIENCE));
    assert_eq!(status(&access, &token, Verb::Read).await, StatusCode::OK);
    setup.control_plane.kubectl(&["delete", "rolebinding", "owner", "--namespace", "access-removed"], "");
    let removed = Instant::now();
    while status(&access, &token, Verb::Read).await == StatusCode::OK {
        assert!(removed.elapsed() < FORGOTTEN_WITHIN, "still an owner");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn without_permission_to_ask_nobody_is_let_in() {
    let Some(setup) = setup("access-unasked") else { return };
    setup.control_plane.kubectl(&["delete", "clusterrolebinding", "access-unasked-reviews"], "");
    let access = setup.access(setup.document(1)).await;
    let token = setup.token("owner", Some(AUDIENCE));
    let refused = ask(&access, &token, Verb::Read).await.expect_err("refused");
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn the_document_is_followed_in_its_secret() {
    let Some(setup) = setup("document-followed") else { return };
    let admin: Api<Secret> = Api::namespaced(setup.control_plane.admin().await, &setup.namespace);
    let put = async |text: String| {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "acme-collector"},
            "stringData": {SECRET_KEY: text},
        });
        let parameters = PatchParams::apply("test").force();
        admin.patch("acme-collector", &parameters, &Patch::Apply(&secret)).await.expect("applied");
    };
    let text = |generation| serde_json::to_string(&setup.document(generation)).expect("JSON");

    let (namespace, name) = (setup.namespace.clone(), "acme-collector".to_owned());
    let source = Source::Secret { client: setup.collector().await, namespace, name };
    let mut follower = Follower::new(source);
    // Not there yet, and then unreadable: waited for.
    assert!(timeout(Duration::from_millis(500), follower.first()).await.is_err());
    put("{".to_owned()).await;
    assert!(timeout(Duration::from_millis(500), follower.first()).await.is_err());
    put(text(1)).await;
    let first = timeout(IN_FORCE_WITHIN, follower.first()).await.expect("in time");
    assert_eq!(first.generation, 1);

    let documents = watch::Sender::new(Arc::new(first));
    let mut seen = documents.subscribe();
    let running = tokio::spawn(follower.run(documents));
    let in_force = async |seen: &mut watch::Receiver<Arc<Document>>| {
        timeout(IN_FORCE_WITHIN, seen.changed()).await.expect("in time").expect("followed");
        seen.borrow_and_update().generation
    };
    put(text(3)).await;
    assert_eq!(in_force(&mut seen).await, 3);
    put(text(2)).await;
    admin.delete("acme-collector", &DeleteParams::default()).await.expect("deleted");
    assert!(timeout(Duration::from_millis(500), seen.changed()).await.is_err());
    put(text(4)).await;
    assert_eq!(in_force(&mut seen).await, 4);
    running.abort();
}
