//! The pool, its session settings, migrations and the claim.

use super::epoch::Knowledge;
use super::hosts::Hosts;
use super::uri::{self, UriError};
use crate::query::cursor::CursorKey;
use audittrail_crds::document;
use sqlx::Connection;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::OnceCell;
use tokio_util::sync::{CancellationToken, DropGuard};
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

/// How long Postgres waits until data that it sent to us has arrived, before it ends the session. In milliseconds.
const TCP_USER_TIMEOUT_MILLISECONDS: &str = "30000";

/// Handle to the log's database. Clones share one pool.
#[derive(Clone, Debug)]
pub struct Store {
    pub(crate) pool: PgPool,
    /// What this process has seen of the log.
    pub(super) known: Arc<Knowledge>,
    /// Read when it is first needed.
    pub(super) cursor_key: Arc<OnceCell<CursorKey>>,
    hosts: Arc<Hosts>,
    /// Ends what follows the hosts with the last clone.
    _following: Arc<DropGuard>,
}

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The document's connection URI is not one.
    #[error(
        "the database's connection URI cannot be used: {0} (the URI is not shown, it holds a password; its form is postgresql://user:password@host[:port][,host…]/database)"
    )]
    Uri(#[from] UriError),
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
    /// A handle to the database of the document. Connects when first used, and follows the primary over the URI's hosts
    /// for as long as there is a clone.
    pub fn lazy(database: &document::Database) -> Result<Self, OpenError> {
        let all: Vec<_> = uri::parse(database.uri.reveal())?
            .into_iter()
            .map(|host| with_session(host, database.ca.as_deref()))
            .collect();
        let hosts = Arc::new(Hosts::new(all));
        let options = PgPoolOptions::new().max_connections(CONNECTIONS_MAX).acquire_timeout(ACQUIRE_TIMEOUT);
        let pool = hosts.checking(options).connect_lazy_with(hosts.options().clone());
        let end = CancellationToken::new();
        tokio::spawn(end.clone().run_until_cancelled_owned(Arc::clone(&hosts).follow(pool.clone())));
        Ok(Self {
            pool,
            known: Arc::default(),
            cursor_key: Arc::default(),
            hosts,
            _following: Arc::new(end.drop_guard()),
        })
    }

    /// Says that something about the database is odd: the primary is searched again, in the background.
    pub fn suspect(&self) {
        self.hosts.suspect();
    }

    /// Does work on the database, and gives it up when its host is gone or no longer the primary. A connection whose packets
    /// get lost would end it only after a quarter of an hour.
    pub async fn unless_lost<T, E: From<sqlx::Error>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        tokio::select! {
            done = work => done,
            error = self.hosts.lost() => Err(error.into()),
        }
    }

    /// Whether a connection that was good at this moment still leads to the host that takes writes.
    pub(super) fn trusts(&self, since: Instant) -> bool {
        self.hosts.trusts(since)
    }

    /// A connection of its own to the host that takes writes, for work that would keep one of the pool's for long. What it
    /// is used for belongs into [`Store::unless_lost`].
    pub async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        self.hosts.connect().await
    }

    /// Why nothing can be written, host by host and without the password; none when a host takes writes. Each host has
    /// `limit` to answer.
    pub async fn trouble(&self, limit: Duration) -> Option<String> {
        self.hosts.trouble(limit).await
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
        self.unless_lost(self.migrate(&migrations)).await?;
        self.claim(claim).await
    }

    /// On a connection of its own: the lock that migrations take is the session's, and is given back only by those that succeed.
    async fn migrate(&self, migrations: &Migrator) -> Result<(), OpenError> {
        let mut connection = self.connect().await?;
        // `Migrator::run` does the same, in a future of which the compiler cannot see that it is `Send`.
        migrations.run_direct(None, &mut connection, false).await?;
        Ok(connection.close().await?)
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

/// What every session is set to. Sent with the start of the connection, so that no statement runs without it.
fn with_session(mut options: PgConnectOptions, ca: Option<&str>) -> PgConnectOptions {
    if let Some(ca) = ca {
        options = options.ssl_root_cert_from_pem(ca.as_bytes().to_vec());
    }
    options.application_name("audittrail-collector").options([
        // What "acknowledged means durable" rests on, whatever the role's or server's default is.
        ("synchronous_commit", "on"),
        ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_TIMEOUT),
        ("statement_timeout", STATEMENT_TIMEOUT),
        // Statements are short: compiling one takes longer than running it.
        ("jit", "off"),
        // A machine of ours that is gone says no farewell: Postgres notices, and frees what its sessions have locked.
        ("tcp_keepalives_idle", "10"),
        ("tcp_keepalives_interval", "5"),
        ("tcp_keepalives_count", "3"),
        ("tcp_user_timeout", TCP_USER_TIMEOUT_MILLISECONDS),
    ])
}
