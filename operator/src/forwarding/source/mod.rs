//! A source of its own: made for a forwarding through Segment's Public API, its write key kept in a Secret, and deleted
//! with the forwarding where `deletionPolicy` says so.
//!
//! | file | what | |
//! |---|---|---|
//! | [`make`] | finds or makes the source, keeps its write key | asks the Public API, writes |
//! | [`removal`] | deletes the source, or leaves it and says so | asks the Public API, writes |
//! | [`tie`] | the finalizer, and what a deletion needs | writes |
//! | [`api`], [`connect`] | the Public API | asks |
//! | [`answer`] | what it answers | pure |
//! | [`attempts`] | when it is asked | pure, with a memory |
//! | [`secret`] | the Secret with the write key | pure |
//! | [`trouble`] | what is in the way, for the condition | pure |
//!
//! The source's slug follows from the forwarding's UID. So a source whose creation nobody lived to see is found again, and
//! two clusters never take each other's.

pub mod answer;
pub mod api;
pub mod attempts;
mod connect;
pub mod make;
pub mod removal;
pub mod secret;
pub mod tie;
pub mod trouble;

pub use trouble::Trouble;

use super::read::Inputs;
use crate::api::write::Error;
use crate::context::{Context, RECHECK};
use crate::secret_text::{self, Text};
use attempts::Key;
use audittrail_crds::document::Sensitive;
use audittrail_crds::{AuditForwarding, KeyReference};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use secret::Holder;
use std::time::Duration;

/// Key of the token, when the forwarding names none.
pub const TOKEN_KEY: &str = "token";

/// Longest token, in characters. Segment's have less than 100; a header has room for some thousands.
pub const TOKEN_MAX_CHARS: usize = 4096;

/// Makes the source that a forwarding asks for, and deletes one that it asks for no more. Returns what was read, brought up
/// to date, and when to come again.
pub async fn bring_about(context: &Context, inputs: Inputs) -> Result<(Inputs, Duration), Error> {
    if inputs.forwarding.metadata.deletion_timestamp.is_some() {
        return Ok((inputs, RECHECK));
    }
    if let Some(create) = inputs.forwarding.spec.source.http_api.create.clone() {
        // Boxed: it holds a whole exchange, and would make every caller's future as large.
        return Box::pin(make::make(context, inputs, &create)).await;
    }
    let (forwarding, again) = Box::pin(removal::leave(context, &inputs)).await?;
    Ok((Inputs { forwarding, ..inputs }, again))
}

/// What is in the way of the source that a forwarding asks for; none where it asks for none. Pure.
pub fn trouble(inputs: &Inputs) -> Option<Trouble> {
    let (forwarding, secret) = (&inputs.forwarding, inputs.write_key.as_ref());
    forwarding.spec.source.http_api.create.as_ref()?;
    let name = forwarding.write_key_secret().name;
    match (secret::holder(forwarding, secret), secret::key(forwarding, secret)) {
        (Holder::Foreign, _) => Some(Trouble::Foreign { name }),
        (Holder::Leaving, _) => Some(Trouble::Leaving { name }),
        (_, Key::Kept) => inputs.trouble.clone(),
        (_, Key::Lacking) => Some(inputs.trouble.clone().unwrap_or(Trouble::Underway)),
    }
}

/// The slug of a forwarding's source: unique in a workspace, whoever else makes sources there.
fn slug(forwarding: &AuditForwarding) -> String {
    format!("audittrail-{}", forwarding.uid().unwrap_or_default())
}

/// The id of the source that was made for this very forwarding; a status may have come with a copy of another one.
fn known(forwarding: &AuditForwarding) -> Option<&str> {
    let created = forwarding.status.as_ref()?.created_source.as_ref()?;
    (created.slug == slug(forwarding)).then_some(created.id.as_str())
}

/// The token in a Secret.
fn token(secret: Option<&Secret>, reference: &KeyReference) -> Result<Sensitive, secret_text::Error> {
    let text = Text::of_secret(secret, &reference.name, reference.key_or(TOKEN_KEY))?;
    text.check(text.chars() <= TOKEN_MAX_CHARS, "is longer than a token may be (4096 characters)")?;
    text.check(text.is_printable(), "has whitespace, a line break or other characters outside of printable ASCII")?;
    Ok(text.sensitive())
}

#[cfg(test)]
mod tests;
