//! Who may do what: service accounts, Roles and their bindings.
//!
//! Access to events is decided by the cluster's own RBAC on a virtual subresource,
//! `audittrails/events`, which collectors ask for by SubjectAccessReview: `get` reads, `create` writes, `update` replays
//! what a forwarding has parked.

use super::Parent;
use crate::names::Component;
use crate::settings::Settings;
use audittrail_crds::GROUP;
use audittrail_crds::trail::{Access, ServiceAccountReference};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};

const RBAC_GROUP: &str = "rbac.authorization.k8s.io";
const EVENTS: &str = "audittrails/events";

/// The account that collector pods run as. They talk to the API server, so it has a token.
pub fn collector_account(parent: &Parent) -> ServiceAccount {
    ServiceAccount {
        metadata: parent.owned(parent.names.collector(), Component::Collector),
        ..ServiceAccount::default()
    }
}

/// Collectors watch their configuration document, and no other Secret.
pub fn collector_role(parent: &Parent) -> Role {
    let name = parent.names.collector();
    let rule = rule("", "secrets", &["get", "list", "watch"], &name);
    Role { metadata: parent.owned(name, Component::Collector), rules: Some(vec![rule]) }
}

/// Gives the collector's account its Role.
pub fn collector_binding(parent: &Parent) -> RoleBinding {
    let name = parent.names.collector();
    binding(parent, name.clone(), Component::Collector, vec![account(name, &parent.names.namespace)])
}

/// Lets collectors ask who a token belongs to and what it may do. Reviews are cluster-wide, so
/// the binding is, and the trail's finalizer removes it.
pub fn reviews_binding(parent: &Parent, settings: &Settings) -> ClusterRoleBinding {
    ClusterRoleBinding {
        metadata: parent.cluster_wide(parent.names.reviews_binding(), Component::Collector),
        role_ref: role_ref("ClusterRole", settings.reviews_cluster_role.clone()),
        subjects: Some(vec![account(parent.names.collector(), &parent.names.namespace)]),
    }
}

/// An account that owners take tokens of: people who authenticate with client certificates have
/// none of their own. No pod runs as it.
pub fn owner_account(parent: &Parent) -> ServiceAccount {
    ServiceAccount {
        metadata: parent.owned(parent.names.owner(), Component::Access),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// Owners read the events of this trail, may have parked ones sent again, and may take a token of the owner account.
pub fn owner_role(parent: &Parent) -> Role {
    let name = parent.names.owner();
    let rules = vec![
        rule(GROUP, EVENTS, &["get", "update"], &parent.names.trail),
        rule("", "serviceaccounts/token", &["create"], &name),
    ];
    Role { metadata: parent.owned(name, Component::Access), rules: Some(rules) }
}

/// The owners are those whom the trail names, and the owner account.
pub fn owner_binding(parent: &Parent, access: &Access) -> RoleBinding {
    let name = parent.names.owner();
    let mut subjects = vec![account(name.clone(), &parent.names.namespace)];
    subjects.extend(access.owners.iter().map(|owner| complete(owner, &parent.names.namespace)));
    binding(parent, name, Component::Access, subjects)
}

/// Writers add events to this trail.
pub fn writer_role(parent: &Parent) -> Role {
    let rule = rule(GROUP, EVENTS, &["create"], &parent.names.trail);
    Role { metadata: parent.owned(parent.names.writer(), Component::Access), rules: Some(vec![rule]) }
}

/// The writers are the service accounts that the trail names.
pub fn writer_binding(parent: &Parent, accounts: &[ServiceAccountReference]) -> RoleBinding {
    let subject = |reference: &ServiceAccountReference| {
        account(reference.name.clone(), reference.namespace.as_ref().unwrap_or(&parent.names.namespace))
    };
    binding(parent, parent.names.writer(), Component::Access, accounts.iter().map(subject).collect())
}

/// A subject as the API server stores it: people leave out what its kind already says.
fn complete(subject: &Subject, namespace: &str) -> Subject {
    if subject.kind == "ServiceAccount" {
        let namespace = subject.namespace.clone().unwrap_or_else(|| namespace.to_owned());
        return account(subject.name.clone(), &namespace);
    }
    Subject { api_group: Some(RBAC_GROUP.to_owned()), namespace: None, ..subject.clone() }
}

fn account(name: String, namespace: &str) -> Subject {
    Subject { kind: "ServiceAccount".to_owned(), name, namespace: Some(namespace.to_owned()), api_group: None }
}

/// A Role's binding has the Role's name.
fn binding(parent: &Parent, name: String, component: Component, subjects: Vec<Subject>) -> RoleBinding {
    RoleBinding {
        metadata: parent.owned(name.clone(), component),
        role_ref: role_ref("Role", name),
        subjects: Some(subjects),
    }
}

fn role_ref(kind: &str, name: String) -> RoleRef {
    RoleRef { api_group: RBAC_GROUP.to_owned(), kind: kind.to_owned(), name }
}

fn rule(group: &str, resource: &str, verbs: &[&str], name: &str) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(vec![resource.to_owned()]),
        resource_names: Some(vec![name.to_owned()]),
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        non_resource_urls: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(kind: &str, api_group: Option<&str>, namespace: Option<&str>) -> Subject {
        Subject {
            kind: kind.to_owned(),
            name: "ann".to_owned(),
            api_group: api_group.map(str::to_owned),
            namespace: namespace.map(str::to_owned),
        }
    }

    #[test]
    fn a_service_account_without_a_namespace_is_of_the_trails() {
        assert_eq!(complete(&subject("ServiceAccount", None, None), "ns").namespace.as_deref(), Some("ns"));
        assert_eq!(
            complete(&subject("ServiceAccount", Some(""), Some("other")), "ns").namespace.as_deref(),
            Some("other")
        );
        assert_eq!(complete(&subject("ServiceAccount", Some(""), None), "ns").api_group, None);
    }

    #[test]
    fn people_and_groups_get_their_api_group_and_no_namespace() {
        for kind in ["User", "Group"] {
            let completed = complete(&subject(kind, None, Some("ns")), "ns");
            assert_eq!((completed.api_group.as_deref(), completed.namespace), (Some(RBAC_GROUP), None));
        }
    }
}
