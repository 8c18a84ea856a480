//! `collector dev` as somebody tries it, and `collector serve` with a file that is wrong.

#[expect(dead_code, reason = "these tests need less of it than others")]
mod program;
use audittrail_collector::dev::directory::Directory;
use program::{Program, directory, until};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// The last line that it prints.
const END: &str = "Ctrl-C ends it";

async fn dev(arguments: &[&str]) -> Program {
    let all: Vec<&str> = ["dev"].iter().chain(arguments).copied().collect();
    let mut program = Program::start(directory(), &all, &[]);
    until_printed(&mut program).await;
    program
}

async fn until_printed(program: &mut Program) {
    until("it prints how to go on", || {
        assert!(program.is_running(), "it ended: {}", program.stderr());
        let printed = program.stdout().contains(END);
        async move { printed }
    })
    .await;
}

/// The commands as they stand on the page.
fn commands(program: &Program) -> Vec<String> {
    let text = program.stdout();
    text.lines().filter(|line| line.trim_start().starts_with("curl ")).map(str::to_owned).collect()
}

fn run(command: &str) -> String {
    let output = Command::new("sh").args(["-c", &format!("{command} --silent --show-error --fail-with-body")]).output();
    let output = output.expect("sh is there");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command}: {} {}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

/// Process id of its Postgres, which it says in its directory.
fn postmaster(directory: &str) -> u32 {
    let file = Path::new(directory).join("data/postmaster.pid");
    let text = fs::read_to_string(file).expect("Postgres runs");
    text.lines().next().and_then(|line| line.parse().ok()).expect("a process id")
}

fn is_running(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_commands_work_and_ctrl_c_leaves_nothing() {
    let mut program = dev(&[]).await;
    let [add, list, export] = &commands(&program)[..] else { panic!("three commands: {}", program.stdout()) };
    assert!(run(add).contains(r#""accepted":1"#));
    assert!(run(list).contains("usr_bo"));
    assert!(run(export).contains("Warehouse Disabled"));
    let made = program.left_behind();
    assert_eq!(made.len(), 1, "{made:?}");
    assert_eq!(fs::metadata(&made[0]).expect("there").permissions().mode() & 0o777, 0o700);
    let postgres = postmaster(&made[0]);

    program.signal("INT");
    assert_eq!(program.ended().await.code(), Some(0), "{}", program.stderr());
    assert_eq!(program.left_behind(), Vec::<String>::new());
    assert!(!is_running(postgres));
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_leaves_nothing_either() {
    let mut program = dev(&[]).await;
    let postgres = postmaster(&program.left_behind()[0]);
    program.signal("KILL");
    program.ended().await;
    until("everything is gone", || async { program.left_behind().is_empty() && !is_running(postgres) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_is_there_next_time_under_the_same_keys() {
    let place = Directory::temporary("audittrail-kept").expect("made");
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).expect("ours");
    let kept = place.path().join("kept").to_str().expect("text").to_owned();
    let mut first = dev(&["--keep", &kept]).await;
    run(&commands(&first)[0]);
    let mut second = Program::start(directory(), &["dev", "--keep", &kept], &[]);
    assert!(!second.ended().await.success());
    assert!(second.stderr().contains("in use by another process"), "{}", second.stderr());
    first.signal("INT");
    assert!(first.ended().await.success());

    let again = dev(&["--keep", &kept]).await;
    assert!(run(&commands(&again)[1]).contains("usr_bo"));
    let key = |program: &Program| program.stdout().lines().find(|line| line.contains("write key")).map(str::to_owned);
    assert_eq!(key(&first), key(&again));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_postgres_and_a_taken_port_are_told_in_a_sentence() {
    let nowhere = [("AUDITTRAIL_POSTGRES_PROGRAMS", "/nowhere")];
    let mut missing = Program::start(directory(), &["dev"], &nowhere);
    assert_eq!(missing.ended().await.code(), Some(1));
    let text = missing.stderr();
    assert!(text.contains("/nowhere") && text.contains("--database"), "{text}");
    assert_eq!(missing.left_behind(), Vec::<String>::new());

    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let output = Command::new(program::PROGRAM).args(["dev", "--listen", &address]).output().expect("it can be run");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains(&address) && text.contains("--listen"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_given_is_used_and_stays() {
    let uri = audittrail_tests::postgres::Postgres::shared().create_database().await;
    let mut first = dev(&["--database", &uri]).await;
    run(&commands(&first)[0]);
    first.signal("INT");
    assert!(first.ended().await.success());
    assert_eq!(first.left_behind(), Vec::<String>::new());
    let again = dev(&["--database", &uri]).await;
    assert!(run(&commands(&again)[1]).contains("usr_bo"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_document_that_cannot_be_used_is_told_by_its_place_and_without_its_text() {
    let directory = directory();
    let config = directory.path().join("document.json");
    fs::write(&config, "{\n  \"version\": 1,\n  \"generation\": \"MARKER\"\n}").expect("written");
    let config = config.to_str().expect("text").to_owned();
    let mut program = Program::start(directory, &["serve", "--config", &config], &[]);
    until("the log tells it", || {
        assert!(program.is_running(), "{}", program.stderr());
        let told = program.stderr().contains("line 3, column");
        async move { told }
    })
    .await;
    assert!(!program.stderr().contains("MARKER"));
}
