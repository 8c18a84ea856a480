//! `COPY … FROM STDIN` of rows, in Postgres' text format (PostgreSQL documentation, COPY, "Text Format").
//!
//! Not the CSV format: before PostgreSQL 18 a line of `\.` inside a quoted value ends the data there.

use super::plan::Row;
use crate::event::json::canonical;
use crate::event::rfc3339_microseconds;
use sqlx::PgConnection;

/// Writes the events themselves.
pub(super) async fn events(connection: &mut PgConnection, rows: &[Row]) -> Result<(), sqlx::Error> {
    let mut text = Text::default();
    rows.iter().for_each(|row| event(&mut text, row));
    text.copy(
        connection,
        "COPY event (sequence, epoch, received_at, id, \"timestamp\", type, actor_type, actor_id, actor_name, actor_email,
             resource_type, resource_id, resource_name, outcome, submitted_by_kind, submitted_by_name, context, changes,
             details, personal_salt, body_salt, personal, body, leaf_hash) FROM STDIN",
    )
    .await
}

/// Writes the ids, by identity day.
pub(super) async fn ids(connection: &mut PgConnection, rows: &[Row]) -> Result<(), sqlx::Error> {
    let mut text = Text::default();
    for row in rows {
        text.field(&row.day.to_string());
        text.field(&row.stored.event.id);
        text.field(&row.stored.sequence.to_string());
        text.end_row();
    }
    text.copy(connection, "COPY event_id (day, id, sequence) FROM STDIN").await
}

fn event(text: &mut Text, row: &Row) {
    let stored = &row.stored;
    let event = &stored.event;
    let actor = event.actor.as_ref();
    let resource = event.resource.as_ref();
    text.field(&stored.sequence.to_string());
    text.field(&stored.epoch.to_string());
    text.field(&rfc3339_microseconds(stored.received_at));
    text.field(&event.id);
    text.field(&rfc3339_microseconds(stored.timestamp));
    text.field(&event.r#type);
    text.optional(actor.map(|actor| actor.r#type.as_str()));
    text.optional(actor.map(|actor| &actor.id));
    text.optional(actor.and_then(|actor| actor.name.as_ref()));
    text.optional(actor.and_then(|actor| actor.email.as_ref()));
    text.optional(resource.map(|resource| &resource.r#type));
    text.optional(resource.map(|resource| &resource.id));
    text.optional(resource.and_then(|resource| resource.name.as_ref()));
    text.optional(event.outcome.map(crate::event::Outcome::as_str));
    text.field(stored.submitted_by.kind.as_str());
    text.field(&stored.submitted_by.name);
    text.optional(event.context.as_ref().map(canonical));
    text.optional((!event.changes.is_empty()).then(|| canonical(&event.changes)));
    text.optional(event.details.as_ref().map(canonical));
    for bytes in [
        &row.salts.personal[..],
        &row.salts.body,
        &row.commitments.personal,
        &row.commitments.body,
        &row.commitments.leaf,
    ] {
        text.field(&format!("\\x{}", hex::encode(bytes)));
    }
    text.end_row();
}

/// Rows in text format.
#[derive(Default)]
struct Text {
    bytes: Vec<u8>,
    row_begun: bool,
}

impl Text {
    fn field(&mut self, value: &(impl AsRef<[u8]> + ?Sized)) {
        self.separate();
        for byte in value.as_ref() {
            match byte {
                b'\\' => self.bytes.extend(b"\\\\"),
                b'\n' => self.bytes.extend(b"\\n"),
                b'\r' => self.bytes.extend(b"\\r"),
                b'\t' => self.bytes.extend(b"\\t"),
                other => self.bytes.push(*other),
            }
        }
    }

    fn optional(&mut self, value: Option<impl AsRef<[u8]>>) {
        if let Some(value) = value {
            self.field(&value);
        } else {
            self.separate();
            self.bytes.extend(b"\\N");
        }
    }

    fn separate(&mut self) {
        if std::mem::replace(&mut self.row_begun, true) {
            self.bytes.push(b'\t');
        }
    }

    fn end_row(&mut self) {
        self.bytes.push(b'\n');
        self.row_begun = false;
    }

    async fn copy(self, connection: &mut PgConnection, statement: &'static str) -> Result<(), sqlx::Error> {
        let mut copy = connection.copy_in_raw(statement).await?;
        copy.send(self.bytes).await?;
        copy.finish().await?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_a_meaning_in_the_format_is_escaped() {
        let mut text = Text::default();
        text.field("a\tb\nc\rd\\.e");
        text.optional(None::<&str>);
        text.field("");
        text.end_row();
        text.field("\\N");
        text.end_row();
        assert_eq!(String::from_utf8(text.bytes).expect("UTF-8"), "a\\tb\\nc\\rd\\\\.e\t\\N\t\n\\\\N\n");
    }
}
