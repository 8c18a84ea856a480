//! The collector as a process of its own: what it prints, how it ends, what it leaves behind.

use audittrail_collector::dev::directory::Directory;
use audittrail_crds::document::Document;
use reqwest::{Client, RequestBuilder};
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long anything that is waited for may take.
pub const DEADLINE: Duration = Duration::from_mins(1);

const POLL: Duration = Duration::from_millis(20);

/// The program, built by cargo for these tests.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_collector-tested");

/// A running program, and a directory of its own: its temporary files, and what it prints.
pub struct Program {
    child: Child,
    pub address: SocketAddr,
    pub client: Client,
    directory: Directory,
}

impl Program {
    /// `collector serve` with this document and these variables; returns when it takes events.
    pub async fn serve(document: &Document, variables: &[(&str, &str)]) -> Self {
        let directory = directory();
        let config = directory.path().join("document.json");
        fs::write(&config, serde_json::to_vec(document).expect("JSON")).expect("written");
        let config = config.to_str().expect("text").to_owned();
        let program = Self::start(directory, &["serve", "--config", &config], variables);
        let owner = audittrail_tests::served::OWNER;
        until("the log is open", || async {
            let answer = program.get("/v1/status", owner).send().await;
            let Ok(answer) = answer else { return false };
            answer.text().await.is_ok_and(|text| text.contains(r#""verified""#))
        })
        .await;
        program
    }

    /// Starts it with these arguments, and does not wait.
    pub fn start(directory: Directory, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let _already = rustls::crypto::ring::default_provider().install_default();
        let address = free_address();
        let output = |name| File::create(directory.path().join(name)).expect("written");
        let child = Command::new(PROGRAM)
            .args(arguments)
            .args(["--listen", &address.to_string()])
            .env("TMPDIR", temporary(directory.path()))
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(output("stdout"))
            .stderr(output("stderr"))
            .spawn()
            .expect("the program can be run");
        Self { child, address, client: Client::builder().no_proxy().build().expect("a client"), directory }
    }

    pub fn get(&self, path: &str, token: &str) -> RequestBuilder {
        self.client.get(format!("http://{}{path}", self.address)).bearer_auth(token)
    }

    pub fn post(&self, path: &str, token: &str) -> RequestBuilder {
        self.client.post(format!("http://{}{path}", self.address)).bearer_auth(token)
    }

    /// What it wrote to standard output.
    pub fn stdout(&self) -> String {
        fs::read_to_string(self.directory.path().join("stdout")).expect("text")
    }

    /// What it wrote to standard error.
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.directory.path().join("stderr")).expect("text")
    }

    /// Files that it has among the temporary ones.
    pub fn left_behind(&self) -> Vec<String> {
        let entries = fs::read_dir(temporary(self.directory.path())).expect("the directory is there");
        entries.map(|entry| entry.expect("an entry").path().display().to_string()).collect()
    }

    /// The most resident memory that it has had so far, in MiB.
    pub fn most_resident_mib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells it");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib / 1024
    }

    /// Sends it a signal, by name.
    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("sh").args(["-c", "kill -\"$0\" \"$1\"", name, &pid]).status().expect("sh is there");
        assert!(sent.success());
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + DEADLINE;
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end: {}", self.stderr());
            tokio::time::sleep(POLL).await;
        }
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _gone = (self.child.kill(), self.child.wait());
    }
}

/// A directory that other accounts may walk through: Postgres is not run by root.
pub fn directory() -> Directory {
    let directory = Directory::temporary("audittrail-program").expect("made");
    fs::create_dir(temporary(directory.path())).expect("made");
    for path in [directory.path().to_owned(), temporary(directory.path())] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("ours");
    }
    directory
}

fn temporary(directory: &Path) -> std::path::PathBuf {
    directory.join("tmp")
}

/// Waits until `condition` holds.
pub async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + DEADLINE;
    while !condition().await {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::time::sleep(POLL).await;
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}
