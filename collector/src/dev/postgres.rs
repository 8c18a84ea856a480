//! A Postgres server of our own, for `collector dev` and for tests.
//!
//! It listens on 127.0.0.1 and on a socket in its directory, and syncs what it commits, as any server does. It runs in
//! process groups of its own, so that Ctrl-C ends the process that uses it first; [`Directory`] ends it after that,
//! however that process died.
//!
//! The functions here block their thread.

use crate::dev::directory::{Directory, DirectoryError, Fate};
use crate::dev::programs::{Account, Programs, ProgramsError};
use audittrail_crds::document::Sensitive;
use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{OpenOptionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a server may take to start, crash recovery included.
const READY_DEADLINE: Duration = Duration::from_mins(1);

/// Pause between two looks at something which is waited for.
const POLL: Duration = Duration::from_millis(20);

/// Free ports to try: another process may take one between our finding it and the server's use.
const PORTS_TRIED_MAX: u32 = 5;

/// Lines at the end of the server's log that an error shows.
const LOG_LINES_SHOWN: usize = 10;

/// The only role. It may do everything.
const ROLE: &str = "postgres";

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// There is nothing to run.
    #[error(transparent)]
    Programs(#[from] ProgramsError),
    /// There is no place for it.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A file of the server's cannot be written.
    #[error("cannot write {}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A program cannot be run.
    #[error("cannot run {program}: {source}")]
    Run {
        /// The program.
        program: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// `initdb` failed.
    #[error("initdb failed: {0}")]
    Initdb(String),
    /// The server ended or was not ready in time.
    #[error("Postgres did not start; the end of its log: {0}")]
    Start(String),
    /// There is no free port.
    #[error("no port of 127.0.0.1 is free: {0}")]
    Port(#[source] io::Error),
}

/// What the server asks of those who connect.
#[derive(Clone, Debug)]
pub enum Authentication {
    /// Nothing: for tests on a machine whose users are trusted.
    Trust,
    /// This password (letters and digits, so that it can stand in a URI).
    Password(Sensitive),
}

/// A running server. Ended when dropped, and when the process dies.
#[derive(Debug)]
pub struct Postgres {
    programs: Programs,
    settings: Vec<String>,
    authentication: Authentication,
    port: u16,
    server: Child,
    directory: Directory,
}

impl Postgres {
    /// Starts a server with its data in `directory`, which is made unless it is there.
    /// Settings are such as `fsync=off`; the others have Postgres' defaults.
    pub fn start(
        programs: Programs,
        directory: Directory,
        authentication: Authentication,
        settings: Vec<String>,
    ) -> Result<Self, PostgresError> {
        if let Some(account) = programs.account() {
            directory.give_to(account)?;
        }
        if !data(&directory).exists() {
            initdb(&programs, &directory, &authentication)?;
        }
        let (port, server) = start_on_a_free_port(&programs, directory.path(), &settings)?;
        Ok(Self { programs, settings, authentication, port, server, directory })
    }

    /// Connection URI of a database of this server. It stays the same after a restart.
    pub fn uri(&self, database: &str) -> String {
        let port = self.port;
        match &self.authentication {
            Authentication::Trust => format!("postgresql://{ROLE}@127.0.0.1:{port}/{database}"),
            Authentication::Password(password) => {
                format!("postgresql://{ROLE}:{}@127.0.0.1:{port}/{database}", password.reveal())
            }
        }
    }

    /// Where it keeps its data (`data`), its socket and its log.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The programs that it runs, and who it runs as.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// The port, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Process id of the postmaster, also when it has ended.
    pub fn pid(&self) -> u32 {
        self.server.id()
    }

    /// Ends every process of the server with SIGKILL, as an out-of-memory killer would.
    pub fn kill9(&mut self) {
        if !matches!(self.server.try_wait(), Ok(None)) {
            return;
        }
        let postmaster = self.server.id();
        // Read while the postmaster lives: later its children belong to another process.
        let children = fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children")).unwrap_or_default();
        let _gone = (self.server.kill(), self.server.wait());
        for child in children.split_whitespace() {
            // It may be gone already: backends end by themselves when the postmaster is dead.
            signal("KILL", child);
        }
    }

    /// Starts the server again on the same data and the same port, after [`Postgres::kill9`] or
    /// (with a clean shut-down first) while it runs.
    pub fn restart(&mut self) -> Result<(), PostgresError> {
        self.stop();
        let deadline = Instant::now() + READY_DEADLINE;
        loop {
            self.server = spawn(&self.programs, self.directory.path(), self.port, &self.settings)?;
            if wait_until_ready(&mut self.server, self.directory.path()) {
                return Ok(());
            }
            // A backend of the killed server may still hold the shared memory for a moment.
            if Instant::now() > deadline {
                return Err(PostgresError::Start(end_of_log(self.directory.path())));
            }
            let _gone = (self.server.kill(), self.server.wait());
            thread::sleep(POLL);
        }
    }

    /// Shuts the server down cleanly, ending its sessions; [`Postgres::restart`] starts it again.
    pub fn stop(&mut self) {
        if matches!(self.server.try_wait(), Ok(None)) {
            // SIGINT is Postgres' "fast shutdown".
            signal("INT", &self.server.id().to_string());
            let _status = self.server.wait();
        }
    }

    /// What the server logged so far.
    pub fn log(&self) -> String {
        log(self.directory.path())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        match self.directory.fate() {
            Fate::Kept => self.stop(),
            // Nobody wants the data: no need to wait until it is written down.
            Fate::Removed => self.kill9(),
        }
    }
}

fn data(directory: &Directory) -> PathBuf {
    directory.path().join("data")
}

fn log(directory: &Path) -> String {
    fs::read_to_string(directory.join("log")).unwrap_or_default()
}

fn end_of_log(directory: &Path) -> String {
    let log = log(directory);
    let mut lines: Vec<&str> = log.lines().rev().take(LOG_LINES_SHOWN).collect();
    lines.reverse();
    lines.join("\n")
}

/// The shell's `kill`, since the standard library has none for other signals or processes.
fn signal(name: &str, pid: &str) {
    let _status = Command::new("sh").args(["-c", "kill -\"$0\" \"$1\" 2>/dev/null", name, pid]).status();
}

fn initdb(programs: &Programs, directory: &Directory, authentication: &Authentication) -> Result<(), PostgresError> {
    let mut command = programs.command("initdb");
    command.args(["--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--username", ROLE, "--pgdata"]);
    command.arg(data(directory)).current_dir(directory.path()).stdin(Stdio::null());
    let password_file = directory.path().join("password");
    match authentication {
        Authentication::Trust => command.arg("--auth=trust"),
        Authentication::Password(password) => {
            write_for(programs.account(), &password_file, password.reveal())?;
            command.arg("--auth=scram-sha-256").arg("--pwfile").arg(&password_file)
        }
    };
    let output = command.output();
    let _absent = fs::remove_file(&password_file);
    let output = output.map_err(|source| PostgresError::Run { program: "initdb", source })?;
    if output.status.success() {
        return Ok(());
    }
    // Half a database must not be taken for a whole one next time.
    let _absent = fs::remove_dir_all(data(directory));
    Err(PostgresError::Initdb(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// Writes a file that only this account can read.
fn write_for(account: Option<Account>, path: &Path, content: &str) -> Result<(), PostgresError> {
    let failed = |source| PostgresError::File { path: path.to_owned(), source };
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    io::Write::write_all(&mut file, content.as_bytes()).map_err(failed)?;
    match account {
        Some(Account { user, group }) => chown(path, Some(user), Some(group)).map_err(failed),
        None => Ok(()),
    }
}

fn spawn(programs: &Programs, directory: &Path, port: u16, settings: &[String]) -> Result<Child, PostgresError> {
    let path = directory.join("log");
    let log = File::options().create(true).append(true).open(&path);
    let log = log.map_err(|source| PostgresError::File { path, source })?;
    let mut command = programs.command("postgres");
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
        .map_err(|source| PostgresError::Run { program: "postgres", source })
}

fn start_on_a_free_port(
    programs: &Programs,
    directory: &Path,
    settings: &[String],
) -> Result<(u16, Child), PostgresError> {
    for _ in 0..PORTS_TRIED_MAX {
        let port = free_port().map_err(PostgresError::Port)?;
        let mut server = spawn(programs, directory, port, settings)?;
        if wait_until_ready(&mut server, directory) {
            return Ok((port, server));
        }
        let _gone = (server.kill(), server.wait());
    }
    Err(PostgresError::Start(end_of_log(directory)))
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

fn free_port() -> io::Result<u16> {
    TcpListener::bind(("127.0.0.1", 0))?.local_addr().map(|address| address.port())
}
