//! What a page holds: as many events as were asked for, and no more than fit in memory.
//!
//! A page is made row by row, each as it will be sent: an event whose JSON was parsed can take some ninety times as much.

use std::ops::ControlFlow;

/// Past this size no event is added to a page, in bytes: a thousand events of 4 KiB each. The pages that are read at once
/// ([`crate::server::READS_MAX`]) and those that wait for their clients stay small beside a container's memory, whatever events contain.
pub const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Events of one page, in the order in which the log was read.
#[derive(Debug)]
pub struct Page<E> {
    limit: usize,
    bytes: usize,
    events: Vec<E>,
    last: Option<i64>,
    more: bool,
}

impl<E> Page<E> {
    /// An empty one, for so many events at most.
    pub fn of(limit: i64) -> Self {
        Self {
            limit: usize::try_from(limit).unwrap_or_default(),
            bytes: 0,
            events: Vec::new(),
            last: None,
            more: false,
        }
    }

    /// Rows to be read for it, at most: one more than it holds tells whether there are more.
    pub fn rows(&self) -> usize {
        self.limit + 1
    }

    /// Adds an event that takes so many bytes, unless the page is full: then there are more than it holds, and no other is wanted.
    pub fn add(&mut self, sequence: i64, event: E, bytes: usize) -> ControlFlow<()> {
        if self.events.len() >= self.limit || self.bytes >= PAGE_BYTES {
            self.more = true;
            return ControlFlow::Break(());
        }
        self.events.push(event);
        self.bytes += bytes;
        self.last = Some(sequence);
        ControlFlow::Continue(())
    }

    /// The events, and the sequence of the last one if there are more after it.
    pub fn finish(self) -> (Vec<E>, Option<i64>) {
        (self.events, self.last.filter(|_| self.more))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The events that a page takes of a log of ten events of this size, and where it was cut.
    fn filled(limit: i64, bytes: usize) -> (Vec<i64>, Option<i64>) {
        let mut page = Page::of(limit);
        let _full = (0..10).take(page.rows()).try_for_each(|sequence| page.add(sequence, sequence, bytes));
        page.finish()
    }

    #[test]
    fn a_page_ends_at_its_limit_and_is_cut_only_where_there_are_more() {
        assert_eq!(filled(3, 1), (vec![0, 1, 2], Some(2)));
        assert_eq!(filled(9, 1), ((0..9).collect(), Some(8)));
        assert_eq!(filled(10, 1), ((0..10).collect(), None));
        assert_eq!(filled(11, 1), ((0..10).collect(), None));
    }

    #[test]
    fn a_page_ends_with_the_event_that_fills_it() {
        assert_eq!(filled(10, PAGE_BYTES / 2), (vec![0, 1], Some(1)));
        assert_eq!(filled(10, PAGE_BYTES / 2 - 1), (vec![0, 1, 2], Some(2)));
        assert_eq!(filled(10, PAGE_BYTES / 10), ((0..10).collect(), None));
        assert_eq!(filled(10, 9 * PAGE_BYTES), (vec![0], Some(0)));
    }
}
