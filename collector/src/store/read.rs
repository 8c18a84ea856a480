//! Events by filter and by sequence.
//!
//! Every read is a window of sequences, walked from one end by keyset ([`super::walk`]): an offset would skip or
//! repeat while events arrive, and an unbounded read would have no end.

use super::Store;
use super::replica::Head;
use super::term::groups;
use crate::event::{
    Actor, ActorType, Change, Context, Event, Outcome, Resource, StoredEvent, SubmittedBy, SubmitterKind,
};
use crate::query::filter::Filter;
use crate::query::words::Words;
use jiff_sqlx::ToSqlx;
use serde_json::{Map, Value};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{FromRow, Postgres, QueryBuilder, Row};
use std::ops::Range;
use uuid::Uuid;

/// What [`StoredEvent`] is read from, but for the table.
pub(super) const SELECT: &str = r#"SELECT sequence, epoch, received_at, id, "timestamp", type,
    actor_type, actor_id, actor_name, actor_email, resource_type, resource_id, resource_name,
    outcome, submitted_by_kind, submitted_by_name, context, changes, details, passed FROM "#;

/// The part of the log that a query can match, as it was at one moment.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Window {
    /// Identity of the log.
    pub log_id: Uuid,
    /// Epoch of the log.
    pub epoch: i64,
    /// The sequences. Its end is one past the newest event, which pins the query to this moment.
    pub sequences: Range<i64>,
}

impl Window {
    /// Whether all of it is still in the log, but for what retention dropped. A log that was rewound has fewer events until the epoch is
    /// raised, and no others before that.
    pub fn stands_in(&self, head: &Head) -> bool {
        head.log_id == self.log_id && head.epoch == self.epoch && head.next_sequence >= self.sequences.end
    }
}

#[derive(FromRow)]
struct WindowRow {
    log_id: Uuid,
    epoch: i64,
    next_sequence: i64,
    first: Option<i64>,
    end: Option<i64>,
}

impl Store {
    /// The part of the log that `filter` can match now. A time filter leaves out the segments that
    /// lie before and after it; head and segments are of one snapshot.
    pub async fn window(&self, filter: &Filter) -> Result<Window, sqlx::Error> {
        let row = sqlx::query_as(
            r#"SELECT log_id, epoch, next_sequence, hull.first, hull."end" FROM head,
               (SELECT min(first_sequence) AS first, max(end_sequence) AS "end" FROM segment
                WHERE dropping_at IS NULL
                  AND ($1::timestamptz IS NULL OR last_timestamp >= $1)
                  AND ($2::timestamptz IS NULL OR first_timestamp < $2)) AS hull"#,
        )
        .bind(filter.from.map(ToSqlx::to_sqlx))
        .bind(filter.to.map(ToSqlx::to_sqlx))
        .fetch_one(&self.pool);
        let row: WindowRow = self.unless_lost(row).await?;
        let end = row.next_sequence.min(row.end.unwrap_or(0));
        let start = row.first.unwrap_or(0).min(end);
        Ok(Window { log_id: row.log_id, epoch: row.epoch, sequences: start..end })
    }

    /// At most `limit` events from `first_sequence` on, oldest first.
    pub async fn events_from(&self, first_sequence: i64, limit: usize) -> Result<Vec<StoredEvent>, sqlx::Error> {
        let mut query = QueryBuilder::new(SELECT);
        query.push("event WHERE sequence >= ").push_bind(first_sequence).push(" ORDER BY sequence LIMIT ");
        query.push_bind(i64::try_from(limit).unwrap_or(i64::MAX));
        self.unless_lost(query.build_query_as().fetch_all(&self.pool)).await
    }
}

/// OR within a group, AND across them.
pub(super) fn push_filter(query: &mut QueryBuilder<Postgres>, filter: &Filter) {
    for group in groups(filter) {
        query.push(" AND ").push(group.field.column()).push(" = ANY(").push_bind(group.values).push(")");
    }
    if let Some(from) = filter.from {
        query.push(r#" AND "timestamp" >= "#).push_bind(from.to_sqlx());
    }
    if let Some(to) = filter.to {
        query.push(r#" AND "timestamp" < "#).push_bind(to.to_sqlx());
    }
    push_words(query, &filter.words);
}

/// What words are looked for in: the same texts as in `query/words.rs`. Its collation knows of no locale, so that every database decides alike.
const TEXT: &str = r#"(concat_ws(E'\n', id, type, actor_id, actor_name, actor_email, resource_id, resource_name,
    submitted_by_name, changes, details) COLLATE "C")"#;

/// ASCII words need no more than ASCII's letters in lower case, which costs less; the others bring all forms of their letters.
fn push_words(query: &mut QueryBuilder<Postgres>, words: &Words) {
    let all = words.as_slice();
    if all.is_empty() {
        return;
    }
    if all.iter().all(|word| word.is_ascii()) {
        let patterns: Vec<String> = all.iter().map(|word| pattern(word)).collect();
        query.push(" AND lower(").push(TEXT).push(") LIKE ALL (").push_bind(patterns);
    } else {
        query.push(" AND ").push(TEXT).push(" ~ ALL (").push_bind(words.expressions());
    }
    query.push(")");
}

/// A pattern of `LIKE` that a text meets if this word occurs in it.
fn pattern(word: &str) -> String {
    format!("%{}%", escaped(word))
}

/// A part of a pattern of `LIKE` in which every character stands for itself.
pub(in crate::store) fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for character in text.chars() {
        if ['\\', '%', '_'].contains(&character) {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

impl FromRow<'_, PgRow> for StoredEvent {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            sequence: row.try_get("sequence")?,
            epoch: row.try_get("epoch")?,
            received_at: moment(row, "received_at")?,
            timestamp: moment(row, "timestamp")?,
            submitted_by: SubmittedBy {
                kind: named(row, "submitted_by_kind", SubmitterKind::parse)?
                    .ok_or_else(|| undecodable("submitted_by_kind", "null"))?,
                name: row.try_get("submitted_by_name")?,
            },
            passed: row.try_get::<Option<Vec<Uuid>>, _>("passed")?.unwrap_or_default(),
            event: Event {
                id: row.try_get("id")?,
                timestamp: None,
                r#type: row.try_get("type")?,
                actor: actor(row)?,
                resource: resource(row)?,
                outcome: named(row, "outcome", Outcome::parse)?,
                context: json::<Context>(row, "context")?,
                changes: json::<Vec<Change>>(row, "changes")?.unwrap_or_default(),
                details: json::<Map<String, Value>>(row, "details")?,
            },
        })
    }
}

/// An erased actor has neither type nor id.
fn actor(row: &PgRow) -> Result<Option<Actor>, sqlx::Error> {
    let (Some(r#type), Some(id)) = (named(row, "actor_type", ActorType::parse)?, row.try_get("actor_id")?) else {
        return Ok(None);
    };
    Ok(Some(Actor { r#type, id, name: row.try_get("actor_name")?, email: row.try_get("actor_email")? }))
}

fn resource(row: &PgRow) -> Result<Option<Resource>, sqlx::Error> {
    let (Some(r#type), Some(id)) = (row.try_get("resource_type")?, row.try_get("resource_id")?) else {
        return Ok(None);
    };
    Ok(Some(Resource { r#type, id, name: row.try_get("resource_name")? }))
}

pub(super) fn moment(row: &PgRow, column: &str) -> Result<jiff::Timestamp, sqlx::Error> {
    row.try_get::<jiff_sqlx::Timestamp, _>(column).map(jiff_sqlx::Timestamp::to_jiff)
}

fn json<T: serde::de::DeserializeOwned>(row: &PgRow, column: &str) -> Result<Option<T>, sqlx::Error> {
    row.try_get::<Option<Json<T>>, _>(column).map(|json| json.map(|Json(value)| value))
}

fn named<T>(row: &PgRow, column: &str, parse: fn(&str) -> Option<T>) -> Result<Option<T>, sqlx::Error> {
    let Some(name) = row.try_get::<Option<String>, _>(column)? else { return Ok(None) };
    parse(&name).map(Some).ok_or_else(|| undecodable(column, &name))
}

/// Only a newer collector writes names that this one does not know.
fn undecodable(column: &str, name: &str) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: format!("{name:?} is not known here").into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_stands_until_the_log_is_rewound_to_before_its_end_or_has_another_epoch() {
        let window = Window { log_id: Uuid::nil(), epoch: 1, sequences: 5..10 };
        let head = Head { log_id: Uuid::nil(), epoch: 1, next_sequence: 10 };
        for (found, stands) in [
            (head, true),
            (Head { next_sequence: 11, ..head }, true),
            (Head { next_sequence: 9, ..head }, false),
            (Head { epoch: 2, ..head }, false),
            (Head { log_id: Uuid::from_u128(1), ..head }, false),
        ] {
            assert_eq!(window.stands_in(&found), stands, "{found:?}");
        }
    }
}
