//! Apply, create once, delete.

use super::difference;
use crate::names::OPERATOR;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Resource, ResourceExt};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};

/// On every applied child: SHA-256 of what was applied. It makes the removal of a field from
/// what we desire a difference too, which a comparison of the rest would not see.
const APPLIED_ANNOTATION: &str = "audittrail.dev/applied";

/// Why a child is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server refused, or did not answer.
    #[error("{verb} {kind} {name}: {}", words(source))]
    Api {
        /// What was tried: `apply`, `create`, `read`, `delete`.
        verb: &'static str,
        /// Kind of the object.
        kind: String,
        /// Name of the object.
        name: String,
        /// What came back.
        source: Box<kube::Error>,
    },
    /// An object of that name is there and belongs to something else.
    #[error(
        "{kind} {name} exists and does not belong to this AuditTrail: delete it or give the AuditTrail another name"
    )]
    Foreign {
        /// Kind of the object.
        kind: String,
        /// Name of the object.
        name: String,
    },
    /// An object of that name is there, from an `AuditTrail` of the same name which was deleted.
    #[error("{kind} {name} of a deleted AuditTrail of this name is still being removed")]
    Leaving {
        /// Kind of the object.
        kind: String,
        /// Name of the object.
        name: String,
    },
}

impl Error {
    /// Whether nobody but people can help: the API server understood and refused.
    pub fn needs_help(&self) -> bool {
        match self {
            Self::Api { source, .. } => matches!(&**source, kube::Error::Api(status) if is_refusal(status.code)),
            Self::Leaving { .. } => false,
            Self::Foreign { .. } => true,
        }
    }
}

/// A client error that no second try mends: neither a timeout, nor a conflict, nor an overload.
fn is_refusal(code: u16) -> bool {
    (400..500).contains(&code) && ![408, 409, 429].contains(&code)
}

/// The API server's own words, or the client's where it did not answer.
fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    }
}

/// What a child must be: an object of ours with a schema known here.
pub trait Child: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize {}
impl<K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize> Child for K {}

/// Reads `name`, if it is there. What can be no name is not asked for: the client puts it into the URL as it stands, and one
/// with a space would fail the whole round of whoever reads it beside others.
pub async fn read<K: Child>(api: &Api<K>, name: &str) -> Result<Option<K>, Error> {
    if !can_be_a_name(name) {
        return Ok(None);
    }
    api.get_opt(name).await.map_err(|source| failed::<K>("read", name, source))
}

/// Whether `name` has only what DNS subdomains consist of, and the colons of RBAC's names. Admission refuses other references,
/// but not those that were there before it did.
fn can_be_a_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.:".contains(&byte))
        && name.bytes().any(|byte| byte.is_ascii_alphanumeric())
}

/// Makes `desired` true, and answers with the live object. Writes nothing where it is true already.
pub async fn apply<K: Child>(api: &Api<K>, desired: &K) -> Result<K, Error> {
    let name = desired.name_any();
    let desired = marked(desired.clone());
    if let Some(live) = read(api, &name).await? {
        check_owner(&desired, &live)?;
        let Some(lacking) = difference::lacking(&json(&desired), &json(&live)) else { return Ok(live) };
        tracing::debug!(kind = %K::kind(&()), name, lacking, "the live object lacks something");
    }
    api.patch(&name, &PatchParams::apply(OPERATOR).force(), &Patch::Apply(&desired))
        .await
        .map_err(|source| failed::<K>("apply", &name, source))
}

/// Creates what must be made once and never again: random keys. A conflict (somebody was
/// faster) is an error, and the next reconcile reads what is there.
pub async fn create<K: Child>(api: &Api<K>, object: &K) -> Result<K, Error> {
    let options = PostParams { field_manager: Some(OPERATOR.to_owned()), ..PostParams::default() };
    api.create(&options, object).await.map_err(|source| failed::<K>("create", &object.name_any(), source))
}

/// Deletes `name` with all that it owns; nothing to do where it is gone.
pub async fn delete<K: Child>(api: &Api<K>, name: &str) -> Result<(), Error> {
    delete_where(api, name, |_| true).await
}

/// Deletes `name` where the object with `uid` owns it; what is not ours stays.
pub async fn delete_owned<K: Child>(api: &Api<K>, name: &str, uid: &str) -> Result<(), Error> {
    delete_where(api, name, |live| owners(live.meta()).any(|owner| owner == uid)).await
}

/// Deletes `name` where it has all of `labels`; what is not ours stays.
pub async fn delete_labelled<K: Child>(
    api: &Api<K>,
    name: &str,
    labels: &BTreeMap<String, String>,
) -> Result<(), Error> {
    delete_where(api, name, |live| labels.iter().all(|(key, value)| live.labels().get(key) == Some(value))).await
}

/// Deletes exactly the object that was judged, not a namesake made since.
async fn delete_where<K: Child>(api: &Api<K>, name: &str, ours: impl Fn(&K) -> bool) -> Result<(), Error> {
    let Some(live) = read(api, name).await? else { return Ok(()) };
    if !ours(&live) || live.meta().deletion_timestamp.is_some() {
        return Ok(());
    }
    let preconditions = Some(Preconditions { uid: live.uid(), ..Preconditions::default() });
    match api.delete(name, &DeleteParams { preconditions, ..DeleteParams::background() }).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(source) => Err(failed::<K>("delete", name, source)),
        Ok(_) => Ok(()),
    }
}

/// An object that belongs to somebody else is not taken over: it may be somebody's data.
fn check_owner<K: Child>(desired: &K, live: &K) -> Result<(), Error> {
    let Some(owner) = desired.owner_references().first() else { return Ok(()) };
    if owners(live.meta()).any(|uid| uid == owner.uid) {
        return Ok(());
    }
    let (kind, name) = (K::kind(&()).into_owned(), live.name_any());
    let same_name = |other: &_| (&owner.kind, &owner.name) == name_of(other);
    if live.owner_references().iter().any(same_name) {
        return Err(Error::Leaving { kind, name });
    }
    Err(Error::Foreign { kind, name })
}

fn name_of(owner: &k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference) -> (&String, &String) {
    (&owner.kind, &owner.name)
}

fn owners(meta: &ObjectMeta) -> impl Iterator<Item = &str> {
    meta.owner_references.iter().flatten().map(|owner| owner.uid.as_str())
}

fn marked<K: Child>(mut object: K) -> K {
    let hash = hash(&json(&object));
    object.annotations_mut().insert(APPLIED_ANNOTATION.to_owned(), hash);
    object
}

/// SHA-256 of a value, in hexadecimal. A Secret's is no secret: it is told only to those who may
/// read the Secret, which is where it stands.
pub fn hash(value: &impl Serialize) -> String {
    let bytes = serde_json::to_vec(value).unwrap_or_default();
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Our API types are plain data: they always become JSON.
fn json(object: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(object).unwrap_or_default()
}

/// An error of the API server, with what was tried.
pub(crate) fn failed<K: Child>(verb: &'static str, name: &str, source: kube::Error) -> Error {
    Error::Api { verb, kind: K::kind(&()).into_owned(), name: name.to_owned(), source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Secret;
    use kube::{Client, Config};

    /// Secrets of an API server that does not answer.
    fn nowhere() -> Api<Secret> {
        // The only thing that fails here is that another test was first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = Config::new("http://127.0.0.1:1".parse().expect("a URL"));
        Api::namespaced(Client::try_from(config).expect("a client"), "ns")
    }

    #[tokio::test]
    async fn what_can_be_no_name_is_missing_without_being_asked_for() {
        let secrets = nowhere();
        for name in ["my secret", "", ".", "..", "a/b", "../secrets/b", "a?b", "a%20b", "ä", "a\n"] {
            assert!(read(&secrets, name).await.expect("no request").is_none(), "{name:?}");
        }
        for name in ["source", "my-source.v2", "audittrail:ns:acme:collector"] {
            assert!(read(&secrets, name).await.is_err(), "{name} is asked for");
        }
    }
}
