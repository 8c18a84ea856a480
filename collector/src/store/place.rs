//! Whether a place that a client holds is still in the log.

use super::Store;
use super::replica::Head;
use sqlx::Row;

/// How a place stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Standing {
    /// The head.
    pub head: Head,
    /// The log was rewound to the place or to before it, after the epoch of the place.
    pub lost: bool,
}

impl Store {
    /// How the event `sequence`, seen in the epoch `epoch`, stands. Epochs begin at the first sequence that was given
    /// anew: what lies before is as it was.
    pub async fn standing(&self, epoch: i64, sequence: i64) -> Result<Standing, sqlx::Error> {
        let row = sqlx::query(
            "SELECT log_id, head.epoch, next_sequence,
                    EXISTS (SELECT FROM epoch WHERE epoch.epoch > $1 AND first_sequence <= $2) AS lost
             FROM head",
        )
        .bind(epoch)
        .bind(sequence)
        .fetch_one(&self.pool);
        let row = self.unless_lost(row).await?;
        let head = Head { log_id: row.try_get(0)?, epoch: row.try_get(1)?, next_sequence: row.try_get(2)? };
        Ok(Standing { head, lost: row.try_get(3)? })
    }
}
