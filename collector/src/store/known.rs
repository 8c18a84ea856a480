//! What is written down of some blocks ([`super::block`]), as far as a filter asks.

use super::Store;
use super::block::{BLOCK_EVENTS, ZONE_EVENTS, block_of, places};
use super::term::Group;
use crate::query::filter::Filter;
use futures::TryStreamExt;
use roaring::RoaringBitmap;
use sqlx::{FromRow, Row};
use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// What is written down of some blocks.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// By first sequence of the block: what its times leave; none without a time filter.
    pub blocks: BTreeMap<i64, Option<Times>>,
    /// By group and block: where any value of the group is.
    pub places: HashMap<(usize, i64), RoaringBitmap>,
}

/// What a time filter leaves of a block, zone by zone, as distances from its first sequence.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Times {
    /// Zones with an event that may match.
    pub touched: RoaringBitmap,
    /// Zones whose events all match.
    pub within: RoaringBitmap,
    /// Whether all events of the block match.
    pub whole: bool,
}

impl Known {
    /// Where the events of a block are that meet all groups; none when there is no group.
    pub fn meeting(&self, groups: usize, block: i64) -> Option<RoaringBitmap> {
        let mut met: Option<RoaringBitmap> = None;
        for group in 0..groups {
            let Some(places) = self.places.get(&(group, block)) else { return Some(RoaringBitmap::new()) };
            met = Some(match met {
                Some(met) => met & places,
                None => places.clone(),
            });
        }
        met
    }
}

impl Times {
    /// Of the earliest and the latest moment of each zone, in microseconds, none where the zone is empty.
    fn of(earliest: &[Option<i64>], latest: &[Option<i64>], filter: &Filter) -> Self {
        // A part of a microsecond counts for what may match, and against what surely does.
        let (from, from_surely) = filter.from.map_or((i64::MIN, i64::MIN), microseconds);
        let (to_surely, to) = filter.to.map_or((i64::MAX, i64::MAX), microseconds);
        let mut times = Self { whole: true, ..Self::default() };
        for (zone, (earliest, latest)) in (0_i64..).zip(earliest.iter().zip(latest)) {
            let Some((earliest, latest)) = earliest.zip(*latest) else { continue };
            let distances = distance(zone * ZONE_EVENTS)..distance((zone + 1) * ZONE_EVENTS);
            if earliest < to && from <= latest {
                times.touched.insert_range(distances.clone());
            }
            if from_surely <= earliest && latest < to_surely {
                times.within.insert_range(distances);
            } else {
                times.whole = false;
            }
        }
        times
    }
}

/// A moment in microseconds, rounded down and rounded up.
fn microseconds(moment: jiff::Timestamp) -> (i64, i64) {
    let (down, part) = (moment.as_nanosecond().div_euclid(1000), moment.as_nanosecond().rem_euclid(1000));
    let down = i64::try_from(down).expect("a moment fits in 64 bits of microseconds");
    (down, down + i64::from(part > 0))
}

/// Distances within a block fit.
pub(super) fn distance(sequences: i64) -> u32 {
    u32::try_from(sequences).unwrap_or_default()
}

/// Leaves only what lies in this range of sequences, which is within the block.
pub(super) fn clip(set: &mut RoaringBitmap, block: i64, range: &Range<i64>) {
    set.remove_range(..distance(range.start - block));
    set.remove_range(distance(range.end - block)..);
}

/// The runs of a set, oldest first.
pub(super) fn runs(set: &RoaringBitmap, block: i64) -> Vec<Range<i64>> {
    let mut runs = Vec::new();
    let mut iter = set.iter();
    while let Some(range) = iter.next_range() {
        runs.push(block + i64::from(*range.start())..block + i64::from(*range.end()) + 1);
    }
    runs
}

/// The blocks of a span, oldest first, each with its part of the span.
pub(super) fn parts(span: &Range<i64>) -> impl DoubleEndedIterator<Item = (i64, Range<i64>)> {
    let span = span.clone();
    let first = block_of(span.start);
    let count = (span.end - first + BLOCK_EVENTS - 1) / BLOCK_EVENTS;
    (0..count).map(move |index| {
        let block = first + index * BLOCK_EVENTS;
        (block, block.max(span.start)..(block + BLOCK_EVENTS).min(span.end))
    })
}

#[derive(FromRow)]
struct BlockRow {
    first_sequence: i64,
    earliest: Option<Vec<Option<i64>>>,
    latest: Option<Vec<Option<i64>>>,
}

impl Store {
    /// What is written down of the blocks of `span`.
    pub(super) async fn known(
        &self,
        groups: &[Group],
        filter: &Filter,
        span: &Range<i64>,
    ) -> Result<Known, sqlx::Error> {
        let mut known = Known { blocks: self.unless_lost(self.blocks(filter, span)).await?, ..Known::default() };
        if !known.blocks.is_empty() {
            known.places = self.places(groups, span).await?;
        }
        Ok(known)
    }

    /// The blocks that are written down; their zones only for a filter that asks for times.
    async fn blocks(&self, filter: &Filter, span: &Range<i64>) -> Result<BTreeMap<i64, Option<Times>>, sqlx::Error> {
        let timed = filter.from.is_some() || filter.to.is_some();
        let rows: Vec<BlockRow> = sqlx::query_as(
            "SELECT first_sequence, CASE WHEN $3 THEN earliest END AS earliest, CASE WHEN $3 THEN latest END AS latest
             FROM block WHERE first_sequence >= $1 AND first_sequence < $2",
        )
        .bind(block_of(span.start))
        .bind(span.end)
        .bind(timed)
        .fetch_all(&self.pool)
        .await?;
        let of_zones = |zones: (Vec<Option<i64>>, Vec<Option<i64>>)| Times::of(&zones.0, &zones.1, filter);
        Ok(rows.into_iter().map(|row| (row.first_sequence, row.earliest.zip(row.latest).map(of_zones))).collect())
    }

    /// Where the values of each group are, by group and block.
    pub(super) async fn places(
        &self,
        groups: &[Group],
        span: &Range<i64>,
    ) -> Result<HashMap<(usize, i64), RoaringBitmap>, sqlx::Error> {
        if groups.is_empty() {
            return Ok(HashMap::new());
        }
        let (mut of_group, mut fields, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for (number, group) in (0_i32..).zip(groups) {
            for value in &group.values {
                of_group.push(number);
                fields.push(group.field.number());
                values.push(value.as_str());
            }
        }
        let mut rows = sqlx::query(
            r#"SELECT of_group, found.first_sequence, found.places
               FROM unnest($1::integer[], $2::smallint[], $3::text[]) AS asked (of_group, field, value),
               LATERAL (SELECT first_sequence, places FROM posting
                        WHERE posting.field = asked.field AND posting.value = asked.value COLLATE "C"
                          AND first_sequence >= $4 AND first_sequence < $5 OFFSET 0) AS found"#,
        )
        .bind(of_group)
        .bind(fields)
        .bind(values)
        .bind(block_of(span.start))
        .bind(span.end)
        .fetch(&self.pool);
        let reading = async {
            let mut found: HashMap<(usize, i64), RoaringBitmap> = HashMap::new();
            while let Some(row) = rows.try_next().await? {
                let group = usize::try_from(row.try_get::<i32, _>(0)?).unwrap_or_default();
                let places = places(row.try_get(2)?)?;
                match found.entry((group, row.try_get(1)?)) {
                    Entry::Vacant(entry) => _ = entry.insert(places),
                    Entry::Occupied(mut entry) => *entry.get_mut() |= places,
                }
            }
            Ok(found)
        };
        self.unless_lost(reading).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(microseconds: i64) -> jiff::Timestamp {
        jiff::Timestamp::from_microsecond(microseconds).expect("a moment")
    }

    fn times(zones: &[(i64, i64)], from: Option<i64>, to: Option<i64>) -> Times {
        let of = |pick: fn(&(i64, i64)) -> i64| zones.iter().map(|zone| Some(pick(zone))).collect::<Vec<_>>();
        let filter = Filter { from: from.map(moment), to: to.map(moment), ..Filter::default() };
        Times::of(&of(|zone| zone.0), &of(|zone| zone.1), &filter)
    }

    #[test]
    fn times_leave_the_zones_that_overlap() {
        let touched = |from, to| times(&[(10, 19), (20, 29), (15, 22)], from, to).touched;
        assert_eq!(touched(None, Some(10)).len(), 0);
        assert_eq!(touched(None, Some(11)), (0..500).collect());
        assert_eq!(touched(Some(20), Some(21)), (500..1500).collect());
        assert_eq!(touched(Some(30), None).len(), 0);
    }

    #[test]
    fn a_zone_is_within_when_its_earliest_and_its_latest_moment_are() {
        let within = |from, to| times(&[(10, 19), (20, 29)], from, to).within;
        assert_eq!(within(Some(10), Some(20)), (0..500).collect());
        assert_eq!(within(Some(11), Some(20)).len(), 0);
        assert_eq!(within(Some(10), Some(19)).len(), 0);
        assert_eq!(within(Some(10), Some(30)), (0..1000).collect());
    }

    #[test]
    fn a_block_is_whole_when_all_its_zones_are_within() {
        let whole = |from, to| times(&[(10, 19), (20, 29)], from, to).whole;
        assert!(whole(Some(10), Some(30)));
        assert!(!whole(Some(11), Some(30)));
        assert!(!whole(Some(10), Some(29)));
    }

    #[test]
    fn an_empty_zone_holds_no_moment_and_leaves_the_block_whole() {
        let filter = Filter { from: Some(moment(10)), ..Filter::default() };
        let times = Times::of(&[None, Some(10)], &[None, Some(19)], &filter);
        assert_eq!((times.touched, times.whole), ((500..1000).collect(), true));
    }

    /// Moments are stored in microseconds, and asked for as finely as RFC 3339 goes.
    #[test]
    fn a_part_of_a_microsecond_leaves_what_may_match_and_nothing_that_may_not() {
        let half = |microsecond: i64| Some(moment(microsecond) + jiff::SignedDuration::from_nanos(500));
        let of = |from, to| Times::of(&[Some(10)], &[Some(10)], &Filter { from, to, ..Filter::default() });
        let from = of(half(10), None);
        assert_eq!((from.touched.len(), from.within.len()), (500, 0));
        let to = of(None, half(10));
        assert_eq!((to.touched.len(), to.within.len()), (500, 0));
    }
}
