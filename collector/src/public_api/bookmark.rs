//! Where a page stands in its query, and which pages lie beside it. What [`crate::query::cursor`] says of cursors holds here.

use crate::query::cursor::{CursorError, Scope, open, seal};
use crate::query::filter::Order;
use crate::store::read::Window;
use jiff::Timestamp;
use std::ops::Range;

/// Kind of these cursors.
const KIND: u8 = 0x5e;

/// In place of a moment, where there is none.
const NO_MOMENT: i64 = i64::MIN;

/// Between two events of a query, and on which side of it the page is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bookmark {
    /// Epoch of the log in which the query began.
    pub epoch: i64,
    /// The sequences that the query can match: the first page pins them.
    pub window: Range<i64>,
    /// Events below this sequence are older, all others are newer.
    pub at: i64,
    /// Where the page is.
    pub side: Side,
    /// `endTime` of the query, in whole microseconds: whoever sends the cursor may leave it out.
    pub end_time: Option<Timestamp>,
}

/// A side of a bookmark.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// Towards the beginning of the log: where the next page is.
    Older,
    /// Towards its end: where the previous page is.
    Newer,
}

/// The pages beside one.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Beside {
    /// The older one; none on the last page.
    pub next: Option<Bookmark>,
    /// The newer one; none on the first page.
    pub previous: Option<Bookmark>,
}

impl Bookmark {
    /// Of a query's first page.
    pub fn first(window: &Window, end_time: Option<Timestamp>) -> Self {
        let Window { epoch, sequences, .. } = window.clone();
        Self { epoch, at: sequences.end, window: sequences, side: Side::Older, end_time }
    }

    /// The sequences that the page is taken from: from the end of them that this bookmark is at.
    pub fn sequences(&self) -> Range<i64> {
        match self.side {
            Side::Older => self.window.start..self.at,
            Side::Newer => self.at..self.window.end,
        }
    }

    /// Which of them come first.
    pub fn order(&self) -> Order {
        match self.side {
            Side::Older => Order::Desc,
            Side::Newer => Order::Asc,
        }
    }

    /// The page's events as they are shown, of those in [`Bookmark::order`].
    pub fn newest_first<E>(&self, mut events: Vec<E>) -> Vec<E> {
        if self.order() == Order::Asc {
            events.reverse();
        }
        events
    }

    /// The pages beside this one. `cut_after` is the sequence of its last event in [`Bookmark::order`], if there are more after that.
    pub fn beside(&self, cut_after: Option<i64>) -> Beside {
        match self.side {
            Side::Older => Beside {
                next: cut_after.map(|last| self.moved(last, Side::Older)),
                previous: (self.at < self.window.end).then(|| self.moved(self.at, Side::Newer)),
            },
            Side::Newer => Beside {
                next: Some(self.moved(self.at, Side::Older)),
                previous: cut_after.map(|last| self.moved(last + 1, Side::Newer)),
            },
        }
    }

    fn moved(&self, at: i64, side: Side) -> Self {
        Self { at, side, ..self.clone() }
    }

    /// Text for the client.
    pub fn encode(&self, scope: &Scope<'_>) -> String {
        let side = match self.side {
            Side::Older => 0,
            Side::Newer => 1,
        };
        let end_time = self.end_time.map_or(NO_MOMENT, Timestamp::as_microsecond);
        seal(KIND, [self.epoch, self.window.start, self.window.end, self.at, side, end_time], scope)
    }

    /// Reads what [`Bookmark::encode`] wrote in the same scope and epoch.
    pub fn decode(text: &str, scope: &Scope<'_>, epoch: i64) -> Result<Self, CursorError> {
        let [of_epoch, start, end, at, side, end_time] = open(KIND, text, scope)?;
        if of_epoch != epoch {
            return Err(CursorError::OtherEpoch);
        }
        let side = match side {
            0 => Side::Older,
            1 => Side::Newer,
            _ => return Err(CursorError::Unknown),
        };
        let end_time = match end_time {
            NO_MOMENT => None,
            moment => Some(Timestamp::from_microsecond(moment).map_err(|_| CursorError::Unknown)?),
        };
        Ok(Self { epoch, window: start..end, at, side, end_time })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Identity;
    use crate::event::SubmitterKind;
    use crate::query::cursor::{Cursor, CursorKey, KEY_BYTES, Selection};
    use crate::query::filter::Filter;
    use crate::query::page::Page;
    use uuid::Uuid;

    fn first() -> Bookmark {
        Bookmark::first(&Window { log_id: Uuid::from_u128(1), epoch: 3, sequences: 10..20 }, None)
    }

    fn with_scope<T>(then: impl FnOnce(&Scope<'_>) -> T) -> T {
        let reader = Identity { kind: SubmitterKind::User, name: "jane".to_owned() };
        then(&Scope {
            key: &CursorKey::new([7; KEY_BYTES]),
            log_id: Uuid::from_u128(1),
            reader: &reader,
            selection: Selection::of(&Filter::default(), Order::Desc),
        })
    }

    /// What is answered where only even sequences match, in the order in which the log is read.
    fn page(bookmark: &Bookmark, count: i64) -> (Vec<i64>, Beside) {
        let even = bookmark.sequences().filter(|sequence| sequence % 2 == 0);
        let ordered: Vec<i64> = match bookmark.order() {
            Order::Desc => even.rev().collect(),
            Order::Asc => even.collect(),
        };
        let mut page = Page::of(count);
        let _full = ordered.into_iter().try_for_each(|sequence| page.add(sequence, sequence, 1));
        let (events, cut_after) = page.finish();
        (bookmark.newest_first(events), bookmark.beside(cut_after))
    }

    #[test]
    fn pages_are_walked_to_the_end_and_back() {
        let (events, beside) = page(&first(), 2);
        assert_eq!((events, &beside.previous), (vec![18, 16], &None));
        let (events, beside) = page(&beside.next.expect("a second page"), 2);
        assert_eq!(events, [14, 12]);
        let (events, beside) = page(&beside.next.expect("a third page"), 2);
        assert_eq!((events, &beside.next), (vec![10], &None));
        let (events, beside) = page(&beside.previous.expect("the second page"), 2);
        assert_eq!(events, [14, 12]);
        let (again, _) = page(beside.next.as_ref().expect("the third page"), 2);
        assert_eq!(again, [10]);
        let (events, beside) = page(&beside.previous.expect("the first page"), 2);
        assert_eq!((events, beside.previous), (vec![18, 16], None));
    }

    #[test]
    fn a_full_last_page_has_no_next() {
        let (events, beside) = page(&first(), 5);
        assert_eq!((events.len(), beside.next), (5, None));
        assert!(page(&first(), 4).1.next.is_some());
    }

    #[test]
    fn a_query_that_finds_nothing_has_one_page() {
        let empty = Bookmark { window: 11..12, at: 12, ..first() };
        assert_eq!(page(&empty, 1), (Vec::new(), Beside { next: None, previous: None }));
    }

    #[test]
    fn what_was_encoded_is_read_back() {
        let end_time = Some("2026-03-02T09:14:05.000001Z".parse().expect("valid"));
        for bookmark in [first(), Bookmark { at: 12, side: Side::Newer, end_time, ..first() }] {
            with_scope(|scope| assert_eq!(Bookmark::decode(&bookmark.encode(scope), scope, 3), Ok(bookmark)));
        }
    }

    #[test]
    fn a_cursor_of_another_endpoint_or_epoch_is_refused() {
        with_scope(|scope| {
            let other = Cursor { epoch: 3, sequences: 10..20 }.encode(scope);
            assert_eq!(Bookmark::decode(&other, scope, 3), Err(CursorError::Unknown));
            assert_eq!(Cursor::decode(&first().encode(scope), scope, 3), Err(CursorError::Unknown));
            assert_eq!(Bookmark::decode(&first().encode(scope), scope, 4), Err(CursorError::OtherEpoch));
        });
    }
}
