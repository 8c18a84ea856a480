//! The pool, its session settings, migrations and the claim.

use audittrail_crds::document;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use std::str::FromStr;
use std::time::Duration;
use uuid::Uuid;

/// Connections of one replica. The writer needs one, each forwarding one at times; the rest
/// are for queries. Twenty replicas stay within Postgres' default of 100.
const CONNECTIONS_MAX: u32 = 5;

/// How long a request waits for a connection before it is answered 503.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);

/// A paused replica must not stop the trail: past this, Postgres ends its transaction and frees the head.
const IDLE_IN_TRANSACTION_TIMEOUT: &str = "5s";

/// No statement runs longer. A migration or a query that needs more has to ask for it.
const STATEMENT_TIMEOUT: &str = "30s";

/// Handle to the log's database. Clones share one pool.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) pool: PgPool,
}

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The document's connection URI is not one.
    #[error(
        "the database's connection URI cannot be read (its text is not shown, it holds a password): use postgresql://user:password@host/database"
    )]
    Uri(#[source] sqlx::Error),
    /// The database does not answer, or a statement failed.
    #[error("the database does not answer: {0}")]
    Database(#[from] sqlx::Error),
    /// A migration failed.
    #[error("the database's schema could not be brought up to date: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The schema is of a newer version which this binary must not write to.
    #[error(
        "the database's schema needs a collector that knows schema version {floor}; this one knows {known}: use a newer image"
    )]
    TooOld {
        /// Oldest schema version a binary must know.
        floor: i64,
        /// Newest one that this binary knows.
        known: i64,
    },
    /// The database belongs to another trail.
    #[error("the database holds the trail of {claim}: give each trail a database of its own")]
    InUse {
        /// The claim that stands in it.
        claim: String,
    },
}

impl Store {
    /// A handle to the database of the document. Connects when first used.
    pub fn lazy(database: &document::Database) -> Result<Self, OpenError> {
        let mut options = PgConnectOptions::from_str(database.uri.reveal()).map_err(OpenError::Uri)?;
        if let Some(ca) = &database.ca {
            options = options.ssl_root_cert_from_pem(ca.clone().into_bytes());
        }
        let options = options.application_name("audittrail-collector").options([
            // What "acknowledged means durable" rests on, whatever the role's or server's default is.
            ("synchronous_commit", "on"),
            ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_TIMEOUT),
            ("statement_timeout", STATEMENT_TIMEOUT),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS_MAX)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_lazy_with(options);
        Ok(Self { pool })
    }

    /// Brings the schema up to date and claims the log for `claim`. Whichever replica starts first
    /// does it: migrations take a lock. Returns the identity of the log.
    pub async fn open(&self, claim: &str) -> Result<Uuid, OpenError> {
        let mut migrations = sqlx::migrate!();
        let known = migrations.iter().map(|migration| migration.version).max().unwrap_or_default();
        if let Some(floor) = self.schema_floor().await?.filter(|floor| *floor > known) {
            return Err(OpenError::TooOld { floor, known });
        }
        // A newer collector may have been here and expanded the schema: its migrations are not
        // ours to judge, the floor is.
        migrations.set_ignore_missing(true);
        migrations.run(&self.pool).await?;
        self.claim(claim).await
    }

    /// The oldest schema version that a binary must know; none before the first migration.
    async fn schema_floor(&self) -> Result<Option<i64>, sqlx::Error> {
        let table: Option<String> =
            sqlx::query_scalar("SELECT to_regclass('schema_floor')::text").fetch_one(&self.pool).await?;
        match table {
            Some(_) => sqlx::query_scalar("SELECT version FROM schema_floor").fetch_optional(&self.pool).await,
            None => Ok(None),
        }
    }

    /// Makes the head row if there is none; whoever makes it has claimed the log for good.
    async fn claim(&self, claim: &str) -> Result<Uuid, OpenError> {
        sqlx::query("INSERT INTO head (claim) VALUES ($1) ON CONFLICT DO NOTHING")
            .bind(claim)
            .execute(&self.pool)
            .await?;
        let (log_id, standing): (Uuid, String) =
            sqlx::query_as("SELECT log_id, claim FROM head").fetch_one(&self.pool).await?;
        if standing == claim { Ok(log_id) } else { Err(OpenError::InUse { claim: standing }) }
    }
}
