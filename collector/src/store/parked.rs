//! Events that a source refused for good: looked at, counted, and wished to be sent again. Only the holder of a forwarding's
//! lease adds them and takes them out.

use super::Store;
use super::read::moment;
use crate::event::microseconds;
use jiff::Timestamp;
use serde::Serialize;
use sqlx::postgres::PgRow;
use sqlx::{FromRow, Row};
use utoipa::ToSchema;

/// Events that a forwarding may have parked, at most. A source that refuses so many refuses what it should take. A row has a
/// kilobyte or two, and 130 at most, since an event has: so they take 20 MB, and 1.3 GB at worst.
pub const PARKED_MAX: i64 = 10_000;

/// Where a parked event stands in the log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    /// Epoch of the log in which it was stored.
    pub epoch: i64,
    /// Its sequence.
    pub sequence: i64,
}

impl Place {
    /// Before every event.
    pub const START: Self = Self { epoch: -1, sequence: -1 };
}

/// A parked event, without what is in it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParkedEvent {
    /// Place in the log.
    pub sequence: i64,
    /// Epoch of the log in which it was stored.
    pub epoch: i64,
    /// Its id.
    pub id: String,
    /// What happened.
    pub r#type: String,
    /// When it happened.
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "microseconds")]
    pub timestamp: Timestamp,
    /// When the database stored it.
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "microseconds")]
    pub received_at: Timestamp,
    /// When the source refused it.
    #[schema(value_type = String, format = DateTime)]
    #[serde(serialize_with = "microseconds")]
    pub parked_at: Timestamp,
    /// Status code of the refusal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The source's words, cut, without secrets.
    pub reason: String,
    /// When it was first asked to send it again, if that was asked for.
    #[schema(value_type = Option<String>, format = DateTime)]
    #[serde(serialize_with = "optional_microseconds", skip_serializing_if = "Option::is_none")]
    pub replay_asked_at: Option<Timestamp>,
}

impl ParkedEvent {
    /// Where it stands.
    pub fn place(&self) -> Place {
        Place { epoch: self.epoch, sequence: self.sequence }
    }
}

#[expect(clippy::ref_option, reason = "what serde hands over")]
fn optional_microseconds<S: serde::Serializer>(moment: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    match moment {
        Some(moment) => microseconds(moment, serializer),
        None => serializer.serialize_none(),
    }
}

/// Which parked events are meant.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Wanted {
    /// All of the forwarding.
    All,
    /// Those with these ids. An id that several identity days have means the events of all of them.
    Ids(Vec<String>),
}

impl Wanted {
    /// For SQL: null stands for all.
    fn ids(&self) -> Option<&[String]> {
        match self {
            Self::All => None,
            Self::Ids(ids) => Some(ids),
        }
    }
}

impl Store {
    /// At most `limit` parked events of a forwarding that stand behind `after`, in the order of the log.
    pub async fn parked(&self, forwarding: &str, after: Place, limit: i64) -> Result<Vec<ParkedEvent>, sqlx::Error> {
        let rows = sqlx::query_as(
            r#"SELECT sequence, epoch, id, type, "timestamp", received_at, parked_at, code, reason, replay_asked_at
               FROM parked WHERE forwarding = $1 AND (epoch, sequence) > ($2, $3)
               ORDER BY epoch, sequence LIMIT $4"#,
        )
        .bind(forwarding)
        .bind(after.epoch)
        .bind(after.sequence)
        .bind(limit)
        .fetch_all(&self.pool);
        self.unless_lost(rows).await
    }

    /// How many events of a forwarding are parked, of those that are wanted.
    pub async fn parked_count(&self, forwarding: &str, wanted: &Wanted) -> Result<i64, sqlx::Error> {
        let count = sqlx::query_scalar(
            "SELECT count(*) FROM parked WHERE forwarding = $1 AND ($2::text[] IS NULL OR id = ANY($2))",
        )
        .bind(forwarding)
        .bind(wanted.ids())
        .fetch_one(&self.pool);
        self.unless_lost(count).await
    }

    /// Notes that parked events are to be sent again, and answers how many they are. Those of which that was noted before keep
    /// the moment.
    pub async fn ask_for_replay(&self, forwarding: &str, wanted: &Wanted) -> Result<i64, sqlx::Error> {
        self.unless_lost(self.ask(forwarding, wanted)).await
    }

    /// Rows are locked in the order of the log, as everybody does who locks several. Two statements: in one, the rows would be
    /// joined with themselves, and without statistics of a table that was just filled that takes seconds.
    async fn ask(&self, forwarding: &str, wanted: &Wanted) -> Result<i64, sqlx::Error> {
        let mut transaction = self.pool.begin().await?;
        let count = sqlx::query_scalar(
            "SELECT count(*) FROM (SELECT FROM parked WHERE forwarding = $1 AND ($2::text[] IS NULL OR id = ANY($2))
                                   ORDER BY epoch, sequence FOR UPDATE) AS locked",
        )
        .bind(forwarding)
        .bind(wanted.ids())
        .fetch_one(&mut *transaction)
        .await?;
        sqlx::query(
            "UPDATE parked SET replay_asked_at = clock_timestamp()
             WHERE forwarding = $1 AND ($2::text[] IS NULL OR id = ANY($2)) AND replay_asked_at IS NULL",
        )
        .bind(forwarding)
        .bind(wanted.ids())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(count)
    }
}

impl FromRow<'_, PgRow> for ParkedEvent {
    fn from_row(row: &PgRow) -> Result<Self, sqlx::Error> {
        let asked_at: Option<jiff_sqlx::Timestamp> = row.try_get("replay_asked_at")?;
        Ok(Self {
            sequence: row.try_get("sequence")?,
            epoch: row.try_get("epoch")?,
            id: row.try_get("id")?,
            r#type: row.try_get("type")?,
            timestamp: moment(row, "timestamp")?,
            received_at: moment(row, "received_at")?,
            parked_at: moment(row, "parked_at")?,
            code: row.try_get("code")?,
            reason: row.try_get("reason")?,
            replay_asked_at: asked_at.map(jiff_sqlx::Timestamp::to_jiff),
        })
    }
}
