//! Every limit of a request and of an event, in one table, from which `docs/events.md` gets its own. Text is counted in
//! Unicode scalar values.

use crate::server::BODY_MAX_BYTES;
use jiff::{SignedDuration, Timestamp};
use std::fmt;

/// Events of one request: as many as a group of the writer holds half of, so that one client cannot fill it.
pub const BATCH_MAX_EVENTS: usize = 5_000;

/// `id`.
pub const ID_MAX_CHARS: usize = 256;
/// `type`.
pub const TYPE_MAX_CHARS: usize = audittrail_crds::catalogue::NAME_MAX_CHARS;
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
/// `source` of a CloudEvent, which may become `actor.id` and `resource.type`.
pub const CE_SOURCE_MAX_CHARS: usize = IDENTITY_MAX_CHARS;
/// `changes[].field`.
pub const CHANGE_FIELD_MAX_CHARS: usize = 512;
/// `changes`.
pub const CHANGES_MAX: usize = 500;
/// `changes` and `details`, each, in bytes of canonical JSON.
pub const JSON_MAX_BYTES: usize = 64 * 1024;
/// `changes` and `details`, each: levels of objects and arrays inside each other.
pub const JSON_MAX_LEVELS: usize = 32;
/// `changes` and `details`, each: members of all objects, on all levels.
pub const JSON_MAX_MEMBERS: usize = 2_000;
/// Earliest `timestamp`. Nobody audited before; a timestamp in seconds where milliseconds were
/// meant ends up there.
pub const TIMESTAMP_MIN: &str = "1970-01-01T00:00:00Z";
/// How far `timestamp` may be ahead of the collector's clock.
pub const TIMESTAMP_AHEAD_MAX: SignedDuration = SignedDuration::from_hours(1);

/// Earliest `timestamp`, parsed.
pub const TIMESTAMP_EARLIEST: Timestamp = Timestamp::UNIX_EPOCH;

/// Memory that one event may take while it is read, in bytes: past what any event within the other limits takes, so that
/// an event which breaks them is noticed before it is read whole.
pub const EVENT_MAX_WEIGHT_BYTES: usize = 8 * 1024 * 1024;

/// One limit, as people read it.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// What is limited.
    pub of: &'static str,
    /// How far it may go.
    pub maximum: Maximum,
    /// Why.
    pub reason: &'static str,
}

/// How far something may go.
#[derive(Clone, Copy, Debug)]
pub enum Maximum {
    /// In bytes.
    Bytes(usize),
    /// In characters (Unicode scalar values); at least one.
    Chars(usize),
    /// So many of what is named.
    Count(usize, &'static str),
    /// Not before.
    Earliest(&'static str),
    /// Ahead of the collector's clock.
    Ahead(SignedDuration),
}

impl fmt::Display for Maximum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) if bytes % (1024 * 1024) == 0 => write!(f, "{} MiB", bytes / 1024 / 1024),
            Self::Bytes(bytes) => write!(f, "{} KiB", bytes / 1024),
            Self::Chars(chars) => write!(f, "1 to {} characters", Thousands(*chars)),
            Self::Count(count, what) => write!(f, "{} {what}", Thousands(*count)),
            Self::Earliest(moment) => write!(f, "from {moment} on"),
            Self::Ahead(duration) => write!(f, "at most {duration:#} ahead"),
        }
    }
}

/// A number with commas between thousands.
struct Thousands(usize);

impl fmt::Display for Thousands {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            number @ 0..1_000 => write!(f, "{number}"),
            number => write!(f, "{},{:03}", Self(number / 1_000), number % 1_000),
        }
    }
}

/// Every limit that a client can meet.
pub const TABLE: &[Limit] = &[
    limit(
        "a body, as sent and decoded",
        Maximum::Bytes(BODY_MAX_BYTES),
        "an API server sends up to 10 MiB of audit events",
    ),
    limit("events of a request", Maximum::Count(BATCH_MAX_EVENTS, "events"), "half of what one commit takes"),
    limit("`id`", Maximum::Chars(ID_MAX_CHARS), "it stands in an index"),
    limit("`type`", Maximum::Chars(TYPE_MAX_CHARS), "it stands in an index"),
    limit("`timestamp`", Maximum::Earliest(TIMESTAMP_MIN), "before that are units gone wrong"),
    limit("`timestamp`, against the collector's clock", Maximum::Ahead(TIMESTAMP_AHEAD_MAX), "a clock, not a plan"),
    limit("`actor.id`, `resource.type`, `resource.id`", Maximum::Chars(IDENTITY_MAX_CHARS), "they stand in indexes"),
    limit("`actor.name`, `resource.name`", Maximum::Chars(NAME_MAX_CHARS), "people read them"),
    limit("`actor.email`", Maximum::Chars(EMAIL_MAX_CHARS), "RFC 5321, section 4.5.3.1"),
    limit("`context.userAgent`", Maximum::Chars(USER_AGENT_MAX_CHARS), "browsers stay far below"),
    limit("`context.requestId`", Maximum::Chars(REQUEST_ID_MAX_CHARS), "an id"),
    limit(
        "a CloudEvent's `source` and `subject`",
        Maximum::Chars(CE_SOURCE_MAX_CHARS),
        "they become actor and resource",
    ),
    limit("`changes`", Maximum::Count(CHANGES_MAX, "changes"), "more is a document, not a change"),
    limit("`changes[].field`", Maximum::Chars(CHANGE_FIELD_MAX_CHARS), "a path"),
    limit(
        "`changes`, `details`, each",
        Maximum::Bytes(JSON_MAX_BYTES),
        "of JSON without white space; an event is no file",
    ),
    limit("`changes`, `details`, nesting", Maximum::Count(JSON_MAX_LEVELS, "levels"), "readers recurse"),
    limit("`changes`, `details`, on all levels", Maximum::Count(JSON_MAX_MEMBERS, "members"), "each takes memory"),
];

const fn limit(of: &'static str, maximum: Maximum, reason: &'static str) -> Limit {
    Limit { of, maximum, reason }
}

/// The table in Markdown.
pub fn markdown() -> String {
    let row = |limit: &Limit| format!("| {} | {} | {} |\n", limit.of, limit.maximum, limit.reason);
    format!("| of | limit | since |\n|---|---|---|\n{}", TABLE.iter().map(row).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const BEGIN: &str = "<!-- limits: UPDATE_DOCS=1 cargo test -p audittrail-collector limits -->\n";
    const END: &str = "<!-- /limits -->";

    #[test]
    fn the_documentation_has_this_table() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/events.md");
        let text = std::fs::read_to_string(&path).expect("docs/events.md");
        let (before, rest) = text.split_once(BEGIN).expect("docs/events.md has the marker of the table's begin");
        let (table, after) = rest.split_once(END).expect("docs/events.md has the marker of the table's end");
        if table == markdown() {
            return;
        }
        assert!(
            std::env::var_os("UPDATE_DOCS").is_some(),
            "docs/events.md has other limits than limits.rs; UPDATE_DOCS=1 cargo test -p audittrail-collector limits rewrites it"
        );
        std::fs::write(&path, format!("{before}{BEGIN}{}{END}{after}", markdown())).expect("written");
    }

    #[test]
    fn the_earliest_moment_is_what_is_said() {
        assert_eq!(TIMESTAMP_EARLIEST.to_string(), TIMESTAMP_MIN);
    }

    #[test]
    fn limits_are_readable() {
        let shown = [
            Maximum::Bytes(16 * 1024 * 1024),
            Maximum::Bytes(64 * 1024),
            Maximum::Chars(1_024),
            Maximum::Count(1_005_000, "events"),
            Maximum::Ahead(SignedDuration::from_hours(1)),
        ]
        .map(|maximum| maximum.to_string());
        assert_eq!(shown, ["16 MiB", "64 KiB", "1 to 1,024 characters", "1,005,000 events", "at most 1h ahead"]);
    }
}
