//! How many segments the log has, for those who watch it.

use super::Store;
use super::block::BLOCK_EVENTS;

/// Segments of the log by how far their life has come.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, sqlx::FromRow)]
pub struct Census {
    /// Made ahead, and still empty.
    pub ahead: i64,
    /// Being filled.
    pub open: i64,
    /// Full, and not all of its blocks are written down yet.
    pub closed: i64,
    /// Full, and all of its blocks are written down.
    pub indexed: i64,
    /// On the way out.
    pub dropping: i64,
}

impl Store {
    /// Counts the segments. One row each, some hundreds for a hundred million events.
    pub async fn census(&self) -> Result<Census, sqlx::Error> {
        sqlx::query_as(
            "SELECT count(*) FILTER (WHERE state = 'ahead') AS ahead, count(*) FILTER (WHERE state = 'open') AS open,
                    count(*) FILTER (WHERE state = 'closed') AS closed,
                    count(*) FILTER (WHERE state = 'indexed') AS indexed,
                    count(*) FILTER (WHERE state = 'dropping') AS dropping
             FROM (SELECT CASE WHEN dropping_at IS NOT NULL THEN 'dropping'
                               WHEN first_sequence >= next_sequence THEN 'ahead'
                               WHEN end_sequence > next_sequence THEN 'open'
                               WHEN blocks * $1 < end_sequence - first_sequence THEN 'closed'
                               ELSE 'indexed' END AS state
                   FROM head, segment, LATERAL (
                       SELECT count(*) AS blocks FROM block
                       WHERE block.first_sequence >= segment.first_sequence AND block.first_sequence < end_sequence
                   ) AS written) AS counted",
        )
        .bind(BLOCK_EVENTS)
        .fetch_one(&self.pool)
        .await
    }
}
