//! Which events a forwarding sends: the language of the query API, as data.
//!
//! Every member has the name of a parameter of `GET /v1/events`. In a resource and in the configuration document alike.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which events are sent: those that any of `include` selects and none of `exclude` does.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventFilter {
    /// An event is sent if any of these selects it; empty or absent means every event.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub include: Vec<Selector>,
    /// An event is left out if any of these selects it, whatever `include` says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub exclude: Vec<Selector>,
}

/// Selects an event that meets every member; a member is met by any of its values.
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.type) || has(self.area) || has(self.actor) || has(self.actorType) || has(self.resource) || has(self.resourceType) || has(self.outcome) || has(self.submittedBy)").message("a selector names at least one of type, area, actor, actorType, resource, resourceType, outcome and submittedBy")
)]
pub struct Selector {
    /// Types of events, for example `Permission Check`; the spelling of the catalogue or any other case of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 128)))]
    pub r#type: Vec<String>,
    /// Product areas of the catalogue, for example `Users`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 128)))]
    pub area: Vec<String>,
    /// Identities of actors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 512)))]
    pub actor: Vec<String>,
    /// Kinds of actors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 3))]
    pub actor_type: Vec<ActorType>,
    /// Identities of resources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 512)))]
    pub resource: Vec<String>,
    /// Kinds of resources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 512)))]
    pub resource_type: Vec<String>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 3))]
    pub outcome: Vec<Outcome>,
    /// Names of the write keys, service accounts and people who wrote the events.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 100), inner(length(min = 1, max = 512)))]
    pub submitted_by: Vec<String>,
}

/// Kind of actor.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ActorType {
    /// A logged-in person.
    User,
    /// A token that acts for itself: an API token, a service account.
    AccessToken,
    /// The system itself.
    System,
}

/// How an action ended.
#[derive(Clone, Copy, Debug, Deserialize, Eq, JsonSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// It was done.
    Success,
    /// It failed.
    Failure,
    /// It was not allowed.
    Denied,
}
