//! Deletion of a trail: what owner references do not reach.

use super::apply;
use crate::api::write::{self, Error};
use crate::names::{Component, Names};
use audittrail_crds::AuditTrail;
use audittrail_crds::trail::DeletionPolicy;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Secret};
use kube::api::Api;
use kube::{Client, ResourceExt};

/// Undoes what the garbage collector will not. Waits for nothing, so it cannot hang: a volume in
/// use is marked here, and Kubernetes removes it with the last pod (finalizer `pvc-protection`).
pub async fn clean_up(client: &Client, trail: &AuditTrail) -> Result<(), Error> {
    let names = Names::of(trail);
    apply::remove_reviews_binding(client, &names).await?;
    if trail.spec.deletion_policy == DeletionPolicy::Delete && trail.spec.storage.managed.is_some() {
        delete_data(client, &names, &trail.uid().unwrap_or_default()).await?;
    }
    Ok(())
}

/// First the StatefulSet, which would make a new volume for its pod. Only what is this trail's by
/// owner or label goes: an object of that name may be somebody else's.
async fn delete_data(client: &Client, names: &Names, uid: &str) -> Result<(), Error> {
    let namespace = names.namespace.as_str();
    let ours = names.selector(Component::Postgres);
    write::delete_owned(&Api::<StatefulSet>::namespaced(client.clone(), namespace), &names.postgres(), uid).await?;
    let volumes = Api::<PersistentVolumeClaim>::namespaced(client.clone(), namespace);
    write::delete_labelled(&volumes, &names.postgres_volume(), &ours).await?;
    write::delete_labelled(&Api::<Secret>::namespaced(client.clone(), namespace), &names.postgres(), &ours).await
}
