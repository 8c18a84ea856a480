//! The API of audittrail, group `audittrail.dev`, version `v1alpha1`, and what operator and
//! collector say to each other.
//!
//! | module | what |
//! |---|---|
//! | [`trail`] | the `AuditTrail` resource |
//! | [`forwarding`] | the `AuditForwarding` resource |
//! | [`filter`] | which events a forwarding sends |
//! | [`address`] | which addresses a source may have |
//! | [`catalogue`] | the types of events: the built-in ones and a workspace's own |
//! | [`condition`] | condition types and their closed lists of reasons |
//! | [`document`] | operator to collector: the configuration document |
//! | [`report`] | collector to operator: the answer to `GET /v1/status` |
//! | [`manifest`] | the YAML of the custom resource definitions |

pub mod address;
pub mod catalogue;
pub mod condition;
pub mod document;
pub mod filter;
pub mod forwarding;
pub mod manifest;
pub mod report;
pub mod trail;

pub use forwarding::{AuditForwarding, AuditForwardingSpec, AuditForwardingStatus};
pub use trail::{AuditTrail, AuditTrailSpec, AuditTrailStatus};

/// The API group of both resources, and the group which RBAC rules name.
pub const GROUP: &str = "audittrail.dev";

/// What the API server lets an object be called: a DNS subdomain (RFC 1123; Kubernetes, "Object Names and IDs"). Its length is
/// bounded beside it.
const OBJECT_NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// A resource in the same namespace, by name.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
pub struct LocalReference {
    /// Name of the resource, in the namespace of the one that refers to it.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
}

/// One key of a Secret or ConfigMap in the same namespace.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
pub struct KeyReference {
    /// Name of the Secret (or ConfigMap), in the namespace of the resource that refers to it.
    #[schemars(length(min = 1, max = 253), regex(pattern = OBJECT_NAME))]
    pub name: String,
    /// The key whose value is used. The field that holds this reference says which key it
    /// takes when this is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub key: Option<String>,
}

impl KeyReference {
    /// The named key, or `default` where none is named.
    pub fn key_or<'a>(&'a self, default: &'a str) -> &'a str {
        self.key.as_deref().unwrap_or(default)
    }
}
