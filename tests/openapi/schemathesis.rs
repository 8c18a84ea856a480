//! schemathesis asks a collector on a real Postgres what its own description says can be asked, and what it says cannot. No
//! answer may be a server error, or one that is not described.

use audittrail_crds::document::{Document, Forwarding, Sensitive};
use audittrail_tests::postgres::Postgres;
use audittrail_tests::served::{OWNER, Served, WRITE_KEY, document};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::LazyLock;
use std::time::Duration;
use tokio::process::Command;
use tokio::time::timeout;

/// How long one run may take. It takes less than a minute where nothing else runs.
const RUN_MAX: Duration = Duration::from_mins(5);

/// Characters of a line that are shown, at most: URLs at the limits are long.
const LINE_MAX_CHARS: usize = 400;

/// Answers without an end, so that schemathesis would wait for it with each request. `tests/store/openapi.rs` reads its begin.
const ENDLESS: &str = "/v1/events/stream";

/// What owners post to.
const REPLAY: &str = "/v1/forwardings/{name}/replay";

/// The program, as `tests/openapi/requirements.txt` pins it.
static PACKAGES: LazyLock<PathBuf> = LazyLock::new(|| {
    let mut tools = std::process::Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/tools.sh"));
    let answer =
        tools.arg("schemathesis").stderr(Stdio::inherit()).output().expect("tests/cluster/tools.sh can be run");
    assert!(answer.status.success(), "tests/cluster/tools.sh schemathesis could not fetch it: its words are above");
    PathBuf::from(String::from_utf8(answer.stdout).expect("a path").trim())
});

/// A collector with an event that has everything, and a directory for what a run writes.
struct Tried {
    served: Served,
    directory: PathBuf,
}

impl Tried {
    async fn start(name: &str) -> Self {
        let uri = Postgres::shared().create_database().await;
        let entry = Forwarding::new("to-segment", "http://127.0.0.1:9", Sensitive::new("key"));
        let forwardings = vec![Forwarding { enabled: false, ..entry }];
        let served = Served::start(&Document { forwardings, ..document(&uri) }).await;
        let full = json!({
            "id": "evt_1", "timestamp": "2026-03-02T09:14:05Z", "type": "Warehouse Disabled",
            "actor": {"type": "user", "id": "usr_1", "name": "Jane", "email": "jane@acme.example"},
            "resource": {"type": "warehouse", "id": "wh_1", "name": "Main"}, "outcome": "success",
            "context": {"ip": "192.0.2.1", "userAgent": "curl", "requestId": "req_1"},
            "changes": [{"field": "enabled", "before": true, "after": null}], "details": {"reason": "cost"},
        });
        served.add(vec![full, json!({"type": "Smallest"})]).await;
        let directory = std::env::temp_dir().join(format!("audittrail-schemathesis-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).expect("made");
        Self { served, directory }
    }

    async fn description(&self) -> Value {
        self.served.page("/openapi.json").await
    }

    /// Tries what `description` says of the operations that are chosen, with this credential.
    async fn run(&self, description: &Value, chosen: &[&str], credential: &str) -> Output {
        let file = self.directory.join("openapi.json");
        std::fs::write(&file, description.to_string()).expect("written");
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi");
        let mut command = Command::new("python3");
        command
            .arg(PACKAGES.join("bin/st"))
            .arg("--config-file")
            .arg(ours.join("schemathesis.toml"))
            .args(["--no-color", "run"])
            .arg(file)
            .args(["--url", &format!("http://{}", self.served.address)])
            .args(["--header", &format!("Authorization: Bearer {credential}")])
            .args(chosen)
            .env("PYTHONPATH", &*PACKAGES)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("SCHEMATHESIS_HOOKS", ours.join("hooks.py"))
            .current_dir(&self.directory)
            .kill_on_drop(true);
        timeout(RUN_MAX, command.output()).await.expect("schemathesis ends in time").expect("python3 can be run")
    }

    /// Requires that all operations with this method are as described, but for those of this path.
    async fn require(&self, method: &str, but: &str, credential: &str) {
        let description = self.description().await;
        let paths = description["paths"].as_object().expect("an object");
        let count =
            paths.iter().filter(|(path, item)| *path != but && item.get(method.to_lowercase()).is_some()).count();
        let output = self.run(&description, &["--include-method", method, "--exclude-path", but], credential).await;
        let text = text(&output);
        assert!(output.status.success(), "{text}");
        assert!(text.contains(&format!("Tested: {count}\n")), "not all {count} operations were tried:\n{text}");
    }
}

impl Drop for Tried {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.directory);
    }
}

/// What was printed, for people.
fn text(output: &Output) -> String {
    let printed = [&output.stdout[..], &output.stderr[..]].concat();
    let cut = |line: &str| line.chars().take(LINE_MAX_CHARS).chain(['\n']).collect::<String>();
    String::from_utf8_lossy(&printed).lines().map(cut).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_gets_no_answer_that_is_not_described() {
    Tried::start("read").await.require("GET", ENDLESS, OWNER).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_gets_no_answer_that_is_not_described() {
    Tried::start("write").await.require("POST", REPLAY, WRITE_KEY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_who_replays_gets_no_answer_that_is_not_described() {
    let tried = Tried::start("replay").await;
    let output = tried.run(&tried.description().await, &["--include-path", REPLAY], OWNER).await;
    let text = text(&output);
    assert!(output.status.success() && text.contains("Tested: 1\n"), "{text}");
}

/// The other tests can fail.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_described_is_noticed() {
    let tried = Tried::start("noticed").await;
    let description = tried.description().await;
    let status = ["--include-path", "/v1/status"];
    let output = tried.run(&description, &status, "nobody").await;
    assert!(output.status.success(), "{}", text(&output));
    let mut silent = description.clone();
    let responses = silent["paths"]["/v1/status"]["get"]["responses"].as_object_mut().expect("an object");
    responses.remove("401").expect("is described");
    let output = tried.run(&silent, &status, "nobody").await;
    assert!(!output.status.success() && text(&output).contains("Received: 401"), "{}", text(&output));
    let mut other = description;
    other["components"]["schemas"]["Report"]["required"] = json!(["unheardOf"]);
    let output = tried.run(&other, &status, OWNER).await;
    assert!(!output.status.success() && text(&output).contains("unheardOf"), "{}", text(&output));
}

/// What is no OpenAPI 3.1 is not tried at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_description_that_openapi_does_not_allow_is_noticed() {
    let tried = Tried::start("allowed").await;
    let mut description = tried.description().await;
    description["paths"]["/livez"]["get"]["unheardOf"] = json!(1);
    let output = tried.run(&description, &["--include-path", "/livez"], OWNER).await;
    assert!(!output.status.success() && text(&output).contains("unheardOf"), "{}", text(&output));
}
