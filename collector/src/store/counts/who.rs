//! Who an actor is, and what a resource is: the names that events gave them.
//!
//! Of what is written down, they are known block by block: the newest of a block, whatever of it was asked for. So a name counts
//! in the part of the log that the filter's times touch, and its other fields make no difference.

use super::{CountError, Counted, SCAN_EVENTS, Survey, Tally, portions, push_ranges};
use crate::query::counts::prefix::Prefix;
use crate::query::filter::Filter;
use crate::store::known::parts;
use crate::store::read::{escaped, push_filter};
use sqlx::{Postgres, QueryBuilder, Row};
use std::collections::HashMap;
use std::ops::Range;

/// What events said last of an actor or a resource.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Who {
    /// Type of the actor or the resource.
    pub kind: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// An actor's e-mail address.
    pub email: Option<String>,
}

impl Who {
    /// What it lacks is taken from what was said before.
    fn complete(&mut self, earlier: Self) {
        self.kind = self.kind.take().or(earlier.kind);
        self.name = self.name.take().or(earlier.name);
        self.email = self.email.take().or(earlier.email);
    }
}

impl Counted {
    /// The columns of `event` for type, name and e-mail address.
    fn columns(self) -> [&'static str; 3] {
        match self {
            Self::Type => ["NULL::text"; 3],
            Self::Actor => ["actor_type", "actor_name", "actor_email"],
            Self::Resource => ["resource_type", "resource_name", "NULL::text"],
        }
    }
}

impl Survey<'_> {
    /// What events said last, in this part of the log, of these actors or resources.
    pub async fn describe(&self, values: &[String]) -> Result<HashMap<String, Who>, CountError> {
        let mut found: HashMap<String, Who> = HashMap::new();
        if values.is_empty() || self.of == Counted::Type {
            return Ok(found);
        }
        for portion in portions(&self.unwritten(), SCAN_EVENTS).iter().rev() {
            self.note(self.described_by_events(portion, values), &mut found).await?;
        }
        let blocks = self.touched();
        if let (Some(first), Some(last)) = (blocks.first(), blocks.last()) {
            self.note(self.described_by_postings(*first, *last, values), &mut found).await?;
        }
        Ok(found)
    }

    async fn note(&self, query: QueryBuilder<Postgres>, found: &mut HashMap<String, Who>) -> Result<(), CountError> {
        self.each(query, |row| {
            let who = Who { kind: row.try_get(1)?, name: row.try_get(2)?, email: row.try_get(3)? };
            found.entry(row.try_get(0)?).or_default().complete(who);
            Ok(())
        })
        .await
    }

    fn described_by_events(&self, ranges: &[Range<i64>], values: &[String]) -> QueryBuilder<Postgres> {
        let (id, [kind, name, email]) = (self.of.field().column(), self.of.columns());
        let last = |of: &str| format!("(array_agg({of} ORDER BY sequence DESC) FILTER (WHERE {of} IS NOT NULL))[1]");
        let (kinds, names, emails) = (last("kind"), last("name"), last("email"));
        let mut query = QueryBuilder::new(format!("SELECT id, {kinds}, {names}, {emails} FROM "));
        let columns = format!("sequence, {id} AS id, {kind} AS kind, {name} AS name, {email} AS email");
        push_ranges(&mut query, ranges, &columns);
        push_filter(&mut query, &self.times());
        query.push(" AND ").push(id).push(" = ANY(").push_bind(values.to_vec());
        query.push(") OFFSET 0) AS found GROUP BY id");
        query
    }

    /// Three looks into the index for each value, which end at the newest block that knows.
    fn described_by_postings(&self, first: i64, last: i64, values: &[String]) -> QueryBuilder<Postgres> {
        let mut query = QueryBuilder::new("SELECT asked.value");
        for column in ["kind", "name", "email"] {
            if column == "email" && self.of != Counted::Actor {
                query.push(", NULL::text");
                continue;
            }
            query.push(", (SELECT ").push(column).push(" FROM posting WHERE field = ");
            query.push_bind(self.of.field().number());
            query.push(r#" AND posting.value = asked.value COLLATE "C" AND first_sequence >= "#).push_bind(first);
            query.push(" AND first_sequence <= ").push_bind(last).push(" AND ").push(column);
            query.push(" IS NOT NULL ORDER BY first_sequence DESC LIMIT 1)");
        }
        query.push(" FROM unnest(").push_bind(values.to_vec()).push("::text[]) AS asked (value)");
        query
    }

    /// Finds the values which begin with `prefix`, or whose names or e-mail addresses do.
    pub(super) async fn find(&self, prefix: &Prefix, tally: &mut Tally) -> Result<(), CountError> {
        let blocks = self.touched();
        let per_statement = usize::try_from(super::SPAN_BLOCKS).unwrap_or(1);
        for some in blocks.chunks(per_statement) {
            let mut query = QueryBuilder::new("SELECT DISTINCT value, name, email FROM posting WHERE ");
            self.push_postings(&mut query, some, None);
            push_prefix(&mut query, ["value", "name", "email"], prefix);
            self.add_beginning(query, prefix, tally).await?;
        }
        let (id, [_, name, email]) = (self.of.field().column(), self.of.columns());
        for portion in portions(&self.unwritten(), SCAN_EVENTS) {
            let mut query = QueryBuilder::new("SELECT DISTINCT id, name, email FROM ");
            push_ranges(&mut query, &portion, &format!("{id} AS id, {name} AS name, {email} AS email"));
            push_filter(&mut query, &self.times());
            query.push(" AND ").push(id).push(" IS NOT NULL");
            push_prefix(&mut query, [id, name, email], prefix);
            query.push(" OFFSET 0) AS found");
            self.add_beginning(query, prefix, tally).await?;
        }
        Ok(())
    }

    /// The database compared what is ASCII; the rest is compared here.
    async fn add_beginning(
        &self,
        query: QueryBuilder<Postgres>,
        prefix: &Prefix,
        tally: &mut Tally,
    ) -> Result<(), CountError> {
        self.each(query, |row| {
            let texts: [Option<&str>; 3] = [row.try_get(0)?, row.try_get(1)?, row.try_get(2)?];
            if texts.iter().flatten().any(|text| prefix.begins(text)) {
                tally.add(texts[0].unwrap_or_default(), 0)?;
            }
            Ok(())
        })
        .await
    }

    /// The filter's times and nothing else.
    fn times(&self) -> Filter {
        Filter { from: self.filter.from, to: self.filter.to, ..Filter::default() }
    }

    /// Blocks that are written down and may have events of the filter's time, oldest first.
    fn touched(&self) -> Vec<i64> {
        let blocks = self.spans.iter().flat_map(|(_, known)| &known.blocks);
        let touched = blocks.filter(|(_, times)| times.as_ref().is_none_or(|times| !times.touched.is_empty()));
        touched.map(|(block, _)| *block).collect()
    }

    /// What is not written down, oldest first.
    fn unwritten(&self) -> Vec<Range<i64>> {
        let parts = self
            .spans
            .iter()
            .flat_map(|(span, known)| parts(span).filter(|(block, _)| !known.blocks.contains_key(block)));
        parts.map(|(_, range)| range).collect()
    }
}

fn push_prefix(query: &mut QueryBuilder<Postgres>, columns: [&str; 3], prefix: &Prefix) {
    let pattern = escaped(prefix.ascii()) + "%";
    for (column, before) in columns.into_iter().zip([" AND (", " OR ", " OR "]) {
        query.push(before).push("lower(").push(column).push(r#" COLLATE "C") LIKE "#).push_bind(pattern.clone());
    }
    query.push(")");
}
