//! A row as CSV: RFC 4180, UTF-8.

use super::row::Row;
use serde::Deserialize;
use std::borrow::Cow;
use std::io::Write as _;

/// Name and order of the columns. New ones are added at the end.
pub const COLUMNS: [&str; 21] = [
    "sequence",
    "epoch",
    "receivedAt",
    "id",
    "timestamp",
    "type",
    "actor.type",
    "actor.id",
    "actor.name",
    "actor.email",
    "resource.type",
    "resource.id",
    "resource.name",
    "outcome",
    "submittedBy.kind",
    "submittedBy.name",
    "context.ip",
    "context.userAgent",
    "context.requestId",
    "changes",
    "details",
];

/// The byte order mark, as UTF-8: Excel takes a file without it for one of an older encoding.
pub const BYTE_ORDER_MARK: &str = "\u{feff}";

/// What a spreadsheet takes for the beginning of a formula (OWASP, "CSV Injection"), full-width forms included.
const FORMULA: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];

/// What a spreadsheet may take for the end of a cell (the same page).
const BREAKS: [char; 3] = ['\t', '\r', '\n'];

/// The members of `context`, borrowed as far as nothing in them is escaped.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Context<'r> {
    #[serde(borrow, default)]
    ip: Option<Cow<'r, str>>,
    #[serde(borrow, default)]
    user_agent: Option<Cow<'r, str>>,
    #[serde(borrow, default)]
    request_id: Option<Cow<'r, str>>,
}

/// The line with the names of the columns.
pub fn header() -> String {
    COLUMNS.join(",") + "\r\n"
}

/// Appends a row, in the order of [`COLUMNS`]. What an event does not have is empty.
pub fn write(row: &Row<'_>, text: &mut Vec<u8>) -> serde_json::Result<()> {
    let context: Context<'_> = row.context.map(serde_json::from_str).transpose()?.unwrap_or_default();
    write!(text, "{},{},", row.sequence, row.epoch).expect("memory takes what is written");
    text.extend(row.received_at.text());
    text.push(b',');
    cell(row.id, text);
    text.push(b',');
    text.extend(row.timestamp.text());
    for part in [Some(row.r#type)].iter().chain(&row.actor).chain(&row.resource).chain([&row.outcome]) {
        next_cell(*part, text);
    }
    for part in row.submitted_by {
        next_cell(Some(part), text);
    }
    for part in [context.ip, context.user_agent, context.request_id] {
        next_cell(part.as_deref(), text);
    }
    next_cell(row.changes, text);
    next_cell(row.details, text);
    text.extend(b"\r\n");
    Ok(())
}

fn next_cell(value: Option<&str>, text: &mut Vec<u8>) {
    text.push(b',');
    cell(value.unwrap_or_default(), text);
}

/// RFC 4180, section 2: what holds a comma, a quote or a line break stands in quotes, its own are doubled. A spreadsheet runs a
/// cell that is like a formula, and an actor's name is anybody's text: an apostrophe in front makes it text.
fn cell(value: &str, text: &mut Vec<u8>) {
    let mark: &[u8] = if is_formula(value) { b"'" } else { b"" };
    if !needs_quotes(value) {
        text.extend(mark);
        text.extend(value.as_bytes());
        return;
    }
    text.push(b'"');
    text.extend(mark);
    for part in value.split_inclusive('"') {
        text.extend(part.as_bytes());
        if part.ends_with('"') {
            text.push(b'"');
        }
    }
    text.push(b'"');
}

/// Without a branch for each byte, so that many are compared at once.
fn needs_quotes(value: &str) -> bool {
    let special =
        |byte: u8| u8::from(byte == b',') | u8::from(byte == b'"') | u8::from(byte == b'\r') | u8::from(byte == b'\n');
    value.bytes().fold(0, |found, byte| found | special(byte)) != 0
}

/// Whether a spreadsheet may run the cell. White space in front is passed over, since some of them trim it.
fn is_formula(value: &str) -> bool {
    if value.as_bytes().first().is_none_or(u8::is_ascii_alphanumeric) {
        return false;
    }
    let passed_over = |character: char| character.is_whitespace() || character.is_control() || character == '\u{feff}';
    value.starts_with(BREAKS) || value.trim_start_matches(passed_over).starts_with(FORMULA)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{full, minimal};
    use super::*;
    use proptest::prelude::*;

    fn line(row: &Row<'_>) -> String {
        let mut text = Vec::new();
        write(row, &mut text).expect("its JSON is valid");
        String::from_utf8(text).expect("UTF-8")
    }

    fn written(value: &str) -> String {
        let mut text = Vec::new();
        cell(value, &mut text);
        String::from_utf8(text).expect("UTF-8")
    }

    #[test]
    fn a_row_has_every_member_in_its_column() {
        assert_eq!(
            line(&full()),
            concat!(
                "7,2,2026-03-02T09:14:05.120000Z,evt_7,2026-03-02T09:14:05.000000Z,Warehouse Disabled,",
                "user,usr_1,\"Jane, \"\"J\"\"\",jane@example.com,warehouse,wh_1,Main,success,",
                "writeKey,acme/writeKey,192.0.2.1,\"a\"\"b\",r1,",
                r#""[{""after"":false,""before"":true,""field"":""enabled""}]","{""reason"":""cost""}""#,
                "\r\n"
            )
        );
    }

    #[test]
    fn what_an_event_does_not_have_is_empty() {
        assert_eq!(
            line(&minimal()),
            concat!(
                "0,0,2026-03-02T09:14:05.120000Z,evt_0,2026-03-02T09:14:05.000000Z,Warehouse Disabled,",
                ",,,,,,,,writeKey,acme/writeKey,,,,,\r\n"
            )
        );
    }

    #[test]
    fn the_header_names_the_columns() {
        assert!(header().starts_with("sequence,epoch,receivedAt,id,timestamp,type,actor.type,"));
        assert!(header().ends_with(",changes,details\r\n"));
        assert_eq!(header().split(',').count(), line(&minimal()).split(',').count());
    }

    #[test]
    fn commas_quotes_and_line_breaks_are_quoted() {
        for (value, cell) in [
            ("a,b", "\"a,b\""),
            ("a\"b", "\"a\"\"b\""),
            ("\"", "\"\"\"\""),
            ("a\nb", "\"a\nb\""),
            ("a\rb", "\"a\rb\""),
            ("a;b", "a;b"),
            ("", ""),
        ] {
            assert_eq!(written(value), cell, "{value:?}");
        }
    }

    #[test]
    fn a_cell_that_begins_like_a_formula_becomes_text() {
        for value in [
            "=1+1",
            "+1",
            "-1",
            "@a",
            "＝1",
            "＋1",
            "－1",
            "＠a",
            "\ta",
            " =1",
            "\u{a0}=1",
            "\u{3000}＝1",
            "\u{feff}=1",
            "\u{b}-1",
        ] {
            assert_eq!(written(value), format!("'{value}"));
        }
        assert_eq!(written("\ra"), "\"'\ra\"");
        assert_eq!(written("\n=1"), "\"'\n=1\"");
        assert_eq!(written("=HYPERLINK(\"a\",1)"), "\"'=HYPERLINK(\"\"a\"\",1)\"");
        for value in ["a=1", "'=1", "2026-03-02", " a", "{\"a\":\"=1\"}", "é", "(=1)"] {
            assert!(!is_formula(value), "{value:?}");
        }
    }

    proptest! {
        #[test]
        fn what_another_reader_finds_is_what_was_written(values in prop::collection::vec("[a=\",;\r\n\t' é＝]{0,6}", 1..5)) {
            let mut text = Vec::new();
            cell(&values[0], &mut text);
            for value in &values[1..] {
                next_cell(Some(value), &mut text);
            }
            text.extend(b"\r\n");
            let mut reader = ::csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_slice());
            let record = reader.records().next().map(|record| record.expect("RFC 4180")).unwrap_or_default();
            let expected: Vec<String> = values
                .iter()
                .map(|value| if is_formula(value) { format!("'{value}") } else { value.clone() })
                .collect();
            // A line with nothing in it at all is no record to that reader; rows of ours have more cells.
            if expected != [""] {
                prop_assert_eq!(record.iter().collect::<Vec<_>>(), expected);
            }
        }
    }
}
