//! Walking the events that match a filter, from one end of a window of the log.
//!
//! The walk goes block by block. What a block's postings and zones leave is read by sequence; what has no postings yet, the newest
//! part of the log, is scanned. Each statement is bounded by the size of a block or of a page, whatever the filter is.

use super::Store;
use super::block::{BLOCK_EVENTS, block_of};
use super::known::{Known, clip, parts, runs};
use super::read::{SELECT, push_filter};
use super::term::groups;
use crate::event::StoredEvent;
use crate::query::filter::{Filter, Order};
use futures::TryStreamExt;
use roaring::RoaringBitmap;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Postgres, QueryBuilder, Row};
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Blocks looked at first.
const BLOCKS_FIRST: i64 = 4;

/// So many times as many are looked at next, when they have too little.
const BLOCKS_GROWTH: i64 = 8;

/// Blocks looked at in one go, at most: some megabytes of postings for each field that is asked for.
const BLOCKS_MAX: i64 = 256;

/// Sequences scanned with one statement, at most.
const SCAN_MAX: i64 = 5 * BLOCK_EVENTS;

/// Candidates read with one statement, at least where some of them may not match, and at most.
const CANDIDATES: Range<usize> = 256..2_000;

/// Where so many of a range may match, reading all of it costs less than looking each up.
const DENSE_FROM_ONE_IN: i64 = 8;

/// How long a query may take. Each of its statements takes much less.
pub(super) const QUERY_MAX: Duration = Duration::from_secs(10);

/// How long one step of a walk may go on: then others have their turn, and whoever waits in vain can be noticed.
const STEP_MAX: Duration = Duration::from_millis(250);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The database does not answer, or a statement failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    /// It took longer than a query may.
    #[error("the query took more than {} s", QUERY_MAX.as_secs())]
    TooLong,
}

/// A walk that has not come to its end.
#[derive(Clone, Debug)]
pub struct Walk {
    store: Store,
    filter: Arc<Filter>,
    order: Order,
    left: Range<i64>,
    blocks: i64,
}

/// Takes a row, and says whether it wants more.
pub type Take<'t> = dyn FnMut(&PgRow) -> Result<ControlFlow<()>, sqlx::Error> + Send + 't;

/// Who takes rows, and how many more.
struct Taker<'t, 'c> {
    take: &'t mut Take<'c>,
    wanted: usize,
    begun: Instant,
}

impl Taker<'_, '_> {
    fn take(&mut self, row: &PgRow) -> Result<ControlFlow<()>, sqlx::Error> {
        let more = (self.take)(row)?;
        self.wanted = if more.is_break() { 0 } else { self.wanted.saturating_sub(1) };
        Ok(more)
    }

    /// Whether this step has taken what was wanted, or all the time that it may.
    fn is_done(&self) -> bool {
        self.wanted == 0 || self.begun.elapsed() > STEP_MAX
    }
}

/// A part of the window, to be read as a whole.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Piece {
    /// Every event of the range may match.
    Scan(Range<i64>),
    /// These may match, in the order of the walk.
    Candidates(Vec<i64>),
}

impl Store {
    /// A walk through the events of `filter` in `window`, newest first or oldest first.
    pub fn walk(&self, filter: Arc<Filter>, window: Range<i64>, order: Order) -> Walk {
        Walk { store: self.clone(), filter, order, left: window, blocks: BLOCKS_FIRST }
    }

    /// The first events of a walk, at most `limit`: fewer only if there are no more. For few: each may take megabytes.
    pub async fn events(
        &self,
        filter: &Filter,
        window: &Range<i64>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<StoredEvent>, ReadError> {
        let mut found = Vec::new();
        let mut take = |row: &PgRow| {
            found.push(StoredEvent::from_row(row)?);
            Ok(ControlFlow::Continue(()))
        };
        self.first(filter, window, order, limit, &mut take).await?;
        Ok(found)
    }

    /// Like [`Store::events`], row by row as they arrive, with the columns of `SELECT` in their order. No more are read when `take`
    /// breaks.
    pub async fn first(
        &self,
        filter: &Filter,
        window: &Range<i64>,
        order: Order,
        limit: usize,
        take: &mut Take<'_>,
    ) -> Result<(), ReadError> {
        let begun = Instant::now();
        let mut walk = self.walk(Arc::new(filter.clone()), window.clone(), order);
        let mut wanted = limit;
        while wanted > 0 && !walk.left().is_empty() {
            if begun.elapsed() > QUERY_MAX {
                return Err(ReadError::TooLong);
            }
            let step = wanted;
            let mut counted = |row: &PgRow| {
                let more = take(row)?;
                wanted = if more.is_break() { 0 } else { wanted.saturating_sub(1) };
                Ok(more)
            };
            walk.each(step, &mut counted).await?;
        }
        Ok(())
    }
}

impl Walk {
    /// The sequences that were not looked at yet; empty at the end.
    pub fn left(&self) -> &Range<i64> {
        &self.left
    }

    /// The next events, at most `limit`. There may be fewer, or none, before the end: then a bounded part of the
    /// log was looked at, and the walk wants to go on.
    pub async fn next<T>(&mut self, limit: usize) -> Result<Vec<T>, sqlx::Error>
    where
        T: for<'r> FromRow<'r, PgRow> + Send,
    {
        let mut found = Vec::new();
        let mut take = |row: &PgRow| {
            found.push(T::from_row(row)?);
            Ok(ControlFlow::Continue(()))
        };
        self.each(limit, &mut take).await?;
        Ok(found)
    }

    /// Like [`Walk::next`], row by row as they arrive, with the columns of `SELECT` in their order: for many events at once, of which
    /// nobody wants to hold all. The walk goes on after the row at which `take` breaks.
    pub async fn each(&mut self, limit: usize, take: &mut Take<'_>) -> Result<(), sqlx::Error> {
        if self.left.is_empty() {
            return Ok(());
        }
        let mut taker = Taker { take, wanted: limit, begun: Instant::now() };
        let groups = groups(&self.filter);
        let timed = self.filter.from.is_some() || self.filter.to.is_some();
        // What is asked for everything too: Postgres plans for the partitions of a span, not of the whole log.
        let span = span(&self.left, self.order, self.blocks);
        let known = if groups.is_empty() && !timed {
            Known::default()
        } else {
            self.store.known(&groups, &self.filter, &span).await?
        };
        for piece in pieces(&known, groups.len(), &span, self.order) {
            match piece {
                Piece::Scan(range) => self.scan(range, &mut taker).await?,
                Piece::Candidates(candidates) => self.check(&candidates, &mut taker).await?,
            }
            if taker.is_done() {
                // These had enough, and what is written down of many would be read again for the next events.
                self.blocks = BLOCKS_FIRST;
                return Ok(());
            }
        }
        self.pass(&span);
        self.blocks = (self.blocks * BLOCKS_GROWTH).min(BLOCKS_MAX);
        Ok(())
    }

    /// Reads candidates until no more events are wanted.
    async fn check(&mut self, candidates: &[i64], taker: &mut Taker<'_, '_>) -> Result<(), sqlx::Error> {
        let mut rest = candidates;
        while !rest.is_empty() && !taker.is_done() {
            let (some, later) = rest.split_at(taker.wanted.clamp(CANDIDATES.start, CANDIDATES.end).min(rest.len()));
            let mut query = QueryBuilder::new(SELECT);
            // Not `sequence = ANY(…)`: that is planned anew for each array, and looks for all of them in each partition.
            query.push("unnest(").push_bind(some).push("::bigint[]) AS candidate (place), ");
            query.push("LATERAL (SELECT * FROM event WHERE sequence = place");
            push_filter(&mut query, &self.filter);
            query.push(" OFFSET 0) AS event");
            self.rows(query, taker).await?;
            if taker.wanted > 0 {
                self.pass_to(some.last().copied());
            }
            rest = later;
        }
        Ok(())
    }

    /// Reads a range until no more events are wanted.
    async fn scan(&mut self, range: Range<i64>, taker: &mut Taker<'_, '_>) -> Result<(), sqlx::Error> {
        let mut query = QueryBuilder::new(SELECT);
        query.push("event WHERE sequence >= ").push_bind(range.start);
        query.push(" AND sequence < ").push_bind(range.end);
        push_filter(&mut query, &self.filter);
        self.rows(query, taker).await?;
        if taker.wanted > 0 {
            self.pass(&range);
        }
        Ok(())
    }

    /// Runs a query for events, which only lacks the order. The walk has then passed the events that were taken.
    async fn rows(&mut self, mut query: QueryBuilder<Postgres>, taker: &mut Taker<'_, '_>) -> Result<(), sqlx::Error> {
        query.push(match self.order {
            Order::Desc => " ORDER BY sequence DESC LIMIT ",
            Order::Asc => " ORDER BY sequence LIMIT ",
        });
        query.push_bind(i64::try_from(taker.wanted).unwrap_or(i64::MAX));
        let reading = async {
            let mut rows = query.build().fetch(&self.store.pool);
            let mut last = None;
            while let Some(row) = rows.try_next().await? {
                last = Some(row.try_get(0)?);
                if taker.take(&row)?.is_break() {
                    break;
                }
            }
            Ok::<_, sqlx::Error>(last)
        };
        let last = self.store.unless_lost(reading).await?;
        self.pass_to(last);
        Ok(())
    }

    /// This sequence, and all before it in the order of the walk, have been looked at.
    fn pass_to(&mut self, sequence: Option<i64>) {
        if let Some(sequence) = sequence {
            self.pass(&(sequence..sequence + 1));
        }
    }

    /// This range, and all before it in the order of the walk, have been looked at.
    fn pass(&mut self, range: &Range<i64>) {
        match self.order {
            Order::Desc => self.left.end = range.start.clamp(self.left.start, self.left.end),
            Order::Asc => self.left.start = range.end.clamp(self.left.start, self.left.end),
        }
    }
}

/// The part of the window that is looked at next: whole blocks, as far as they lie in it.
fn span(left: &Range<i64>, order: Order, blocks: i64) -> Range<i64> {
    let length = blocks * BLOCK_EVENTS;
    match order {
        Order::Desc => left.start.max(block_of(left.end - 1) + BLOCK_EVENTS - length)..left.end,
        Order::Asc => left.start..left.end.min(block_of(left.start) + length),
    }
}

/// What has to be read of `span`, in the order of the walk. A piece is made when it is asked for: a common value has fifty thousand candidates a block.
fn pieces(known: &Known, groups: usize, span: &Range<i64>, order: Order) -> impl Iterator<Item = Piece> {
    let mut parts: Vec<_> = parts(span).collect();
    if order == Order::Desc {
        parts.reverse();
    }
    let of_blocks = parts.into_iter().flat_map(move |(block, range)| known.pieces(block, range, groups, order));
    let mut of_blocks = of_blocks.filter(|piece| *piece != Piece::Candidates(Vec::new())).peekable();
    std::iter::from_fn(move || {
        let mut piece = of_blocks.next()?;
        while of_blocks.next_if(|next| piece.takes_in(next)).is_some() {}
        Some(piece)
    })
}

impl Piece {
    /// Takes the next piece in, if both are to be read together: a few candidates of one block after the other, or what adjoins, so that
    /// Postgres lets several of its workers look for words.
    fn takes_in(&mut self, next: &Self) -> bool {
        match (self, next) {
            (Self::Candidates(standing), Self::Candidates(more)) if standing.len() < CANDIDATES.end => {
                standing.extend(more);
                true
            }
            (Self::Scan(standing), Self::Scan(more)) => {
                let both = standing.start.min(more.start)..standing.end.max(more.end);
                let adjoin = standing.end == more.start || more.end == standing.start;
                let joined = adjoin && both.end - both.start <= SCAN_MAX;
                if joined {
                    *standing = both;
                }
                joined
            }
            _ => false,
        }
    }
}

impl Known {
    /// What has to be read of the part `range` of a block.
    fn pieces(&self, block: i64, range: Range<i64>, groups: usize, order: Order) -> Vec<Piece> {
        let Some(times) = self.blocks.get(&block) else { return vec![Piece::Scan(range)] };
        let mut set = match (self.meeting(groups, block), times) {
            (None, None) => return vec![Piece::Scan(range)],
            (None, Some(times)) => times.touched.clone(),
            (Some(meeting), None) => meeting,
            (Some(meeting), Some(times)) => meeting & &times.touched,
        };
        clip(&mut set, block, &range);
        let dense = i64::try_from(set.len()).is_ok_and(|count| count * DENSE_FROM_ONE_IN >= range.end - range.start);
        match groups {
            0 => scans(&set, block, order),
            _ if dense => vec![Piece::Scan(range)],
            _ => vec![candidates(&set, block, order)],
        }
    }
}

fn candidates(set: &RoaringBitmap, block: i64, order: Order) -> Piece {
    let sequence = |distance: u32| block + i64::from(distance);
    Piece::Candidates(match order {
        Order::Desc => set.iter().rev().map(sequence).collect(),
        Order::Asc => set.iter().map(sequence).collect(),
    })
}

/// The runs of a set: whole zones but at the ends of the window.
fn scans(set: &RoaringBitmap, block: i64, order: Order) -> Vec<Piece> {
    let mut runs = runs(set, block);
    if order == Order::Desc {
        runs.reverse();
    }
    runs.into_iter().map(Piece::Scan).collect()
}

#[cfg(test)]
mod tests {
    use super::super::known::Times;
    use super::*;

    fn set(places: &[u32]) -> RoaringBitmap {
        places.iter().copied().collect()
    }

    fn pieces(known: &Known, groups: usize, span: &Range<i64>, order: Order) -> Vec<Piece> {
        super::pieces(known, groups, span, order).collect()
    }

    fn known(blocks: &[i64], places: &[(usize, i64, &[u32])]) -> Known {
        Known {
            blocks: blocks.iter().map(|block| (*block, None)).collect(),
            places: places.iter().map(|(group, block, places)| ((*group, *block), set(places))).collect(),
        }
    }

    #[test]
    fn a_span_is_whole_blocks_from_the_end_that_the_walk_is_at() {
        assert_eq!(span(&(0..120_000), Order::Desc, 1), 100_000..120_000);
        assert_eq!(span(&(0..100_000), Order::Desc, 1), 50_000..100_000);
        assert_eq!(span(&(70_000..120_000), Order::Desc, 4), 70_000..120_000);
        assert_eq!(span(&(70_000..240_000), Order::Asc, 2), 70_000..150_000);
        assert_eq!(span(&(70_000..80_000), Order::Asc, 2), 70_000..80_000);
    }

    #[test]
    fn what_is_not_written_down_is_scanned() {
        let known = known(&[0], &[(0, 0, &[1, 2])]);
        assert_eq!(
            pieces(&known, 1, &(0..60_000), Order::Desc),
            [Piece::Scan(50_000..60_000), Piece::Candidates(vec![2, 1])]
        );
        assert_eq!(
            pieces(&known, 1, &(0..60_000), Order::Asc),
            [Piece::Candidates(vec![1, 2]), Piece::Scan(50_000..60_000)]
        );
    }

    #[test]
    fn what_adjoins_is_scanned_at_once_up_to_a_bound() {
        let known = known(&[], &[]);
        for order in [Order::Desc, Order::Asc] {
            assert_eq!(pieces(&known, 0, &(0..SCAN_MAX), order), [Piece::Scan(0..SCAN_MAX)]);
        }
        let more = [Piece::Scan(0..SCAN_MAX), Piece::Scan(SCAN_MAX..SCAN_MAX + 1)];
        assert_eq!(pieces(&known, 0, &(0..SCAN_MAX + 1), Order::Asc), more);
    }

    #[test]
    fn an_event_must_meet_every_group_and_lie_in_the_window() {
        let known = known(
            &[0, 50_000, 100_000],
            &[(0, 0, &[1, 5, 9]), (1, 0, &[1, 9]), (0, 50_000, &[3]), (0, 100_000, &[4, 190]), (1, 100_000, &[4, 190])],
        );
        assert_eq!(pieces(&known, 2, &(0..150_000), Order::Asc), [Piece::Candidates(vec![1, 9, 100_004, 100_190])]);
        assert_eq!(pieces(&known, 2, &(2..100_100), Order::Desc), [Piece::Candidates(vec![100_004, 9])]);
    }

    #[test]
    fn candidates_are_read_together_as_long_as_they_are_few() {
        let many: Vec<u32> = (0..2_000).collect();
        let known = known(&[0, 50_000, 100_000], &[(0, 0, &many), (0, 50_000, &[3]), (0, 100_000, &[4])]);
        let few = Piece::Candidates(vec![50_003, 100_004]);
        let all = pieces(&known, 1, &(0..150_000), Order::Asc);
        assert_eq!(all, [Piece::Candidates((0..2_000).collect()), few]);
    }

    #[test]
    fn a_range_of_which_much_may_match_is_scanned() {
        let some = |count: u32| (0..count).collect::<Vec<_>>();
        let pieces = |places: &[u32]| pieces(&known(&[0], &[(0, 0, places)]), 1, &(0..800), Order::Asc);
        assert_eq!(pieces(&some(100)), [Piece::Scan(0..800)]);
        assert_eq!(pieces(&some(99)), [Piece::Candidates((0..99).collect())]);
    }

    #[test]
    fn times_leave_runs_of_zones() {
        let times = Times { touched: (500..1000).collect(), ..Times::default() };
        let known = Known { blocks: [(50_000, Some(times))].into(), ..Known::default() };
        assert_eq!(pieces(&known, 0, &(50_000..100_000), Order::Asc), [Piece::Scan(50_500..51_000)]);
        assert_eq!(pieces(&known, 0, &(50_700..50_800), Order::Asc), [Piece::Scan(50_700..50_800)]);
    }
}
