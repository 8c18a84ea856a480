//! A throw-away Postgres server, for tests which need a real one.
//!
//! The server listens on 127.0.0.1 and on a socket in its own directory, with its own settings for
//! durability (`fsync` on). It runs in process groups of its own, so that Ctrl-C ends the
//! test first; a small shell then notices that the test is gone, ends the server and removes the
//! directory, however the test died.
//!
//! The functions here block their thread. Tests that kill or restart a server while other tasks
//! go on need the multi-threaded runtime.

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take to start, crash recovery included.
const READY_DEADLINE: Duration = Duration::from_mins(1);

/// Pause between two looks at something which is waited for.
const POLL: Duration = Duration::from_millis(20);

/// Free ports to try: another process may take one between our finding it and the server's use.
const PORTS_TRIED_MAX: u32 = 5;

/// Where Debian keeps the programs, one directory a version.
const DEBIAN_PROGRAMS: &str = "/usr/lib/postgresql";

/// A Postgres server. Ended when dropped, and when the process dies.
#[derive(Debug)]
pub struct Postgres {
    directory: PathBuf,
    programs: PathBuf,
    account: Option<Account>,
    settings: Vec<String>,
    port: u16,
    server: Child,
    /// Waits for the end of its standard input, which is ours; see [`reaper`].
    reaper: Child,
}

/// Who runs the server: it refuses to be root.
#[derive(Clone, Copy, Debug)]
struct Account {
    user: u32,
    group: u32,
}

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

    /// Starts a server with settings such as `("fsync", "off")`.
    ///
    /// # Panics
    /// Like [`Postgres::start`].
    pub fn start_with(settings: &[(&str, &str)]) -> Self {
        let programs = find_programs();
        let account = unprivileged_account();
        let directory = make_directory(account);
        // From here on the directory is removed, whatever happens to us.
        let reaper = reaper(&directory);
        initdb(&programs, account, &directory);
        let settings: Vec<String> = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let (port, server) = start_on_a_free_port(&programs, account, &directory, &settings);
        Self { directory, programs, account, settings, port, server, reaper }
    }

    /// Makes an empty database and gives its connection URI.
    ///
    /// # Panics
    /// When the server does not answer.
    pub async fn create_database(&self) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut connection = PgConnection::connect(&self.uri("postgres")).await.expect("the server answers");
        let statement = AssertSqlSafe(format!("CREATE DATABASE {name}"));
        connection.execute(statement).await.expect("a database can be made");
        self.uri(&name)
    }

    /// Connection URI of a database of this server. It stays the same after a restart.
    pub fn uri(&self, database: &str) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Ends every process of the server with SIGKILL, as an out-of-memory killer would.
    ///
    /// # Panics
    /// When the processes cannot be ended.
    pub fn kill9(&mut self) {
        if !matches!(self.server.try_wait(), Ok(None)) {
            return;
        }
        let postmaster = self.server.id();
        // Read while the postmaster lives: later its children belong to another process.
        let children = fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children")).unwrap_or_default();
        self.server.kill().expect("our own child can be killed");
        self.server.wait().expect("our own child can be waited for");
        for child in children.split_whitespace() {
            // It may be gone already: backends end by themselves when the postmaster is dead.
            let _status = Command::new("sh").args(["-c", "kill -KILL $0 2>/dev/null", child]).status();
        }
    }

    /// Starts the server again on the same data and the same port, after [`Postgres::kill9`] or
    /// (with a clean shut-down first) while it runs.
    ///
    /// # Panics
    /// When it does not start.
    pub fn restart(&mut self) {
        self.stop();
        let deadline = Instant::now() + READY_DEADLINE;
        loop {
            self.server = spawn(&self.programs, self.account, &self.directory, self.port, &self.settings);
            if wait_until_ready(&mut self.server, &self.directory) {
                return;
            }
            // A backend of the killed server may still hold the shared memory for a moment.
            assert!(Instant::now() < deadline, "Postgres did not start again: {}", self.log());
            let _gone = (self.server.kill(), self.server.wait());
            thread::sleep(POLL);
        }
    }

    /// Shuts the server down cleanly, ending its sessions; [`Postgres::restart`] starts it again.
    ///
    /// # Panics
    /// When it cannot be signalled.
    pub fn stop(&mut self) {
        if matches!(self.server.try_wait(), Ok(None)) {
            // SIGINT is Postgres' "fast shutdown".
            let pid = self.server.id().to_string();
            Command::new("sh").args(["-c", "kill -INT $0", &pid]).status().expect("sh is there");
            self.server.wait().expect("our own child can be waited for");
        }
    }

    /// What the server logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.kill9();
        // Closes its standard input, at which it removes the directory.
        drop(self.reaper.stdin.take());
        let _status = self.reaper.wait();
    }
}

/// Where `initdb` and `postgres` are: `$POSTGRES_BIN`, Debian's newest version, or the `PATH`.
fn find_programs() -> PathBuf {
    let given = std::env::var_os("POSTGRES_BIN").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path: Vec<PathBuf> = std::env::split_paths(&path).collect();
    given
        .into_iter()
        .chain(debian_programs())
        .chain(on_path)
        .find(|directory| ["initdb", "postgres"].iter().all(|program| directory.join(program).is_file()))
        .expect(
            "this test needs Postgres: install the package `postgresql`, \
             or set POSTGRES_BIN to the directory which holds initdb and postgres",
        )
}

/// Debian's directories, the newest version first.
fn debian_programs() -> Vec<PathBuf> {
    let entries = fs::read_dir(DEBIAN_PROGRAMS).into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> =
        entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path()))).collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    versions.into_iter().map(|(_, path)| path.join("bin")).collect()
}

/// For root, the account to run as: Debian's `postgres`, else `nobody`.
fn unprivileged_account() -> Option<Account> {
    let me = fs::metadata("/proc/self").expect("/proc is mounted").uid();
    (me == 0).then(|| {
        let accounts = fs::read_to_string("/etc/passwd").expect("/etc/passwd can be read");
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| account(&accounts, name))
            .expect("an account `postgres` or `nobody` to run Postgres as, since it refuses to be root")
    })
}

fn account(accounts: &str, name: &str) -> Option<Account> {
    let fields: Vec<&str> = accounts
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.first() == Some(&name))?;
    Some(Account { user: fields.get(2)?.parse().ok()?, group: fields.get(3)?.parse().ok()? })
}

fn make_directory(account: Option<Account>) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("audittrail-postgres-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let directory = std::env::temp_dir().join(name);
    // Left by a process of the same id that could not clean up.
    let _absent = fs::remove_dir_all(&directory);
    fs::create_dir(&directory).expect("the directory for temporary files can be written");
    if let Some(Account { user, group }) = account {
        chown(&directory, Some(user), Some(group)).expect("root may give a directory away");
    }
    directory
}

/// A shell which waits until we close its standard input, or die; then it ends the server and
/// removes the directory.
fn reaper(directory: &Path) -> Child {
    const SCRIPT: &str = r#"
        read -r _
        if pid=$(head -n 1 "$0/data/postmaster.pid" 2>/dev/null) && kill -QUIT "$pid" 2>/dev/null; then
            for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
        fi
        for _ in $(seq 100); do rm -rf "$0" 2>/dev/null && break; sleep 0.1; done"#;
    Command::new("sh")
        .args(["-c", SCRIPT])
        .arg(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .expect("sh is there")
}

fn initdb(programs: &Path, account: Option<Account>, directory: &Path) {
    let output = run_as(account, &programs.join("initdb"))
        .args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--pgdata"])
        .arg(directory.join("data"))
        .current_dir(directory)
        .output()
        .expect("initdb can be run");
    assert!(output.status.success(), "initdb failed: {}", String::from_utf8_lossy(&output.stderr));
}

fn spawn(programs: &Path, account: Option<Account>, directory: &Path, port: u16, settings: &[String]) -> Child {
    let log = File::options().create(true).append(true).open(directory.join("log")).expect("the log can be written");
    let mut command = run_as(account, &programs.join("postgres"));
    command.arg("-D").arg(directory.join("data")).arg("-k").arg(directory);
    command.args(["-h", "127.0.0.1", "-p", &port.to_string()]);
    // Files instead of /dev/shm, so that a killed server leaves nothing outside of its directory.
    command.args(["-c", "dynamic_shared_memory_type=mmap", "-c", "max_connections=200"]);
    for setting in settings {
        command.args(["-c", setting]);
    }
    command
        .current_dir(directory)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("postgres can be run")
}

fn start_on_a_free_port(
    programs: &Path,
    account: Option<Account>,
    directory: &Path,
    settings: &[String],
) -> (u16, Child) {
    for _ in 0..PORTS_TRIED_MAX {
        let port = free_port();
        let mut server = spawn(programs, account, directory, port, settings);
        if wait_until_ready(&mut server, directory) {
            return (port, server);
        }
        let _gone = (server.kill(), server.wait());
    }
    panic!("Postgres did not start: {}", fs::read_to_string(directory.join("log")).unwrap_or_default());
}

fn run_as(account: Option<Account>, program: &Path) -> Command {
    let mut command = Command::new(program);
    if let Some(Account { user, group }) = account {
        command.uid(user).gid(group);
    }
    command
}

/// True when the server takes connections, false when it ended or the deadline passed.
fn wait_until_ready(server: &mut Child, directory: &Path) -> bool {
    let deadline = Instant::now() + READY_DEADLINE;
    while Instant::now() < deadline {
        match is_ready(server.id(), directory) {
            Ok(true) => return true,
            Ok(false) | Err(_) if matches!(server.try_wait(), Ok(None)) => thread::sleep(POLL),
            _ => return false,
        }
    }
    false
}

/// Looks where `pg_ctl` does: line 1 of `postmaster.pid` is the process, line 8 its state.
fn is_ready(pid: u32, directory: &Path) -> io::Result<bool> {
    let text = fs::read_to_string(directory.join("data/postmaster.pid"))?;
    let line = |number: usize| text.lines().nth(number - 1).unwrap_or_default().trim();
    Ok(line(1) == pid.to_string() && line(8) == "ready")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
    listener.local_addr().expect("a bound socket has an address").port()
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
        let directory = postgres.directory.clone();
        assert!(directory.exists());
        drop(postgres);
        assert!(!directory.exists());
    }
}
