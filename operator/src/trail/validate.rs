//! Stage validate: what was read, as a type that later stages cannot stumble over. Pure.

use super::build::secrets::{CERTIFICATE_KEY, PASSWORD_KEY, PRIVATE_KEY_KEY, WRITE_KEY, WRITE_KEY_PREVIOUS};
use super::continuity;
use super::read::{Inputs, Secrets};
use crate::forwarding;
use crate::names::Names;
use crate::pki::{Authority, Leaf};
use crate::secret_text::{self, Text};
use audittrail_crds::AuditTrail;
use audittrail_crds::catalogue::{Catalogue, CatalogueError};
use audittrail_crds::condition::Reason;
use audittrail_crds::document::{self, DOCUMENT_MAX_BYTES, Document, KnownLog, SECRET_KEY, Sensitive, WriteKey};
use audittrail_crds::trail::{CatalogueSpec, EventTypeSpec, ExternalStorage, ManagedStorage};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ResourceRequirements, Secret};
use kube::ResourceExt;
use std::ops::RangeInclusive;

/// Length of a write key, in characters: long enough not to be guessed, short enough for any header.
pub const WRITE_KEY_CHARS: RangeInclusive<usize> = 16..=200;

/// Longest connection URI, in characters. Ten hosts with parameters stay below.
pub const URI_MAX_CHARS: usize = 4000;

/// A trail whose children can be built.
#[derive(Clone, Debug)]
pub struct Valid {
    /// The trail.
    pub trail: AuditTrail,
    /// Names of its children.
    pub names: Names,
    /// What it writes into its database to say whose it is.
    pub claim: String,
    /// Where events are kept.
    pub storage: Storage,
    /// What was made earlier and goes on being used.
    pub kept: Kept,
    /// The present configuration document, when there is a readable one.
    pub document: Option<Document>,
    /// Entries of the forwardings, by name, without generation. Those that name what is not there are incomplete, and say so
    /// in their own status.
    pub forwardings: Vec<document::Forwarding>,
    /// For how long events are kept, in seconds; for ever when `None`.
    pub retention_seconds: Option<i64>,
    /// Which types of events there are.
    pub catalogue: document::Catalogue,
    /// What the collectors have to know of an earlier state of the log.
    pub known_log: Option<KnownLog>,
    /// The highest generation of a document that is known; 0 where none is.
    pub known_generation: i64,
}

impl Valid {
    /// Name of the Secret with the write key.
    pub fn write_key_secret(&self) -> String {
        write_key_secret(&self.trail, &self.names)
    }
}

/// Where events are kept.
#[derive(Clone, Debug)]
pub enum Storage {
    /// In a Postgres of ours.
    Managed(ManagedDatabase),
    /// Behind this connection URI.
    External(Sensitive),
}

/// A Postgres of ours, as it is to be.
#[derive(Clone, Debug)]
pub struct ManagedDatabase {
    /// Size of the volume.
    pub size: String,
    /// StorageClass of the volume.
    pub storage_class_name: Option<String>,
    /// CPU and memory.
    pub resources: Option<ResourceRequirements>,
    /// Image, when the trail names one.
    pub image: Option<String>,
}

/// Random material found in Secrets; what is `None` is still to be made.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// The certificate authority.
    pub authority: Option<Authority>,
    /// The password of managed Postgres.
    pub password: Option<Sensitive>,
    /// The write key, and the previous one.
    pub write_keys: Option<Vec<WriteKey>>,
    /// The certificate of managed Postgres.
    pub postgres_leaf: Option<Leaf>,
    /// The certificate of the collector.
    pub collector_leaf: Option<Leaf>,
}

/// Why a trail's children cannot be built.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Invalid {
    /// An older trail of the namespace has the same workspace.
    #[error("AuditTrail {other} of this namespace was made earlier for the same workspace: delete one of the two")]
    WorkspaceNotUnique {
        /// Name of the older trail.
        other: String,
    },
    /// A Secret is missing, or its value cannot be used.
    #[error(transparent)]
    Secret(#[from] secret_text::Error),
    /// The catalogue contradicts itself or the built-in one, or has a schema that cannot be used.
    #[error("spec.catalogue: {0}")]
    Catalogue(#[from] CatalogueError),
    /// The document is larger than a Secret may be.
    #[error(
        "the configuration is {bytes} bytes, more than the {DOCUMENT_MAX_BYTES} that fit a Secret: use fewer AuditForwardings on this trail, smaller CA bundles, or a smaller catalogue"
    )]
    ConfigurationTooLarge {
        /// Size of the document.
        bytes: usize,
    },
}

impl Invalid {
    /// The condition's reason.
    pub fn reason(&self) -> Reason {
        match self {
            Self::WorkspaceNotUnique { .. } => Reason::WorkspaceNotUnique,
            Self::Secret(error) => error.reason(),
            Self::Catalogue(_) => Reason::CatalogueInvalid,
            Self::ConfigurationTooLarge { .. } => Reason::ConfigurationTooLarge,
        }
    }
}

/// Validates what was read.
pub fn validate(inputs: &Inputs) -> Result<Valid, Invalid> {
    let trail = &inputs.trail;
    let names = Names::of(trail);
    workspace_is_unique(trail, &inputs.siblings)?;
    let storage = storage(inputs)?;
    let document = inputs.secrets.document.as_ref().and_then(present_document);
    let catalogue = document_catalogue(&trail.spec.catalogue);
    Catalogue::of(&catalogue)?;
    let present = document.as_ref().and_then(|document| document.known_log);
    Ok(Valid {
        claim: format!("{}/{}/{}", inputs.cluster, names.namespace, names.trail),
        kept: kept(trail, &names, &inputs.secrets, &storage, document.as_ref())?,
        forwardings: inputs
            .forwardings
            .iter()
            .map(|one| match forwarding::validate::validate(one) {
                Ok(valid) => forwarding::build::entry(&valid),
                Err(_) => forwarding::build::incomplete(&one.forwarding),
            })
            .collect(),
        retention_seconds: trail.spec.retention.as_deref().and_then(seconds),
        catalogue,
        known_log: continuity::known_log(&inputs.status(), present, &inputs.facts),
        known_generation: super::build::document::known_generation(&inputs.status(), &inputs.facts),
        trail: trail.clone(),
        names,
        storage,
        document,
    })
}

/// Whether the document fits its Secret.
pub fn fits(document: &Document) -> Result<(), Invalid> {
    match super::build::document::render(document).len() {
        bytes if bytes > DOCUMENT_MAX_BYTES => Err(Invalid::ConfigurationTooLarge { bytes }),
        _ => Ok(()),
    }
}

/// The older of two wins, so that a new trail never takes a running one down; the uid decides
/// between two of the same second.
fn workspace_is_unique(trail: &AuditTrail, siblings: &[AuditTrail]) -> Result<(), Invalid> {
    let age = |one: &AuditTrail| (one.creation_timestamp().map(|time| time.0), one.uid());
    let older = siblings
        .iter()
        .filter(|other| other.uid() != trail.uid() && other.spec.workspace == trail.spec.workspace)
        .filter(|other| age(other) < age(trail))
        .min_by_key(|other| age(other));
    older.map_or(Ok(()), |other| Err(Invalid::WorkspaceNotUnique { other: other.name_any() }))
}

/// The catalogue as the document has it.
pub fn document_catalogue(spec: &CatalogueSpec) -> document::Catalogue {
    let event_type = |one: &EventTypeSpec| document::EventType {
        name: one.name.clone(),
        area: one.area.clone(),
        aliases: one.aliases.clone(),
        schema: one.schema.clone().map(serde_json::Value::Object),
    };
    document::Catalogue { mode: spec.mode, event_types: spec.event_types.iter().map(event_type).collect() }
}

/// Seconds of a duration like `90d` or `36h`. Admission lets nothing else through; if it ever did, nothing would be deleted.
fn seconds(duration: &str) -> Option<i64> {
    let (number, unit) = duration.split_at_checked(duration.len().checked_sub(1)?)?;
    let unit_seconds = match unit {
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<i64>().ok().filter(|number| *number > 0)?.checked_mul(unit_seconds)
}

fn storage(inputs: &Inputs) -> Result<Storage, Invalid> {
    let storage = &inputs.trail.spec.storage;
    if let Some(external) = &storage.external {
        return Ok(Storage::External(external_uri(external, inputs.secrets.uri.as_ref())?));
    }
    // Admission saw to it that one of the two is there; all of `managed` has defaults.
    let managed = storage.managed.clone().unwrap_or_default();
    Ok(Storage::Managed(managed_database(managed, inputs.stateful_set.as_ref())))
}

fn external_uri(external: &ExternalStorage, secret: Option<&Secret>) -> Result<Sensitive, Invalid> {
    let reference = &external.uri_secret_ref;
    let text = Text::of_secret(secret, &reference.name, reference.key_or("uri"))?;
    text.check(URI_MAX_CHARS >= text.chars(), "is longer than a connection URI may be (4000 characters)")?;
    text.check(text.is_printable(), "has whitespace, a line break or other characters that no URI has")?;
    let scheme = ["postgresql://", "postgres://"].iter().any(|scheme| text.starts_with(scheme));
    text.check(scheme, "is no connection URI: it must start with postgresql://")?;
    Ok(text.sensitive())
}

/// The volume's class was taken when the StatefulSet was made; a template cannot change.
fn managed_database(managed: ManagedStorage, live: Option<&StatefulSet>) -> ManagedDatabase {
    let claim = live
        .and_then(|live| live.spec.as_ref()?.volume_claim_templates.as_ref()?.first())
        .and_then(|template| template.spec.as_ref());
    ManagedDatabase {
        storage_class_name: claim.map_or(managed.storage_class_name, |claim| claim.storage_class_name.clone()),
        size: managed.size,
        resources: managed.resources,
        image: managed.image,
    }
}

fn kept(
    trail: &AuditTrail,
    names: &Names,
    secrets: &Secrets,
    storage: &Storage,
    document: Option<&Document>,
) -> Result<Kept, Invalid> {
    let password = match (storage, &secrets.postgres) {
        (Storage::Managed(_), Some(secret)) => Some(password(names, secret)?),
        _ => None,
    };
    Ok(Kept {
        authority: secrets.authority.as_ref().map(|secret| authority(names, secret)).transpose()?,
        password,
        write_keys: write_keys(trail, names, secrets.write_key.as_ref())?,
        postgres_leaf: secrets.postgres_tls.as_ref().and_then(leaf),
        collector_leaf: document
            .and_then(|document| document.tls.clone())
            .map(|tls| Leaf { certificate: tls.certificate, key: tls.key }),
    })
}

fn authority(names: &Names, secret: &Secret) -> Result<Authority, Invalid> {
    let name = names.ca();
    let certificate = Text::of_secret(Some(secret), &name, CERTIFICATE_KEY)?;
    let key = Text::of_secret(Some(secret), &name, PRIVATE_KEY_KEY)?.sensitive();
    Authority::read(certificate.public(), key.reveal()).map_err(|_| {
        certificate
            .invalid("is no certificate of the private key beside it: delete the Secret to have a new one made")
            .into()
    })
}

fn password(names: &Names, secret: &Secret) -> Result<Sensitive, Invalid> {
    let name = names.postgres();
    let text = Text::of_secret(Some(secret), &name, PASSWORD_KEY)?;
    text.check(text.is_printable(), "has whitespace, a line break or other characters outside of printable ASCII")?;
    Ok(text.sensitive())
}

/// A leaf that cannot be read is made anew: nobody keeps a copy of it.
fn leaf(secret: &Secret) -> Option<Leaf> {
    let certificate = Text::of_secret(Some(secret), "", CERTIFICATE_KEY).ok()?;
    let key = Text::of_secret(Some(secret), "", PRIVATE_KEY_KEY).ok()?;
    Some(Leaf { certificate: certificate.public().to_owned(), key: key.sensitive() })
}

/// The keys that are there. `None`: the trail names no Secret, and ours is still to be made.
fn write_keys(trail: &AuditTrail, names: &Names, secret: Option<&Secret>) -> Result<Option<Vec<WriteKey>>, Invalid> {
    if trail.spec.ingest.write_key_secret_ref.is_none() && secret.is_none() {
        return Ok(None);
    }
    let name = write_key_secret(trail, names);
    let mut keys = vec![write_key(secret, &name, WRITE_KEY)?];
    if secret.is_some_and(|secret| secret_text::has_value(secret, WRITE_KEY_PREVIOUS)) {
        keys.push(write_key(secret, &name, WRITE_KEY_PREVIOUS)?);
    }
    Ok(Some(keys))
}

/// The Secret that the trail names, or else ours.
pub fn write_key_secret(trail: &AuditTrail, names: &Names) -> String {
    trail.spec.ingest.write_key_secret_ref.as_ref().map_or_else(|| names.write_key(), |named| named.name.clone())
}

fn write_key(secret: Option<&Secret>, name: &str, key: &str) -> Result<WriteKey, Invalid> {
    let text = Text::of_secret(secret, name, key)?;
    text.check(WRITE_KEY_CHARS.contains(&text.chars()), "must have 16 to 200 characters")?;
    text.check(text.is_printable(), "has whitespace, a line break or other characters outside of printable ASCII")?;
    Ok(WriteKey { name: format!("{name}/{key}"), key: text.sensitive() })
}

/// A document that somebody damaged is as good as none.
fn present_document(secret: &Secret) -> Option<Document> {
    serde_json::from_slice(&secret.data.as_ref()?.get(SECRET_KEY)?.0).ok()
}

#[cfg(test)]
mod tests;
