//! How many events each value of a field has.
//!
//! Blocks that are written down ([`super::block`]) have the answer in their postings: as it stands where all of a block's events
//! count, and else in the places of each value. What is not written down, what a time cuts in the middle of a zone, and what has
//! to be searched for words is grouped by the database. Statements are bounded by blocks, and what they find is added up here.

mod plan;
mod tally;
mod who;

use super::Store;
use super::block::{BLOCK_EVENTS, block_of, places};
use super::known::Known;
use super::read::push_filter;
use super::term::{Field, Group, groups};
use super::walk::{QUERY_MAX, ReadError};
use crate::query::counts::prefix::Prefix;
use crate::query::filter::Filter;
use futures::TryStreamExt;
use plan::{Plan, plan, portions};
use sqlx::postgres::PgRow;
use sqlx::{Postgres, QueryBuilder, Row};
use std::ops::Range;
use std::time::Instant;
use tally::{Full, TALLY_MAX_BYTES};

pub use tally::Tally;
pub use who::Who;

/// Blocks looked at in one go: some ten thousand postings of a field.
const SPAN_BLOCKS: i64 = 64;

/// Events looked at one by one with one statement, at most.
const SCAN_EVENTS: i64 = 4 * BLOCK_EVENTS;

/// Scattered events looked at with one statement, at most.
const CANDIDATES_MAX: usize = 5_000;

/// Values told to the database, at most, where only these count. With more, it sends all and they are sorted out here.
const TOLD_VALUES_MAX: usize = 1_000;

/// What is counted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Counted {
    /// Types of events.
    Type,
    /// Actors, by id.
    Actor,
    /// Resources, by id.
    Resource,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CountError {
    /// As for any read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There are more values than memory is given.
    #[error("the values take more than {} MiB", TALLY_MAX_BYTES / 1024 / 1024)]
    TooManyValues,
}

impl From<sqlx::Error> for CountError {
    fn from(error: sqlx::Error) -> Self {
        Self::Read(error.into())
    }
}

impl From<Full> for CountError {
    fn from(_: Full) -> Self {
        Self::TooManyValues
    }
}

impl Counted {
    fn field(self) -> Field {
        match self {
            Self::Type => Field::Type,
            Self::Actor => Field::Actor,
            Self::Resource => Field::Resource,
        }
    }
}

/// A part of the log, ready to be counted: what is written down of it, as far as times go.
#[derive(Debug)]
pub struct Survey<'a> {
    store: &'a Store,
    of: Counted,
    filter: &'a Filter,
    groups: Vec<Group>,
    begun: Instant,
    /// Oldest first.
    spans: Vec<(Range<i64>, Known)>,
}

impl Store {
    /// Looks through `window` for what counts of `filter`. From here on the time of the query runs.
    pub async fn survey<'a>(
        &'a self,
        of: Counted,
        filter: &'a Filter,
        window: &Range<i64>,
    ) -> Result<Survey<'a>, CountError> {
        let (begun, groups) = (Instant::now(), groups(filter));
        let mut survey = Survey { store: self, of, filter, groups, begun, spans: Vec::new() };
        let mut start = window.start;
        while start < window.end {
            survey.check_time()?;
            let end = window.end.min(block_of(start) + SPAN_BLOCKS * BLOCK_EVENTS);
            let known = self.known(&[], filter, &(start..end)).await?;
            survey.spans.push((start..end, known));
            start = end;
        }
        Ok(survey)
    }
}

impl Survey<'_> {
    /// Counts the events of the filter by value; with a prefix, only those of values which begin with it, or whose names or
    /// e-mail addresses do.
    pub async fn count(&self, prefix: Option<&Prefix>) -> Result<Tally, CountError> {
        let mut tally = Tally::new(TALLY_MAX_BYTES);
        if let Some(prefix) = prefix {
            self.find(prefix, &mut tally).await?;
            tally = tally.close();
        }
        if tally.is_void() {
            return Ok(tally);
        }
        let only = tally.only(TOLD_VALUES_MAX);
        for (span, times) in &self.spans {
            self.check_time()?;
            let mut known = times.clone();
            if !known.blocks.is_empty() {
                known.places = self.store.places(&self.groups, span).await?;
            }
            let plan = plan(&known, self.groups.len(), self.filter, span);
            self.execute(&plan, only.as_deref(), &mut tally).await?;
        }
        Ok(tally)
    }

    fn check_time(&self) -> Result<(), ReadError> {
        if self.begun.elapsed() > QUERY_MAX { Err(ReadError::TooLong) } else { Ok(()) }
    }

    async fn execute(&self, plan: &Plan, only: Option<&[String]>, tally: &mut Tally) -> Result<(), CountError> {
        if !plan.whole.is_empty() {
            self.add(self.of_whole_blocks(&plan.whole, only), tally).await?;
        }
        if !plan.places.is_empty() {
            self.add_by_places(plan, only, tally).await?;
        }
        for portion in portions(&plan.ranges, SCAN_EVENTS) {
            self.add(self.of_ranges(&portion, only), tally).await?;
        }
        for some in plan.candidates.chunks(CANDIDATES_MAX) {
            self.add(self.of_candidates(some, only), tally).await?;
        }
        Ok(())
    }

    /// Adds what a query for values and counts gives.
    async fn add(&self, query: QueryBuilder<Postgres>, tally: &mut Tally) -> Result<(), CountError> {
        self.each(query, |row| Ok(tally.add(row.try_get(0)?, row.try_get(1)?)?)).await
    }

    /// Compares the places of each value with those that count.
    async fn add_by_places(&self, plan: &Plan, only: Option<&[String]>, tally: &mut Tally) -> Result<(), CountError> {
        let blocks: Vec<i64> = plan.places.keys().copied().collect();
        let mut query = QueryBuilder::new("SELECT value, first_sequence, places FROM posting WHERE ");
        self.push_postings(&mut query, &blocks, only);
        self.each(query, |row| {
            let Some(counting) = plan.places.get(&row.try_get(1)?) else { return Ok(()) };
            let count = counting.intersection_len(&places(row.try_get(2)?)?);
            if count > 0 {
                tally.add(row.try_get(0)?, i64::try_from(count).unwrap_or(i64::MAX))?;
            }
            Ok(())
        })
        .await
    }

    /// Hands over the rows of a query as they arrive.
    async fn each(
        &self,
        mut query: QueryBuilder<Postgres>,
        mut take: impl FnMut(&PgRow) -> Result<(), CountError> + Send,
    ) -> Result<(), CountError> {
        self.check_time()?;
        let reading = async {
            let mut rows = query.build().fetch(&self.store.pool);
            while let Some(row) = rows.try_next().await? {
                take(&row)?;
            }
            Ok(())
        };
        self.store.unless_lost(reading).await
    }

    /// Counts as they are written down.
    fn of_whole_blocks(&self, blocks: &[i64], only: Option<&[String]>) -> QueryBuilder<Postgres> {
        let mut query = QueryBuilder::new("SELECT value, sum(count)::bigint FROM posting WHERE ");
        self.push_postings(&mut query, blocks, only);
        query.push(" GROUP BY value");
        query
    }

    /// The index finds ranges. Within one, blocks that are left out need a list, which costs with every row.
    fn push_postings(&self, query: &mut QueryBuilder<Postgres>, blocks: &[i64], only: Option<&[String]>) {
        let (first, last) = (blocks.first().copied().unwrap_or_default(), blocks.last().copied().unwrap_or_default());
        query.push("field = ").push_bind(self.of.field().number());
        query.push(" AND first_sequence >= ").push_bind(first);
        query.push(" AND first_sequence <= ").push_bind(last);
        if blocks.windows(2).any(|pair| pair[1] - pair[0] != BLOCK_EVENTS) {
            query.push(" AND first_sequence = ANY(").push_bind(blocks.to_vec()).push(")");
        }
        if let Some(only) = only {
            query.push(" AND value = ANY(").push_bind(only.to_vec()).push(")");
        }
    }

    fn of_ranges(&self, ranges: &[Range<i64>], only: Option<&[String]>) -> QueryBuilder<Postgres> {
        let column = self.of.field().column();
        let mut query = QueryBuilder::new(format!("SELECT {column}, count(*) FROM "));
        push_ranges(&mut query, ranges, column);
        self.push_conditions(&mut query, only);
        query.push(" OFFSET 0) AS found GROUP BY 1");
        query
    }

    fn of_candidates(&self, candidates: &[i64], only: Option<&[String]>) -> QueryBuilder<Postgres> {
        let column = self.of.field().column();
        let mut query = QueryBuilder::new(format!("SELECT {column}, count(*) FROM event WHERE sequence = ANY("));
        query.push_bind(candidates.to_vec()).push(")");
        self.push_conditions(&mut query, only);
        query.push(" GROUP BY 1");
        query
    }

    /// Which events count. An event may be without actor or resource.
    fn push_conditions(&self, query: &mut QueryBuilder<Postgres>, only: Option<&[String]>) {
        push_filter(query, self.filter);
        query.push(" AND ").push(self.of.field().column());
        match only {
            None => query.push(" IS NOT NULL"),
            Some(only) => query.push(" = ANY(").push_bind(only.to_vec()).push(")"),
        };
    }
}

/// The events of some ranges, each found by the index. `OFFSET 0)` has to follow, so that they stay apart.
fn push_ranges(query: &mut QueryBuilder<Postgres>, ranges: &[Range<i64>], columns: &str) {
    query.push("unnest(").push_bind(ranges.iter().map(|range| range.start).collect::<Vec<_>>());
    query.push("::bigint[], ").push_bind(ranges.iter().map(|range| range.end).collect::<Vec<_>>());
    query.push("::bigint[]) AS piece (first, past), LATERAL (SELECT ").push(columns);
    query.push(" FROM event WHERE sequence >= first AND sequence < past");
}
