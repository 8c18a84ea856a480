//! The YAML of the custom resource definitions, made from the types and from nothing else.

use crate::{AuditForwarding, AuditTrail};
use kube::CustomResourceExt;

/// File name and text of each definition.
pub fn files() -> Result<Vec<(&'static str, String)>, serde_saphyr::ser::Error> {
    Ok(vec![
        ("audittrails.yaml", render(&AuditTrail::crd())?),
        ("auditforwardings.yaml", render(&AuditForwarding::crd())?),
    ])
}

fn render(crd: &impl serde::Serialize) -> Result<String, serde_saphyr::ser::Error> {
    let yaml = serde_saphyr::to_string(crd)?;
    Ok(format!("# Made from the types in crds/src by `make generate`; do not edit.\n{yaml}"))
}
