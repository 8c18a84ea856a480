//! How often each value occurs, added up in memory.

use std::collections::HashMap;

/// Memory for the values of one question, in bytes, at most. As many questions as may read at once then take half of
/// the memory that the operator gives a collector, at worst.
pub(super) const TALLY_MAX_BYTES: usize = 32 * 1024 * 1024;

/// What a value takes beside its text, in bytes: its entry, a table that is half empty, and what an allocation costs.
const ENTRY_BYTES: usize = 100;

/// Counts by value.
#[derive(Clone, Debug)]
pub struct Tally {
    counts: HashMap<String, i64>,
    bytes: usize,
    max_bytes: usize,
    takes: Takes,
}

/// What a tally makes of a value that it does not have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Takes {
    Anything,
    /// The values are given; all others are passed over.
    WhatItHas,
}

/// More values than fit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Full;

impl Tally {
    /// Has nothing, and takes what comes, up to these bytes.
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { counts: HashMap::new(), bytes: 0, max_bytes, takes: Takes::Anything }
    }

    /// Adds to a value's count.
    pub(super) fn add(&mut self, value: &str, count: i64) -> Result<(), Full> {
        if let Some(standing) = self.counts.get_mut(value) {
            *standing += count;
        } else if self.takes == Takes::Anything {
            self.bytes += value.len() + ENTRY_BYTES;
            if self.bytes > self.max_bytes {
                return Err(Full);
            }
            self.counts.insert(value.to_owned(), count);
        }
        Ok(())
    }

    /// From now on only these values count.
    pub(super) fn close(mut self) -> Self {
        self.takes = Takes::WhatItHas;
        self
    }

    /// The values that alone count, if they are few enough to be told to the database.
    pub(super) fn only(&self, few: usize) -> Option<Vec<String>> {
        let told = self.takes == Takes::WhatItHas && self.counts.len() <= few;
        told.then(|| self.counts.keys().cloned().collect())
    }

    /// Whether no value can count.
    pub(super) fn is_void(&self) -> bool {
        self.takes == Takes::WhatItHas && self.counts.is_empty()
    }

    /// Takes a value out, with its count.
    pub fn take(&mut self, value: &str) -> i64 {
        self.counts.remove(value).unwrap_or_default()
    }

    /// The values that occur most, at most `limit`, most first and equal ones by their bytes; and whether there are more.
    pub fn into_top(self, limit: usize) -> (Vec<(String, i64)>, bool) {
        let mut top: Vec<(String, i64)> = self.counts.into_iter().filter(|(_, count)| *count > 0).collect();
        top.sort_unstable_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
        let more = top.len() > limit;
        top.truncate(limit);
        (top, more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(counts: &[(&str, i64)]) -> Tally {
        let mut tally = Tally::new(10_000);
        for (value, count) in counts {
            tally.add(value, *count).expect("room");
        }
        tally
    }

    fn top(tally: Tally, limit: usize) -> (Vec<(String, i64)>, bool) {
        tally.into_top(limit)
    }

    #[test]
    fn counts_of_a_value_are_added_and_most_comes_first() {
        let tally = tally(&[("a", 1), ("b", 2), ("c", 2), ("a", 2), ("d", 0)]);
        let expected = [("a".to_owned(), 3), ("b".to_owned(), 2), ("c".to_owned(), 2)];
        assert_eq!(top(tally.clone(), 3), (expected.to_vec(), false));
        assert_eq!(top(tally, 2), (expected[..2].to_vec(), true));
    }

    #[test]
    fn a_closed_tally_passes_over_what_it_does_not_have() {
        let mut tally = tally(&[("a", 0)]).close();
        tally.add("b", 1).expect("passed over");
        tally.add("a", 5).expect("counted");
        assert_eq!(top(tally, 10), (vec![("a".to_owned(), 5)], false));
    }

    #[test]
    fn values_are_taken_up_to_the_bound() {
        let mut tally = Tally::new(2 * (ENTRY_BYTES + 1));
        assert_eq!(tally.add("a", 1), Ok(()));
        assert_eq!(tally.add("b", 1), Ok(()));
        assert_eq!(tally.add("a", 1), Ok(()));
        assert_eq!(tally.add("c", 1), Err(Full));
    }

    #[test]
    fn only_the_values_of_a_closed_tally_are_told_and_only_if_they_are_few() {
        assert_eq!(tally(&[("a", 0)]).only(5), None);
        assert_eq!(tally(&[("a", 0)]).close().only(1), Some(vec!["a".to_owned()]));
        assert_eq!(tally(&[("a", 0), ("b", 0)]).close().only(1), None);
        assert!(tally(&[]).close().is_void());
        assert!(!tally(&[]).is_void());
    }
}
