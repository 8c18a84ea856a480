//! Where the next page starts: opaque to clients, checked when it comes back.
//!
//! A cursor holds what is left of the window that the first page saw, so that pages neither skip nor repeat while events
//! arrive. It also says that its query was recorded ([`super::record`]), since pages after the first are not recorded again:
//! so it is authenticated (HMAC-SHA-256, RFC 2104) under a key that all replicas share and no client sees, and it is good
//! for nobody but who asked, and for nothing but what was asked.

use super::filter::{Filter, Order};
use crate::access::Identity;
use crate::event::json;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::fmt;
use std::ops::Range;
use uuid::Uuid;

/// Kind of the cursors of `GET /v1/events`. Those of other endpoints, and other layouts, are of other kinds.
const KIND: u8 = 2;

/// Length of the key, in bytes: that of the hash (RFC 2104, section 3).
pub const KEY_BYTES: usize = 32;

/// Bytes kept of a hash. Finding two filters that share one, to ask for the first and go on with the second, takes about
/// 2^64 tries.
const HASH_BYTES: usize = 16;

type Hash = [u8; HASH_BYTES];

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
    /// It was given to another reader.
    #[error("was given to somebody else: start again without it")]
    OtherReader,
    /// The parameters changed between pages.
    #[error(
        "belongs to other filters or another order: send the parameters it was given for, or start again without it"
    )]
    OtherSelection,
    /// Sequences were given anew since.
    #[error("is from before the database was restored: start again without it")]
    OtherEpoch,
}

/// What cursors of a trail are authenticated with.
#[derive(Clone)]
pub struct CursorKey([u8; KEY_BYTES]);

/// What a cursor goes on with: the filter and the order, or what else was asked, as a hash.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Selection(Hash);

/// What a cursor is good for.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The trail's key.
    pub key: &'a CursorKey,
    /// Identity of the log.
    pub log_id: Uuid,
    /// Who asked.
    pub reader: &'a Identity,
    /// What was asked.
    pub selection: Selection,
}

impl CursorKey {
    /// Of random bytes.
    pub fn new(bytes: [u8; KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// The MAC of these parts, each with its length before it.
    fn mac(&self, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = Hmac::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }
}

/// A key is not shown.
impl fmt::Debug for CursorKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CursorKey")
    }
}

impl Selection {
    /// Of a query.
    pub fn of(filter: &Filter, order: Order) -> Self {
        Self(kept(&Sha256::digest(json::canonical(&(filter, order)))))
    }

    /// Of a list that belongs to what has this name.
    pub fn of_name(name: &str) -> Self {
        Self(kept(&Sha256::digest(name)))
    }
}

impl Scope<'_> {
    fn tag(&self, content: &[u8]) -> Hmac<Sha256> {
        self.key.mac(&[b"cursor", self.log_id.as_bytes(), content])
    }

    /// Under the key, so that a cursor tells nobody whose it is.
    fn reader(&self) -> Hash {
        let Identity { kind, name } = self.reader;
        kept(&self.key.mac(&[b"reader", kind.as_str().as_bytes(), name.as_bytes()]).finalize().into_bytes())
    }
}

impl Cursor {
    /// Text for the client: 98 characters that may stand in a URL.
    pub fn encode(&self, scope: &Scope<'_>) -> String {
        seal(KIND, [self.epoch, self.sequences.start, self.sequences.end], scope)
    }

    /// Reads what [`Cursor::encode`] wrote in the same scope and epoch.
    pub fn decode(text: &str, scope: &Scope<'_>, epoch: i64) -> Result<Self, CursorError> {
        let [of_epoch, start, end] = open(KIND, text, scope)?;
        if of_epoch != epoch {
            return Err(CursorError::OtherEpoch);
        }
        Ok(Self { epoch, sequences: start..end })
    }
}

/// Text that holds numbers: kind, numbers, selection, reader, tag.
pub fn seal<const N: usize>(kind: u8, numbers: [i64; N], scope: &Scope<'_>) -> String {
    let mut bytes = vec![kind];
    for number in numbers {
        bytes.extend(number.to_be_bytes());
    }
    bytes.extend(scope.selection.0);
    bytes.extend(scope.reader());
    let tag: Hash = kept(&scope.tag(&bytes).finalize().into_bytes());
    bytes.extend(tag);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The numbers that [`seal`] wrote for the same kind and scope.
pub fn open<const N: usize>(kind: u8, text: &str, scope: &Scope<'_>) -> Result<[i64; N], CursorError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError::Unknown)?;
    let (content, tag) = bytes.split_last_chunk::<HASH_BYTES>().ok_or(CursorError::Unknown)?;
    scope.tag(content).verify_truncated_left(tag).map_err(|_| CursorError::Unknown)?;
    let (content, reader) = content.split_last_chunk::<HASH_BYTES>().ok_or(CursorError::Unknown)?;
    let (position, selection) = content.split_last_chunk::<HASH_BYTES>().ok_or(CursorError::Unknown)?;
    let (of_kind, bytes_of_numbers) = position.split_first().ok_or(CursorError::Unknown)?;
    let (read, rest) = bytes_of_numbers.as_chunks();
    if *of_kind != kind || read.len() != N || !rest.is_empty() {
        Err(CursorError::Unknown)
    } else if *reader != scope.reader() {
        Err(CursorError::OtherReader)
    } else if *selection != scope.selection.0 {
        Err(CursorError::OtherSelection)
    } else {
        let mut numbers = [0; N];
        for (number, bytes) in numbers.iter_mut().zip(read) {
            *number = i64::from_be_bytes(*bytes);
        }
        Ok(numbers)
    }
}

fn kept(hash: &[u8]) -> Hash {
    let mut kept = [0; HASH_BYTES];
    kept.copy_from_slice(&hash[..HASH_BYTES]);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::SubmitterKind;

    /// A reader with a key and a log, to be changed by tests.
    struct Reader {
        key: CursorKey,
        log_id: Uuid,
        identity: Identity,
        selection: Selection,
    }

    fn jane() -> Reader {
        Reader {
            key: CursorKey::new([7; KEY_BYTES]),
            log_id: Uuid::from_u128(1),
            identity: Identity { kind: SubmitterKind::User, name: "jane".to_owned() },
            selection: Selection::of(&Filter::default(), Order::Desc),
        }
    }

    impl Reader {
        fn scope(&self) -> Scope<'_> {
            Scope { key: &self.key, log_id: self.log_id, reader: &self.identity, selection: self.selection }
        }

        fn decode(&self, text: &str) -> Result<Cursor, CursorError> {
            Cursor::decode(text, &self.scope(), 3)
        }
    }

    fn cursor() -> Cursor {
        Cursor { epoch: 3, sequences: 10..4_000_000_000_000 }
    }

    fn text() -> String {
        cursor().encode(&jane().scope())
    }

    #[test]
    fn what_was_encoded_is_read_back() {
        assert_eq!(jane().decode(&text()), Ok(cursor()));
        assert_eq!(text().len(), 98);
    }

    #[test]
    fn every_changed_character_is_noticed() {
        let text = text();
        for place in 0..text.len() {
            let other = if text.as_bytes()[place] == b'A' { "B" } else { "A" };
            let forged = format!("{}{other}{}", &text[..place], &text[place + 1..]);
            assert_eq!(jane().decode(&forged), Err(CursorError::Unknown), "{place}");
        }
    }

    #[test]
    fn text_that_was_never_a_cursor_is_unknown() {
        for text in ["", "1", "AAAA", "not base64!", &"A".repeat(98), &"A".repeat(10_000)] {
            assert_eq!(jane().decode(text), Err(CursorError::Unknown));
        }
    }

    /// Whoever knows how cursors are made, and not the key, makes none.
    #[test]
    fn a_cursor_under_another_key_is_unknown() {
        let forged = cursor().encode(&Reader { key: CursorKey::new([8; KEY_BYTES]), ..jane() }.scope());
        assert_eq!(jane().decode(&forged), Err(CursorError::Unknown));
    }

    #[test]
    fn a_cursor_of_another_trail_is_unknown() {
        let foreign = Reader { log_id: Uuid::from_u128(2), ..jane() };
        assert_eq!(foreign.decode(&text()), Err(CursorError::Unknown));
    }

    #[test]
    fn a_cursor_goes_on_for_nobody_else() {
        for (kind, name) in
            [(SubmitterKind::User, "john"), (SubmitterKind::User, "jane2"), (SubmitterKind::Token, "jane")]
        {
            let other = Reader { identity: Identity { kind, name: name.to_owned() }, ..jane() };
            assert_eq!(other.decode(&text()), Err(CursorError::OtherReader), "{kind:?} {name}");
        }
    }

    #[test]
    fn a_cursor_goes_on_only_with_its_own_filter_and_order() {
        let filter = Filter { types: vec!["a".to_owned()], ..Filter::default() };
        for selection in [Selection::of(&filter, Order::Desc), Selection::of(&Filter::default(), Order::Asc)] {
            assert_eq!(Reader { selection, ..jane() }.decode(&text()), Err(CursorError::OtherSelection));
        }
    }

    #[test]
    fn a_cursor_ends_with_its_epoch() {
        assert_eq!(Cursor::decode(&text(), &jane().scope(), 4), Err(CursorError::OtherEpoch));
    }

    #[test]
    fn a_key_is_not_shown() {
        assert_eq!(format!("{:?}", jane().key), "CursorKey");
    }
}
