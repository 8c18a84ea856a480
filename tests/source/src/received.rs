//! What the source received: each message once, in order of first arrival.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Messages by their `messageId`, as Segment dedups them (on the id only, not on the content).
#[derive(Debug, Default)]
pub struct Received {
    messages: Vec<Message>,
    by_id: HashMap<String, usize>,
    file: Option<File>,
    counts: Counts,
}

/// A message.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// Place in the order of first arrival, from 0.
    pub index: usize,
    /// Its `messageId`.
    pub message_id: String,
    /// The `id` of the audit event in it, where there is one.
    pub event_id: Option<String>,
    /// How many times it came.
    pub deliveries: u64,
    /// A later delivery had other content.
    pub content_changed: bool,
    #[serde(skip)]
    fingerprint: u64,
}

/// Counts since the source was opened; `events` and `deliveries` since its file was made.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Counts {
    /// Messages stored.
    pub events: u64,
    /// Messages that came, again or for the first time.
    pub deliveries: u64,
    /// Items that Segment drops behind a 200: without `event`, or without an identity.
    pub dropped: u64,
    /// Requests to the Tracking API.
    pub requests: u64,
}

/// One line of the file: a delivery.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    message_id: String,
    event_id: Option<String>,
    fingerprint: u64,
}

impl Received {
    /// Opens the file, where one is given, and reads what it holds. A last line which was cut off
    /// in the middle belongs to a request that was never answered; it is removed.
    ///
    /// # Errors
    /// When the file cannot be read or written, or is not of this kind.
    pub fn open(path: Option<&Path>) -> io::Result<Self> {
        let mut received = Self::default();
        if let Some(path) = path {
            let mut file = File::options().read(true).write(true).create(true).truncate(false).open(path)?;
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            let whole = text.rfind('\n').map_or(0, |end| end + 1);
            for line in text[..whole].lines() {
                received.count(serde_json::from_str(line)?);
            }
            file.set_len(whole as u64)?;
            file.seek(SeekFrom::End(0))?;
            received.file = Some(file);
        }
        Ok(received)
    }

    /// Stores the items of one request and returns the places of those that are new. Items that
    /// Segment drops are counted and left out.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn store(&mut self, items: &[Value]) -> io::Result<Vec<usize>> {
        let complete: Vec<(usize, &Value)> = items.iter().enumerate().filter(|(_, item)| is_complete(item)).collect();
        self.counts.dropped += (items.len() - complete.len()) as u64;
        let lines: Vec<(usize, Line)> = complete.into_iter().map(|(place, item)| (place, self.line(item))).collect();
        self.write(&lines)?;
        Ok(lines.into_iter().filter_map(|(place, line)| self.count(line).then_some(place)).collect())
    }

    /// Counts a request.
    pub fn count_request(&mut self) {
        self.counts.requests += 1;
    }

    /// The messages, in order of first arrival.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// The counts.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn line(&self, item: &Value) -> Line {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let mut hasher = DefaultHasher::new();
        item.to_string().hash(&mut hasher);
        // Segment gives a message without an id one of its own: it is never a duplicate.
        let message_id = text(&item["messageId"]).unwrap_or_else(|| format!("api-{}", self.counts.deliveries));
        Line { message_id, event_id: text(&item["properties"]["id"]), fingerprint: hasher.finish() }
    }

    /// Before the answer, so that what was answered survives a restart.
    fn write(&mut self, lines: &[(usize, Line)]) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        let mut bytes = Vec::new();
        for (_, line) in lines {
            serde_json::to_writer(&mut bytes, line)?;
            bytes.push(b'\n');
        }
        file.write_all(&bytes)
    }

    /// Takes a delivery into account. True when the message is new.
    fn count(&mut self, line: Line) -> bool {
        let Line { message_id, event_id, fingerprint } = line;
        self.counts.deliveries += 1;
        if let Some(&index) = self.by_id.get(&message_id) {
            let message = &mut self.messages[index];
            message.deliveries += 1;
            message.content_changed |= message.fingerprint != fingerprint;
            return false;
        }
        let index = self.messages.len();
        self.by_id.insert(message_id.clone(), index);
        self.messages.push(Message { index, message_id, event_id, deliveries: 1, content_changed: false, fingerprint });
        self.counts.events += 1;
        true
    }
}

/// Segment drops a track call without `event`, and any without an identity.
fn is_complete(item: &Value) -> bool {
    let has = |member: &str| item[member].as_str().is_some_and(|text| !text.is_empty());
    has("event") && (has("userId") || has("anonymousId"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn item(message_id: &str, event: &str) -> Value {
        json!({"event": event, "userId": "usr_1", "messageId": message_id, "properties": {"id": message_id}})
    }

    #[test]
    fn a_message_that_comes_again_is_stored_once_and_counted() {
        let mut received = Received::default();
        assert_eq!(received.store(&[item("a", "A"), item("b", "B")]).expect("no file"), [0, 1]);
        assert_eq!(received.store(&[item("b", "B"), item("c", "C")]).expect("no file"), [1]);
        received.store(&[item("a", "other")]).expect("no file");
        let seen: Vec<_> =
            received.messages().iter().map(|m| (m.message_id.as_str(), m.deliveries, m.content_changed)).collect();
        assert_eq!(seen, [("a", 2, true), ("b", 2, false), ("c", 1, false)]);
    }

    #[test]
    fn items_without_an_event_or_an_identity_are_dropped() {
        let mut received = Received::default();
        let items = [json!({"userId": "usr_1"}), json!({"event": "A"}), json!({"event": "A", "anonymousId": "x"})];
        assert_eq!(received.store(&items).expect("no file"), [2]);
        assert_eq!(received.counts(), Counts { events: 1, deliveries: 1, dropped: 2, requests: 0 });
    }

    #[test]
    fn a_file_keeps_what_was_received_and_loses_a_torn_line() {
        let path = std::env::temp_dir().join(format!("audittrail-received-{}", std::process::id()));
        let mut received = Received::open(Some(&path)).expect("writable");
        received.store(&[item("a", "A"), item("b", "B")]).expect("writable");
        let length = path.metadata().expect("there").len();
        File::options().write(true).open(&path).and_then(|file| file.set_len(length - 3)).expect("writable");

        let mut again = Received::open(Some(&path)).expect("readable");
        assert_eq!(again.messages().len(), 1);
        assert_eq!(again.store(&[item("a", "A"), item("b", "B")]).expect("writable"), [1]);
        assert_eq!(Received::open(Some(&path)).expect("readable").counts().deliveries, 3);
        std::fs::remove_file(path).expect("there");
    }
}
