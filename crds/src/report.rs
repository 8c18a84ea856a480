//! Collector to operator: the answer to `GET /v1/status`.
//!
//! Facts that replicas share (counts, cursors, errors) come from Postgres, so any replica can
//! answer for all of them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// State of a trail, as one of its collectors sees it now.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Name of the replica that answers (its pod).
    pub replica: String,
    /// Version of the collector.
    pub version: String,
    /// Generation of the document that this replica has applied.
    pub generation: i64,
    /// The database, tried for this very answer.
    pub database: Database,
    /// The log; absent when the database did not answer or belongs to another trail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<Log>,
    /// Replicas that wrote a heartbeat in the last [`REPLICA_SEEN_SECONDS`], by name.
    #[serde(default)]
    pub replicas: Vec<Replica>,
    /// One for each forwarding of the document, in its order.
    #[serde(default)]
    pub forwardings: Vec<Forwarding>,
}

/// A replica whose last heartbeat is older than this, in seconds, is taken for gone. Three
/// heartbeats may be missed.
pub const REPLICA_SEEN_SECONDS: i64 = 10;

/// The outcome of writing a heartbeat row and reading it back.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "state")]
pub enum Database {
    /// The row was written and read back.
    #[serde(rename_all = "camelCase")]
    Verified {
        /// The database's clock when it was.
        at: Time,
        /// What a COMMIT waits for.
        durability: Durability,
    },
    /// The database does not answer, or refuses.
    #[serde(rename_all = "camelCase")]
    Unreachable {
        /// What it said, without secrets.
        message: String,
    },
    /// The database holds another trail.
    #[serde(rename_all = "camelCase")]
    InUse {
        /// The claim that stands in it.
        claim: String,
    },
}

/// Settings of the database server on which "acknowledged means durable" rests.
#[derive(Clone, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Durability {
    /// `fsync` is on.
    pub fsync: bool,
    /// `full_page_writes` is on.
    pub full_page_writes: bool,
    /// `synchronous_commit` of the collector's sessions.
    pub synchronous_commit: String,
    /// `synchronous_standby_names`; empty when a commit is on one machine only.
    pub synchronous_standby_names: String,
}

/// The log.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Log {
    /// Identity of the log (a UUID).
    pub id: String,
    /// Epoch of the log.
    pub epoch: i64,
    /// The sequence that the next event will get: the number of events ever stored.
    pub next_sequence: i64,
    /// Sequence of the oldest event that is kept; `next_sequence` when there is none.
    #[serde(default)]
    pub first_sequence: i64,
    /// How the epoch came to be; absent for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raised: Option<Raised>,
    /// What keeps events longer than the retention asks; absent when nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_held: Option<RetentionHeld>,
    /// Events that went by retention before an enabled forwarding had delivered them.
    #[serde(default)]
    pub undelivered_dropped: i64,
}

/// The database was found restored or rewound: it held less than it had acknowledged, or is another one.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Raised {
    /// When the epoch was raised, by the database's clock.
    pub at: Time,
    /// The first sequence of the new epoch: what the restored log ended with.
    pub first_sequence: i64,
    /// How it was noticed, for people.
    pub reason: String,
}

/// Forwardings that have yet to deliver events which are past the retention.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RetentionHeld {
    /// Their names.
    pub forwardings: Vec<String>,
    /// When the events go all the same.
    pub until: Time,
}

/// A replica.
#[derive(Clone, Debug, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Replica {
    /// Name of its pod.
    pub name: String,
    /// Generation of the document that it has applied.
    pub generation: i64,
    /// The database's clock at its last heartbeat.
    pub seen: Time,
}

/// A forwarding.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Forwarding {
    /// Name of the `AuditForwarding`.
    pub name: String,
    /// Generation of the entry ([`crate::document::Forwarding::generation`]) that `state` speaks of.
    pub generation: i64,
    /// How delivery stands.
    pub state: State,
    /// What went wrong last, without secrets; absent while the source accepts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When the source last accepted a batch or a probe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success: Option<Time>,
    /// Sequence of the newest event that the source accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivered_sequence: Option<i64>,
    /// Events that the source accepted.
    pub delivered: i64,
    /// Events that the filter left out.
    #[serde(default)]
    pub filtered: i64,
    /// Events that the source refused for good, kept aside.
    #[serde(default)]
    pub parked: i64,
    /// Since when every attempt fails; absent while the source accepts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retrying_since: Option<Time>,
    /// Status code of the answer that `last_error` tells of; absent when there was no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error_code: Option<u16>,
    /// The configuration that these facts speak of: 16 hexadecimal digits made of [`crate::document::Forwarding::configuration_hash`]
    /// and a secret of the trail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration_hash: Option<String>,
    /// Events stored and not yet delivered.
    pub lag_events: i64,
    /// Age of the oldest of them, in seconds; 0 when there is none.
    pub lag_seconds: i64,
}

/// How delivery stands.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum State {
    /// Off.
    Disabled,
    /// Nothing is known yet about this configuration.
    #[default]
    Pending,
    /// The source accepted the last batch or probe since the configuration changed.
    Accepting,
    /// The source cannot be reached, is overloaded or fails; the collector tries again.
    Retrying,
    /// The source refuses the key.
    KeyRefused,
    /// The source answers as no HTTP API source does: the endpoint is wrong.
    EndpointRefused,
    /// The source refuses one event after the other, or no more can be parked. The forwarding waits there; nothing is
    /// skipped.
    EventRefused,
    /// The events came from the very trail that they would be sent to.
    Loop,
    /// The entry's filter cannot be used.
    FilterInvalid,
}
