//! What ties a forwarding to the source that was made for it, where that is to be deleted with it: a finalizer, and beside
//! it what the deletion needs, for the time when the spec names it no more.

use crate::api::write::{Error, failed};
use crate::names::OPERATOR;
use audittrail_crds::forwarding::Region;
use audittrail_crds::trail::DeletionPolicy;
use audittrail_crds::{AuditForwarding, KeyReference};
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Resource, ResourceExt};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// On a forwarding whose source goes with it.
pub const FINALIZER: &str = "audittrail.dev/source";

/// Has the [`Tie`] as JSON.
pub const ANNOTATION: &str = "audittrail.dev/source-deletion";

/// What is needed to delete the source.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tie {
    /// Base URL of the Public API.
    pub api_endpoint: String,
    /// The Secret key with the token.
    pub token_secret_ref: KeyReference,
    /// The ConfigMap key with the authorities to trust.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_config_map_ref: Option<KeyReference>,
}

/// Base URL of the Public API, without a slash at its end; none where no source is asked for.
pub fn api_endpoint(forwarding: &AuditForwarding) -> Option<&str> {
    let source = &forwarding.spec.source.http_api;
    let create = source.create.as_ref()?;
    // Admission saw to it that one of the two is there.
    let endpoint = create.api_endpoint.as_deref().or_else(|| source.region.map(Region::api_endpoint));
    endpoint.map(|endpoint| endpoint.trim_end_matches('/'))
}

/// The tie that the spec asks for.
pub fn wanted(forwarding: &AuditForwarding) -> Option<Tie> {
    let source = &forwarding.spec.source.http_api;
    let create = source.create.as_ref().filter(|create| create.deletion_policy == DeletionPolicy::Delete)?;
    Some(Tie {
        api_endpoint: api_endpoint(forwarding)?.to_owned(),
        token_secret_ref: create.token_secret_ref.clone(),
        ca_config_map_ref: source.ca_config_map_ref.clone(),
    })
}

/// Whether the finalizer is there.
pub fn is_tied(forwarding: &AuditForwarding) -> bool {
    forwarding.finalizers().iter().any(|finalizer| finalizer == FINALIZER)
}

/// The tie that is there.
pub fn present(forwarding: &AuditForwarding) -> Option<Tie> {
    serde_json::from_str(forwarding.annotations().get(ANNOTATION)?).ok()
}

/// Ties the forwarding as `tie` says, or unties it; writes nothing where it is so already. Returns it as it is then.
pub async fn settle(client: &Client, forwarding: AuditForwarding, tie: Option<&Tie>) -> Result<AuditForwarding, Error> {
    if is_tied(&forwarding) == tie.is_some() && present(&forwarding).as_ref() == tie {
        return Ok(forwarding);
    }
    let (name, namespace) = (forwarding.name_any(), forwarding.namespace().unwrap_or_default());
    let api = Api::<AuditForwarding>::namespaced(client.clone(), &namespace);
    let Some(tie) = tie else { return untie(&api, &name, forwarding).await };
    // Server-side apply: of the metadata, only this is ours. With the UID, nothing is made where it is gone.
    let patch = json!({
        "apiVersion": AuditForwarding::api_version(&()),
        "kind": AuditForwarding::kind(&()),
        "metadata": {
            "uid": forwarding.uid(),
            "finalizers": [FINALIZER],
            // Plain data: it always becomes JSON.
            "annotations": {ANNOTATION: serde_json::to_string(tie).unwrap_or_default()},
        },
    });
    let options = PatchParams::apply(OPERATOR).force();
    let tied = api.patch(&name, &options, &Patch::Apply(&patch)).await;
    tied.map_err(|source| failed::<AuditForwarding>("tie", &name, source))
}

/// Takes our finalizer and annotation away, whoever owns them besides: an apply that leaves them out would let those stand
/// that came with a manifest. The list of finalizers is written as it was read, so nothing is written where somebody has
/// changed the object since: that is an error, and the next round reads anew.
async fn untie(api: &Api<AuditForwarding>, name: &str, forwarding: AuditForwarding) -> Result<AuditForwarding, Error> {
    let others: Vec<&String> = forwarding.finalizers().iter().filter(|finalizer| *finalizer != FINALIZER).collect();
    let patch = json!({"metadata": {
        "uid": forwarding.uid(),
        "resourceVersion": forwarding.resource_version(),
        "finalizers": others,
        "annotations": {ANNOTATION: null},
    }});
    let options = PatchParams { field_manager: Some(OPERATOR.to_owned()), ..PatchParams::default() };
    match api.patch(name, &options, &Patch::Merge(&patch)).await {
        Ok(untied) => Ok(untied),
        // Gone in the meantime: there is nothing left to untie.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(forwarding),
        Err(source) => Err(failed::<AuditForwarding>("untie", name, source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forwarding::source::tests::asking;
    use crate::testing::forwarding;

    #[test]
    fn only_a_source_that_is_to_be_deleted_is_tied() {
        assert_eq!(wanted(&asking("Retain")), None);
        assert_eq!(wanted(&forwarding(&json!({"region": "US"}))), None);
        let tie = wanted(&asking("Delete")).expect("a tie");
        assert_eq!(
            (tie.api_endpoint.as_str(), tie.token_secret_ref.name.as_str()),
            ("https://api.segmentapis.com", "token")
        );
    }

    #[test]
    fn the_api_is_the_named_one_or_that_of_the_region() {
        let mut forwarding = asking("Delete");
        forwarding.spec.source.http_api.region = Some(Region::Eu);
        assert_eq!(wanted(&forwarding).expect("a tie").api_endpoint, "https://eu1.api.segmentapis.com");
        let create = forwarding.spec.source.http_api.create.as_mut().expect("it asks");
        create.api_endpoint = Some("https://api.example/base/".to_owned());
        assert_eq!(wanted(&forwarding).expect("a tie").api_endpoint, "https://api.example/base");
    }

    #[test]
    fn a_tie_is_found_in_its_annotation() {
        let mut forwarding = asking("Delete");
        let tie = wanted(&forwarding).expect("a tie");
        assert_eq!((is_tied(&forwarding), present(&forwarding)), (false, None));
        forwarding.finalizers_mut().push(FINALIZER.to_owned());
        forwarding.annotations_mut().insert(ANNOTATION.to_owned(), serde_json::to_string(&tie).expect("JSON"));
        assert_eq!((is_tied(&forwarding), present(&forwarding)), (true, Some(tie)));
    }
}
