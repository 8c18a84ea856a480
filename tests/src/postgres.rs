//! A throw-away Postgres server, for tests which need a real one: that of `collector dev`, and what only
//! tests ask for. What fails panics.
//!
//! The functions here block their thread. Tests that kill or restart a server while other tasks
//! go on need the multi-threaded runtime.

use audittrail_collector::dev::directory::{Directory, DirectoryError};
use audittrail_collector::dev::postgres::{self, Authentication};
use audittrail_collector::dev::programs::Programs;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// A Postgres server. Ended when dropped, and when the process dies.
#[derive(Debug)]
pub struct Postgres(pub(crate) postgres::Postgres);

impl Postgres {
    /// The server that all tests of one binary share. Tests which kill it start their own.
    pub fn shared() -> &'static Self {
        static SHARED: LazyLock<Postgres> = LazyLock::new(Postgres::start);
        &SHARED
    }

    /// Starts a server with Postgres' default settings.
    ///
    /// # Panics
    /// When Postgres is not installed or does not start; the message says what to do.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a server with settings such as `("fsync", "off")`. The environment variable
    /// `AUDITTRAIL_POSTGRES_PROGRAMS` names the directory of its programs, where there are several.
    ///
    /// # Panics
    /// Like [`Postgres::start`].
    pub fn start_with(settings: &[(&str, &str)]) -> Self {
        Self::start_in(Directory::temporary("audittrail-postgres"), settings)
    }

    /// Starts a server on the data of a directory that stays, made if it is not there.
    ///
    /// # Panics
    /// Like [`Postgres::start`], and when another process uses the directory.
    pub fn kept(directory: &Path, settings: &[(&str, &str)]) -> Self {
        Self::start_in(Directory::kept(directory), settings)
    }

    fn start_in(directory: Result<Directory, DirectoryError>, settings: &[(&str, &str)]) -> Self {
        let programs = Programs::find().unwrap_or_else(|error| panic!("this test needs Postgres: {error}"));
        let directory = directory.unwrap_or_else(|error| panic!("{error}"));
        let settings = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let started = postgres::Postgres::start(programs, directory, Authentication::Trust, settings);
        Self(started.unwrap_or_else(|error| panic!("{error}")))
    }

    /// Makes this database if it is not there, and gives its connection URI.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn database(&self, name: &str) -> String {
        let mut connection = PgConnection::connect(&self.uri("postgres")).await.expect("the server answers");
        let there: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
            .bind(name)
            .fetch_one(&mut connection)
            .await
            .expect("a list of databases");
        if !there {
            let statement = AssertSqlSafe(format!("CREATE DATABASE {name}"));
            connection.execute(statement).await.expect("a database can be made");
        }
        self.uri(name)
    }

    /// Makes an empty database and gives its connection URI.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn create_database(&self) -> String {
        self.create_database_with("").await
    }

    /// Makes an empty database with options of `CREATE DATABASE`, and gives its connection URI.
    ///
    /// # Panics
    /// When the server does not answer, or does not know the options.
    pub async fn create_database_with(&self, options: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut connection = PgConnection::connect(&self.uri("postgres")).await.expect("the server answers");
        let statement = AssertSqlSafe(format!("CREATE DATABASE {name} {options}"));
        connection.execute(statement).await.expect("a database can be made");
        self.uri(&name)
    }

    /// Connection URI of a database of this server. It stays the same after a restart.
    pub fn uri(&self, database: &str) -> String {
        self.0.uri(database)
    }

    /// Ends every process of the server with SIGKILL, as an out-of-memory killer would.
    pub fn kill9(&mut self) {
        self.0.kill9();
    }

    /// Starts the server again on the same data and the same port, after [`Postgres::kill9`] or
    /// (with a clean shut-down first) while it runs.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        self.0.restart().unwrap_or_else(|error| panic!("{error}"));
    }

    /// Shuts the server down cleanly, ending its sessions; [`Postgres::restart`] starts it again.
    pub fn stop(&mut self) {
        self.0.stop();
    }

    /// What the server logged so far.
    pub fn log(&self) -> String {
        self.0.log()
    }

    /// The server itself: its process, its port, its directory and its programs.
    pub fn server(&self) -> &postgres::Postgres {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn count(uri: &str, statement: &'static str) -> i64 {
        let mut connection = PgConnection::connect(uri).await.expect("the server answers");
        sqlx::query_scalar(statement).fetch_one(&mut connection).await.expect("the statement is valid")
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn committed_rows_survive_a_kill_and_a_restart() {
        let mut postgres = Postgres::start();
        let uri = postgres.create_database().await;
        let mut connection = PgConnection::connect(&uri).await.expect("the server answers");
        connection.execute("CREATE TABLE t AS SELECT 1 AS x").await.expect("the statement is valid");

        postgres.kill9();
        assert!(PgConnection::connect(&uri).await.is_err());
        postgres.restart();
        assert_eq!(count(&uri, "SELECT count(*) FROM t").await, 1);

        postgres.restart();
        assert_eq!(count(&uri, "SELECT count(*) FROM t").await, 1);
    }

    #[test]
    fn a_dropped_server_leaves_no_directory() {
        let postgres = Postgres::start();
        let directory = postgres.server().directory().to_owned();
        assert!(directory.exists());
        drop(postgres);
        assert!(!directory.exists());
    }
}
