//! The life of segments, beside the writers: made ahead, their blocks written down, dropped by retention. One replica
//! at a time does it, on a connection of its own, and nothing of it takes a lock that readers or writers wait for.

use super::segment::{self, SEGMENT_EVENTS};
use super::{Store, block};
use crate::database::State;
use audittrail_crds::document::Document;
use sqlx::{Connection, PgConnection};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::sleep;

/// Segments that are ready beyond the open one. At a hundred thousand events a second they last for ten seconds.
const AHEAD: i64 = 4;

/// Pause between two looks.
const EVERY: Duration = Duration::from_millis(500);

/// Pause after a failure: the database may be away.
const PAUSE: Duration = Duration::from_secs(3);

/// Key of the advisory lock that the keeping replica holds: "keeper" in ASCII.
const KEEPING_LOCK: i64 = 0x6b_65_65_70_65_72;

/// Building an index, and waiting for readers, take as long as they take.
const SESSION: &str = "SET statement_timeout = 0";

/// Keeps the segments of the log once it is open. Never ends.
pub async fn keep(store: Store, documents: watch::Receiver<Arc<Document>>, mut state: watch::Receiver<State>) {
    // Its other end lives as long as this process.
    let _ = state.wait_for(|state| matches!(state, State::Open(_))).await;
    loop {
        if let Err(error) = store.unless_lost(keep_once(&store, &documents)).await {
            tracing::debug!(%error, "segments are not kept at the moment; trying again");
        }
        sleep(PAUSE).await;
    }
}

/// Keeps them until something fails. Returns at once when another replica does it.
async fn keep_once(store: &Store, documents: &watch::Receiver<Arc<Document>>) -> Result<(), sqlx::Error> {
    let mut connection = store.connect().await?;
    let keeping: bool =
        sqlx::query_scalar("SELECT pg_try_advisory_lock($1)").bind(KEEPING_LOCK).fetch_one(&mut connection).await?;
    if !keeping {
        return connection.close().await;
    }
    sqlx::raw_sql(SESSION).execute(&mut connection).await?;
    loop {
        make_ahead(&mut connection).await?;
        let more = block::build_next(&mut connection).await?;
        let document = Arc::clone(&documents.borrow());
        store.retain(&mut connection, &document).await?;
        // While blocks are full faster than they are written down, there is no time to rest.
        if !more {
            sleep(EVERY).await;
        }
    }
}

/// Makes what is missing ahead of the head.
async fn make_ahead(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let (next, end): (i64, i64) =
        sqlx::query_as("SELECT next_sequence, (SELECT coalesce(max(end_sequence), 0) FROM segment) FROM head")
            .fetch_one(&mut *connection)
            .await?;
    let wanted = next + AHEAD * SEGMENT_EVENTS;
    if end < wanted {
        let mut transaction = connection.begin().await?;
        segment::ensure(&mut transaction, wanted).await?;
        transaction.commit().await?;
    }
    Ok(())
}
