//! `AuditForwarding`: streams a trail to an HTTP API event-streams source.

use crate::document::{Delivery, Format};
use crate::filter::EventFilter;
use crate::trail::DeletionPolicy;
use crate::{KeyReference, LocalReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Key of the write key in its Secret, when the forwarding names none.
pub const WRITE_KEY: &str = "writeKey";

/// Times that can be read here: RFC 3339 with the digits and offsets that `jiff` takes. The API server's format `date-time`
/// lets more fractional digits through, and offsets of days.
const TIME: &str =
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$";

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
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status", description = "True: the source accepts, or forwarding is Off and every collector has stopped."),
    printcolumn(name = "Enabled", type_ = "boolean", json_path = ".spec.enabled", description = "The On/Off toggle."),
    printcolumn(name = "Delivered", type_ = "integer", json_path = ".status.delivered", description = "Events the source accepted."),
    printcolumn(name = "Lag", type_ = "integer", json_path = ".status.lagEvents", description = "Events not yet delivered."),
    printcolumn(name = "Parked", type_ = "integer", json_path = ".status.parked", description = "Events the source refused for good, kept aside; they can be sent again."),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Trail", type_ = "string", json_path = ".spec.trailRef.name", description = "The AuditTrail whose events are forwarded.", priority = "1"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", description = "Why, from a closed list.", priority = "1"),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].message", description = "What is wrong and what to do.", priority = "1")
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
        validation = Rule::new("(has(self.position) ? 1 : 0) + (has(self.time) ? 1 : 0) + (has(self.sequence) ? 1 : 0) == 1").message("set exactly one of startFrom.position, startFrom.time and startFrom.sequence"),
        validation = Rule::new("!has(self.time) || self.time.getFullYear() < 9999").message("startFrom.time must be before the year 9999")
    )]
    pub start_from: Option<StartFrom>,

    /// Which events are sent; every event when absent. What is left out is passed over: the place in the trail moves on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<EventFilter>,

    /// What an event looks like at the source: `Named` (a track call with the event's own type as its name) or
    /// `SegmentAudit` (what Segment's own audit forwarding sends).
    #[serde(default)]
    pub format: Format,

    /// How much is sent at once, and how fast; as much as Segment takes, as fast as the source answers, when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
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
        validation = Rule::new("has(self.writeKeySecretRef) != has(self.create)").message("set exactly one of source.httpApi.writeKeySecretRef and source.httpApi.create"),
        validation = Rule::new("!has(self.create) || has(self.region) || has(self.create.apiEndpoint)").message("set source.httpApi.create.apiEndpoint: with source.httpApi.endpoint, the Public API is not known"),
        validation = Rule::new("!has(self.create) || !has(self.create.apiEndpoint) || self.create.apiEndpoint.startsWith('https://') || (has(self.insecure) && self.insecure)").message("source.httpApi.create.apiEndpoint must start with https:// unless source.httpApi.insecure is true"),
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
    /// Selects a source that is there: the Secret key with its write key; `writeKey` when no key is named. Exactly one of
    /// `writeKeySecretRef` and `create` is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub write_key_secret_ref: Option<KeyReference>,
    /// Creates a source of its own for this forwarding through Segment's Public API. Its write key is kept in the Secret
    /// `<name>-source`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<CreateSource>,
    /// A ConfigMap key with the PEM certificates of the authorities to trust for this source and its Public API, instead of
    /// the public ones; `ca.crt` when no key is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_config_map_ref: Option<KeyReference>,
    /// Allows `http://` in `endpoint` and `create.apiEndpoint`. Keys, tokens and events then travel unencrypted.
    #[serde(default)]
    pub insecure: bool,
}

impl AuditForwarding {
    /// Name of the Secret with the write key of a source that is created.
    pub fn created_key_secret(&self) -> String {
        format!("{}-source", self.metadata.name.as_deref().unwrap_or_default())
    }

    /// The Secret with the source's write key, and the key in it: the one that is named, or ours for a source that is created.
    pub fn write_key_secret(&self) -> KeyReference {
        let named = self.spec.source.http_api.write_key_secret_ref.as_ref();
        let ours = || self.created_key_secret();
        KeyReference {
            name: named.map_or_else(ours, |reference| reference.name.clone()),
            key: Some(named.map_or(WRITE_KEY, |reference| reference.key_or(WRITE_KEY)).to_owned()),
        }
    }
}

/// How a source is made.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateSource {
    /// The Secret key with a token of the workspace for the Public API; `token` when no key is named.
    pub token_secret_ref: KeyReference,
    /// Base URL of the Public API, for example `https://api.segmentapis.com`, which is that of the region `US`. Absent
    /// means that of `region`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2000), regex(pattern = r"^https?://[^/?#@\s]+(/[^?#\s]*)?$"))]
    pub api_endpoint: Option<String>,
    /// What happens to the source when this resource is deleted or names another one.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
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

    /// Base URL of the Public API.
    pub fn api_endpoint(self) -> &'static str {
        match self {
            Self::Us => "https://api.segmentapis.com",
            Self::Eu => "https://eu1.api.segmentapis.com",
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
    /// Events received at this moment (RFC 3339, at most nine fractional digits, before the year 9999) or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = TIME))]
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

/// What the operator saw last. Turns are written at once, counters and words every 10 s at most.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditForwardingStatus {
    /// The `metadata.generation` that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `Reconciling`, `Stalled`, then one for each thing that can break:
    /// `ReferencesResolved`, `SourceAccepting`, and `EventsParked` while any is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// Sequence of the newest event which the source accepted; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_sequence: Option<i64>,
    /// Events which the source accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered: Option<i64>,
    /// Events which the filter left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filtered: Option<i64>,
    /// Events which the source refused for good. Copies are kept: `GET /v1/forwardings/{name}/parked` lists them, `POST
    /// /v1/forwardings/{name}/replay` sends them again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked: Option<i64>,
    /// Events stored and not yet delivered, left out or parked.
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
    /// Status code of the answer that `lastError` tells of; absent when there was no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error_code: Option<u16>,
    /// Since when every attempt fails; absent while the source accepts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retrying_since: Option<Time>,
    /// Which configuration the collectors deliver with: it changes with everything that matters to delivery, the write
    /// key included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration_hash: Option<String>,
    /// The source which was made for this forwarding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_source: Option<CreatedSource>,
}

/// A source which was made through the Public API.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreatedSource {
    /// Id of the source.
    pub id: String,
    /// Slug of the source: derived from this resource's UID.
    pub slug: String,
}
