//! A pair of Postgres servers: a primary, and a standby that streams from it.

use crate::postgres::Postgres;
use audittrail_collector::dev::directory::Directory;
use audittrail_collector::dev::postgres::{self, Authentication};
use audittrail_collector::dev::programs::Programs;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

/// How long the standby may take to catch up or to be promoted.
const DEADLINE: Duration = Duration::from_mins(1);

/// Pause between two looks at something which is waited for.
const POLL: Duration = Duration::from_millis(20);

/// Two servers. Each is ended when dropped.
#[derive(Debug)]
pub struct Pair {
    /// The one that takes writes, until it is killed and the other promoted.
    pub primary: Postgres,
    /// The one that follows.
    pub standby: Postgres,
}

impl Pair {
    /// Starts a primary, and a standby whose word each COMMIT waits for (`synchronous_standby_names`).
    ///
    /// # Panics
    /// When Postgres is not installed or does not start.
    pub async fn start() -> Self {
        let primary = Postgres::start();
        let standby = follow(&primary);
        // After the copy was made: the standby, once promoted, waits for nobody.
        execute(&primary, "ALTER SYSTEM SET synchronous_standby_names = '*'").await;
        execute(&primary, "SELECT pg_reload_conf()").await;
        let pair = Self { primary, standby };
        pair.wait_for(&pair.primary, "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'", 1).await;
        pair
    }

    /// Connection URI with both hosts, the primary first.
    pub fn uri(&self, database: &str) -> String {
        uri_of([&self.primary, &self.standby], database)
    }

    /// Connection URI with both hosts, the standby first.
    pub fn uri_standby_first(&self, database: &str) -> String {
        uri_of([&self.standby, &self.primary], database)
    }

    /// Makes an empty database on the primary, which the standby soon has too, and gives its name.
    ///
    /// # Panics
    /// When the primary does not answer.
    pub async fn create_database(&self) -> String {
        let uri = self.primary.create_database().await;
        uri.rsplit('/').next().expect("a URI ends with the database").to_owned()
    }

    /// Makes the standby a primary, and returns once it takes writes.
    ///
    /// # Panics
    /// When it does not.
    pub async fn promote(&self) {
        execute(&self.standby, "SELECT pg_promote(wait => false)").await;
        self.wait_for(&self.standby, "SELECT pg_is_in_recovery()::int::bigint", 0).await;
    }

    /// Changes a setting of a server that is down, for its next start.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn configure(server: &Postgres, setting: &str) {
        let path = server.server().directory().join("data/postgresql.auto.conf");
        let mut file = File::options().append(true).open(path).expect("the server has a configuration");
        writeln!(file, "{setting}").expect("it can be written");
    }

    /// Makes a server that is down a standby at its next start.
    ///
    /// # Panics
    /// When the file cannot be written.
    pub fn demote(server: &Postgres) {
        let path = server.server().directory().join("data/standby.signal");
        File::create(path).expect("the server's directory can be written");
    }

    async fn wait_for(&self, server: &Postgres, statement: &'static str, wanted: i64) {
        let deadline = Instant::now() + DEADLINE;
        let mut connection = connect(server).await;
        loop {
            let found: i64 = sqlx::query_scalar(statement).fetch_one(&mut connection).await.expect("it answers");
            if found == wanted {
                return;
            }
            assert!(Instant::now() < deadline, "waited in vain: {statement}; {}", self.standby.log());
            tokio::time::sleep(POLL).await;
        }
    }
}

fn uri_of(hosts: [&Postgres; 2], database: &str) -> String {
    let [first, second] = hosts.map(|host| host.server().port());
    format!("postgresql://postgres@127.0.0.1:{first},127.0.0.1:{second}/{database}?target_session_attrs=read-write")
}

/// Copies a running server and lets the copy follow it.
fn follow(primary: &Postgres) -> Postgres {
    // Links to postgres and initdb may stand on the PATH; pg_basebackup is beside the real ones.
    let postgres = primary.server().programs().directory().join("postgres").canonicalize().expect("it runs");
    let beside = postgres.parent().expect("it is in a directory").to_owned();
    let programs = Programs::in_directory(beside).unwrap_or_else(|error| panic!("{error}"));
    let directory = Directory::temporary("audittrail-postgres").unwrap_or_else(|error| panic!("{error}"));
    if let Some(account) = programs.account() {
        directory.give_to(account).expect("root may give a directory away");
    }
    let output = programs
        .command("pg_basebackup")
        .args(["--no-sync", "--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf"])
        .arg("--pgdata")
        .arg(directory.path().join("data"))
        .args(["--dbname", &primary.uri("postgres")])
        .current_dir(directory.path())
        .output()
        .expect("pg_basebackup is installed beside postgres");
    assert!(output.status.success(), "pg_basebackup failed: {}", String::from_utf8_lossy(&output.stderr));
    let started = postgres::Postgres::start(programs, directory, Authentication::Trust, Vec::new());
    Postgres(started.unwrap_or_else(|error| panic!("{error}")))
}

async fn connect(server: &Postgres) -> PgConnection {
    PgConnection::connect(&server.uri("postgres")).await.expect("the server answers")
}

async fn execute(server: &Postgres, statement: &str) {
    connect(server).await.execute(AssertSqlSafe(statement.to_owned())).await.expect("the statement is valid");
}
