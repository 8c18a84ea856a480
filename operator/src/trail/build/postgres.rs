//! Managed Postgres: one pod, one volume.

use super::Parent;
use super::container::{amounts, restricted, restricted_pod};
use crate::api::write::hash;
use crate::names::{Component, POSTGRES_PORT};
use crate::pki::Leaf;
use crate::settings::Settings;
use crate::trail::validate::ManagedDatabase;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EmptyDirVolumeSource, EnvVar, ExecAction, PersistentVolumeClaim,
    PersistentVolumeClaimSpec, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements,
    SecretVolumeSource, Service, ServiceAccount, ServicePort, ServiceSpec, Volume, VolumeMount,
    VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;

/// User and group of Postgres, in the public image and in ours.
const USER_ID: i64 = 999;

/// Time for the last checkpoint, in seconds.
const TERMINATION_GRACE_SECONDS: i64 = 60;

/// Startup may copy a new database to a slow volume: 100 tries, 3 s apart.
const STARTUP_TRIES: i32 = 100;

/// On the pod: SHA-256 of the certificate. A new one restarts Postgres, which reads it only then.
const CERTIFICATE_ANNOTATION: &str = "audittrail.dev/certificate";

const PORT_NAME: &str = "postgres";
const START: &str = include_str!("postgres-start.sh");

/// Postgres accepts connections.
const READY: &str = "PATH=\"$(echo /usr/lib/postgresql/*/bin | tr ' ' ':'):$PATH\"; exec pg_isready --quiet --host=/var/run/postgresql --timeout=2";

/// Postgres answers, if only that it is starting: recovery after a crash may take long.
const ALIVE: &str = "PATH=\"$(echo /usr/lib/postgresql/*/bin | tr ' ' ':'):$PATH\"; pg_isready --quiet --host=/var/run/postgresql --timeout=2 || [ $? -eq 1 ]";

/// An account without a token: Postgres has no business with the API server.
pub fn account(parent: &Parent) -> ServiceAccount {
    ServiceAccount {
        metadata: parent.owned(parent.names.postgres(), Component::Postgres),
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}

/// An address that stays when the pod moves: clients need no new DNS answer.
pub fn service(parent: &Parent) -> Service {
    Service {
        metadata: parent.owned(parent.names.postgres(), Component::Postgres),
        spec: Some(ServiceSpec {
            selector: Some(parent.names.selector(Component::Postgres)),
            ports: Some(vec![ServicePort {
                name: Some(PORT_NAME.to_owned()),
                port: POSTGRES_PORT,
                protocol: Some("TCP".to_owned()),
                target_port: Some(IntOrString::String(PORT_NAME.to_owned())),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// The StatefulSet.
pub fn stateful_set(parent: &Parent, database: &ManagedDatabase, leaf: &Leaf, settings: &Settings) -> StatefulSet {
    let certificate = BTreeMap::from([(CERTIFICATE_ANNOTATION.to_owned(), hash(&leaf.certificate))]);
    StatefulSet {
        metadata: parent.owned(parent.names.postgres(), Component::Postgres),
        spec: Some(StatefulSetSpec {
            replicas: Some(1),
            service_name: Some(parent.names.postgres()),
            // With `OrderedReady`, a pod that never got ready blocks the update that would mend it.
            pod_management_policy: Some("Parallel".to_owned()),
            selector: LabelSelector {
                match_labels: Some(parent.names.selector(Component::Postgres)),
                match_expressions: None,
            },
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(parent.names.labels(Component::Postgres)),
                    annotations: Some(certificate),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod(parent, database, settings)),
            },
            volume_claim_templates: Some(vec![volume(parent, database)]),
            ..StatefulSetSpec::default()
        }),
        status: None,
    }
}

fn volume(parent: &Parent, database: &ManagedDatabase) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        // Templates cannot change, so they carry only labels that never do.
        metadata: ObjectMeta {
            name: Some("data".to_owned()),
            labels: Some(parent.names.selector(Component::Postgres)),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            storage_class_name: database.storage_class_name.clone(),
            resources: Some(VolumeResourceRequirements {
                requests: Some(amounts([("storage", &database.size)])),
                limits: None,
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        status: None,
    }
}

fn pod(parent: &Parent, database: &ManagedDatabase, settings: &Settings) -> PodSpec {
    PodSpec {
        service_account_name: Some(parent.names.postgres()),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        termination_grace_period_seconds: Some(TERMINATION_GRACE_SECONDS),
        security_context: Some(PodSecurityContext {
            fs_group: Some(USER_ID),
            fs_group_change_policy: Some("OnRootMismatch".to_owned()),
            ..restricted_pod(USER_ID)
        }),
        containers: vec![container(database, settings)],
        volumes: Some(vec![
            secret_volume("credentials", parent.names.postgres()),
            secret_volume("tls", parent.names.postgres_tls()),
            scratch_volume("sockets"),
            scratch_volume("tmp"),
        ]),
        ..PodSpec::default()
    }
}

fn container(database: &ManagedDatabase, settings: &Settings) -> Container {
    Container {
        name: "postgres".to_owned(),
        image: Some(database.image.clone().unwrap_or_else(|| settings.postgres_image.clone())),
        image_pull_policy: settings.image_pull_policy.clone(),
        command: Some(["/bin/sh", "-ec", START].map(str::to_owned).to_vec()),
        env: Some(vec![EnvVar {
            name: "PGDATA".to_owned(),
            // Below the mount: a volume's root may hold lost+found, and the database is moved into place.
            value: Some("/data/pgdata".to_owned()),
            value_from: None,
        }]),
        ports: Some(vec![ContainerPort {
            name: Some(PORT_NAME.to_owned()),
            container_port: POSTGRES_PORT,
            ..ContainerPort::default()
        }]),
        startup_probe: Some(probe(ALIVE, 3, STARTUP_TRIES)),
        liveness_probe: Some(probe(ALIVE, 10, 6)),
        readiness_probe: Some(probe(READY, 3, 2)),
        resources: Some(database.resources.clone().unwrap_or_else(default_resources)),
        security_context: Some(restricted()),
        volume_mounts: Some(vec![
            mount("data", "/data", Access::Write),
            mount("credentials", "/credentials", Access::Read),
            mount("tls", "/tls", Access::Read),
            mount("sockets", "/var/run/postgresql", Access::Write),
            mount("tmp", "/tmp", Access::Write),
        ]),
        ..Container::default()
    }
}

/// No limit: what Postgres may use is the volume's and the node's business until somebody says otherwise.
fn default_resources() -> ResourceRequirements {
    ResourceRequirements {
        requests: Some(amounts([("cpu", "50m"), ("memory", "128Mi")])),
        ..ResourceRequirements::default()
    }
}

fn probe(script: &str, period_seconds: i32, failure_threshold: i32) -> Probe {
    Probe {
        exec: Some(ExecAction { command: Some(["/bin/sh", "-c", script].map(str::to_owned).to_vec()) }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(5),
        failure_threshold: Some(failure_threshold),
        ..Probe::default()
    }
}

/// Files of mode 0640, group [`USER_ID`] by `fsGroup`: what Postgres asks of a private key.
fn secret_volume(name: &str, secret: String) -> Volume {
    Volume {
        name: name.to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret),
            default_mode: Some(0o640),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn scratch_volume(name: &str) -> Volume {
    Volume { name: name.to_owned(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() }
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Access {
    Read,
    Write,
}

fn mount(name: &str, path: &str, access: Access) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: (access == Access::Read).then_some(true),
        ..VolumeMount::default()
    }
}
