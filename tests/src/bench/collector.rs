//! The collector under test: its release build, as a process of its own.

use super::processor;
use crate::postgres::Postgres;
use crate::served::{OWNER, document};
use audittrail_crds::document::{Document, Forwarding};
use sqlx::{Connection, Executor, PgConnection};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tokio::time::sleep;

const START_DEADLINE: Duration = Duration::from_secs(30);
const INDEX_DEADLINE: Duration = Duration::from_mins(5);
const POLL: Duration = Duration::from_millis(5);

/// A running collector; ended when dropped.
#[derive(Debug)]
pub struct Collector {
    process: Child,
    program: PathBuf,
    document: PathBuf,
    /// Of the document that was given last.
    generation: AtomicI64,
    address: SocketAddr,
    database: String,
    /// Postgres' first process.
    postgres: u32,
    /// From its start to its first acknowledged event, migrations included.
    pub ready_after: Duration,
}

impl Collector {
    /// Starts `program` on an empty database and waits until it takes events.
    pub async fn start(program: &Path, postgres: &Postgres) -> Self {
        Self::start_on(program, postgres, &postgres.create_database().await).await
    }

    /// Starts `program` on this database of the server and waits until it takes events.
    pub async fn start_on(program: &Path, postgres: &Postgres, database: &str) -> Self {
        let socket = TcpListener::bind(("127.0.0.1", 0)).expect("a port is free");
        let address = socket.local_addr().expect("a bound socket has an address");
        drop(socket);
        let file = std::env::temp_dir().join(format!("audittrail-bench-{}.json", std::process::id()));
        std::fs::write(&file, serde_json::to_vec(&document(database)).expect("plain data")).expect("written");
        let begun = Instant::now();
        let process = Command::new(program)
            .args(["serve", "--config"])
            .arg(&file)
            .args(["--listen", &address.to_string(), "--replica", "bench"])
            .env("RUST_LOG", "warn")
            .stdout(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{} cannot be run: {error}", program.display()));
        let mut collector = Self {
            process,
            program: program.to_owned(),
            document: file,
            generation: AtomicI64::new(1),
            address,
            database: database.to_owned(),
            postgres: postgres.server().pid(),
            ready_after: Duration::ZERO,
        };
        collector.until_it_takes_events(begun).await;
        collector.ready_after = begun.elapsed();
        collector
    }

    /// URI of its database.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    async fn until_it_takes_events(&self, begun: Instant) {
        let http = reqwest::Client::new();
        while TcpStream::connect(self.address).is_err() || !self.is_verified(&http).await {
            assert!(begun.elapsed() < START_DEADLINE, "the collector did not start");
            sleep(POLL).await;
        }
    }

    async fn is_verified(&self, http: &reqwest::Client) -> bool {
        let request = http.get(format!("http://{}/v1/status", self.address)).bearer_auth(OWNER);
        let Ok(answer) = request.send().await else { return false };
        answer.text().await.is_ok_and(|text| text.contains("\"verified\""))
    }

    /// Events in the log.
    pub async fn stored(&self) -> usize {
        let count: i64 = self.query("SELECT next_sequence FROM head").await;
        usize::try_from(count).expect("a count")
    }

    /// Runs statements in the collector's database.
    pub async fn run(&self, statements: &'static str) {
        let mut connection = PgConnection::connect(&self.database).await.expect("the server answers");
        connection.execute(statements).await.expect("the statements are valid");
    }

    /// Waits until a query for a number gives this one.
    pub async fn until(&self, query: &'static str, number: i64) {
        let begun = Instant::now();
        while self.query(query).await != number {
            assert!(begun.elapsed() < INDEX_DEADLINE, "waited in vain: {query}");
            sleep(POLL).await;
        }
    }

    /// Gives the collector its document anew, with this retention.
    pub fn retain(&self, seconds: i64) {
        self.apply(Document { retention_seconds: Some(seconds), ..document(&self.database) });
    }

    /// Gives the collector its document anew, with these forwardings to sources on this machine.
    pub fn forward(&self, forwardings: Vec<Forwarding>) {
        let allowed_source_networks = vec!["127.0.0.0/8".to_owned()];
        self.apply(Document { allowed_source_networks, forwardings, ..document(&self.database) });
    }

    fn apply(&self, mut document: Document) {
        document.generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        for entry in &mut document.forwardings {
            entry.generation = document.generation;
        }
        let beside = self.document.with_extension("next");
        std::fs::write(&beside, serde_json::to_vec(&document).expect("plain data")).expect("written");
        std::fs::rename(&beside, &self.document).expect("in place");
    }

    /// Waits until every whole block is written down.
    pub async fn until_blocks_are_written_down(&self) {
        // 50,000 is BLOCK_EVENTS of collector/src/store/block.rs.
        self.until("SELECT next_sequence / 50000 - (SELECT count(*) FROM block) FROM head", 0).await;
    }

    /// Asks the collector's database for a number.
    pub async fn query(&self, statement: &'static str) -> i64 {
        let mut connection = PgConnection::connect(&self.database).await.expect("the server answers");
        sqlx::query_scalar(statement).fetch_one(&mut connection).await.expect("the statement is valid")
    }

    /// Processor time that the collector and Postgres have taken so far.
    pub fn processor_time(&self) -> (Duration, Duration) {
        (processor::process(self.process.id()), processor::process_and_children(self.postgres))
    }

    /// Resident memory of the process, in MiB.
    pub fn resident_mib(&self) -> u64 {
        self.status_mib("VmRSS:")
    }

    /// The most resident memory that the process has had since [`Collector::forget_most_resident`], in MiB.
    pub fn most_resident_mib(&self) -> u64 {
        self.status_mib("VmHWM:")
    }

    /// Lets the most resident memory begin anew with what it is now (proc(5), `clear_refs`).
    pub fn forget_most_resident(&self) {
        std::fs::write(format!("/proc/{}/clear_refs", self.process.id()), "5").expect("the process is ours");
    }

    fn status_mib(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("Linux tells it");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib / 1024
    }

    /// Size of the program, in MiB.
    pub fn program_mib(&self) -> u64 {
        std::fs::metadata(&self.program).expect("it was run").len() / (1024 * 1024)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        let _gone = (self.process.kill(), self.process.wait(), std::fs::remove_file(&self.document));
    }
}
