//! Blocks: what filters ask, written down when a run of sequences is full.
//!
//! A block's postings are bitmaps: those of any two filters are intersected, a rare value is found in few rows over the whole log, and
//! counts come with them. B-trees would need one for each pair of filters to do the same: measured with ten million events
//! (7.4 GiB), fourteen of them take 6.7 GiB and answer in less than a millisecond, postings take 1.7 GiB and answer in 2 to 20 ms
//! (docs/benchmarks.md). Built once, when nothing of the block changes any more, they hold no writer up.

use super::term::Field;
use futures::TryStreamExt;
use roaring::RoaringBitmap;
use sqlx::postgres::PgRow;
use sqlx::{Connection, PgConnection, Row};
use std::collections::HashMap;
use std::io::{self, Read};
use std::ops::Range;

/// Events a block holds: what a filter has to scan at most, beside what was written while the last block was built. One
/// bitmap container has room for them.
pub const BLOCK_EVENTS: i64 = 50_000;

/// Events a zone holds: what a time filter reads at most before and after what it asks for.
pub(super) const ZONE_EVENTS: i64 = 500;

/// Postings inserted with one statement: bounds what travels at once.
const POSTINGS_A_STATEMENT: usize = 5_000;

/// First sequence of the block that holds this one.
pub(super) fn block_of(sequence: i64) -> i64 {
    sequence - sequence.rem_euclid(BLOCK_EVENTS)
}

/// Where a value occurs in a block, and who that is.
#[derive(Clone, Debug, Default, PartialEq)]
struct Posting {
    kind: Option<String>,
    name: Option<String>,
    email: Option<String>,
    places: RoaringBitmap,
}

/// What the events of one block have.
#[derive(Clone, Debug, PartialEq)]
struct Block {
    first_sequence: i64,
    postings: HashMap<(i16, String), Posting>,
    /// Earliest and latest moment of each zone, in microseconds.
    zones: Vec<Option<(i64, i64)>>,
}

/// The members of an event that a block wants to know.
#[derive(Clone, Copy, Debug, Default)]
struct Seen<'a> {
    sequence: i64,
    microseconds: i64,
    r#type: &'a str,
    actor_type: Option<&'a str>,
    actor_id: Option<&'a str>,
    actor_name: Option<&'a str>,
    actor_email: Option<&'a str>,
    resource_type: Option<&'a str>,
    resource_id: Option<&'a str>,
    resource_name: Option<&'a str>,
    outcome: Option<&'a str>,
    submitted_by: &'a str,
}

impl Block {
    fn new(first_sequence: i64) -> Self {
        let zones = usize::try_from(BLOCK_EVENTS / ZONE_EVENTS).unwrap_or_default();
        Self { first_sequence, postings: HashMap::new(), zones: vec![None; zones] }
    }

    /// Notes an event. They come in the order of their sequences.
    fn add(&mut self, seen: Seen<'_>) {
        let distance = seen.sequence - self.first_sequence;
        let Ok(place) = u32::try_from(distance) else { return };
        if let Some(zone) = usize::try_from(distance / ZONE_EVENTS).ok().and_then(|index| self.zones.get_mut(index)) {
            let (earliest, latest) = zone.unwrap_or((seen.microseconds, seen.microseconds));
            *zone = Some((earliest.min(seen.microseconds), latest.max(seen.microseconds)));
        }
        self.note(Field::Type, Some(seen.r#type), place);
        self.note(Field::ActorType, seen.actor_type, place);
        if let Some(posting) = self.note(Field::Actor, seen.actor_id, place) {
            posting.describe(seen.actor_type, seen.actor_name, seen.actor_email);
        }
        self.note(Field::ResourceType, seen.resource_type, place);
        if let Some(posting) = self.note(Field::Resource, seen.resource_id, place) {
            posting.describe(seen.resource_type, seen.resource_name, None);
        }
        self.note(Field::Outcome, seen.outcome, place);
        self.note(Field::SubmittedBy, Some(seen.submitted_by), place);
    }

    fn note(&mut self, field: Field, value: Option<&str>, place: u32) -> Option<&mut Posting> {
        let posting = self.postings.entry((field.number(), value?.to_owned())).or_default();
        posting.places.insert(place);
        Some(posting)
    }
}

impl Posting {
    /// What comes later is newer.
    fn describe(&mut self, kind: Option<&str>, name: Option<&str>, email: Option<&str>) {
        replace(&mut self.kind, kind);
        replace(&mut self.name, name);
        replace(&mut self.email, email);
    }
}

fn replace(standing: &mut Option<String>, newer: Option<&str>) {
    if newer.is_some() && standing.as_deref() != newer {
        *standing = newer.map(str::to_owned);
    }
}

/// Writes down the oldest full block that has none yet; false when there is none.
pub(super) async fn build_next(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let Some(first) = next_due(connection).await? else { return Ok(false) };
    let block = read(connection, first).await?;
    let mut transaction = connection.begin().await?;
    insert(&mut transaction, block).await?;
    transaction.commit().await?;
    summarize(connection).await?;
    Ok(true)
}

/// Postgres does this by itself only when it vacuums, and until then reads all that is new for every time range.
pub(super) async fn summarize(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT brin_summarize_new_values('posting_first_sequence')").execute(connection).await?;
    Ok(())
}

/// The oldest block that lies below the head and within a segment that stays, and is not written down.
async fn next_due(connection: &mut PgConnection) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT due.first_sequence FROM head, segment,
             generate_series(segment.first_sequence, least(segment.end_sequence, next_sequence) - $1, $1) AS due (first_sequence)
         WHERE dropping_at IS NULL AND segment.first_sequence < next_sequence
           AND NOT EXISTS (SELECT FROM block WHERE block.first_sequence = due.first_sequence)
         ORDER BY 1 LIMIT 1",
    )
    .bind(BLOCK_EVENTS)
    .fetch_optional(connection)
    .await
}

async fn read(connection: &mut PgConnection, first: i64) -> Result<Block, sqlx::Error> {
    let mut block = Block::new(first);
    let mut rows = sqlx::query(
        r#"SELECT sequence, "timestamp", type, actor_type, actor_id, actor_name, actor_email,
                  resource_type, resource_id, resource_name, outcome, submitted_by_name
           FROM event WHERE sequence >= $1 AND sequence < $2 ORDER BY sequence"#,
    )
    .bind(first)
    .bind(first + BLOCK_EVENTS)
    .fetch(connection);
    while let Some(row) = rows.try_next().await? {
        block.add(seen(&row)?);
    }
    Ok(block)
}

/// By place: names would be looked up for each row.
fn seen(row: &PgRow) -> Result<Seen<'_>, sqlx::Error> {
    Ok(Seen {
        sequence: row.try_get(0)?,
        microseconds: row.try_get::<jiff_sqlx::Timestamp, _>(1)?.to_jiff().as_microsecond(),
        r#type: row.try_get(2)?,
        actor_type: row.try_get(3)?,
        actor_id: row.try_get(4)?,
        actor_name: row.try_get(5)?,
        actor_email: row.try_get(6)?,
        resource_type: row.try_get(7)?,
        resource_id: row.try_get(8)?,
        resource_name: row.try_get(9)?,
        outcome: row.try_get(10)?,
        submitted_by: row.try_get(11)?,
    })
}

async fn insert(connection: &mut PgConnection, block: Block) -> Result<(), sqlx::Error> {
    let moments = |of: fn((i64, i64)) -> i64| block.zones.iter().map(|zone| zone.map(of)).collect::<Vec<Option<i64>>>();
    sqlx::query("INSERT INTO block (first_sequence, earliest, latest) VALUES ($1, $2, $3)")
        .bind(block.first_sequence)
        .bind(moments(|(earliest, _)| earliest))
        .bind(moments(|(_, latest)| latest))
        .execute(&mut *connection)
        .await?;
    let mut postings: Vec<_> = block.postings.into_iter().collect();
    // In the order of the index, whose pages are then each visited once.
    postings.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
    for some in postings.chunks_mut(POSTINGS_A_STATEMENT) {
        insert_postings(connection, block.first_sequence, some).await?;
    }
    Ok(())
}

async fn insert_postings(
    connection: &mut PgConnection,
    first_sequence: i64,
    postings: &mut [((i16, String), Posting)],
) -> Result<(), sqlx::Error> {
    let bytes: Vec<Vec<u8>> = postings.iter_mut().map(|(_, posting)| serialized(&mut posting.places)).collect();
    let counts: Vec<i32> =
        postings.iter().map(|(_, posting)| i32::try_from(posting.places.len()).unwrap_or(i32::MAX)).collect();
    sqlx::query(
        "INSERT INTO posting (field, value, first_sequence, kind, name, email, count, places)
         SELECT field, value, $1, kind, name, email, count, places
         FROM unnest($2::smallint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::integer[], $8::bytea[])
              AS given (field, value, kind, name, email, count, places)",
    )
    .bind(first_sequence)
    .bind(postings.iter().map(|((field, _), _)| *field).collect::<Vec<i16>>())
    .bind(postings.iter().map(|((_, value), _)| value.as_str()).collect::<Vec<_>>())
    .bind(postings.iter().map(|(_, posting)| posting.kind.as_deref()).collect::<Vec<_>>())
    .bind(postings.iter().map(|(_, posting)| posting.name.as_deref()).collect::<Vec<_>>())
    .bind(postings.iter().map(|(_, posting)| posting.email.as_deref()).collect::<Vec<_>>())
    .bind(counts)
    .bind(bytes)
    .execute(connection)
    .await?;
    Ok(())
}

/// Roaring's portable format, without the zeros at its end: the bitmap of a common value then fits in a row and needs no
/// look into another table.
fn serialized(places: &mut RoaringBitmap) -> Vec<u8> {
    places.optimize();
    let mut bytes = Vec::with_capacity(places.serialized_size());
    places.serialize_into(&mut bytes).expect("a vector takes whatever is written");
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(end);
    bytes
}

/// What [`serialized`] wrote.
pub(super) fn places(bytes: &[u8]) -> Result<RoaringBitmap, sqlx::Error> {
    RoaringBitmap::deserialize_from(bytes.chain(io::repeat(0))).map_err(|error| sqlx::Error::Decode(error.into()))
}

/// Writes the blocks down again of which the sequences `dropped` are gone, to be called in the transaction that removes these. Who
/// reads a block and afterwards its postings then finds the events that are left in either version.
pub(super) async fn cut(connection: &mut PgConnection, dropped: Range<i64>) -> Result<(), sqlx::Error> {
    for first in remove(connection, block_of(dropped.start)..dropped.end).await? {
        let rest = read(connection, first).await?;
        insert(connection, rest).await?;
    }
    Ok(())
}

/// Removes what is written down of the blocks that begin in `dropped`. Returns which were.
pub(super) async fn remove(connection: &mut PgConnection, dropped: Range<i64>) -> Result<Vec<i64>, sqlx::Error> {
    sqlx::query("DELETE FROM posting WHERE first_sequence >= $1 AND first_sequence < $2")
        .bind(dropped.start)
        .bind(dropped.end)
        .execute(&mut *connection)
        .await?;
    sqlx::query_scalar("DELETE FROM block WHERE first_sequence >= $1 AND first_sequence < $2 RETURNING first_sequence")
        .bind(dropped.start)
        .bind(dropped.end)
        .fetch_all(connection)
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn there_and_back(mut places: RoaringBitmap) {
        assert_eq!(super::places(&serialized(&mut places)).expect("readable"), places);
    }

    #[test]
    fn places_of_every_kind_come_back() {
        let last = u32::try_from(BLOCK_EVENTS).expect("small") - 1;
        for places in
            [vec![], vec![0], vec![last], (0..=last).collect(), (0..=last).step_by(2).collect(), vec![255, 256]]
        {
            there_and_back(places.into_iter().collect());
        }
    }

    #[test]
    fn the_largest_places_fit_in_a_page() {
        let mut odd: RoaringBitmap = (0..u32::try_from(BLOCK_EVENTS).expect("small")).step_by(2).collect();
        // 8,160 bytes, of which the rest of the row needs some.
        assert!(serialized(&mut odd).len() < 6_500);
    }

    #[test]
    fn a_bitmap_that_is_cut_short_is_an_error_or_another_and_no_panic() {
        let _ = super::places(&[]);
        let _ = super::places(&[0x3a, 0x30]);
    }

    proptest! {
        #[test]
        fn any_places_come_back(places in proptest::collection::btree_set(0_u32..50_000, 0..300)) {
            there_and_back(places.into_iter().collect());
        }
    }

    #[test]
    fn an_actor_is_described_as_it_was_last() {
        let mut block = Block::new(0);
        let seen = |sequence, actor_name| Seen {
            sequence,
            r#type: "a",
            submitted_by: "b",
            actor_type: Some("user"),
            actor_id: Some("usr_1"),
            actor_name,
            ..Seen::default()
        };
        block.add(seen(0, Some("Old")));
        block.add(seen(7, Some("New")));
        block.add(seen(9, None));
        let posting = &block.postings[&(Field::Actor.number(), "usr_1".to_owned())];
        assert_eq!((posting.name.as_deref(), posting.kind.as_deref()), (Some("New"), Some("user")));
        assert_eq!(posting.places, [0, 7, 9].into_iter().collect());
        assert_eq!(block.zones[0], Some((0, 0)));
        assert_eq!(block.zones[1], None);
    }
}
