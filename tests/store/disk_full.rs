//! A database whose disk is full: a 503 with `Retry-After`, nothing acknowledged lost, and recovery without a hand on the
//! collector once there is room again.
//!
//! Each test runs itself again in a mount namespace of its own, where its temporary files, the database among them, are on
//! a small tmpfs. The namespace goes with its last process, so nothing stays mounted.

use audittrail_tests::clients::{Clients, assert_kept};
use audittrail_tests::postgres::Postgres;
use audittrail_tests::served::{DEADLINE, Served, document};
use rand::RngExt;
use serde_json::{Value, json};
use sqlx::{Connection, Executor, PgConnection};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Size of the disk. An empty server takes 60 MiB of it.
const DISK_MIB: usize = 160;

/// Bytes that the ballast leaves for events: more than a segment of WAL, which has 16 MiB.
const ROOM_BYTES: u64 = 24 * 1024 * 1024;

/// Bytes of text in the details of an event, so that few events fill the disk.
const DETAILS_BYTES: usize = 16 * 1024;

const CLIENTS: usize = 4;

/// Pause between two looks at something which is waited for.
const PAUSE: Duration = Duration::from_millis(20);

/// Set in the namespace: where the small disk is.
const DISK: &str = "AUDITTRAIL_TEST_DISK";

/// Mounts the disk and goes on as the test. `$0` is its size, `$1` where, the rest the test.
const ON_THE_DISK: &str = r#"
    mount -t tmpfs -o "size=$0m,mode=1777" tmpfs "$1" && export TMPDIR="$1" AUDITTRAIL_TEST_DISK="$1" && shift && exec "$@""#;

#[test]
fn a_full_disk_refuses_events_until_there_is_room() {
    on_a_small_disk("a_full_disk_refuses_events_until_there_is_room", |disk| async move {
        let mut full = FullDisk::start(&disk).await;
        full.clients.refused().await;
        let log = full.postgres.log();
        assert!(log.contains("No space left on device"), "{log}");
        full.make_room().await;
        full.assert_recovered().await;
    });
}

/// What Postgres cannot write to its WAL makes it crash, and it may not come up again before there is room.
#[test]
fn a_disk_that_the_wal_fills_crashes_postgres_and_loses_nothing() {
    on_a_small_disk("a_disk_that_the_wal_fills_crashes_postgres_and_loses_nothing", |disk| async move {
        let mut full = FullDisk::start(&disk).await;
        full.fill_with_wal().await;
        full.make_room().await;
        full.assert_recovered().await;
    });
}

/// A collector under load, and its database on a disk that has little room.
struct FullDisk {
    postgres: Postgres,
    uri: String,
    ballast: PathBuf,
    clients: Clients,
    /// Serves as long as this is here.
    _served: Served,
}

impl FullDisk {
    async fn start(disk: &Path) -> Self {
        let postgres = Postgres::start_with(&[("max_wal_size", "32MB"), ("min_wal_size", "32MB")]);
        let uri = postgres.create_database().await;
        let served = Served::start(&document(&uri)).await;
        let ballast = disk.join("ballast");
        fill(&ballast);
        let clients = Clients::start_with_details(&served, "a", CLIENTS, &details());
        clients.acknowledge(CLIENTS).await;
        Self { postgres, uri, ballast, clients, _served: served }
    }

    /// Begins one segment of WAL after the other, none of which is removed, until Postgres has crashed.
    async fn fill_with_wal(&self) {
        let deadline = Instant::now() + DEADLINE;
        // Nobody ever reads from this slot.
        let mut statement = "SELECT pg_create_physical_replication_slot('nobody', true)";
        while !self.postgres.log().contains("PANIC") {
            assert!(Instant::now() < deadline, "the disk does not fill: {}", self.postgres.log());
            if let Ok(mut connection) = PgConnection::connect(&self.uri).await {
                // The one that does not fit ends with the connection.
                let _crashed = connection.execute(statement).await;
                statement = "SELECT pg_switch_wal()";
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Returns once Postgres is up.
    async fn make_room(&mut self) {
        fs::remove_file(&self.ballast).expect("removed");
        let deadline = Instant::now() + DEADLINE;
        while let Err(error) = PgConnection::connect(&self.uri).await {
            assert!(Instant::now() < deadline, "{error}: {}", self.postgres.log());
            // It may have tried to come up, and given up, a moment before there was room. In a cluster the kubelet restarts it.
            if has_ended(self.postgres.server().pid()) {
                self.postgres.restart();
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn assert_recovered(self) {
        self.clients.acknowledge(20).await;
        assert_kept(&self.uri, &self.clients.stop().await).await;
    }
}

/// Takes what room there is but [`ROOM_BYTES`].
fn fill(ballast: &Path) {
    let mut file = File::create(ballast).expect("a file can be made");
    let block = vec![0; 1024 * 1024];
    while file.write_all(&block).is_ok() {}
    let size = file.metadata().expect("it is open").len();
    file.set_len(size.checked_sub(ROOM_BYTES).expect("the disk is larger")).expect("a file can be cut");
}

/// Text that does not get smaller when Postgres compresses it.
fn details() -> Value {
    let text: String = (0..DETAILS_BYTES).map(|_| char::from(rand::rng().random_range(b'0'..=b'z'))).collect();
    json!({ "text": text })
}

/// True also while its parent, which is us, has not asked how it ended.
fn has_ended(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_none_or(|after_the_name| after_the_name.is_empty() || after_the_name.starts_with('Z'))
}

/// Runs `test` in the namespace, which is this function's second time; the first time runs the program of all tests again.
fn on_a_small_disk<F: Future<Output = ()>>(name: &str, test: impl FnOnce(PathBuf) -> F) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    if let Some(disk) = std::env::var_os(DISK) {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        return runtime.block_on(test(disk.into()));
    }
    // Short: the path of Postgres' socket may have 107 bytes.
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let disk = std::env::temp_dir().join(format!("audittrail-disk-{}-{number}", std::process::id()));
    fs::create_dir_all(&disk).expect("the directory for temporary files can be written");
    let status = namespace()
        .args(["sh", "-c", ON_THE_DISK, &DISK_MIB.to_string()])
        .arg(&disk)
        .args(as_ourselves())
        .arg(std::env::current_exe().expect("a path"))
        .args(["--exact", name, "--nocapture"])
        .status()
        .expect("unshare (package util-linux) is there");
    wait_until_empty(&disk);
    assert!(status.success(), "the test on the small disk failed ({status}); its own words are above");
}

/// Root may mount; anybody else becomes root of a user namespace for it.
fn namespace() -> Command {
    let mut command = Command::new("unshare");
    command.arg("--mount");
    if owner_of_this_process().0 != 0 {
        command.arg("--map-root-user");
    }
    command
}

/// Who was made root to mount must not stay it: Postgres refuses to be root.
fn as_ourselves() -> Vec<String> {
    match owner_of_this_process() {
        (0, _) => Vec::new(),
        (user, group) => ["unshare".to_owned(), format!("--map-user={user}"), format!("--map-group={group}")].to_vec(),
    }
}

fn owner_of_this_process() -> (u32, u32) {
    let process = fs::metadata("/proc/self").expect("/proc is mounted");
    (process.uid(), process.gid())
}

/// Outside of the namespace the directory was never more than a place to mount on.
fn wait_until_empty(disk: &Path) {
    let deadline = Instant::now() + DEADLINE;
    while fs::remove_dir(disk).is_err() && Instant::now() < deadline {
        std::thread::sleep(PAUSE);
    }
}
