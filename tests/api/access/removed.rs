//! Who was let in a moment ago and may not any more.

use crate::scene::{FORGOTTEN_WITHIN, scene};
use audittrail_crds::AuditTrail;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::RoleBinding;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn who_is_taken_off_the_owners_or_deleted_is_out_within_ten_seconds() {
    let Some(scene) = scene("access-removed").await else { return };
    let (reader, leaver) = (scene.token("reader"), scene.token("leaver"));
    assert_eq!(scene.read(&reader).await.status, 200);
    let left = json!({"spec": {"access": {"owners": [{"kind": "ServiceAccount", "name": "leaver"}]}}});
    scene.setup.patch::<AuditTrail>("acme", left).await;
    let two = |binding: &RoleBinding| binding.subjects.as_ref().is_some_and(|subjects| subjects.len() == 2);
    scene.setup.becomes("acme-owner", "has only the leaver and its own account", two).await;
    scene.becomes(403, &reader, FORGOTTEN_WITHIN).await.refuses(403, "may not get audittrails/events");

    assert_eq!(scene.read(&leaver).await.status, 200);
    scene.setup.delete::<ServiceAccount>("leaver").await;
    scene.becomes(401, &leaver, FORGOTTEN_WITHIN).await.refuses(401, "the cluster does not know this token");
}
