//! A row as JSON: the members of [`StoredEvent`] in their order, as every endpoint answers them.
//!
//! [`StoredEvent`]: crate::event::StoredEvent

use super::row::Row;
use std::io::Write as _;

/// Appends a line.
pub fn write(row: &Row<'_>, text: &mut Vec<u8>) {
    object(row, text);
    text.push(b'\n');
}

/// Appends the event. What the database holds as JSON is passed on as it is: canonical (RFC 8785), so without line breaks.
pub fn object(row: &Row<'_>, text: &mut Vec<u8>) {
    write!(text, r#"{{"sequence":{},"epoch":{},"receivedAt":""#, row.sequence, row.epoch)
        .expect("memory takes what is written");
    text.extend(row.received_at.text());
    text.extend(br#"","timestamp":""#);
    text.extend(row.timestamp.text());
    text.extend(br#"","submittedBy":{"kind":"#);
    let [kind, name] = row.submitted_by;
    string(kind, text);
    member(r#","name":"#, Some(name), text);
    member(r#"},"id":"#, Some(row.id), text);
    member(r#","type":"#, Some(row.r#type), text);
    if let [Some(r#type), Some(id), name, email] = row.actor {
        member(r#","actor":{"type":"#, Some(r#type), text);
        member(r#","id":"#, Some(id), text);
        member(r#","name":"#, name, text);
        member(r#","email":"#, email, text);
        text.push(b'}');
    }
    if let [Some(r#type), Some(id), name] = row.resource {
        member(r#","resource":{"type":"#, Some(r#type), text);
        member(r#","id":"#, Some(id), text);
        member(r#","name":"#, name, text);
        text.push(b'}');
    }
    member(r#","outcome":"#, row.outcome, text);
    json(r#","context":"#, row.context, text);
    json(r#","changes":"#, row.changes, text);
    json(r#","details":"#, row.details, text);
    text.push(b'}');
}

/// A member that is text, after what stands before it; nothing when there is none.
fn member(before: &str, value: Option<&str>, text: &mut Vec<u8>) {
    if let Some(value) = value {
        text.extend(before.as_bytes());
        string(value, text);
    }
}

/// A member that is JSON already.
fn json(before: &str, value: Option<&str>, text: &mut Vec<u8>) {
    if let Some(value) = value {
        text.extend(before.as_bytes());
        text.extend(value.as_bytes());
    }
}

fn string(value: &str, text: &mut Vec<u8>) {
    serde_json::to_writer(text, value).expect("memory takes what is written");
}

#[cfg(test)]
mod tests {
    use super::super::tests::{full, full_event, minimal, minimal_event};
    use super::*;

    fn line(row: &Row<'_>) -> String {
        let mut text = Vec::new();
        write(row, &mut text);
        String::from_utf8(text).expect("UTF-8")
    }

    /// Not only the same JSON, but also the same order of members as far as the database does not keep JSON.
    #[test]
    fn a_line_is_the_json_that_the_list_has() {
        for (row, event) in [(full(), full_event()), (minimal(), minimal_event())] {
            let (line, json) = (line(&row), serde_json::to_string(&event).expect("JSON"));
            let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
            assert_eq!(value(&line), value(&json));
            let members = |text: &str| text.split(r#""context":"#).next().map(str::to_owned);
            assert_eq!(members(line.trim_end()), members(&json));
        }
    }

    #[test]
    fn a_line_ends_once() {
        let row = Row { r#type: "two\nlines", ..full() };
        let line = line(&row);
        assert_eq!(line.find('\n'), Some(line.len() - 1));
    }
}
