//! Where the next page starts: opaque to clients, checked when it comes back.
//!
//! A cursor holds what is left of the window that the first page saw, so that pages neither skip nor
//! repeat while events arrive. It grants nothing, so a checksum is enough: it tells damage and
//! cursors of other trails, not attackers, who could ask for the same events directly.

use super::filter::{Filter, Order};
use crate::event::json;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use std::ops::Range;
use uuid::Uuid;

/// Version of the layout.
const VERSION: u8 = 1;

/// Bytes kept of a hash: enough to tell mistakes.
const HASH_BYTES: usize = 8;

/// Version, epoch, start, end, selection, check.
const LENGTH: usize = 1 + 3 * 8 + 2 * HASH_BYTES;

/// What is left of a query.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cursor {
    /// Epoch of the log in which the query began.
    pub epoch: i64,
    /// The sequences that are left.
    pub sequences: Range<i64>,
}

/// Why a cursor cannot go on.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CursorError {
    /// Not something that a collector of this trail has given out.
    #[error("is not a cursor of this trail: start again without it")]
    Unknown,
    /// The parameters changed between pages.
    #[error(
        "belongs to other filters or another order: send the parameters it was given for, or start again without it"
    )]
    OtherSelection,
    /// Sequences were given anew since.
    #[error("is from before the database was restored: start again without it")]
    OtherEpoch,
}

/// What a cursor goes on with: the filter and the order, as a hash.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Selection([u8; HASH_BYTES]);

impl Selection {
    /// Of a query.
    pub fn of(filter: &Filter, order: Order) -> Self {
        Self(hash(&[&json::canonical(&(filter, order))]))
    }
}

impl Cursor {
    /// Text for the client.
    pub fn encode(&self, log_id: Uuid, selection: Selection) -> String {
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.push(VERSION);
        for number in [self.epoch, self.sequences.start, self.sequences.end] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend(selection.0);
        bytes.extend(check(log_id, &bytes));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads what [`Cursor::encode`] wrote for the same log, epoch, filter and order.
    pub fn decode(text: &str, log_id: Uuid, epoch: i64, selection: Selection) -> Result<Self, CursorError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError::Unknown)?;
        let bytes: [u8; LENGTH] = bytes.try_into().map_err(|_| CursorError::Unknown)?;
        let (content, sum) = bytes.split_at(LENGTH - HASH_BYTES);
        if content[0] != VERSION || sum != check(log_id, content) {
            return Err(CursorError::Unknown);
        }
        let cursor = Self { epoch: number(content, 0), sequences: number(content, 1)..number(content, 2) };
        if content[LENGTH - 2 * HASH_BYTES..] != selection.0 {
            return Err(CursorError::OtherSelection);
        }
        if cursor.epoch != epoch {
            return Err(CursorError::OtherEpoch);
        }
        Ok(cursor)
    }
}

/// The number at this place after the version.
fn number(content: &[u8], place: usize) -> i64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&content[1 + place * 8..][..8]);
    i64::from_be_bytes(bytes)
}

fn check(log_id: Uuid, content: &[u8]) -> [u8; HASH_BYTES] {
    hash(&[b"audittrail cursor", log_id.as_bytes(), content])
}

fn hash(parts: &[&[u8]]) -> [u8; HASH_BYTES] {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(part);
    }
    let mut kept = [0; HASH_BYTES];
    kept.copy_from_slice(&hasher.finalize()[..HASH_BYTES]);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: Uuid = Uuid::from_u128(1);

    fn selection() -> Selection {
        Selection::of(&Filter::default(), Order::Desc)
    }

    fn cursor() -> Cursor {
        Cursor { epoch: 3, sequences: 10..4_000_000_000_000 }
    }

    #[test]
    fn what_was_encoded_is_read_back() {
        let text = cursor().encode(LOG, selection());
        assert_eq!(Cursor::decode(&text, LOG, 3, selection()), Ok(cursor()));
    }

    #[test]
    fn every_changed_character_is_noticed() {
        let text = cursor().encode(LOG, selection());
        for place in 0..text.len() {
            let other = if text.as_bytes()[place] == b'A' { "B" } else { "A" };
            let forged = format!("{}{other}{}", &text[..place], &text[place + 1..]);
            assert_eq!(Cursor::decode(&forged, LOG, 3, selection()), Err(CursorError::Unknown), "{place}");
        }
    }

    #[test]
    fn text_that_was_never_a_cursor_is_unknown() {
        for text in ["", "1", "AAAA", "not base64!", &"A".repeat(10_000)] {
            assert_eq!(Cursor::decode(text, LOG, 3, selection()), Err(CursorError::Unknown));
        }
    }

    #[test]
    fn a_cursor_of_another_trail_is_unknown() {
        let text = cursor().encode(Uuid::from_u128(2), selection());
        assert_eq!(Cursor::decode(&text, LOG, 3, selection()), Err(CursorError::Unknown));
    }

    #[test]
    fn a_cursor_goes_on_only_with_its_own_filter_and_order() {
        let text = cursor().encode(LOG, selection());
        let filter = Filter { types: vec!["a".to_owned()], ..Filter::default() };
        for other in [Selection::of(&filter, Order::Desc), Selection::of(&Filter::default(), Order::Asc)] {
            assert_eq!(Cursor::decode(&text, LOG, 3, other), Err(CursorError::OtherSelection));
        }
    }

    #[test]
    fn a_cursor_ends_with_its_epoch() {
        let text = cursor().encode(LOG, selection());
        assert_eq!(Cursor::decode(&text, LOG, 4, selection()), Err(CursorError::OtherEpoch));
    }
}
