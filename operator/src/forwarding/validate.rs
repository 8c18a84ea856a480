//! Stage validate: what a forwarding names, as values that can be used. Pure.

use super::read::Inputs;
use super::source;
use crate::pki::is_certificate_bundle;
use crate::secret_text::{self, Text};
use audittrail_crds::AuditForwarding;
use audittrail_crds::condition::Reason;
use audittrail_crds::document::Sensitive;
use audittrail_crds::forwarding::WRITE_KEY;
use k8s_openapi::api::core::v1::ConfigMap;

/// Longest write key of a source, in characters. Segment's have 32.
pub const WRITE_KEY_MAX_CHARS: usize = 1000;

/// Key of the certificates, when the forwarding names none.
pub const CERTIFICATES_KEY: &str = "ca.crt";

/// A forwarding whose entry can be built.
#[derive(Clone, Debug)]
pub struct Valid {
    /// The forwarding.
    pub forwarding: AuditForwarding,
    /// The source's write key.
    pub write_key: Sensitive,
    /// PEM certificates of the authorities to trust for the source.
    pub authorities: Option<String>,
}

/// Why an entry cannot be built.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Invalid {
    /// There is no trail of that name.
    #[error(
        "AuditTrail {name} does not exist in this namespace: create it, or make a new AuditForwarding for another trail"
    )]
    TrailMissing {
        /// Name of the trail.
        name: String,
    },
    /// A Secret or ConfigMap is missing, or its value cannot be used.
    #[error(transparent)]
    Text(#[from] secret_text::Error),
    /// The source that it asks for is not there, or cannot be used.
    #[error(transparent)]
    Source(#[from] source::Trouble),
    /// The API server does not let the operator look.
    #[error("the API server refused to tell: {words}")]
    Refused {
        /// What was asked, and the API server's words.
        words: String,
    },
}

impl Invalid {
    /// The condition's reason.
    pub fn reason(&self) -> Reason {
        match self {
            Self::TrailMissing { .. } => Reason::TrailMissing,
            Self::Text(error) => error.reason(),
            Self::Source(trouble) => trouble.reason(),
            Self::Refused { .. } => Reason::ApplyFailed,
        }
    }
}

/// Validates what was read.
pub fn validate(inputs: &Inputs) -> Result<Valid, Invalid> {
    let spec = &inputs.forwarding.spec;
    if !inputs.trail_exists {
        return Err(Invalid::TrailMissing { name: spec.trail_ref.name.clone() });
    }
    // Before the key: a source that is created waits for them.
    let authorities = authorities(inputs)?;
    if let Some(trouble) = source::trouble(inputs) {
        return Err(trouble.into());
    }
    Ok(Valid { forwarding: inputs.forwarding.clone(), write_key: write_key(inputs)?, authorities })
}

fn write_key(inputs: &Inputs) -> Result<Sensitive, Invalid> {
    let reference = inputs.forwarding.write_key_secret();
    let text = Text::of_secret(inputs.write_key.as_ref(), &reference.name, reference.key_or(WRITE_KEY))?;
    text.check(text.chars() <= WRITE_KEY_MAX_CHARS, "is longer than a write key may be (1000 characters)")?;
    text.check(text.is_printable(), "has whitespace, a line break or other characters outside of printable ASCII")?;
    Ok(text.sensitive())
}

/// PEM certificates of the authorities to trust for the source, where some are named.
pub fn authorities(inputs: &Inputs) -> Result<Option<String>, Invalid> {
    let Some(reference) = &inputs.forwarding.spec.source.http_api.ca_config_map_ref else { return Ok(None) };
    let config_map: Option<&ConfigMap> = inputs.authorities.as_ref();
    let text = Text::of_config_map(config_map, &reference.name, reference.key_or(CERTIFICATES_KEY))?;
    text.check(is_certificate_bundle(text.public()), "must be PEM certificates and nothing else")?;
    Ok(Some(text.public().to_owned()))
}

#[cfg(test)]
mod tests;
