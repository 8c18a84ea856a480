//! Writes the rows of a group: ids and events in one statement, so in one round trip.
//!
//! Not by COPY, though that is faster for thousands of rows: it needs four messages for the two tables, and sqlx (0.9) neither
//! sets TCP_NODELAY nor sends data and end together, so each COPY waits 40 ms for a delayed acknowledgement.
//! A single event took 92 ms that way on the test node.

use super::plan::Row;
use crate::event::json::canonical;
use crate::event::{Actor, Outcome, Resource};
use jiff_sqlx::ToSqlx;
use sqlx::PgConnection;

/// Arrays of one length, a column each, made rows by `unnest`; what is JSON travels as text.
const INSERT: &str = r#"
WITH given AS (
    SELECT * FROM unnest(
        $1::date[], $2::text[], $3::bigint[], $4::bigint[], $5::timestamptz[], $6::timestamptz[], $7::text[],
        $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[], $15::text[],
        $16::text[], $17::text[], $18::text[], $19::text[], $20::text[],
        $21::bytea[], $22::bytea[], $23::bytea[], $24::bytea[], $25::bytea[]
    ) AS given (
        day, id, sequence, epoch, received_at, "timestamp", type,
        actor_type, actor_id, actor_name, actor_email, resource_type, resource_id, resource_name, outcome,
        submitted_by_kind, submitted_by_name, context, changes, details,
        personal_salt, body_salt, personal, body, leaf_hash
    )
), ids AS (
    INSERT INTO event_id (day, id, sequence) SELECT day, id, sequence FROM given
)
INSERT INTO event (
    sequence, epoch, received_at, id, "timestamp", type,
    actor_type, actor_id, actor_name, actor_email, resource_type, resource_id, resource_name, outcome,
    submitted_by_kind, submitted_by_name, context, changes, details,
    personal_salt, body_salt, personal, body, leaf_hash
)
SELECT
    sequence, epoch, received_at, id, "timestamp", type,
    actor_type, actor_id, actor_name, actor_email, resource_type, resource_id, resource_name, outcome,
    submitted_by_kind, submitted_by_name, context::json, changes::json, details::json,
    personal_salt, body_salt, personal, body, leaf_hash
FROM given ORDER BY sequence"#;

/// Inserts rows which are all new.
pub(super) async fn rows(connection: &mut PgConnection, rows: &[Row]) -> Result<(), sqlx::Error> {
    sqlx::query(INSERT)
        .bind(column(rows, |row| row.day.to_sqlx()))
        .bind(column(rows, |row| &*row.stored.event.id))
        .bind(column(rows, |row| row.stored.sequence))
        .bind(column(rows, |row| row.stored.epoch))
        .bind(column(rows, |row| row.stored.received_at.to_sqlx()))
        .bind(column(rows, |row| row.stored.timestamp.to_sqlx()))
        .bind(column(rows, |row| &*row.stored.event.r#type))
        .bind(column(rows, |row| actor(row).map(|actor| actor.r#type.as_str())))
        .bind(column(rows, |row| actor(row).map(|actor| &*actor.id)))
        .bind(column(rows, |row| actor(row).and_then(|actor| actor.name.as_deref())))
        .bind(column(rows, |row| actor(row).and_then(|actor| actor.email.as_deref())))
        .bind(column(rows, |row| resource(row).map(|resource| &*resource.r#type)))
        .bind(column(rows, |row| resource(row).map(|resource| &*resource.id)))
        .bind(column(rows, |row| resource(row).and_then(|resource| resource.name.as_deref())))
        .bind(column(rows, |row| row.stored.event.outcome.map(Outcome::as_str)))
        .bind(column(rows, |row| row.stored.submitted_by.kind.as_str()))
        .bind(column(rows, |row| &*row.stored.submitted_by.name))
        .bind(column(rows, |row| row.stored.event.context.as_ref().map(canonical_text)))
        .bind(column(rows, |row| Some(&row.stored.event.changes).filter(|all| !all.is_empty()).map(canonical_text)))
        .bind(column(rows, |row| row.stored.event.details.as_ref().map(canonical_text)))
        .bind(column(rows, |row| &row.salts.personal[..]))
        .bind(column(rows, |row| &row.salts.body[..]))
        .bind(column(rows, |row| &row.commitments.personal[..]))
        .bind(column(rows, |row| &row.commitments.body[..]))
        .bind(column(rows, |row| &row.commitments.leaf[..]))
        .execute(connection)
        .await?;
    Ok(())
}

fn column<'a, T>(rows: &'a [Row], value: impl Fn(&'a Row) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}

fn actor(row: &Row) -> Option<&Actor> {
    row.stored.event.actor.as_ref()
}

fn resource(row: &Row) -> Option<&Resource> {
    row.stored.event.resource.as_ref()
}

fn canonical_text(value: &impl serde::Serialize) -> String {
    String::from_utf8(canonical(value)).expect("canonical JSON is UTF-8")
}
