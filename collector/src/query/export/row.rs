//! An event as the database gives it.

use super::moment::Moment;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row as _};

/// A row of `SELECT` in `store/read.rs`, column by column. Nothing is parsed or copied that an export passes on as it is: texts
/// are those in the row, and JSON stays the canonical text that was stored.
#[derive(Clone, Copy, Debug)]
pub struct Row<'r> {
    /// Place in the log.
    pub sequence: i64,
    /// Epoch of the log in which it was stored.
    pub epoch: i64,
    /// When the database stored it.
    pub received_at: Moment,
    /// Identity.
    pub id: &'r str,
    /// When it happened.
    pub timestamp: Moment,
    /// What happened.
    pub r#type: &'r str,
    /// Who did it; an erased actor has neither type nor id.
    pub actor: [Option<&'r str>; 4],
    /// What it was done to: type, id, name.
    pub resource: [Option<&'r str>; 3],
    /// How it ended.
    pub outcome: Option<&'r str>,
    /// Who wrote it: kind and name.
    pub submitted_by: [&'r str; 2],
    /// Canonical JSON.
    pub context: Option<&'r str>,
    /// Canonical JSON; none when there are none.
    pub changes: Option<&'r str>,
    /// Canonical JSON.
    pub details: Option<&'r str>,
}

/// By place, not by name: a name is a look-up in a map, nineteen times a row. The types of the columns are those of our own
/// migrations, and are not compared again for each value.
impl<'r> FromRow<'r, PgRow> for Row<'r> {
    fn from_row(row: &'r PgRow) -> Result<Self, sqlx::Error> {
        let text = |column: usize| row.try_get_unchecked::<Option<&'r str>, _>(column);
        let required = |column: usize| row.try_get_unchecked::<&'r str, _>(column);
        let number = |column: usize| row.try_get_unchecked::<i64, _>(column);
        Ok(Self {
            sequence: number(0)?,
            epoch: number(1)?,
            received_at: Moment::of_postgres(number(2)?),
            id: required(3)?,
            timestamp: Moment::of_postgres(number(4)?),
            r#type: required(5)?,
            actor: [text(6)?, text(7)?, text(8)?, text(9)?],
            resource: [text(10)?, text(11)?, text(12)?],
            outcome: text(13)?,
            submitted_by: [required(14)?, required(15)?],
            context: text(16)?,
            changes: text(17)?,
            details: text(18)?,
        })
    }
}
