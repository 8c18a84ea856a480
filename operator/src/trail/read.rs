//! Stage read: everything that decides how a trail's children look, live from the API server.

use crate::api::guarded::Guarded;
use crate::api::write::{self, Error};
use crate::board::Facts;
use crate::forwarding;
use crate::names::Names;
use audittrail_crds::{AuditForwarding, AuditTrail, AuditTrailStatus};
use futures::future::try_join_all;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};

/// What was read.
#[derive(Clone, Debug)]
pub struct Inputs {
    /// The trail.
    pub trail: AuditTrail,
    /// UID of the namespace `kube-system`, which stands for the cluster.
    pub cluster: String,
    /// All trails of the namespace.
    pub siblings: Vec<AuditTrail>,
    /// Secrets that are there.
    pub secrets: Secrets,
    /// Managed Postgres, as it is.
    pub stateful_set: Option<StatefulSet>,
    /// The forwardings of this trail, each with what it names.
    pub forwardings: Vec<forwarding::read::Inputs>,
    /// What this process knows besides.
    pub facts: Facts,
}

impl Inputs {
    /// The trail's status as it stands at the API server. The trail itself comes from a watch, and may be older.
    pub fn status(&self) -> AuditTrailStatus {
        let live = self.siblings.iter().find(|one| one.uid() == self.trail.uid()).unwrap_or(&self.trail);
        live.status.clone().unwrap_or_default()
    }
}

/// Secrets of a trail, by role; `None` where there is none, or none is named.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// The certificate authority.
    pub authority: Option<Secret>,
    /// The password of managed Postgres.
    pub postgres: Option<Secret>,
    /// The certificate of managed Postgres.
    pub postgres_tls: Option<Secret>,
    /// The write key: the named one, or else ours.
    pub write_key: Option<Secret>,
    /// The connection URI of external Postgres.
    pub uri: Option<Secret>,
    /// The configuration document.
    pub document: Option<Secret>,
}

/// Reads what `trail` depends on.
pub async fn inputs(client: &Client, cluster: &str, trail: &AuditTrail, facts: Facts) -> Result<Inputs, Error> {
    let names = Names::of(trail);
    let namespace = names.namespace.as_str();
    let (siblings, forwardings) = tokio::try_join!(list(client, namespace), forwardings(client, &names))?;
    let postgres = Api::<StatefulSet>::namespaced(client.clone(), namespace);
    Ok(Inputs {
        cluster: cluster.to_owned(),
        siblings,
        secrets: secrets(client, trail, &names).await?,
        stateful_set: write::read(&postgres, &names.postgres()).await?,
        forwardings,
        facts,
        trail: trail.clone(),
    })
}

async fn secrets(client: &Client, trail: &AuditTrail, names: &Names) -> Result<Secrets, Error> {
    let api = Api::<Secret>::namespaced(client.clone(), &names.namespace);
    let spec = &trail.spec;
    let write_key = super::validate::write_key_secret(trail, names);
    let uri = spec.storage.external.as_ref().map(|external| external.uri_secret_ref.name.as_str());
    let (ca, postgres, tls, document) = (names.ca(), names.postgres(), names.postgres_tls(), names.collector());
    let (authority, postgres, postgres_tls, write_key, uri, document) = tokio::try_join!(
        write::read(&api, &ca),
        write::read(&api, &postgres),
        write::read(&api, &tls),
        write::read(&api, &write_key),
        async {
            match uri {
                Some(name) => write::read(&api, name).await,
                None => Ok(None),
            }
        },
        write::read(&api, &document),
    )?;
    Ok(Secrets { authority, postgres, postgres_tls, write_key, uri, document })
}

async fn forwardings(client: &Client, names: &Names) -> Result<Vec<forwarding::read::Inputs>, Error> {
    let all: Vec<AuditForwarding> = list(client, &names.namespace).await?;
    let ours = all
        .into_iter()
        .filter(|one| one.spec.trail_ref.name == names.trail && one.metadata.deletion_timestamp.is_none());
    let mut inputs = try_join_all(ours.map(|one| forwarding::read::references(client, one))).await?;
    inputs.sort_by_key(|one| one.forwarding.name_any());
    Ok(inputs)
}

async fn list<K>(client: &Client, namespace: &str) -> Result<Vec<K>, Error>
where
    K: write::Child + kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
{
    let api = Api::<Guarded<K>>::namespaced(client.clone(), namespace);
    match api.list(&ListParams::default()).await {
        // What cannot be read is left out: the watch has told of it.
        Ok(list) => Ok(list.items.into_iter().filter_map(|Guarded(object)| object.ok()).collect()),
        Err(source) => Err(write::failed::<K>("list", namespace, source)),
    }
}
