//! Writing a status.

use super::write::{Child, Error, failed};
use crate::names::OPERATOR;
use kube::api::{Api, Patch, PatchParams};
use serde::Serialize;
use serde_json::json;

/// Writes the whole status of `name`. Server-side apply: fields that are absent now go, and no
/// change of anybody else is lost, since nobody else owns a field of it.
pub async fn write<K: Child>(api: &Api<K>, name: &str, status: &impl Serialize) -> Result<(), Error> {
    let patch = json!({"apiVersion": K::api_version(&()), "kind": K::kind(&()), "status": status});
    match api.patch_status(name, &PatchParams::apply(OPERATOR).force(), &Patch::Apply(&patch)).await {
        // Deleted in the meantime: there is nobody left to tell.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(source) => Err(failed::<K>("write the status of", name, source)),
        Ok(_) => Ok(()),
    }
}
