//! How soon an acknowledged event is seen: in the list, and by those who follow the live tail.

use crate::http::Connection;
use audittrail_tests::bench::table::Row;
use audittrail_tests::bench::times::Times;
use audittrail_tests::served::OWNER;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// Events that are looked for, one after the other.
const LOOKED_FOR: usize = 200;

/// From one to the next.
const PAUSE: Duration = Duration::from_millis(25);

/// How long one may take to be seen.
const DEADLINE: Duration = Duration::from_secs(10);

/// What has to be reached.
const AIM: &str = "p99 ≤ 100 ms";

/// Begins the id of each event that is looked for.
const PREFIX: &str = "looked-for-";

/// The newest events: more than come while a page is read.
const LIST: &str = "/v1/events?limit=100";

/// When each event was seen, by its id.
type Seen = HashMap<String, Instant>;

/// Looks for events of its own while others are written.
pub async fn measure(address: &str) -> Vec<Row> {
    let tail = follow(address).await;
    let own = address.to_owned();
    let looked = tokio::task::spawn_blocking(move || look(&own)).await.expect("every request is answered");
    let followed = tokio::time::timeout(DEADLINE, tail).await.expect("every event is seen").expect("a whole stream");
    let (mut in_list, mut in_tail) = (Vec::new(), Vec::new());
    for (id, accepted, listed) in looked {
        in_list.push(listed - accepted);
        // It may be there before its writer knows.
        in_tail.push(followed[&id].saturating_duration_since(accepted));
    }
    vec![row("list", in_list), row("live tail", in_tail)]
}

fn row(place: &str, times: Vec<Duration>) -> Row {
    Row::fact(&format!("accepted → visible in the {place}"), Times::of(times).to_string(), AIM)
}

/// Writes an event and lists until it is there, again and again: id, when it was acknowledged, and when it was listed.
fn look(address: &str) -> Vec<(String, Instant, Instant)> {
    let run = rand::random::<u64>();
    let mut connection = Connection::open(address);
    let mut seen = Vec::new();
    for number in 0..LOOKED_FOR {
        std::thread::sleep(PAUSE);
        let id = format!("{PREFIX}{run:x}-{number}");
        let event = json!({"id": id, "type": "Source Modified", "actor": {"type": "system", "id": "bench"}});
        connection.post(event.to_string().as_bytes());
        let accepted = Instant::now();
        while !contains(connection.get(LIST).0, &id) {
            assert!(accepted.elapsed() < DEADLINE, "{id} is not listed");
        }
        seen.push((id, accepted, Instant::now()));
    }
    seen
}

fn contains(page: &[u8], id: &str) -> bool {
    let quoted = format!("\"{id}\"");
    page.windows(quoted.len()).any(|part| part == quoted.as_bytes())
}

/// Follows the live tail until all events that are looked for were seen.
async fn follow(address: &str) -> JoinHandle<Seen> {
    let request = reqwest::Client::new().get(format!("http://{address}/v1/events/stream")).bearer_auth(OWNER);
    let mut stream = request.send().await.expect("answered").error_for_status().expect("a stream");
    tokio::spawn(async move {
        let (mut seen, mut line) = (Seen::new(), Vec::new());
        while seen.len() < LOOKED_FOR {
            let bytes = stream.chunk().await.expect("the stream goes on").expect("the stream does not end");
            let now = Instant::now();
            for part in bytes.split_inclusive(|byte| *byte == b'\n') {
                line.extend_from_slice(part);
                if part.ends_with(b"\n") {
                    seen.extend(looked_for(&line).map(|id| (id, now)));
                    line.clear();
                }
            }
        }
        seen
    })
}

/// The id of an event that is looked for. Others are not worth the time.
fn looked_for(line: &[u8]) -> Option<String> {
    let data =
        line.strip_prefix(b"data: ").filter(|data| data.windows(PREFIX.len()).any(|part| part == PREFIX.as_bytes()))?;
    let event: Value = serde_json::from_slice(data).ok()?;
    event["id"].as_str().filter(|id| id.starts_with(PREFIX)).map(str::to_owned)
}
