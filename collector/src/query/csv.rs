//! `GET /v1/events.csv`: the events that match, as CSV (RFC 4180), however many there are.
//!
//! Rows are read in chunks by keyset, the next when the client has taken the last, so memory stays
//! constant and no transaction is held open for a slow client. The export ends at the event that was the
//! newest when it began. A failure midway aborts the connection: a file that ends cleanly is complete.

use super::filter::{Filter, Order};
use super::list::rest;
use super::parameters::Parameters;
use crate::access::{self, Verb};
use crate::event::{StoredEvent, json, rfc3339_microseconds};
use crate::problem::Problem;
use crate::server::App;
use crate::store::Store;
use audittrail_crds::document::Trail;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use csv::{Terminator, WriterBuilder};
use futures::{Stream, StreamExt, stream};
use jiff::Timestamp;
use serde::Serialize;
use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::{AcquireError, Semaphore};

/// Events of a chunk: read and held at once.
const CHUNK_EVENTS: i64 = 1000;

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

/// Why an export broke off.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error("the database stopped answering: {0}")]
    Database(#[from] sqlx::Error),
    #[error("the collector stops: {0}")]
    Stopped(#[from] AcquireError),
    #[error("a row could not be written: {0}")]
    Csv(#[from] csv::Error),
}

/// An export that has not come to its end.
struct Export {
    store: Store,
    reads: Arc<Semaphore>,
    filter: Filter,
    order: Order,
    left: Range<i64>,
}

/// All events that match. Parameters: those of [`Filter`], and `order`.
pub async fn export_csv(
    State(app): State<App>,
    headers: HeaderMap,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    access::authorize(&app, &headers, Verb::Read).await?;
    let mut parameters = Parameters::new(pairs);
    let (mut filter, order) = (Filter::take(&mut parameters), Order::take(&mut parameters));
    parameters.finish()?;
    filter.spell(&app.catalogue());
    // The first chunk is read before the answer begins, so that a database which is away is a 503.
    let turn = app.read_turn().await?;
    let left = app.store().await?.window(&filter).await?.sequences;
    let mut export = Export { store: app.store.clone(), reads: Arc::clone(&app.reads), filter, order, left };
    let first = export.read().await?;
    drop(turn);
    let name = file_name(&app.document().trail, Timestamp::now());
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    Ok((headers, Body::from_stream(export.into_stream(&first))).into_response())
}

impl Export {
    /// The next events, in their turn: between chunks, other reads have theirs.
    async fn next_chunk(&mut self) -> Result<Vec<StoredEvent>, ExportError> {
        let reads = Arc::clone(&self.reads);
        let _turn = reads.acquire().await?;
        Ok(self.read().await?)
    }

    /// The next events; none when everything was read.
    async fn read(&mut self) -> Result<Vec<StoredEvent>, sqlx::Error> {
        let events = self.store.events(&self.filter, &self.left, self.order, CHUNK_EVENTS).await?;
        self.left = rest(&self.left, self.order, &events).unwrap_or(0..0);
        Ok(events)
    }

    /// Header, `first`, and then chunk after chunk.
    fn into_stream(self, first: &[StoredEvent]) -> impl Stream<Item = Result<Bytes, ExportError>> + use<> {
        let header = stream::iter([header_line(), chunk(first)]);
        let later = stream::try_unfold(self, |mut export| async move {
            let events = export.next_chunk().await?;
            if events.is_empty() { Ok(None) } else { Ok(Some((chunk(&events)?, export))) }
        });
        header.chain(later).inspect(|chunk| {
            if let Err(error) = chunk {
                tracing::error!(%error, "an export broke off; its connection is closed");
            }
        })
    }
}

fn header_line() -> Result<Bytes, ExportError> {
    rows(|writer| writer.write_record(COLUMNS))
}

fn chunk(events: &[StoredEvent]) -> Result<Bytes, ExportError> {
    rows(|writer| {
        events
            .iter()
            .try_for_each(|event| writer.write_record(record(event).iter().map(|cell| harmless(cell).into_owned())))
    })
}

fn rows(write: impl FnOnce(&mut csv::Writer<Vec<u8>>) -> csv::Result<()>) -> Result<Bytes, ExportError> {
    let mut writer = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(Vec::new());
    write(&mut writer)?;
    let bytes = writer.into_inner().map_err(|error| csv::Error::from(error.into_error()))?;
    Ok(bytes.into())
}

/// The cells of an event, in the order of [`COLUMNS`]. What an event does not have is empty.
fn record(stored: &StoredEvent) -> [Cow<'_, str>; COLUMNS.len()] {
    let event = &stored.event;
    let (actor, resource, context) = (event.actor.as_ref(), event.resource.as_ref(), event.context.as_ref());
    [
        stored.sequence.to_string().into(),
        stored.epoch.to_string().into(),
        rfc3339_microseconds(stored.received_at).into(),
        event.id.as_str().into(),
        rfc3339_microseconds(stored.timestamp).into(),
        event.r#type.as_str().into(),
        actor.map_or("", |actor| actor.r#type.as_str()).into(),
        actor.map_or("", |actor| &actor.id).into(),
        text(actor.and_then(|actor| actor.name.as_ref())),
        text(actor.and_then(|actor| actor.email.as_ref())),
        resource.map_or("", |resource| &resource.r#type).into(),
        resource.map_or("", |resource| &resource.id).into(),
        text(resource.and_then(|resource| resource.name.as_ref())),
        event.outcome.map_or("", |outcome| outcome.as_str()).into(),
        stored.submitted_by.kind.as_str().into(),
        stored.submitted_by.name.as_str().into(),
        text(context.and_then(|context| context.ip.as_ref())),
        text(context.and_then(|context| context.user_agent.as_ref())),
        text(context.and_then(|context| context.request_id.as_ref())),
        json_text(Some(&event.changes).filter(|changes| !changes.is_empty())),
        json_text(event.details.as_ref()),
    ]
}

fn text(value: Option<&String>) -> Cow<'_, str> {
    value.map_or("", String::as_str).into()
}

fn json_text(value: Option<&impl Serialize>) -> Cow<'static, str> {
    value.map_or_else(String::new, |value| String::from_utf8_lossy(&json::canonical(value)).into_owned()).into()
}

/// A spreadsheet runs a cell that begins like a formula, and an actor's name is anybody's text: an
/// apostrophe in front makes it text (OWASP, "CSV Injection").
fn harmless(cell: &str) -> Cow<'_, str> {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{cell}").into() } else { cell.into() }
}

/// For example `audit-team-a-acme-2026-03-02.csv`. A trail without Kubernetes may have any name, so what does
/// not belong in a file name or a header is replaced.
fn file_name(trail: &Trail, now: Timestamp) -> String {
    let plain = |name: &str| -> String {
        let keep = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
        name.chars().map(|character| if keep(character) { character } else { '-' }).collect()
    };
    format!("audit-{}-{}-{}.csv", plain(&trail.namespace), plain(&trail.name), now.strftime("%F"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Change, Context, Outcome, Resource};
    use crate::query::tests::stored;
    use serde_json::json;

    fn line(event: &StoredEvent) -> String {
        String::from_utf8(chunk(std::slice::from_ref(event)).expect("written").to_vec()).expect("UTF-8")
    }

    #[test]
    fn a_row_has_every_member_in_its_column() {
        let mut event = stored(7);
        event.event.resource = Some(Resource { r#type: "warehouse".to_owned(), id: "wh_1".to_owned(), name: None });
        event.event.outcome = Some(Outcome::Success);
        event.event.context = Some(Context { ip: Some("192.0.2.1".to_owned()), ..Context::default() });
        event.event.changes =
            vec![Change { field: "enabled".to_owned(), before: Some(json!(true)), after: Some(json!(false)) }];
        event.event.details = json!({"reason": "cost"}).as_object().cloned();
        assert_eq!(
            line(&event),
            concat!(
                "7,0,2026-03-02T09:14:05.120000Z,evt_7,2026-03-02T09:14:05.000000Z,Warehouse Disabled,",
                "user,usr_1,,,warehouse,wh_1,,success,writeKey,acme-write-key/writeKey,192.0.2.1,,,",
                r#""[{""after"":false,""before"":true,""field"":""enabled""}]","{""reason"":""cost""}""#,
                "\r\n"
            )
        );
    }

    #[test]
    fn the_header_names_the_columns() {
        let header = header_line().expect("written");
        assert!(header.starts_with(b"sequence,epoch,receivedAt,id,timestamp,type,actor.type,"));
        assert!(header.ends_with(b",changes,details\r\n"));
    }

    #[test]
    fn commas_quotes_and_line_breaks_are_quoted() {
        let mut event = stored(7);
        for (text, quoted) in [("a,b", "\"a,b\""), ("a\"b", "\"a\"\"b\""), ("a\nb", "\"a\nb\""), ("a\rb", "\"a\rb\"")] {
            event.event.r#type = text.to_owned();
            assert!(line(&event).contains(&format!(",{quoted},")), "{text:?}");
        }
    }

    #[test]
    fn a_cell_that_begins_like_a_formula_becomes_text() {
        for (text, cell) in
            [("=1+1", "'=1+1"), ("+1", "'+1"), ("-1", "'-1"), ("@a", "'@a"), ("\ta", "'\ta"), ("\ra", "'\ra")]
        {
            assert_eq!(harmless(text), cell);
        }
        for text in ["", "a=1", "'=1", "2026-03-02"] {
            assert_eq!(harmless(text), text);
        }
    }

    #[test]
    fn the_file_name_speaks_and_breaks_nothing() {
        let now = "2026-03-02T23:59:59Z".parse().expect("valid");
        let mut trail = crate::document::tests::document(1).trail;
        assert_eq!(file_name(&trail, now), "audit-team-a-acme-2026-03-02.csv");
        trail.name = "a\"/\r\nb".to_owned();
        assert_eq!(file_name(&trail, now), "audit-team-a-a----b-2026-03-02.csv");
    }
}
