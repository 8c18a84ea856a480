//! Bodies of `POST /v1/batch`: as many items as fit. Pure: events in, bytes out. What an item looks like is
//! [`crate::segment`].

use crate::event::{StoredEvent, rfc3339_microseconds};
use crate::segment;
use crate::store::parked::Place;
use audittrail_crds::document::{Delivery, Format};
use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

/// Largest body, in bytes: Segment's "500 KB per batch", with the margin of analytics-python.
pub const BODY_MAX_BYTES: usize = 475_000;

/// Most items of a body: Segment drops a larger batch behind a 200.
pub const BODY_MAX_ITEMS: usize = 2_500;

/// Room in a body for what is around the items, in bytes: brackets, `sentAt`, and a write key of up to
/// 1,024 characters, each escaped to six.
pub const ENVELOPE_BYTES: usize = 8 * 1024;

/// Most of one body, as the forwarding wants it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bounds {
    /// Items, at most [`BODY_MAX_ITEMS`].
    pub items: usize,
    /// Bytes before compression, at most [`BODY_MAX_BYTES`].
    pub bytes: usize,
}

impl Bounds {
    /// Of a forwarding with these settings.
    pub fn of(delivery: &Delivery) -> Self {
        let within = |wanted: Option<u32>, max: usize| {
            wanted.map_or(max, |wanted| usize::try_from(wanted).unwrap_or(max).clamp(1, max))
        };
        Self {
            items: within(delivery.max_batch_events, BODY_MAX_ITEMS),
            bytes: within(delivery.max_batch_bytes, BODY_MAX_BYTES),
        }
    }
}

/// An event, ready to be sent. A clone shares its bytes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Item {
    /// Its sequence.
    pub sequence: i64,
    /// Its epoch.
    pub epoch: i64,
    /// The JSON of the item, at most [`segment::encode::ITEM_MAX_BYTES`].
    pub json: Bytes,
}

impl Item {
    /// Where its event stands.
    pub fn place(&self) -> Place {
        Place { epoch: self.epoch, sequence: self.sequence }
    }
}

/// Encodes an event of the log `log_id`, which is that of `workspace`.
pub fn item(log_id: Uuid, workspace: &str, format: Format, stored: &StoredEvent) -> Item {
    let json = segment::encode::item(log_id, workspace, format, stored);
    Item { sequence: stored.sequence, epoch: stored.epoch, json }
}

/// How many of the first items fit in one body; at least one, unless there is none.
pub fn fitting(items: &[Item], bounds: Bounds) -> usize {
    let mut size = ENVELOPE_BYTES;
    let fits = |item: &&Item| {
        size += item.json.len() + 1;
        size <= bounds.bytes
    };
    items.iter().take(bounds.items).take_while(fits).count().max(1).min(items.len())
}

/// The body of `POST /v1/batch`. `sent_at` is the moment of this very attempt: receivers correct
/// their clocks by it.
///
/// # Panics
/// Never: text always has a JSON form.
pub fn body(items: &[Item], write_key: &str, sent_at: Timestamp) -> Vec<u8> {
    let size: usize = items.iter().map(|item| item.json.len() + 1).sum();
    let mut body = Vec::with_capacity(size + ENVELOPE_BYTES);
    body.extend_from_slice(b"{\"batch\":[");
    for (place, item) in items.iter().enumerate() {
        if place > 0 {
            body.push(b',');
        }
        body.extend_from_slice(&item.json);
    }
    body.extend_from_slice(b"],\"sentAt\":");
    body.extend_from_slice(&bytes(&rfc3339_microseconds(sent_at)));
    body.extend_from_slice(b",\"writeKey\":");
    body.extend_from_slice(&bytes(&write_key));
    body.push(b'}');
    body
}

fn bytes(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain data with text as keys always has a JSON form")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::encode::ITEM_MAX_BYTES;
    use crate::segment::tests::{LOG, full, stored};
    use serde_json::Value;

    fn items(count: usize, bytes: usize) -> Vec<Item> {
        (0..count).map(|_| Item { sequence: 0, epoch: 0, json: vec![b'x'; bytes].into() }).collect()
    }

    fn bounds(max_batch_events: Option<u32>, max_batch_bytes: Option<u32>) -> Bounds {
        Bounds::of(&Delivery { max_batch_events, max_batch_bytes, ..Delivery::default() })
    }

    #[test]
    fn a_body_holds_at_most_2500_items() {
        let bounds = bounds(None, None);
        assert_eq!(fitting(&items(2_500, 2), bounds), 2_500);
        assert_eq!(fitting(&items(2_501, 2), bounds), 2_500);
        assert_eq!(fitting(&[], bounds), 0);
    }

    #[test]
    fn a_forwarding_may_want_smaller_bodies_and_no_larger_ones() {
        assert_eq!(bounds(Some(2_501), Some(475_001)), bounds(None, None));
        assert_eq!(bounds(Some(0), Some(50_000)), Bounds { items: 1, bytes: 50_000 });
        assert_eq!(fitting(&items(3, 2), bounds(Some(2), None)), 2);
        let bytes = bounds(None, Some(50_000));
        let size = body(&items(fitting(&items(100, 1_000), bytes), 1_000), "key", Timestamp::UNIX_EPOCH).len();
        assert!(size <= 50_000 && size + 1_000 + ENVELOPE_BYTES > 50_000, "{size}");
    }

    #[test]
    fn an_item_that_is_larger_than_a_body_should_be_goes_alone() {
        assert_eq!(fitting(&items(2, ITEM_MAX_BYTES), Bounds { items: 10, bytes: 1_000 }), 1);
    }

    #[test]
    fn a_body_stays_within_475000_bytes_and_is_used_well() {
        for bytes in [1_000, ITEM_MAX_BYTES] {
            let items = items(1_000, bytes);
            let key = "\u{1}".repeat(1_024);
            let fitting = fitting(&items, bounds(None, None));
            let size = body(&items[..fitting], &key, Timestamp::UNIX_EPOCH).len();
            assert!(size <= BODY_MAX_BYTES && size + bytes + ENVELOPE_BYTES > BODY_MAX_BYTES, "{size}");
        }
    }

    #[test]
    fn a_body_is_json_with_the_key_and_the_moment_of_the_attempt() {
        let event = item(LOG, "Acme", Format::Named, &stored(full()));
        let sent_at = "2026-03-02T09:15:00Z".parse().expect("valid");
        let body: Value = serde_json::from_slice(&body(&[event.clone(), event], "k\"ey", sent_at)).expect("valid JSON");
        assert_eq!(body["batch"].as_array().map(Vec::len), Some(2));
        assert_eq!(body["sentAt"], "2026-03-02T09:15:00.000000Z");
        assert_eq!(body["writeKey"], "k\"ey");
    }
}
