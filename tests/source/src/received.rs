//! What the source received: each message once, in order of first arrival.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

/// Messages by their `messageId`, as Segment dedups them (on the id only, not on the content).
#[derive(Debug, Default)]
pub struct Received {
    messages: Vec<Message>,
    by_id: HashMap<String, usize>,
    refused: HashMap<String, Refused>,
    file: Option<File>,
    counts: Counts,
}

/// What is known of a request beside its items.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Request {
    /// Its place among the requests, from 1.
    pub number: u64,
    /// The write key it came with.
    pub write_key: Option<String>,
    /// Its `sentAt`.
    pub sent_at: Option<String>,
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
    /// A later delivery in the same format had other content.
    pub content_changed: bool,
    /// It came in more than one format.
    pub format_changed: bool,
    /// The write key of the newest delivery.
    pub write_key: Option<String>,
    /// The `sentAt` of the newest delivery.
    pub sent_at: Option<String>,
    /// Two deliveries in a row had the same `sentAt`.
    pub sent_at_repeated: bool,
    /// Numbers of the requests of the first and the newest delivery.
    #[serde(skip)]
    pub requests: (u64, u64),
    /// By format: a change of format is none of the content.
    #[serde(skip)]
    fingerprints: BTreeMap<Format, u64>,
}

/// An item that the source refused for its own sake: as poison, or alone in its request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Refused {
    /// How often.
    pub times: u64,
    /// Status code of the last refusal.
    pub code: u16,
    /// Numbers of the requests of the first and the last refusal.
    pub requests: (u64, u64),
}

/// What an audit event looks like.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Format {
    /// A track call of the event's own name.
    #[default]
    Named,
    /// The track call `Audit` of Segment's own forwarding.
    SegmentAudit,
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
    /// Of these, the ones without an item.
    pub probes: u64,
}

/// One line of the file: a delivery.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    message_id: String,
    event_id: Option<String>,
    fingerprint: u64,
    #[serde(default)]
    format: Format,
    write_key: Option<String>,
    sent_at: Option<String>,
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
                received.count(0, serde_json::from_str(line)?);
            }
            file.set_len(whole as u64)?;
            file.seek(SeekFrom::End(0))?;
            received.file = Some(file);
        }
        Ok(received)
    }

    /// Stores items of a request and returns the places of those that are new. Items that
    /// Segment drops are counted and left out.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn store(&mut self, request: &Request, items: &[&Value]) -> io::Result<Vec<usize>> {
        let complete: Vec<(usize, &Value)> =
            items.iter().copied().enumerate().filter(|(_, item)| is_complete(item)).collect();
        self.counts.dropped += (items.len() - complete.len()) as u64;
        let lines: Vec<(usize, Line)> =
            complete.into_iter().map(|(place, item)| (place, self.line(request, item))).collect();
        self.write(&lines)?;
        Ok(lines.into_iter().filter_map(|(place, line)| self.count(request.number, line).then_some(place)).collect())
    }

    /// Remembers that items were refused for their own sake.
    pub fn refuse(&mut self, request: &Request, items: &[&Value], code: u16) {
        for id in items.iter().filter_map(|item| item["messageId"].as_str()) {
            let (times, first) =
                self.refused.get(id).map_or((0, request.number), |before| (before.times, before.requests.0));
            let refused = Refused { times: times + 1, code, requests: (first, request.number) };
            self.refused.insert(id.to_owned(), refused);
        }
    }

    /// Counts a request, and returns its number.
    pub fn count_request(&mut self) -> u64 {
        self.counts.requests += 1;
        self.counts.requests
    }

    /// Counts a request without an item.
    pub fn count_probe(&mut self) {
        self.counts.probes += 1;
    }

    /// The messages, in order of first arrival.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// What was refused for its own sake, by `messageId`.
    pub fn refused(&self) -> &HashMap<String, Refused> {
        &self.refused
    }

    /// The counts.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn line(&self, request: &Request, item: &Value) -> Line {
        let mut hasher = DefaultHasher::new();
        item.to_string().hash(&mut hasher);
        // Segment gives a message without an id one of its own: it is never a duplicate.
        let message_id =
            item["messageId"].as_str().map_or_else(|| format!("api-{}", self.counts.deliveries), str::to_owned);
        Line {
            message_id,
            event_id: event_id(item).map(str::to_owned),
            fingerprint: hasher.finish(),
            format: format(item),
            write_key: request.write_key.clone(),
            sent_at: request.sent_at.clone(),
        }
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
    fn count(&mut self, request: u64, line: Line) -> bool {
        self.counts.deliveries += 1;
        if let Some(&index) = self.by_id.get(&line.message_id) {
            self.messages[index].came_again(request, line);
            return false;
        }
        let index = self.messages.len();
        self.by_id.insert(line.message_id.clone(), index);
        self.messages.push(Message::new(index, request, line));
        self.counts.events += 1;
        true
    }
}

impl Message {
    fn new(index: usize, request: u64, line: Line) -> Self {
        let Line { message_id, event_id, fingerprint, format, write_key, sent_at } = line;
        Self {
            index,
            message_id,
            event_id,
            deliveries: 1,
            content_changed: false,
            format_changed: false,
            write_key,
            sent_at,
            sent_at_repeated: false,
            requests: (request, request),
            fingerprints: BTreeMap::from([(format, fingerprint)]),
        }
    }

    fn came_again(&mut self, request: u64, line: Line) {
        self.deliveries += 1;
        let before = *self.fingerprints.entry(line.format).or_insert(line.fingerprint);
        self.content_changed |= before != line.fingerprint;
        self.format_changed |= self.fingerprints.len() > 1;
        self.sent_at_repeated |= self.sent_at.is_some() && self.sent_at == line.sent_at;
        self.write_key = line.write_key;
        self.sent_at = line.sent_at;
        self.requests.1 = request;
    }
}

/// The `id` of the audit event in an item, which is at the same place in either format.
pub fn event_id(item: &Value) -> Option<&str> {
    item["properties"]["id"].as_str()
}

/// Segment's own forwarding gives every event one name, and its type as a property.
fn format(item: &Value) -> Format {
    let is_audit = item["event"] == "Audit" && item["properties"]["type"].is_string();
    if is_audit { Format::SegmentAudit } else { Format::Named }
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

    fn store(received: &mut Received, items: &[Value]) -> Vec<usize> {
        received.store(&Request::default(), &items.iter().collect::<Vec<_>>()).expect("stored")
    }

    fn item(message_id: &str, event: &str) -> Value {
        json!({"event": event, "userId": "usr_1", "messageId": message_id, "properties": {"id": message_id}})
    }

    #[test]
    fn a_message_that_comes_again_is_stored_once_and_counted() {
        let mut received = Received::default();
        assert_eq!(store(&mut received, &[item("a", "A"), item("b", "B")]), [0, 1]);
        assert_eq!(store(&mut received, &[item("b", "B"), item("c", "C")]), [1]);
        store(&mut received, &[item("a", "other")]);
        let seen: Vec<_> =
            received.messages().iter().map(|m| (m.message_id.as_str(), m.deliveries, m.content_changed)).collect();
        assert_eq!(seen, [("a", 2, true), ("b", 2, false), ("c", 1, false)]);
    }

    #[test]
    fn items_without_an_event_or_an_identity_are_dropped() {
        let mut received = Received::default();
        let items = [json!({"userId": "usr_1"}), json!({"event": "A"}), json!({"event": "A", "anonymousId": "x"})];
        assert_eq!(store(&mut received, &items), [2]);
        assert_eq!(received.counts(), Counts { events: 1, deliveries: 1, dropped: 2, ..Counts::default() });
    }

    #[test]
    fn a_file_keeps_what_was_received_and_loses_a_torn_line() {
        let path = std::env::temp_dir().join(format!("audittrail-received-{}", std::process::id()));
        let mut received = Received::open(Some(&path)).expect("writable");
        store(&mut received, &[item("a", "A"), item("b", "B")]);
        let length = path.metadata().expect("there").len();
        File::options().write(true).open(&path).and_then(|file| file.set_len(length - 3)).expect("writable");

        let mut again = Received::open(Some(&path)).expect("readable");
        assert_eq!(again.messages().len(), 1);
        assert_eq!(store(&mut again, &[item("a", "A"), item("b", "B")]), [1]);
        assert_eq!(Received::open(Some(&path)).expect("readable").counts().deliveries, 3);
        std::fs::remove_file(path).expect("there");
    }

    #[test]
    fn another_format_is_told_apart_from_other_content() {
        let audit = json!({"event": "Audit", "userId": "usr_1", "messageId": "a",
                           "properties": {"type": "A", "id": "a"}});
        let mut received = Received::default();
        store(&mut received, &[item("a", "A"), audit.clone()]);
        store(&mut received, &[audit]);
        let message = &received.messages()[0];
        assert_eq!((message.deliveries, message.content_changed, message.format_changed), (3, false, true));
        store(&mut received, &[item("a", "B")]);
        assert!(received.messages()[0].content_changed);
    }

    #[test]
    fn the_newest_key_and_moment_are_kept_and_a_moment_that_comes_twice_is_noticed() {
        let mut received = Received::default();
        for (key, moment, repeated) in
            [("k1", "t1", false), ("k2", "t2", false), ("k2", "t2", true), ("k2", "t3", true)]
        {
            let request = Request { number: 1, write_key: Some(key.to_owned()), sent_at: Some(moment.to_owned()) };
            received.store(&request, &[&item("a", "A")]).expect("no file");
            let message = &received.messages()[0];
            assert_eq!((message.write_key.as_deref(), message.sent_at.as_deref()), (Some(key), Some(moment)));
            assert_eq!(message.sent_at_repeated, repeated);
        }
    }

    #[test]
    fn what_was_refused_is_remembered_with_the_last_code() {
        let mut received = Received::default();
        for (number, code) in [(3, 413), (7, 400)] {
            received.refuse(&Request { number, ..Request::default() }, &[&item("a", "A")], code);
        }
        assert_eq!(received.refused()["a"], Refused { times: 2, code: 400, requests: (3, 7) });
        assert!(received.messages().is_empty());
    }
}
