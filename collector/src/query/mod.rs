//! Asking: filters, pages and exports.

pub mod counts;
pub mod cursor;
pub mod event;
pub mod export;
pub mod filter;
pub mod list;
pub mod page;
pub mod parameters;
pub mod place;
pub mod record;
pub mod words;

#[cfg(test)]
pub(crate) mod tests {
    use crate::event::{StoredEvent, SubmittedBy, SubmitterKind, tests::event};

    /// A stored event, to be changed by tests.
    pub fn stored(sequence: i64) -> StoredEvent {
        StoredEvent {
            sequence,
            epoch: 0,
            received_at: "2026-03-02T09:14:05.12Z".parse().expect("valid"),
            timestamp: "2026-03-02T09:14:05Z".parse().expect("valid"),
            submitted_by: SubmittedBy { kind: SubmitterKind::WriteKey, name: "acme-write-key/writeKey".to_owned() },
            passed: Vec::new(),
            event: event(&format!("evt_{sequence}")),
        }
    }
}
