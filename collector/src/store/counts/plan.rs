//! What has to be read to count the events of a filter in a span of the log.

use super::super::block::BLOCK_EVENTS;
use super::super::known::{Known, Times, clip, parts, runs};
use crate::query::filter::Filter;
use roaring::RoaringBitmap;
use std::collections::BTreeMap;
use std::ops::Range;

/// Up to so many events of a block are read themselves: that costs less than the places of all values of the block.
const SPARSE_EVENTS: u64 = 200;

/// What has to be read. No event is in two members.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Blocks all of whose events count: their postings have the counts.
    pub whole: Vec<i64>,
    /// Blocks of which these places count: each value's places are compared with them.
    pub places: BTreeMap<i64, RoaringBitmap>,
    /// Ranges whose events are looked at one by one.
    pub ranges: Vec<Range<i64>>,
    /// Events that are looked at one by one, ascending.
    pub candidates: Vec<i64>,
}

/// How to count a filter's events in `span`, of which `known` is written down. The filter asks for `groups` of values.
pub(super) fn plan(known: &Known, groups: usize, filter: &Filter, span: &Range<i64>) -> Plan {
    let mut plan = Plan::default();
    for (block, range) in parts(span) {
        match known.blocks.get(&block) {
            None => plan.scan(range),
            Some(times) => {
                let meeting = known.meeting(groups, block);
                if filter.words.as_slice().is_empty() {
                    plan.count(block, &range, meeting, times.as_ref());
                } else {
                    plan.look_for_words(block, &range, meeting, times.as_ref());
                }
            }
        }
    }
    plan
}

impl Plan {
    /// Where the times are sure, postings decide; elsewhere events are looked at.
    fn count(&mut self, block: i64, range: &Range<i64>, meeting: Option<RoaringBitmap>, times: Option<&Times>) {
        let complete = range.end - range.start == BLOCK_EVENTS && times.is_none_or(|times| times.whole);
        if complete && meeting.is_none() {
            self.whole.push(block);
            return;
        }
        let by_value = meeting.is_some();
        let mut sure = meeting.unwrap_or_else(everything);
        clip(&mut sure, block, range);
        if let Some(times) = times {
            let unsure = &sure & (&times.touched - &times.within);
            self.look(block, &unsure, by_value);
            sure &= &times.within;
        }
        if sure.len() <= SPARSE_EVENTS {
            self.look(block, &sure, by_value);
        } else {
            self.places.insert(block, sure);
        }
    }

    /// Only the events themselves have the words.
    fn look_for_words(
        &mut self,
        block: i64,
        range: &Range<i64>,
        meeting: Option<RoaringBitmap>,
        times: Option<&Times>,
    ) {
        let by_value = meeting.is_some();
        let mut set = meeting.unwrap_or_else(everything);
        clip(&mut set, block, range);
        if let Some(times) = times {
            set &= &times.touched;
        }
        self.look(block, &set, by_value);
    }

    /// What has some values is scattered; what lies in a time comes in runs.
    fn look(&mut self, block: i64, set: &RoaringBitmap, by_value: bool) {
        if by_value {
            self.candidates.extend(set.iter().map(|distance| block + i64::from(distance)));
        } else {
            for range in runs(set, block) {
                self.scan(range);
            }
        }
    }

    /// Ranges that touch are one.
    fn scan(&mut self, range: Range<i64>) {
        match self.ranges.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.ranges.push(range),
        }
    }
}

fn everything() -> RoaringBitmap {
    let events = u32::try_from(BLOCK_EVENTS).expect("a block has room in one bitmap");
    (0..events).collect()
}

/// Cuts ranges into pieces, and puts these together, so that each list has `events` at most.
pub(super) fn portions(ranges: &[Range<i64>], events: i64) -> Vec<Vec<Range<i64>>> {
    let (mut portions, mut room) = (vec![Vec::new()], events);
    for range in ranges {
        let mut rest = range.clone();
        while !rest.is_empty() {
            if room == 0 {
                portions.push(Vec::new());
                room = events;
            }
            let end = rest.end.min(rest.start + room);
            room -= end - rest.start;
            portions.last_mut().expect("it begins with one, and gets more").push(rest.start..end);
            rest.start = end;
        }
    }
    portions.retain(|portion| !portion.is_empty());
    portions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::words::Words;

    const BLOCK: i64 = BLOCK_EVENTS;

    fn set(range: Range<u32>) -> RoaringBitmap {
        range.collect()
    }

    /// Blocks that are written down, each with its times.
    fn known(blocks: &[(i64, Option<Times>)]) -> Known {
        Known { blocks: blocks.iter().cloned().collect(), ..Known::default() }
    }

    fn times(touched: Range<u32>, within: Range<u32>) -> Times {
        Times { touched: set(touched), within: set(within), whole: false }
    }

    fn planned(known: &Known, groups: usize, span: Range<i64>) -> Plan {
        plan(known, groups, &Filter::default(), &span)
    }

    #[test]
    fn a_whole_block_is_counted_by_its_postings_and_a_cut_one_by_their_places() {
        let plan = planned(&known(&[(0, None), (BLOCK, None)]), 0, 0..2 * BLOCK - 1);
        let places = BTreeMap::from([(BLOCK, set(0..49_999))]);
        assert_eq!(plan, Plan { whole: vec![0], places, ..Plan::default() });
    }

    #[test]
    fn what_is_not_written_down_is_one_range() {
        let plan = planned(&known(&[(0, None)]), 0, 10..2 * BLOCK + 5);
        assert_eq!(plan.ranges, vec![BLOCK..2 * BLOCK + 5]);
        assert_eq!(plan.places, BTreeMap::from([(0, set(10..50_000))]));
    }

    #[test]
    fn zones_that_the_time_cuts_are_looked_at() {
        let plan = planned(&known(&[(0, Some(times(1000..3000, 1500..2500)))]), 0, 0..BLOCK);
        assert_eq!(plan.places, BTreeMap::from([(0, set(1500..2500))]));
        assert_eq!(plan.ranges, [1000..1500, 2500..3000]);
        assert!(plan.candidates.is_empty());
    }

    #[test]
    fn a_block_of_another_time_is_not_read() {
        assert_eq!(planned(&known(&[(0, Some(times(0..0, 0..0)))]), 0, 0..BLOCK), Plan::default());
    }

    #[test]
    fn values_narrow_both_what_is_sure_and_what_is_looked_at() {
        let mut known = known(&[(0, Some(times(1000..3000, 1500..2500)))]);
        known.places.insert((0, 0), set(1400..2502));
        let plan = planned(&known, 1, 0..BLOCK);
        assert_eq!(plan.places, BTreeMap::from([(0, set(1500..2500))]));
        assert_eq!(plan.candidates, [(1400..1500).collect::<Vec<_>>(), vec![2500, 2501]].concat());
        assert!(plan.ranges.is_empty());
    }

    #[test]
    fn few_events_are_read_themselves() {
        let few = |last: u32| {
            let mut known = known(&[(BLOCK, None)]);
            known.places.insert((0, BLOCK), set(0..last));
            planned(&known, 1, BLOCK..2 * BLOCK)
        };
        assert_eq!((few(200).candidates.len(), few(200).places.len()), (200, 0));
        assert_eq!((few(201).candidates.len(), few(201).places.len()), (0, 1));
        assert_eq!(few(1).candidates, [BLOCK]);
        assert_eq!(few(0), Plan::default());
    }

    #[test]
    fn words_are_looked_for_in_the_events_that_the_rest_leaves() {
        let filter = Filter { words: Words::of("needle"), ..Filter::default() };
        let mut known = known(&[(0, Some(times(1000..3000, 1500..2500))), (BLOCK, None)]);
        assert_eq!(plan(&known, 0, &filter, &(0..2 * BLOCK)).ranges, [1000..3000, BLOCK..2 * BLOCK]);
        known.places.insert((0, 0), [7, 2999, 3000].into_iter().collect());
        let plan = plan(&known, 1, &filter, &(0..2 * BLOCK));
        assert_eq!(plan, Plan { candidates: vec![2999], ..Plan::default() });
    }

    #[test]
    fn portions_have_a_size_and_lose_nothing() {
        let cut = |ranges: &[(i64, i64)]| {
            let ranges: Vec<Range<i64>> = ranges.iter().map(|(start, end)| *start..*end).collect();
            let pairs = |portion: Vec<Range<i64>>| portion.iter().map(|range| (range.start, range.end)).collect();
            portions(&ranges, 10).into_iter().map(pairs).collect::<Vec<Vec<(i64, i64)>>>()
        };
        assert!(cut(&[]).is_empty());
        assert_eq!(cut(&[(0, 10)]), [[(0, 10)]]);
        assert_eq!(cut(&[(0, 11)]), [[(0, 10)], [(10, 11)]]);
        assert_eq!(cut(&[(0, 4), (7, 20), (30, 31)]), [vec![(0, 4), (7, 13)], vec![(13, 20), (30, 31)]]);
    }
}
