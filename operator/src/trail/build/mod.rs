//! Stage build: a validated trail to its children. Pure, and cannot fail.

pub mod access;
pub mod collector;
pub mod container;
pub mod document;
pub mod postgres;
pub mod secrets;

use super::material::Material;
use super::validate::{Storage, Valid};
use crate::names::{Component, Names};
use crate::settings::Settings;
use audittrail_crds::document::Document;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServiceAccount};
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;

/// Everything that a trail consists of.
#[derive(Clone, Debug)]
pub struct Children {
    /// What collectors have to know; also in the last of `secrets`.
    pub document: Document,
    /// Secrets with random content which are not there yet: created, never overwritten.
    pub new_secrets: Vec<Secret>,
    /// Secrets whose content follows from the rest.
    pub secrets: Vec<Secret>,
    /// Certificate of the authority, for clients.
    pub config_map: ConfigMap,
    /// One for each kind of pod, and one for owners to take tokens of.
    pub service_accounts: Vec<ServiceAccount>,
    /// What each of them, and each owner, may do.
    pub roles: Vec<Role>,
    /// Who has these roles.
    pub role_bindings: Vec<RoleBinding>,
    /// Lets the collector ask the cluster who a token belongs to.
    pub reviews_binding: ClusterRoleBinding,
    /// DNS names.
    pub services: Vec<Service>,
    /// Managed Postgres.
    pub stateful_set: Option<StatefulSet>,
    /// The collector.
    pub deployment: Deployment,
}

/// Builds all children of a trail.
pub fn children(valid: &Valid, material: &Material, settings: &Settings, now: Timestamp) -> Children {
    let parent = Parent::of(valid);
    let document = document::build(valid, material, settings, now);
    let mut children = Children {
        new_secrets: secrets::new(&parent, valid, material),
        secrets: Vec::new(),
        config_map: secrets::authority_certificate(&parent, material),
        service_accounts: vec![access::collector_account(&parent), access::owner_account(&parent)],
        roles: vec![access::collector_role(&parent), access::owner_role(&parent)],
        role_bindings: vec![
            access::collector_binding(&parent),
            access::owner_binding(&parent, &valid.trail.spec.access),
        ],
        reviews_binding: access::reviews_binding(&parent, settings),
        services: vec![collector::service(&parent)],
        stateful_set: None,
        deployment: collector::deployment(&parent, &valid.trail.spec.collector, settings),
        document,
    };
    if !valid.trail.spec.ingest.service_accounts.is_empty() {
        children.roles.push(access::writer_role(&parent));
        children.role_bindings.push(access::writer_binding(&parent, &valid.trail.spec.ingest.service_accounts));
    }
    if let (Storage::Managed(storage), Some(leaf)) = (&valid.storage, &material.postgres_leaf) {
        children.service_accounts.push(postgres::account(&parent));
        children.services.push(postgres::service(&parent));
        children.secrets.push(secrets::postgres_certificate(&parent, leaf));
        children.stateful_set = Some(postgres::stateful_set(&parent, storage, leaf, settings));
    }
    children.secrets.push(secrets::document(&parent, &children.document));
    children
}

/// What every child takes from its trail.
#[derive(Clone, Debug)]
pub struct Parent {
    /// Names of all children.
    pub names: Names,
    owner: OwnerReference,
}

impl Parent {
    /// The parent of the children of a validated trail.
    pub fn of(valid: &Valid) -> Self {
        // The API server gave the trail its name and uid, so there is always a reference.
        Self { names: valid.names.clone(), owner: valid.trail.controller_owner_ref(&()).unwrap_or_default() }
    }

    /// UID of the trail.
    pub fn uid(&self) -> &str {
        &self.owner.uid
    }

    /// Metadata of a child that goes with its trail.
    pub fn owned(&self, name: String, component: Component) -> ObjectMeta {
        ObjectMeta { owner_references: Some(vec![self.owner.clone()]), ..self.kept(name, component) }
    }

    /// Metadata of a child that its trail's deletion does not take along.
    pub fn kept(&self, name: String, component: Component) -> ObjectMeta {
        ObjectMeta { namespace: Some(self.names.namespace.clone()), ..self.cluster_wide(name, component) }
    }

    /// Metadata of a child outside of any namespace.
    pub fn cluster_wide(&self, name: String, component: Component) -> ObjectMeta {
        ObjectMeta { name: Some(name), labels: Some(self.names.labels(component)), ..ObjectMeta::default() }
    }
}

#[cfg(test)]
mod tests;
