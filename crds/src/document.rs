//! Operator to collector: the configuration document.
//!
//! The Secret `<trail>-collector` holds it under [`SECRET_KEY`]; without Kubernetes it is a file.
//! Fields may be added within a [`VERSION`]; unknown ones are ignored, so that an operator can be newer than a collector.

use crate::filter::EventFilter;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;

/// The version that this code writes and reads.
pub const VERSION: u32 = 1;

/// Key of the document in its Secret.
pub const SECRET_KEY: &str = "document.json";

/// Largest document, in bytes of JSON. A Secret ends at 1 MiB; the rest is room for its metadata.
pub const DOCUMENT_MAX_BYTES: usize = 900 * 1024;

/// Everything a collector has to know, of one moment.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Document {
    /// Version of this format; a collector refuses one that it does not know.
    pub version: u32,
    /// Grows with every change and never goes back. What moves a cursor is fenced by it.
    pub generation: i64,
    /// Whose trail this is.
    pub trail: Trail,
    /// Where events are kept.
    pub database: Database,
    /// Who may read, and how they are known.
    pub access: Access,
    /// Who may write.
    pub ingest: Ingest,
    /// Which types of events there are.
    #[serde(default)]
    pub catalogue: Catalogue,
    /// For how long events are kept after they were received, in seconds; for ever when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_seconds: Option<i64>,
    /// What the log held when the operator last saw it, where the database may hold less now. A log that does was restored
    /// or rewound, and its epoch has to be raised. A lower bound: it stays, unchanged, while the log grows in that epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_log: Option<KnownLog>,
    /// Certificate of the listener; plain HTTP when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// Networks (CIDR) of sources that may be connected to although they are loopback, link-local or metadata addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_source_networks: Vec<String>,
    /// Where the trail is forwarded to, ordered by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forwardings: Vec<Forwarding>,
}

/// Whose trail this is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trail {
    /// Namespace of the `AuditTrail`; access reviews ask for it.
    pub namespace: String,
    /// Name of the `AuditTrail`; access reviews ask for it.
    pub name: String,
    /// The workspace, as people read it.
    pub workspace: String,
    /// Who claims the database: written to it by the first to come; any other claim gets `DatabaseInUse`.
    pub claim: String,
}

/// Where events are kept.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Database {
    /// Connection URI with its password.
    pub uri: Sensitive,
    /// PEM certificates of the authority that signed the server's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

/// How readers are known: exactly one way.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Access {
    /// TokenReview and SubjectAccessReview of the cluster the collector runs in.
    Kubernetes(ClusterAccess),
    /// Fixed tokens, for a collector that runs without Kubernetes.
    Tokens(Vec<OwnerToken>),
}

/// What the cluster is asked, and what its answers are worth.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterAccess {
    /// The audience that service accounts' tokens must carry.
    pub audience: String,
    /// What happens to tokens of people that carry the API server's audience instead.
    #[serde(default)]
    pub api_server_tokens: ApiServerTokens,
    /// The operator's account, as `namespace/name`. Kubernetes lets it grant `events` to owners and writers only because it
    /// holds that permission itself; the collector lets it see how the trail is, and neither see nor add events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
}

/// What happens to tokens that were made for the API server itself, as people's OIDC tokens are. Those of service accounts
/// are refused in any case: they can have one made for the trail.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum ApiServerTokens {
    /// They are taken.
    #[default]
    Accept,
    /// Only tokens that were made for the trail are taken.
    Refuse,
}

/// A fixed token and whose it is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OwnerToken {
    /// Name of the owner.
    pub name: String,
    /// The bearer token.
    pub token: Sensitive,
}

/// Who may write.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ingest {
    /// The write key, then the previous one where there is one.
    pub write_keys: Vec<WriteKey>,
    /// Whether the objects in Kubernetes audit events are kept.
    #[serde(default)]
    pub kubernetes_objects: KubernetesObjects,
}

/// Whether request and response objects of Kubernetes audit events are kept. Those of Secrets and tokens never are.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum KubernetesObjects {
    /// Objects are left out.
    #[default]
    Omit,
    /// Objects are kept in `details`.
    Keep,
}

/// Which types of events there are, beside the built-in ones.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Catalogue {
    /// What happens to events of a type that the catalogue does not have.
    #[serde(default)]
    pub mode: CatalogueMode,
    /// The workspace's own types.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub event_types: Vec<EventType>,
}

/// What happens to events of a type that the catalogue does not have.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum CatalogueMode {
    /// They are welcome.
    #[default]
    Open,
    /// They are refused.
    Strict,
}

/// A type of events of the workspace's own.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventType {
    /// The name, for example `Invoice Sent`. Matched without regard to case.
    pub name: String,
    /// The product area it belongs to, built-in or new.
    pub area: String,
    /// Other names under which it may arrive; stored under `name`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// JSON Schema (draft 2020-12) that `details` must meet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<serde_json::Value>,
}

/// What a log is known to have held.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KnownLog {
    /// The epoch it was in.
    pub epoch: i64,
    /// The sequence that its next event was to get.
    pub next_sequence: i64,
}

/// A write key and the name that events written with it carry in `submittedBy`.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WriteKey {
    /// Name of the key: of its Secret and the key there.
    pub name: String,
    /// The key itself.
    pub key: Sensitive,
}

/// Certificate of the listener.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// PEM certificate chain, leaf first.
    pub certificate: String,
    /// PEM private key of the leaf (PKCS #8).
    pub key: Sensitive,
}

/// One forwarding of the trail.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Forwarding {
    /// Name of the `AuditForwarding`; its cursor belongs to this name.
    pub name: String,
    /// The document's generation in which this entry changed last: facts about the source that
    /// carry a lower one speak of an older configuration.
    pub generation: i64,
    /// The toggle.
    pub enabled: bool,
    /// Off only because something that it names is missing: it keeps its place, and retention waits for it as if it were on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub incomplete: bool,
    /// Base URL of the source, without `/v1/batch`.
    pub endpoint: String,
    /// The source's write key.
    pub write_key: Sensitive,
    /// PEM certificates of the authorities to trust instead of the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
    /// Where to start when there is no cursor yet, or when this value has changed.
    pub start_from: StartFrom,
    /// Which events are sent.
    #[serde(default)]
    pub filter: EventFilter,
    /// What an event looks like at the source.
    #[serde(default)]
    pub format: Format,
    /// How much is sent at once, and how fast.
    #[serde(default)]
    pub delivery: Delivery,
}

impl Forwarding {
    /// A forwarding that is on, starts now and has nothing else set.
    pub fn new(name: impl Into<String>, endpoint: impl Into<String>, write_key: Sensitive) -> Self {
        Self {
            name: name.into(),
            generation: 0,
            enabled: true,
            incomplete: false,
            endpoint: endpoint.into(),
            write_key,
            ca: None,
            start_from: StartFrom::Now,
            filter: EventFilter::default(),
            format: Format::default(),
            delivery: Delivery::default(),
        }
    }

    /// Whether somebody wants it to deliver, be it able to or not.
    pub fn is_wanted(&self) -> bool {
        self.enabled || self.incomplete
    }

    /// Tells one configuration of a forwarding from another: the first 16 hexadecimal digits of SHA-256 of the entry, its key
    /// included and its generation not. Not to be shown, for the key's sake: collectors report another hash made of it.
    pub fn configuration_hash(&self) -> String {
        let content = Self { generation: 0, ..self.clone() };
        let json = serde_json::to_vec(&content).expect("plain data with text as keys always has a JSON form");
        hex::encode(&Sha256::digest(json)[..8])
    }
}

/// What an event looks like at the source.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Format {
    /// A track call with the event's own type as its name.
    #[default]
    Named,
    /// What Segment's own audit forwarding sends: the track call `Audit`, with the type in `properties.type`.
    SegmentAudit,
}

/// How much is sent at once, and how fast.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivery {
    /// Most events in one request; 2,500 when absent, which is Segment's own limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2500))]
    pub max_batch_events: Option<u32>,
    /// Largest body of a request, in bytes before compression; 475,000 when absent: Segment takes 500 KB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 50_000, max = 475_000))]
    pub max_batch_bytes: Option<u32>,
    /// Most events in one second, on average; no limit when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_events_per_second: Option<u32>,
    /// Whether bodies are compressed. `Gzip` is for sources which take it.
    #[serde(default)]
    pub compression: Compression,
}

/// Compression of a body.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
pub enum Compression {
    /// As it is.
    #[default]
    None,
    /// `Content-Encoding: gzip`.
    Gzip,
}

/// Where a forwarding starts.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum StartFrom {
    /// After the newest event.
    Now,
    /// At the oldest event that is kept.
    Beginning,
    /// At the first event received at this moment or later.
    Time(Time),
    /// At this sequence.
    Sequence(i64),
}

/// Text that is never shown: `Debug` prints a placeholder, and there is no `Display`.
#[derive(Clone, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Sensitive(String);

impl Sensitive {
    /// Takes `text` out of sight.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Callers must not print it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Sensitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Selector;
    use std::collections::BTreeSet;

    #[test]
    fn the_configuration_hash_changes_with_everything_but_the_generation() {
        let entry = || Forwarding::new("to-source", "https://source.example", Sensitive::new("k"));
        let exclude = vec![Selector { area: vec!["Users".to_owned()], ..Selector::default() }];
        let others = [
            entry(),
            Forwarding { enabled: false, ..entry() },
            Forwarding { incomplete: true, ..entry() },
            Forwarding { endpoint: "https://other.example".to_owned(), ..entry() },
            Forwarding { write_key: Sensitive::new("l"), ..entry() },
            Forwarding { ca: Some("c".to_owned()), ..entry() },
            Forwarding { start_from: StartFrom::Beginning, ..entry() },
            Forwarding { filter: EventFilter { exclude, ..EventFilter::default() }, ..entry() },
            Forwarding { format: Format::SegmentAudit, ..entry() },
            Forwarding { delivery: Delivery { compression: Compression::Gzip, ..Delivery::default() }, ..entry() },
        ];
        let hashes: BTreeSet<String> = others.iter().map(Forwarding::configuration_hash).collect();
        assert_eq!(hashes.len(), others.len());
        assert!(hashes.iter().all(|hash| hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit())));
        let later = Forwarding { generation: 7, ..entry() };
        assert_eq!(later.configuration_hash(), entry().configuration_hash());
    }

    #[test]
    fn a_document_of_an_older_operator_takes_what_it_took_then() {
        let access: Access = serde_json::from_str(r#"{"kubernetes": {"audience": "a"}}"#).expect("a document");
        let taken =
            ClusterAccess { audience: "a".to_owned(), api_server_tokens: ApiServerTokens::Accept, operator: None };
        assert_eq!(access, Access::Kubernetes(taken));
    }
}
