//! `AuditTrail`: a workspace's audit trail.

use crate::catalogue::{self, ALIASES_MAX, OWN_TYPES_MAX};
use crate::document::{ApiServerTokens, CatalogueMode, KubernetesObjects};
use crate::{KeyReference, LocalReference};
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::api::rbac::v1::Subject;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Longest name of an `AuditTrail`, in characters. Names of children add up to 23 characters, and
/// a label value or the name of a pod's host ends at 63.
pub const NAME_MAX_CHARS: usize = 40;

/// An audit trail for one workspace: a collector which accepts events, a Postgres database
/// which keeps them, and the people who may read them.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "audittrail.dev",
    version = "v1alpha1",
    kind = "AuditTrail",
    plural = "audittrails",
    shortname = "at",
    category = "audit",
    namespaced,
    status = "AuditTrailStatus",
    derive = "PartialEq",
    doc = "An audit trail for one workspace: a collector which accepts events, a Postgres database which keeps them, and the people who may read them.",
    validation = Rule::new("self.metadata.name.size() <= 40").message("metadata.name must be at most 40 characters: the names of the trail's Services are made from it"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message("metadata.name must be a DNS label that starts with a letter (no dots): the names of the trail's Services are made from it"),
    printcolumn(name = "Workspace", type_ = "string", json_path = ".spec.workspace", description = "The workspace whose trail this is."),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", description = "True: verified just now; the collector answers and a row was written and read back."),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", description = "Why, from a closed list."),
    printcolumn(name = "Events", type_ = "integer", json_path = ".status.events", description = "Events ever stored."),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", description = "What is wrong and what to do.", priority = "1"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct AuditTrailSpec {
    /// Name of the workspace, as people read it. Immutable, and unique in its namespace.
    #[schemars(length(min = 1, max = 100))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("workspace is immutable: make a new AuditTrail for another workspace"))]
    pub workspace: String,

    /// Where events are kept: exactly one of `managed` and `external`. The choice is immutable.
    #[x_kube(
        validation = Rule::new("has(self.managed) != has(self.external)").message("set exactly one of storage.managed and storage.external"),
        validation = Rule::new("has(self.managed) == has(oldSelf.managed)").message("storage cannot change between managed and external: the events would stay behind")
    )]
    pub storage: Storage,

    /// For how long events are kept after they were received: days (`90d`) or hours (`36h`); for
    /// ever when absent. Older ones are deleted within a day; an AuditForwarding that is enabled and
    /// behind holds them back for up to seven days more (condition `RetentionHeld`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[1-9][0-9]{0,4}[dh]$"))]
    pub retention: Option<String>,

    /// What happens to stored events when this resource is deleted. `Retain` keeps the managed
    /// database's volume and its password, and an AuditTrail of the same name goes on with
    /// them; `Delete` removes both. An external database is never touched.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// The collector's pods.
    #[serde(default)]
    pub collector: CollectorSpec,

    /// Who may read the trail.
    #[serde(default)]
    pub access: Access,

    /// Who may write to the trail, and what is taken.
    #[serde(default)]
    pub ingest: Ingest,

    /// Which types of events there are, beside the built-in ones.
    #[serde(default)]
    pub catalogue: CatalogueSpec,
}

/// Where events are kept: exactly one member is set.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
pub struct Storage {
    /// A Postgres of this trail's own, run by the operator as a StatefulSet with one volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed: Option<ManagedStorage>,
    /// A Postgres (14 or newer) that somebody else runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalStorage>,
}

/// A Postgres StatefulSet of the trail's own.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ManagedStorage {
    /// Size of the volume, as a Kubernetes quantity. Kubernetes cannot change the volume of a
    /// StatefulSet in place, so this is immutable: enlarge the PersistentVolumeClaim itself.
    #[serde(default = "default_size")]
    #[schemars(regex(pattern = r"^[1-9][0-9]*(Mi|Gi|Ti)$"))]
    #[x_kube(validation = Rule::new("self == oldSelf").message("storage.managed.size is immutable: enlarge the PersistentVolumeClaim instead"))]
    pub size: String,
    /// StorageClass of the volume; the cluster's default when absent. Taken when the volume is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,
    /// CPU and memory of the Postgres container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Postgres image; the operator's default when absent. It must hold `initdb` and `postgres`
    /// (on the PATH or under /usr/lib/postgresql) and a user with id 999.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 500))]
    pub image: Option<String>,
}

impl Default for ManagedStorage {
    fn default() -> Self {
        Self { size: default_size(), storage_class_name: None, resources: None, image: None }
    }
}

fn default_size() -> String {
    "10Gi".to_owned()
}

/// A Postgres that somebody else runs.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExternalStorage {
    /// The Secret key with a connection URI (`postgresql://user:password@host/database`);
    /// `uri` when no key is named, as in the `<name>-app` Secret of a CloudNativePG Cluster. The database must be the
    /// trail's own.
    pub uri_secret_ref: KeyReference,
}

/// What happens to stored events when the resource is deleted.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum DeletionPolicy {
    /// The volume and its password stay.
    #[default]
    Retain,
    /// The volume and its password are deleted.
    Delete,
}

/// The collector's pods.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CollectorSpec {
    /// Number of collector pods. All of them accept, answer and can forward. 0 is refused: use
    /// an AuditForwarding's `enabled` to stop forwarding.
    #[serde(default = "default_replicas")]
    #[schemars(range(min = 1, max = 20))]
    pub replicas: i32,
    /// CPU and memory of the collector container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Where the collector sends traces of its requests; none are made when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracing: Option<Tracing>,
}

impl Default for CollectorSpec {
    fn default() -> Self {
        Self { replicas: default_replicas(), resources: None, tracing: None }
    }
}

/// Where the collector sends traces of its requests. They carry no content of events.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct Tracing {
    /// Base URL of an OpenTelemetry endpoint that takes OTLP over HTTP, without `/v1/traces`: for
    /// example `http://otel-collector.observability.svc:4318`.
    #[schemars(length(max = 2000), regex(pattern = r"^https?://[^/?#@\s]+(/[^?#\s]*)?$"))]
    pub endpoint: String,
}

fn default_replicas() -> i32 {
    1
}

/// Who may read the trail.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    /// The workspace's owners: Kubernetes users, groups and service accounts who may read the
    /// events of this trail, and have parked ones sent again. Equal to binding them to the Role
    /// `<name>-owner`, which does as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(validation = Rule::new("self.all(owner, owner.kind == 'User' || owner.kind == 'Group' || owner.kind == 'ServiceAccount')").message("access.owners: kind must be User, Group or ServiceAccount"))]
    pub owners: Vec<Subject>,
    /// Tokens that were made for the API server itself, as the OIDC tokens are that people use kubectl with: `Accept` takes
    /// them from owners; `Refuse` takes only tokens that were made for this trail (`kubectl create token <name>-owner
    /// --audience=<name>-collector.<namespace>.svc`, which every owner may), so that nobody sends a collector what opens
    /// the API server. A service account's token must be made for this trail in any case.
    #[serde(default)]
    pub api_server_tokens: ApiServerTokens,
}

/// Who may write to the trail, and what is taken.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ingest {
    /// The Secret with the write key, under `writeKey`; a second key under `writeKeyPrevious` is
    /// accepted too, for rotation. When absent, the operator makes `<name>-write-key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_key_secret_ref: Option<LocalReference>,
    /// Service accounts that may write with a token of their own instead of the write key. A
    /// token's audience must be this trail's: `<name>-collector.<namespace>.svc`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub service_accounts: Vec<ServiceAccountReference>,
    /// Events of Kubernetes audit logs.
    #[serde(default)]
    pub kubernetes: KubernetesIngest,
}

/// Events of Kubernetes audit logs.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct KubernetesIngest {
    /// Request and response objects: `Omit` leaves them out, `Keep` stores them in `details`. Those of
    /// Secrets and of tokens are left out in any case.
    #[serde(default)]
    pub objects: KubernetesObjects,
}

/// Which types of events there are, beside the built-in ones.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CatalogueSpec {
    /// What happens to events of a type that neither the built-in catalogue nor `eventTypes` has:
    /// `Open` takes them, `Strict` refuses them.
    #[serde(default)]
    pub mode: CatalogueMode,
    /// The workspace's own types. Names and aliases are unique, without regard to case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = OWN_TYPES_MAX))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub event_types: Vec<EventTypeSpec>,
}

/// A type of events of the workspace's own.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
pub struct EventTypeSpec {
    /// The name, as it is stored: for example `Invoice Sent`. Events match it without regard to case.
    #[schemars(length(min = 1, max = catalogue::NAME_MAX_CHARS), regex(pattern = r"^[^\s\p{Cc}]([^\p{Cc}]*[^\s\p{Cc}])?$"))]
    pub name: String,
    /// The product area it belongs to, a built-in one or a new one.
    #[schemars(length(min = 1, max = catalogue::NAME_MAX_CHARS), regex(pattern = r"^[^\s\p{Cc}]([^\p{Cc}]*[^\s\p{Cc}])?$"))]
    pub area: String,
    /// Other names under which it may arrive; it is stored under `name`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = ALIASES_MAX),
        inner(length(min = 1, max = catalogue::NAME_MAX_CHARS), regex(pattern = r"^[^\s\p{Cc}]([^\p{Cc}]*[^\s\p{Cc}])?$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub aliases: Vec<String>,
    /// A JSON Schema (draft 2020-12, at most 32 KiB) which the `details` of such an event must meet. It
    /// must stand by itself: nothing is loaded from elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub schema: Option<serde_json::Map<String, serde_json::Value>>,
}

/// An object that the API server keeps as it is.
fn any_object(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// A service account of any namespace.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub struct ServiceAccountReference {
    /// Name of the service account.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Namespace of the service account; the trail's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

/// What the operator saw last.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditTrailStatus {
    /// The `metadata.generation` that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `Reconciling`, `Stalled`, then one for each thing that can break:
    /// `StorageReady`, `CollectorReady`, `Durable`, `Continuous`; and `RetentionHeld` while it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// URL of the collector inside the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Name of the Secret that holds the write key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_key_secret: Option<String>,
    /// Identity of the log in the database (a UUID), part of every leaf and `messageId`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trail_id: Option<String>,
    /// Epoch of the log, raised when its database was restored or rewound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
    /// Sequence of the newest event; absent while the trail is empty. At most 10 s old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_sequence: Option<i64>,
    /// Sequence of the oldest event that is kept; absent while there is none. At most 10 s old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest_sequence: Option<i64>,
    /// Events ever stored. At most 10 s old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<i64>,
    /// Events that went by retention before an enabled AuditForwarding had delivered them; absent
    /// while there are none. At most 10 s old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undelivered_dropped: Option<i64>,
    /// Generation of the configuration document which every collector has applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration_generation: Option<i64>,
}
