//! Secrets, and the ConfigMap with the authority's certificate.

use super::super::material::Material;
use super::super::validate::{Storage, Valid};
use super::Parent;
use crate::names::{Component, POSTGRES_USER};
use crate::pki::{Authority, Leaf};
use audittrail_crds::document::{Document, SECRET_KEY, WriteKey};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;

/// Type of a Secret with a certificate; its keys.
pub const TLS_TYPE: &str = "kubernetes.io/tls";
/// Key of a PEM certificate.
pub const CERTIFICATE_KEY: &str = "tls.crt";
/// Key of a PEM private key.
pub const PRIVATE_KEY_KEY: &str = "tls.key";
/// Key of the authority's certificate in its ConfigMap.
pub const AUTHORITY_KEY: &str = "ca.crt";
/// Key of a write key.
pub const WRITE_KEY: &str = "writeKey";
/// Key of the write key before it, accepted too.
pub const WRITE_KEY_PREVIOUS: &str = "writeKeyPrevious";
/// Key of the password of managed Postgres.
pub const PASSWORD_KEY: &str = "password";

/// Secrets with random content that are not there yet.
pub fn new(parent: &Parent, valid: &Valid, material: &Material) -> Vec<Secret> {
    let mut secrets = Vec::new();
    if valid.kept.authority.is_none() {
        secrets.push(authority(parent, &material.authority));
    }
    if valid.kept.write_keys.is_none() {
        secrets.push(write_key(parent, &material.write_keys));
    }
    if let (Storage::Managed(_), None, Some(password)) =
        (&valid.storage, &valid.kept.password, &material.postgres_password)
    {
        secrets.push(credentials(parent, password.reveal()));
    }
    secrets
}

fn authority(parent: &Parent, authority: &Authority) -> Secret {
    let metadata = parent.owned(parent.names.ca(), Component::Access);
    let data = [(CERTIFICATE_KEY, authority.certificate.as_str()), (PRIVATE_KEY_KEY, authority.key.reveal())];
    secret(metadata, TLS_TYPE, data)
}

fn write_key(parent: &Parent, keys: &[WriteKey]) -> Secret {
    let metadata = parent.owned(parent.names.write_key(), Component::Access);
    let key = keys.first().map_or("", |key| key.key.reveal());
    secret(metadata, "Opaque", [(WRITE_KEY, key)])
}

/// The password belongs to the volume, which knows no other; so it stays as long as the volume
/// does, and the finalizer removes both.
fn credentials(parent: &Parent, password: &str) -> Secret {
    let metadata = parent.kept(parent.names.postgres(), Component::Postgres);
    let data = [("username", POSTGRES_USER), (PASSWORD_KEY, password), ("database", POSTGRES_USER)];
    secret(metadata, "Opaque", data)
}

/// The authority's certificate, for clients of the trail.
pub fn authority_certificate(parent: &Parent, material: &Material) -> ConfigMap {
    ConfigMap {
        metadata: parent.owned(parent.names.ca(), Component::Access),
        data: Some(BTreeMap::from([(AUTHORITY_KEY.to_owned(), material.authority.certificate.clone())])),
        ..ConfigMap::default()
    }
}

/// The certificate of managed Postgres.
pub fn postgres_certificate(parent: &Parent, leaf: &Leaf) -> Secret {
    let metadata = parent.owned(parent.names.postgres_tls(), Component::Postgres);
    secret(metadata, TLS_TYPE, [(CERTIFICATE_KEY, leaf.certificate.as_str()), (PRIVATE_KEY_KEY, leaf.key.reveal())])
}

/// The configuration document, where collectors watch it.
pub fn document(parent: &Parent, document: &Document) -> Secret {
    let metadata = parent.owned(parent.names.collector(), Component::Collector);
    secret(metadata, "Opaque", [(SECRET_KEY, super::document::render(document).as_str())])
}

fn secret<const N: usize>(metadata: ObjectMeta, type_: &str, data: [(&str, &str); N]) -> Secret {
    let entry = |(key, value): (&str, &str)| (key.to_owned(), ByteString(value.as_bytes().to_vec()));
    Secret {
        metadata,
        type_: Some(type_.to_owned()),
        data: Some(data.into_iter().map(entry).collect()),
        ..Secret::default()
    }
}
