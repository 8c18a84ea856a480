//! Every limit of an event, in one table. Text is counted in Unicode scalar values. The limit of a request body is
//! [`crate::server::BODY_MAX_BYTES`].

/// Events of one request: as many as a group of the writer holds half of, so that one client cannot fill it.
pub const BATCH_MAX_EVENTS: usize = 5_000;

/// `id`.
pub const ID_MAX_CHARS: usize = 256;
/// `type`.
pub const TYPE_MAX_CHARS: usize = 128;
/// `actor.id`, `resource.type`, `resource.id`.
pub const IDENTITY_MAX_CHARS: usize = 512;
/// `actor.name`, `resource.name`.
pub const NAME_MAX_CHARS: usize = 512;
/// `actor.email` (RFC 5321, section 4.5.3.1: 64 + 1 + 255).
pub const EMAIL_MAX_CHARS: usize = 320;
/// `context.userAgent`.
pub const USER_AGENT_MAX_CHARS: usize = 1_024;
/// `context.requestId`.
pub const REQUEST_ID_MAX_CHARS: usize = 256;
/// `changes[].field`.
pub const CHANGE_FIELD_MAX_CHARS: usize = 512;
/// `changes`.
pub const CHANGES_MAX: usize = 500;
/// `changes` and `details`, each, in bytes of canonical JSON.
pub const JSON_MAX_BYTES: usize = 64 * 1024;
/// Earliest `timestamp`. Nobody audited before; a timestamp in seconds where milliseconds were
/// meant ends up there.
pub const TIMESTAMP_MIN: &str = "1970-01-01T00:00:00Z";
