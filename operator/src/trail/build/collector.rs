//! The collector's Deployment and Service.

use super::Parent;
use super::container::{self, HTTPS_PORT_NAME};
use crate::names::Component;
use crate::settings::Settings;
use audittrail_crds::trail::CollectorSpec;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    PodSpec, PodTemplateSpec, Service, ServicePort, ServiceSpec, TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Time for leaving the Services (3 s), for requests in flight (25 s), and for what comes after them: off the list of
/// replicas (1 s), the last spans (2 s). With a rest for a slow node.
pub const TERMINATION_GRACE_SECONDS: i64 = 35;

/// Port 443 of `<trail>-collector`.
pub fn service(parent: &Parent) -> Service {
    Service {
        metadata: parent.owned(parent.names.collector(), Component::Collector),
        spec: Some(ServiceSpec {
            selector: Some(parent.names.selector(Component::Collector)),
            ports: Some(vec![ServicePort {
                name: Some(HTTPS_PORT_NAME.to_owned()),
                port: 443,
                protocol: Some("TCP".to_owned()),
                target_port: Some(IntOrString::String(HTTPS_PORT_NAME.to_owned())),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// The collector's pods. A new configuration rolls none of them: they watch the document.
pub fn deployment(parent: &Parent, spec: &CollectorSpec, settings: &Settings) -> Deployment {
    let selector =
        LabelSelector { match_labels: Some(parent.names.selector(Component::Collector)), match_expressions: None };
    Deployment {
        metadata: parent.owned(parent.names.collector(), Component::Collector),
        spec: Some(DeploymentSpec {
            replicas: Some(spec.replicas),
            selector: selector.clone(),
            strategy: Some(never_fewer()),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(parent.names.labels(Component::Collector)),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod(parent, spec, settings, selector)),
            },
            ..DeploymentSpec::default()
        }),
        status: None,
    }
}

/// A new pod is ready before an old one goes, so that a single replica accepts all the time.
fn never_fewer() -> DeploymentStrategy {
    DeploymentStrategy {
        type_: Some("RollingUpdate".to_owned()),
        rolling_update: Some(RollingUpdateDeployment {
            max_unavailable: Some(IntOrString::Int(0)),
            max_surge: Some(IntOrString::Int(1)),
        }),
    }
}

fn pod(parent: &Parent, spec: &CollectorSpec, settings: &Settings, selector: LabelSelector) -> PodSpec {
    PodSpec {
        service_account_name: Some(parent.names.collector()),
        security_context: Some(container::restricted_pod(container::USER_ID)),
        termination_grace_period_seconds: Some(TERMINATION_GRACE_SECONDS),
        // Names of other Services as variables would only fill the environment.
        enable_service_links: Some(false),
        topology_spread_constraints: Some(vec![TopologySpreadConstraint {
            max_skew: 1,
            topology_key: "kubernetes.io/hostname".to_owned(),
            // A preference: two collectors on one node are better than one.
            when_unsatisfiable: "ScheduleAnyway".to_owned(),
            label_selector: Some(selector),
            ..TopologySpreadConstraint::default()
        }]),
        containers: vec![container::collector_container(settings, &parent.names, spec)],
        ..PodSpec::default()
    }
}
