//! Stage read: what a forwarding names, live from the API server.

use super::source::Trouble;
use crate::api::write::{self, Error};
use audittrail_crds::{AuditForwarding, AuditTrail};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::Api;
use kube::{Client, ResourceExt};

/// What was read.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The forwarding.
    pub forwarding: AuditForwarding,
    /// Whether its trail exists and is not being deleted.
    pub trail_exists: bool,
    /// The Secret with the source's write key.
    pub write_key: Option<Secret>,
    /// The ConfigMap with certificate authorities, when one is named and there.
    pub authorities: Option<ConfigMap>,
    /// What is in the way of the source that it asks for, as far as somebody looked ([`super::source`]).
    pub trouble: Option<Trouble>,
}

/// Reads a forwarding and all that it names; `None` when it is gone.
pub async fn inputs(client: &Client, forwarding: &AuditForwarding) -> Result<Option<Inputs>, Error> {
    let namespace = forwarding.namespace().unwrap_or_default();
    // Live, so that the status which follows is built on the newest one.
    let api = Api::<AuditForwarding>::namespaced(client.clone(), &namespace);
    let Some(forwarding) = write::read(&api, &forwarding.name_any()).await? else { return Ok(None) };
    let trails = Api::<AuditTrail>::namespaced(client.clone(), &namespace);
    let trail = write::read(&trails, &forwarding.spec.trail_ref.name).await?;
    let trail_exists = trail.is_some_and(|trail| trail.metadata.deletion_timestamp.is_none());
    Ok(Some(Inputs { trail_exists, ..references(client, forwarding).await? }))
}

/// Reads what a forwarding of a trail that exists names besides.
pub async fn references(client: &Client, forwarding: AuditForwarding) -> Result<Inputs, Error> {
    let namespace = forwarding.namespace().unwrap_or_default();
    let source = &forwarding.spec.source.http_api;
    let secrets = Api::<Secret>::namespaced(client.clone(), &namespace);
    let write_key = write::read(&secrets, &forwarding.write_key_secret().name).await?;
    let authorities = match &source.ca_config_map_ref {
        Some(reference) => {
            let config_maps = Api::<ConfigMap>::namespaced(client.clone(), &namespace);
            write::read(&config_maps, &reference.name).await?
        }
        None => None,
    };
    Ok(Inputs { trail_exists: true, write_key, authorities, trouble: None, forwarding })
}
