//! How many segments the log has, for those who watch it.

use super::Store;

/// Segments of the log by how far their life has come.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, sqlx::FromRow)]
pub struct Census {
    /// Made ahead, and still empty.
    pub ahead: i64,
    /// Being filled.
    pub open: i64,
    /// Full, and without all of its filter indexes yet.
    pub closed: i64,
    /// With all of its filter indexes.
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
                               WHEN indexed_at IS NOT NULL THEN 'indexed'
                               WHEN end_sequence <= next_sequence THEN 'closed'
                               WHEN first_sequence < next_sequence THEN 'open'
                               ELSE 'ahead' END AS state
                   FROM segment, head) AS counted",
        )
        .fetch_one(&self.pool)
        .await
    }
}
