//! Heartbeats of the replicas, the newest configuration, and the head as readers see it.

use super::Store;
use audittrail_crds::report;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use uuid::Uuid;

/// Rows of replicas that have been silent for this long, in seconds, are removed: their pods are gone.
const REPLICA_FORGOTTEN_SECONDS: i32 = 3600;

/// The head, as a reader sees it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, sqlx::FromRow)]
pub struct Head {
    /// Identity of the log.
    pub log_id: Uuid,
    /// Epoch of the log.
    pub epoch: i64,
    /// The sequence that the next event will get.
    pub next_sequence: i64,
}

/// A heartbeat row, written and read back.
#[derive(Clone, Debug, PartialEq)]
pub struct Heartbeat {
    /// The database's clock.
    pub at: Timestamp,
    /// What a COMMIT waits for.
    pub durability: report::Durability,
}

impl Store {
    /// The head.
    pub async fn head(&self) -> Result<Head, sqlx::Error> {
        let head = sqlx::query_as("SELECT log_id, epoch, next_sequence FROM head").fetch_one(&self.pool);
        self.unless_lost(head).await
    }

    /// Writes the heartbeat of a replica, and reads it back in a transaction of its own, so that what
    /// is reported went through a COMMIT.
    pub async fn heartbeat(&self, replica: &str, generation: i64) -> Result<Heartbeat, sqlx::Error> {
        sqlx::query(
            "INSERT INTO replica (name, generation, seen) VALUES ($1, $2, clock_timestamp())
             ON CONFLICT (name) DO UPDATE SET generation = excluded.generation, seen = excluded.seen",
        )
        .bind(replica)
        .bind(generation)
        .execute(&self.pool)
        .await?;
        let (at, fsync, full_page_writes, synchronous_commit, synchronous_standby_names): (
            jiff_sqlx::Timestamp,
            bool,
            bool,
            String,
            String,
        ) = sqlx::query_as(
            "SELECT seen, current_setting('fsync')::boolean, current_setting('full_page_writes')::boolean,
                    current_setting('synchronous_commit'), current_setting('synchronous_standby_names')
             FROM replica WHERE name = $1",
        )
        .bind(replica)
        .fetch_one(&self.pool)
        .await?;
        let durability = report::Durability { fsync, full_page_writes, synchronous_commit, synchronous_standby_names };
        Ok(Heartbeat { at: at.to_jiff(), durability })
    }

    /// Replicas with a heartbeat in the last [`report::REPLICA_SEEN_SECONDS`], by name.
    pub async fn replicas(&self) -> Result<Vec<report::Replica>, sqlx::Error> {
        let rows: Vec<(String, i64, jiff_sqlx::Timestamp)> = sqlx::query_as(
            "SELECT name, generation, seen FROM replica
             WHERE seen > clock_timestamp() - make_interval(secs => $1) ORDER BY name",
        )
        .bind(report::REPLICA_SEEN_SECONDS)
        .fetch_all(&self.pool)
        .await?;
        let replica = |(name, generation, seen): (String, i64, jiff_sqlx::Timestamp)| report::Replica {
            name,
            generation,
            seen: Time(seen.to_jiff()),
        };
        Ok(rows.into_iter().map(replica).collect())
    }

    /// Takes a replica off the list, when it stops in an orderly way or has been silent for long.
    pub async fn forget_replicas(&self, stopping: Option<&str>) -> Result<(), sqlx::Error> {
        sqlx::query("DELETE FROM replica WHERE name = $1 OR seen < clock_timestamp() - make_interval(secs => $2)")
            .bind(stopping)
            .bind(REPLICA_FORGOTTEN_SECONDS)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// The newest configuration that any replica has applied.
    pub async fn newest_generation(&self) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar("SELECT generation FROM configuration").fetch_one(&self.pool).await
    }

    /// Raises the newest applied configuration to `generation`. Returns the newest: a higher
    /// one means that this replica is behind and may not forward.
    pub async fn apply_generation(&self, generation: i64) -> Result<i64, sqlx::Error> {
        sqlx::query_scalar("UPDATE configuration SET generation = greatest(generation, $1) RETURNING generation")
            .bind(generation)
            .fetch_one(&self.pool)
            .await
    }
}
