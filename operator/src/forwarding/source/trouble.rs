//! What is in the way of the source that a forwarding asks for, as its condition says it. Pure.

use super::answer::Failure;
use crate::secret_text;
use audittrail_crds::condition::Reason;
use audittrail_crds::forwarding::CreatedSource;

/// What is in the way of a source of its own. Never holds a token or a key.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Trouble {
    /// Nothing but time.
    #[error("the source is being made")]
    Underway,
    /// The Public API is not there, overloaded, or fails.
    #[error("the source is not made yet, and is tried again: {words}")]
    Unavailable {
        /// What happened.
        words: String,
    },
    /// The Public API refuses the token.
    #[error(
        "the Public API refuses the token: put one that may change the workspace's sources into Secret {secret}: {words}"
    )]
    TokenRefused {
        /// The Secret with the token.
        secret: String,
        /// The Public API's words.
        words: String,
    },
    /// The Public API refuses the source.
    #[error("the source cannot be made: check source.httpApi.create and the workspace: {words}")]
    Refused {
        /// The Public API's words, or what is wrong with its answer.
        words: String,
    },
    /// The source is there, and takes events to throw them away.
    #[error(
        "the source {slug} (id {id}) is switched off in its workspace, which loses what is sent to it: switch it on there, or set spec.enabled to false until it is"
    )]
    SwitchedOff {
        /// The source's slug.
        slug: String,
        /// The source's id.
        id: String,
    },
    /// The Secret for the write key is somebody else's.
    #[error(
        "Secret {name} exists and does not belong to this AuditForwarding: delete it, or give the AuditForwarding another name"
    )]
    Foreign {
        /// Name of the Secret.
        name: String,
    },
    /// The Secret for the write key is that of a forwarding of the same name which was deleted.
    #[error("Secret {name} of a deleted AuditForwarding of this name is still being removed")]
    Leaving {
        /// Name of the Secret.
        name: String,
    },
    /// The Secret with the token is missing, or its value cannot be used.
    #[error(transparent)]
    Token(#[from] secret_text::Error),
}

impl Trouble {
    /// The trouble that a failure of the Public API is, with the token of the Secret `secret`.
    pub fn of(failure: &Failure, secret: &str) -> Self {
        match failure {
            Failure::Unavailable { words, .. } => Self::Unavailable { words: words.clone() },
            Failure::Token { words } => Self::TokenRefused { secret: secret.to_owned(), words: words.clone() },
            Failure::Refused { words, .. } => Self::Refused { words: words.clone() },
        }
    }

    /// The trouble with a source that is switched off.
    pub fn switched_off(source: &CreatedSource) -> Self {
        Self::SwitchedOff { slug: source.slug.clone(), id: source.id.clone() }
    }

    /// The condition's reason.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Underway | Self::Unavailable { .. } | Self::Leaving { .. } => Reason::SourceNotCreated,
            Self::TokenRefused { .. } => Reason::TokenRefused,
            Self::Refused { .. } => Reason::SourceRefused,
            Self::SwitchedOff { .. } => Reason::SourceSwitchedOff,
            Self::Foreign { .. } => Reason::ApplyFailed,
            Self::Token(error) => error.reason(),
        }
    }
}
