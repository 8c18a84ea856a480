//! Stage apply: the children as they must be, written where the live ones lack something.

use super::build::{Children, Parent};
use crate::api::write::{self, Child, Error};
use crate::names::Names;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, Role, RoleBinding};
use kube::api::Api;
use kube::{Client, Resource};

/// How the children that run something are now.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Running {
    /// Managed Postgres; `None` where the database is external.
    pub postgres: Option<Pods>,
    /// The collector.
    pub collector: Pods,
}

/// How many pods there are.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Pods {
    /// Pods there should be.
    pub wanted: i32,
    /// Pods that are ready.
    pub ready: i32,
    /// What Kubernetes says is in the way, when it says so.
    pub trouble: Option<String>,
}

/// Applies all children. The order is that in which they need each other; a pod never waits for
/// something that comes later, except for its configuration, which it watches.
pub async fn apply(client: &Client, parent: &Parent, children: &Children) -> Result<Running, Error> {
    let scope = Scope { client, namespace: &parent.names.namespace };
    let secrets = scope.api::<Secret>();
    for secret in &children.new_secrets {
        write::create(&secrets, secret).await?;
    }
    scope.apply_all(&children.secrets).await?;
    scope.apply(&children.config_map).await?;
    scope.apply_all(&children.service_accounts).await?;
    scope.apply_all(&children.roles).await?;
    scope.apply_all(&children.role_bindings).await?;
    write::apply(&Api::<ClusterRoleBinding>::all(client.clone()), &children.reviews_binding).await?;
    scope.apply_all(&children.services).await?;
    remove_writers(&scope, parent, children).await?;
    let postgres = match &children.stateful_set {
        Some(stateful_set) => Some(postgres_pods(&scope.apply(stateful_set).await?)),
        None => None,
    };
    let collector = collector_pods(&scope.apply(&children.deployment).await?);
    Ok(Running { postgres, collector })
}

struct Scope<'a> {
    client: &'a Client,
    namespace: &'a str,
}

impl Scope<'_> {
    fn api<K: Child + Resource<Scope = NamespaceResourceScope>>(&self) -> Api<K> {
        Api::namespaced(self.client.clone(), self.namespace)
    }

    async fn apply<K: Child + Resource<Scope = NamespaceResourceScope>>(&self, desired: &K) -> Result<K, Error> {
        write::apply(&self.api(), desired).await
    }

    async fn apply_all<K: Child + Resource<Scope = NamespaceResourceScope>>(&self, all: &[K]) -> Result<(), Error> {
        for desired in all {
            self.apply(desired).await?;
        }
        Ok(())
    }
}

/// A trail that names no writers any more takes their access back.
async fn remove_writers(scope: &Scope<'_>, parent: &Parent, children: &Children) -> Result<(), Error> {
    let writer = parent.names.writer();
    if children.roles.iter().any(|role| role.metadata.name.as_ref() == Some(&writer)) {
        return Ok(());
    }
    write::delete_owned(&scope.api::<RoleBinding>(), &writer, parent.uid()).await?;
    write::delete_owned(&scope.api::<Role>(), &writer, parent.uid()).await
}

/// Deletes the ClusterRoleBinding, which no owner reference reaches.
pub async fn remove_reviews_binding(client: &Client, names: &Names) -> Result<(), Error> {
    write::delete(&Api::<ClusterRoleBinding>::all(client.clone()), &names.reviews_binding()).await
}

fn postgres_pods(stateful_set: &StatefulSet) -> Pods {
    let status = stateful_set.status.as_ref();
    Pods { wanted: 1, ready: status.and_then(|status| status.ready_replicas).unwrap_or(0), trouble: None }
}

fn collector_pods(deployment: &Deployment) -> Pods {
    let status = deployment.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
    // `ReplicaFailure`: pods are refused (quota, admission). `Progressing=False`: a rollout is stuck.
    let mut troubles = conditions.filter(|condition| match condition.type_.as_str() {
        "ReplicaFailure" => condition.status == "True",
        "Progressing" => condition.status == "False",
        _ => false,
    });
    Pods {
        wanted: deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1),
        ready: status.and_then(|status| status.available_replicas).unwrap_or(0),
        trouble: troubles.next().and_then(|condition| condition.message.clone()),
    }
}
