//! How the one event is found that a source refuses a batch for. Pure: answers in, what to send next out.

use std::ops::Range;

/// Lone events refused one after the other, with none accepted between, that show a fault of the configuration: a wrong
/// endpoint must not park a whole trail.
pub const REFUSED_IN_A_ROW_MAX: i32 = 3;

/// What is left of a batch to be sent, part by part and first things first.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Parts {
    /// The next one last.
    left: Vec<Range<usize>>,
}

/// What to do about a lone event that was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lone {
    /// Park it, and go on with the next.
    Park,
    /// Take back those that were parked before it, and wait at the first of them.
    Unpark,
    /// Wait on: they were taken back already, and the source has accepted nothing since.
    Wait,
}

impl Parts {
    /// A batch whose parts of these sizes are sent one after the other.
    pub fn of(sizes: impl IntoIterator<Item = usize>) -> Self {
        let mut start = 0;
        let mut left: Vec<_> = sizes
            .into_iter()
            .map(|size| {
                let part = start..start + size;
                start = part.end;
                part
            })
            .collect();
        left.reverse();
        Self { left }
    }

    /// A part was refused: its halves come next. A part of one has none.
    pub fn halve(&mut self, part: &Range<usize>) {
        let middle = part.start + part.len().div_ceil(2);
        let halves = [middle..part.end, part.start..middle];
        self.left.extend(halves.into_iter().filter(|half| !half.is_empty() && half != part));
    }
}

/// The next part to send.
impl Iterator for Parts {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        self.left.pop()
    }
}

/// What to do about a lone event that was refused after `refused_in_a_row` others, with none accepted between.
pub fn lone(refused_in_a_row: i32) -> Lone {
    match refused_in_a_row + 1 {
        REFUSED_IN_A_ROW_MAX => Lone::Unpark,
        few if few < REFUSED_IN_A_ROW_MAX => Lone::Park,
        _ => Lone::Wait,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Sends a batch of so many events to a source that refuses whatever has one of these in it. Returns what it accepted and what
    /// was found to be refused, both in order, and how many requests that took.
    fn sent(events: usize, refused: &[usize]) -> (Vec<usize>, Vec<usize>, usize) {
        let (mut accepted, mut alone, mut requests) = (Vec::new(), Vec::new(), 0);
        let mut parts = Parts::of([events]);
        while let Some(part) = parts.next() {
            requests += 1;
            if !part.clone().any(|event| refused.contains(&event)) {
                accepted.extend(part);
            } else if part.len() == 1 {
                alone.push(part.start);
            } else {
                parts.halve(&part);
            }
        }
        (accepted, alone, requests)
    }

    #[test]
    fn one_in_five_hundred_is_found_with_nineteen_requests_at_most() {
        for poison in 0..500 {
            let (accepted, alone, requests) = sent(500, &[poison]);
            assert_eq!((accepted.len(), alone), (499, vec![poison]));
            assert!(requests <= 19, "{requests}");
        }
    }

    #[test]
    fn the_first_half_comes_first_and_is_the_larger() {
        let mut parts = Parts::of([5]);
        let whole = parts.next().expect("not sent yet");
        parts.halve(&whole);
        assert_eq!((parts.next(), parts.next(), parts.next()), (Some(0..3), Some(3..5), None));
    }

    #[test]
    fn a_lone_event_has_no_halves() {
        let mut parts = Parts::of([1]);
        let alone = parts.next().expect("not sent yet");
        parts.halve(&alone);
        assert_eq!(parts.next(), None);
    }

    #[test]
    fn parts_follow_each_other() {
        let mut parts = Parts::of([2, 3]);
        assert_eq!((parts.next(), parts.next(), parts.next()), (Some(0..2), Some(2..5), None));
        assert_eq!(Parts::of([]).next(), None);
    }

    #[test]
    fn the_third_in_a_row_shows_a_fault_of_the_configuration() {
        let decided: Vec<Lone> = (0..5).map(lone).collect();
        assert_eq!(decided, [Lone::Park, Lone::Park, Lone::Unpark, Lone::Wait, Lone::Wait]);
    }

    proptest! {
        #[test]
        fn everything_is_accepted_or_found_and_in_order(
            events in 1_usize..200,
            refused in proptest::collection::btree_set(0_usize..200, 0..8),
        ) {
            let refused: Vec<usize> = refused.into_iter().filter(|event| *event < events).collect();
            let (accepted, alone, _) = sent(events, &refused);
            let expected: Vec<usize> = (0..events).filter(|event| !refused.contains(event)).collect();
            prop_assert_eq!((accepted, alone), (expected, refused));
        }
    }
}
