//! The collector's container, specified once: pods of the Deployment have it, and sidecars will.

use crate::names::Names;
use crate::settings::Settings;
use audittrail_crds::trail::{CollectorSpec, Tracing};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction, Lifecycle, LifecycleHandler,
    ObjectFieldSelector, PodSecurityContext, Probe, ResourceRequirements, SeccompProfile, SecurityContext, SleepAction,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;

/// Port that the collector listens on, inside of its pod.
pub const HTTPS_PORT: i32 = 8443;

/// Name of that port.
pub const HTTPS_PORT_NAME: &str = "https";

/// User and group of the collector. The image is made from scratch, so the number means nobody.
pub const USER_ID: i64 = 65532;

/// How long a collector goes on accepting after it is told to stop, in seconds: until Services no longer
/// send it anybody. Part of [`super::collector::TERMINATION_GRACE_SECONDS`].
pub const LEAVE_SECONDS: i64 = 3;

/// `service.name` of the collector's traces.
const TRACED_SERVICE: &str = "audittrail-collector";

/// Environment that a collector reads in Kubernetes.
pub mod environment {
    /// Namespace of the pod, and of the configuration document's Secret.
    pub const NAMESPACE: &str = "AUDITTRAIL_NAMESPACE";
    /// Name of the Secret with the configuration document.
    pub const DOCUMENT_SECRET: &str = "AUDITTRAIL_DOCUMENT_SECRET";
    /// Name of the pod: the replica's name in the status report.
    pub const POD_NAME: &str = "POD_NAME";
    /// Base URL of the OTLP endpoint (OpenTelemetry, "OTLP Exporter Configuration"); no traces where it is not set.
    pub const OTLP_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    /// Whose traces these are (OpenTelemetry, "General SDK Configuration").
    pub const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
    /// Where they come from (the same).
    pub const RESOURCE_ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";
}

/// The container that runs a collector of the trail with these names.
pub fn collector_container(settings: &Settings, names: &Names, spec: &CollectorSpec) -> Container {
    Container {
        name: "collector".to_owned(),
        image: Some(settings.collector_image.clone()),
        image_pull_policy: settings.image_pull_policy.clone(),
        args: Some(vec!["serve".to_owned()]),
        env: Some(environment_of(names, spec.tracing.as_ref())),
        ports: Some(vec![ContainerPort {
            name: Some(HTTPS_PORT_NAME.to_owned()),
            container_port: HTTPS_PORT,
            ..ContainerPort::default()
        }]),
        // The first answer may wait for the document's first arrival and for migrations.
        startup_probe: Some(probe("/livez", 2, 60)),
        liveness_probe: Some(probe("/livez", 10, 3)),
        readiness_probe: Some(probe("/readyz", 2, 2)),
        lifecycle: Some(Lifecycle { pre_stop: Some(sleep(LEAVE_SECONDS)), ..Lifecycle::default() }),
        resources: Some(spec.resources.clone().unwrap_or_else(default_resources)),
        security_context: Some(restricted()),
        ..Container::default()
    }
}

fn environment_of(names: &Names, tracing: Option<&Tracing>) -> Vec<EnvVar> {
    let mut environment = vec![
        from_field(environment::NAMESPACE, "metadata.namespace"),
        literal(environment::DOCUMENT_SECRET, names.collector()),
        from_field(environment::POD_NAME, "metadata.name"),
    ];
    if let Some(tracing) = tracing {
        // Kubernetes puts in the variables that stand above (`$(NAME)`). All three are DNS labels, so nothing needs escaping.
        let attributes = format!(
            "k8s.namespace.name=$({}),k8s.pod.name=$({}),audittrail.trail={}",
            environment::NAMESPACE,
            environment::POD_NAME,
            names.trail
        );
        environment.push(literal(environment::OTLP_ENDPOINT, tracing.endpoint.clone()));
        environment.push(literal(environment::SERVICE_NAME, TRACED_SERVICE.to_owned()));
        environment.push(literal(environment::RESOURCE_ATTRIBUTES, attributes));
    }
    environment
}

/// What Pod Security `restricted` asks of a container, and a root filesystem that cannot be written.
pub fn restricted() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }),
        read_only_root_filesystem: Some(true),
        ..SecurityContext::default()
    }
}

/// What Pod Security `restricted` asks of a pod whose processes run as `user`.
pub fn restricted_pod(user: i64) -> PodSecurityContext {
    PodSecurityContext {
        run_as_non_root: Some(true),
        run_as_user: Some(user),
        run_as_group: Some(user),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }),
        ..PodSecurityContext::default()
    }
}

/// Amounts of resources, by name.
pub fn amounts<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, Quantity> {
    pairs.into_iter().map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned()))).collect()
}

/// Memory has a limit, so that a leak ends in one pod's restart and not in a full node; CPU has
/// none, since a throttled collector only makes its writers wait.
fn default_resources() -> ResourceRequirements {
    ResourceRequirements {
        requests: Some(amounts([("cpu", "10m"), ("memory", "32Mi")])),
        limits: Some(amounts([("memory", "256Mi")])),
        claims: None,
    }
}

fn probe(path: &str, period_seconds: i32, failure_threshold: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.to_owned()),
            port: IntOrString::String(HTTPS_PORT_NAME.to_owned()),
            scheme: Some("HTTPS".to_owned()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(2),
        failure_threshold: Some(failure_threshold),
        ..Probe::default()
    }
}

fn sleep(seconds: i64) -> LifecycleHandler {
    LifecycleHandler { sleep: Some(SleepAction { seconds }), ..LifecycleHandler::default() }
}

fn literal(name: &str, value: String) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value), value_from: None }
}

fn from_field(name: &str, path: &str) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector { field_path: path.to_owned(), api_version: None }),
            ..EnvVarSource::default()
        }),
    }
}
