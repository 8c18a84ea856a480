//! `AuditForwarding`: streams a trail to an HTTP API event-streams source.

use crate::{KeyReference, LocalReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Streams the events of an AuditTrail to a declared HTTP API event-streams source: Segment's
/// Tracking API, or anything that speaks it.
#[derive(Clone, CustomResource, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "audittrail.dev",
    version = "v1alpha1",
    kind = "AuditForwarding",
    plural = "auditforwardings",
    shortname = "af",
    category = "audit",
    namespaced,
    status = "AuditForwardingStatus",
    derive = "PartialEq",
    doc = "Streams the events of an AuditTrail to a declared HTTP API event-streams source: Segment's Tracking API, or anything that speaks it.",
    validation = Rule::new("self.metadata.name.size() <= 63").message("metadata.name must be at most 63 characters"),
    printcolumn(name = "Trail", type_ = "string", json_path = ".spec.trailRef.name", description = "The AuditTrail whose events are forwarded."),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", description = "True: the source accepts, or forwarding is Off and every collector has stopped."),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", description = "Why, from a closed list."),
    printcolumn(name = "Enabled", type_ = "boolean", json_path = ".spec.enabled", description = "The On/Off toggle."),
    printcolumn(name = "Delivered", type_ = "integer", json_path = ".status.delivered", description = "Events the source accepted."),
    printcolumn(name = "Lag", type_ = "integer", json_path = ".status.lagEvents", description = "Events not yet delivered."),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", description = "What is wrong and what to do.", priority = "1"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct AuditForwardingSpec {
    /// The AuditTrail to forward, in the same namespace. Immutable.
    #[x_kube(validation = Rule::new("self == oldSelf").message("trailRef is immutable: make a new AuditForwarding for another trail"))]
    pub trail_ref: LocalReference,

    /// The On/Off toggle. Off stops within 2 s and keeps the place; On goes on from there.
    #[serde(default = "enabled_by_default")]
    pub enabled: bool,

    /// The declared event-streams source.
    pub source: Source,

    /// Where in the trail to start: exactly one member. Applies when the forwarding is made, and
    /// again when this value changes; never on the toggle. Absent means `position: Now`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(
        validation = Rule::new("(has(self.position) ? 1 : 0) + (has(self.time) ? 1 : 0) + (has(self.sequence) ? 1 : 0) == 1").message("set exactly one of startFrom.position, startFrom.time and startFrom.sequence")
    )]
    pub start_from: Option<StartFrom>,
}

fn enabled_by_default() -> bool {
    true
}

/// The declared event-streams source.
#[derive(Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// A source that takes Segment's HTTP Tracking API (`POST /v1/batch`). A source dedicated to audit events is recommended.
    #[x_kube(
        validation = Rule::new("has(self.endpoint) != has(self.region)").message("set exactly one of source.httpApi.endpoint and source.httpApi.region"),
        validation = Rule::new("!has(self.endpoint) || self.endpoint.startsWith('https://') || (has(self.insecure) && self.insecure)").message("source.httpApi.endpoint must start with https:// unless source.httpApi.insecure is true")
    )]
    pub http_api: HttpApi,
}

/// A source that takes Segment's HTTP Tracking API.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HttpApi {
    /// Base URL of the source, without `/v1/batch`. Exactly one of `endpoint` and `region` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2000), regex(pattern = r"^https?://[^/?#@\s]+(/[^?#\s]*)?$"))]
    pub endpoint: Option<String>,
    /// Segment's own endpoint of this region: `US` is https://api.segment.io, `EU` is
    /// https://events.eu1.segmentapis.com.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<Region>,
    /// The Secret key with the source's write key; `writeKey` when no key is named.
    pub write_key_secret_ref: KeyReference,
    /// A ConfigMap key with the PEM certificates of the authorities to trust for this source,
    /// instead of the public ones; `ca.crt` when no key is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_config_map_ref: Option<KeyReference>,
    /// Allows an `http://` endpoint. The write key and all events then travel unencrypted.
    #[serde(default)]
    pub insecure: bool,
}

/// A region of Segment.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Region {
    /// Oregon.
    #[serde(rename = "US")]
    Us,
    /// Dublin.
    #[serde(rename = "EU")]
    Eu,
}

impl Region {
    /// Base URL of the Tracking API (Segment's documentation, "Regional Segment").
    pub fn endpoint(self) -> &'static str {
        match self {
            Self::Us => "https://api.segment.io",
            Self::Eu => "https://events.eu1.segmentapis.com",
        }
    }
}

/// Where in the trail to start: exactly one member is set.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StartFrom {
    /// `Now`: events stored from now on. `Beginning`: every event that is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// Events received at this moment (RFC 3339) or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<Time>,
    /// Events with this sequence or a higher one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub sequence: Option<i64>,
}

/// A named place in the trail.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Position {
    /// After the newest event.
    Now,
    /// At the oldest event that is kept.
    Beginning,
}

/// What the operator saw last. Counters are at most 10 s old.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditForwardingStatus {
    /// The `metadata.generation` that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `Reconciling`, `Stalled`, then one for each thing that can break:
    /// `ReferencesResolved`, `SourceAccepting`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Sequence of the newest event which the source accepted; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_sequence: Option<i64>,
    /// Events which the source accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered: Option<i64>,
    /// Events stored and not yet delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_events: Option<i64>,
    /// Age of the oldest event not yet delivered, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_seconds: Option<i64>,
    /// When the source last accepted a batch or a probe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success_time: Option<Time>,
    /// What went wrong last, in the source's words where it had any, without secrets; absent
    /// once the source accepts again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}
