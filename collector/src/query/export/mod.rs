//! `GET /v1/events.csv` and `GET /v1/events.ndjson`: all events that match, however many there are
//! ([`docs/exports.md`](../../../../docs/exports.md)).
//!
//! | module | what |
//! |---|---|
//! | [`row`] | an event as the database gives it |
//! | [`moment`] | moments as text |
//! | [`csv`], [`ndjson`] | a row as text |
//! | [`chunk`] | what is read at once |
//! | [`stream`] | reads, and hands it to the connection |
//!
//! Rows are read in chunks by keyset, so memory stays constant and no transaction is held open for a slow client. The export
//! ends at the event that was the newest when it began. A failure midway aborts the connection: a file that ends
//! cleanly is complete. Memory is bounded by [`EXPORTS_MAX`] exports with two chunks each ([`chunk::CHUNK_BYTES`]), and what the
//! HTTP server buffers for a connection (about 400 KiB).

pub mod chunk;
pub mod csv;
pub mod moment;
pub mod ndjson;
pub mod row;
pub mod stream;

use super::filter::{Filter, Order};
use super::parameters::Parameters;
use super::place::Place;
use super::record::{self, How, View};
use crate::access::{self, Identity, Verb};
use crate::openapi;
use crate::problem::{Problem, RETRY_AFTER_SECONDS};
use crate::server::App;
use crate::store::read::Window;
use audittrail_crds::catalogue::Catalogue;
use audittrail_crds::document::Trail;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Version, header};
use axum::response::{IntoResponse, Response};
use chunk::Chunk;
use jiff::Timestamp;
use row::Row;
use std::ops::Range;
use std::sync::Arc;
use stream::Export;
use tokio::sync::OwnedSemaphorePermit;

/// Exports of one replica at once, at most. Each holds some megabytes for as long as its client takes.
pub const EXPORTS_MAX: usize = 4;

/// What an export is written in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// RFC 4180.
    Csv,
    /// A JSON text a line.
    Ndjson,
}

/// What an export is asked with.
#[derive(Clone, Debug)]
struct Parts {
    format: Format,
    filter: Filter,
    order: Order,
    after: Option<Place>,
    /// `bom`: whether a CSV file begins with a byte order mark.
    bom: bool,
}

/// All events that match, as CSV. Parameters: those of [`Filter`], `order`, `after` and `bom`.
#[utoipa::path(
    get, path = "/v1/events.csv", tag = openapi::READING,
    summary = "All events that match, as CSV",
    description = "RFC 4180, with a header. A failure midway breaks the connection: what ends cleanly is complete. Recorded in the trail.",
    params(
        openapi::parameters::FilterParameters, openapi::parameters::OrderParameter, openapi::parameters::AfterParameter,
        ("bom" = Option<bool>, Query, description = "Whether the file begins with a byte order mark.")
    ),
    responses(
        (
            status = 200, description = "The file; without a header where it goes on after `after`.",
            content_type = "text/csv", body = String,
            headers(("Content-Disposition" = String, description = "A name for the file."))
        ),
        openapi::answers::Reading
    )
)]
pub async fn export_csv(
    State(app): State<App>,
    version: Version,
    headers: HeaderMap,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    export(&app, version, &headers, pairs, Format::Csv).await
}

/// All events that match, as NDJSON. Parameters: those of [`Filter`], `order` and `after`.
#[utoipa::path(
    get, path = "/v1/events.ndjson", tag = openapi::READING,
    summary = "All events that match, one a line",
    description = "NDJSON: a `StoredEvent` a line. A failure midway breaks the connection: what ends cleanly is complete. Recorded in the trail.",
    params(openapi::parameters::FilterParameters, openapi::parameters::OrderParameter, openapi::parameters::AfterParameter),
    responses(
        (
            status = 200, description = "The file.", content_type = "application/x-ndjson", body = String,
            headers(("Content-Disposition" = String, description = "A name for the file."))
        ),
        openapi::answers::Reading
    )
)]
pub async fn export_ndjson(
    State(app): State<App>,
    version: Version,
    headers: HeaderMap,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    export(&app, version, &headers, pairs, Format::Ndjson).await
}

/// Pins what is answered, records it, and reads the first rows before the answer begins, so that a database which is away
/// is a 503.
async fn export(
    app: &App,
    version: Version,
    headers: &HeaderMap,
    pairs: Vec<(String, String)>,
    format: Format,
) -> Result<Response, Problem> {
    let reader = access::authorize(app, headers, Verb::Read).await?;
    let parts = Parts::parse(pairs, format, &app.catalogue())?;
    require_marked_end(version)?;
    let place = place(app)?;
    let (pinned, left) = pin(app, &parts).await?;
    parts.record(app, &reader, headers).await?;
    let walk = app.store().await?.walk(Arc::new(parts.filter.clone()), left, parts.order);
    let mut export = Export::new(app.clone(), pinned, walk, format);
    let mut chunk = Chunk::new(format);
    chunk.text(&parts.preface());
    let turn = app.read_turn().await?;
    let chunk = export.read(chunk).await?;
    drop(turn);
    let name = file_name(&app.document().trail, format, Timestamp::now());
    let head = [
        (header::CONTENT_TYPE, format.media_type().to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    Ok((head, export.into_body(headers.clone(), chunk, place)).into_response())
}

impl Parts {
    fn parse(pairs: Vec<(String, String)>, format: Format, catalogue: &Catalogue) -> Result<Self, Problem> {
        let mut parameters = Parameters::new(pairs);
        let parts = Self {
            format,
            filter: Filter::take(&mut parameters, catalogue),
            order: Order::take(&mut parameters),
            after: after(&mut parameters),
            bom: format == Format::Csv && byte_order_mark(&mut parameters),
        };
        parameters.finish().map(|()| parts)
    }

    /// What stands before the rows; nothing before those that go on with a file.
    fn preface(&self) -> String {
        match (self.format, self.after) {
            (Format::Csv, None) if self.bom => csv::BYTE_ORDER_MARK.to_owned() + &csv::header(),
            (Format::Csv, None) => csv::header(),
            (Format::Csv, Some(_)) | (Format::Ndjson, _) => String::new(),
        }
    }

    async fn record(&self, app: &App, reader: &Identity, headers: &HeaderMap) -> Result<(), Problem> {
        let how = match self.format {
            Format::Csv => How::Csv,
            Format::Ndjson => How::Ndjson,
        };
        let after = self.after.map(|after| ("after", after.to_string()));
        let asked: Vec<_> = [("order", self.order.as_str().to_owned())].into_iter().chain(after).collect();
        record::view(app, reader, headers, View { how, filter: &self.filter, asked: &asked }).await
    }
}

fn after(parameters: &mut Parameters) -> Option<Place> {
    let text = parameters.once("after")?;
    Place::parse(&text).inspect_err(|error| parameters.refuse("after", error.to_string())).ok()
}

fn byte_order_mark(parameters: &mut Parameters) -> bool {
    parameters.named_once("bom", |name| name.parse::<bool>().ok(), &["true", "false"]).unwrap_or_default()
}

/// In HTTP/1.0 an answer of unknown length ends with its connection, so nobody can tell an end from a failure.
fn require_marked_end(version: Version) -> Result<(), Problem> {
    if version < Version::HTTP_11 {
        return Err(Problem::unreadable(
            "an export needs HTTP/1.1: in an older version, one that broke off looks complete",
        ));
    }
    Ok(())
}

fn place(app: &App) -> Result<OwnedSemaphorePermit, Problem> {
    Arc::clone(&app.exports).try_acquire_owned().map_err(|_| {
        Problem::unavailable(RETRY_AFTER_SECONDS, format!("{EXPORTS_MAX} exports are running, and no more may at once"))
    })
}

/// All that can match now, and the sequences of it that are asked for: all of them, or those after the last row that the client has.
async fn pin(app: &App, parts: &Parts) -> Result<(Window, Range<i64>), Problem> {
    let _turn = app.read_turn().await?;
    let store = app.store().await?;
    let window = store.window(&parts.filter).await?;
    let all = window.sequences.clone();
    let Some(after) = parts.after else { return Ok((window, all)) };
    let standing = store.standing(after.epoch, after.sequence).await?;
    let next = after.next(&standing).map_err(|error| error.of("after"))?;
    Ok((window, rest(&all, parts.order, next)))
}

/// What is left of the window in the order of the export, where `next` is one past the sequence that the client has.
fn rest(window: &Range<i64>, order: Order, next: i64) -> Range<i64> {
    match order {
        Order::Desc => window.start..(next - 1).clamp(window.start, window.end),
        Order::Asc => next.clamp(window.start, window.end)..window.end,
    }
}

impl Format {
    /// Appends a row.
    pub fn write(self, row: &Row<'_>, text: &mut Vec<u8>) -> serde_json::Result<()> {
        match self {
            Self::Csv => csv::write(row, text),
            Self::Ndjson => {
                ndjson::write(row, text);
                Ok(())
            }
        }
    }

    fn media_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8",
            Self::Ndjson => "application/x-ndjson",
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Ndjson => "ndjson",
        }
    }
}

/// For example `audit-team-a-acme-2026-03-02.csv`. A trail without Kubernetes may have any name, so what does
/// not belong in a file name or a header is replaced.
fn file_name(trail: &Trail, format: Format, now: Timestamp) -> String {
    let plain = |name: &str| -> String {
        let keep = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
        name.chars().map(|character| if keep(character) { character } else { '-' }).collect()
    };
    let (namespace, name) = (plain(&trail.namespace), plain(&trail.name));
    format!("audit-{namespace}-{name}-{}.{}", now.strftime("%F"), format.extension())
}

#[cfg(test)]
mod tests {
    use super::moment::Moment;
    use super::*;
    use crate::event::{Actor, ActorType, Change, Context, Event, Outcome, Resource, StoredEvent, SubmittedBy};
    use crate::query::tests::stored;
    use serde_json::json;

    /// 2026-03-02T09:14:05Z, as Postgres counts.
    const MOMENT: i64 = 825_758_045_000_000;

    /// A row with everything that an event can have.
    pub fn full() -> Row<'static> {
        Row {
            sequence: 7,
            epoch: 2,
            id: "evt_7",
            actor: [Some("user"), Some("usr_1"), Some("Jane, \"J\""), Some("jane@example.com")],
            resource: [Some("warehouse"), Some("wh_1"), Some("Main")],
            outcome: Some("success"),
            context: Some(r#"{"ip":"192.0.2.1","requestId":"r1","userAgent":"a\"b"}"#),
            changes: Some(r#"[{"after":false,"before":true,"field":"enabled"}]"#),
            details: Some(r#"{"reason":"cost"}"#),
            ..minimal()
        }
    }

    /// A row with nothing that an event can lack: its actor was erased.
    pub fn minimal() -> Row<'static> {
        Row {
            sequence: 0,
            epoch: 0,
            received_at: Moment::of_postgres(MOMENT + 120_000),
            id: "evt_0",
            timestamp: Moment::of_postgres(MOMENT),
            r#type: "Warehouse Disabled",
            actor: [None; 4],
            resource: [None; 3],
            outcome: None,
            submitted_by: ["writeKey", "acme/writeKey"],
            context: None,
            changes: None,
            details: None,
        }
    }

    /// The event of [`full`].
    pub fn full_event() -> StoredEvent {
        let some = |text: &str| Some(text.to_owned());
        let event = minimal_event();
        StoredEvent {
            sequence: 7,
            epoch: 2,
            event: Event {
                id: "evt_7".to_owned(),
                actor: Some(Actor {
                    r#type: ActorType::User,
                    id: "usr_1".to_owned(),
                    name: some("Jane, \"J\""),
                    email: some("jane@example.com"),
                }),
                resource: Some(Resource { r#type: "warehouse".to_owned(), id: "wh_1".to_owned(), name: some("Main") }),
                outcome: Some(Outcome::Success),
                context: Some(Context { ip: some("192.0.2.1"), user_agent: some("a\"b"), request_id: some("r1") }),
                changes: vec![Change {
                    field: "enabled".to_owned(),
                    before: Some(json!(true)),
                    after: Some(json!(false)),
                }],
                details: json!({"reason": "cost"}).as_object().cloned(),
                ..event.event
            },
            ..event
        }
    }

    /// The event of [`minimal`].
    pub fn minimal_event() -> StoredEvent {
        let stored = stored(0);
        StoredEvent {
            submitted_by: SubmittedBy { name: "acme/writeKey".to_owned(), ..stored.submitted_by },
            event: Event { actor: None, ..stored.event },
            ..stored
        }
    }

    fn parse(format: Format, query: &[(&str, &str)]) -> Result<Parts, String> {
        let pairs = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Parts::parse(pairs, format, &Catalogue::default()).map_err(|problem| problem.detail().to_owned())
    }

    fn preface(format: Format, query: &[(&str, &str)]) -> String {
        parse(format, query).expect("valid").preface()
    }

    #[test]
    fn only_a_file_that_begins_has_a_header() {
        let after = ("after", "0.41");
        assert_eq!(preface(Format::Csv, &[]), csv::header());
        assert_eq!(preface(Format::Csv, &[("bom", "false")]), csv::header());
        assert_eq!(preface(Format::Csv, &[("bom", "true")]), format!("\u{feff}{}", csv::header()));
        assert_eq!(preface(Format::Csv, &[after]), "");
        assert_eq!(preface(Format::Csv, &[("bom", "true"), after]), "");
        assert_eq!(preface(Format::Ndjson, &[]), "");
    }

    #[test]
    fn an_unknown_parameter_is_told_the_known_ones() {
        let known =
            "type, area, actor, actorType, resource, resourceType, outcome, submittedBy, from, to, q, order, after";
        let refusal = |format, query| parse(format, &[query]).expect_err("refused");
        assert_eq!(refusal(Format::Csv, ("limit", "1")), format!("limit is unknown here: known are {known}, bom"));
        assert_eq!(refusal(Format::Ndjson, ("bom", "true")), format!("bom is unknown here: known are {known}"));
        assert_eq!(refusal(Format::Csv, ("bom", "yes")), "bom must be one of true, false");
        assert!(
            refusal(Format::Csv, ("after", "41")).starts_with("after must be the epoch and the sequence of an event")
        );
    }

    #[test]
    fn what_is_left_lies_after_the_last_row_in_the_order_of_the_export() {
        for (sequence, newest_first, oldest_first) in [
            (20, 10..20, 21..30),
            (10, 10..10, 11..30),
            (29, 10..29, 30..30),
            (5, 10..10, 10..30),
            (40, 10..30, 30..30),
        ] {
            assert_eq!(rest(&(10..30), Order::Desc, sequence + 1), newest_first, "{sequence}");
            assert_eq!(rest(&(10..30), Order::Asc, sequence + 1), oldest_first, "{sequence}");
        }
    }

    #[test]
    fn an_answer_whose_end_cannot_be_told_is_refused() {
        assert!(require_marked_end(Version::HTTP_10).is_err());
        assert!(require_marked_end(Version::HTTP_11).is_ok());
        assert!(require_marked_end(Version::HTTP_2).is_ok());
    }

    #[test]
    fn the_file_name_speaks_and_breaks_nothing() {
        let now = "2026-03-02T23:59:59Z".parse().expect("valid");
        let mut trail = crate::document::tests::document(1).trail;
        assert_eq!(file_name(&trail, Format::Csv, now), "audit-team-a-acme-2026-03-02.csv");
        assert_eq!(file_name(&trail, Format::Ndjson, now), "audit-team-a-acme-2026-03-02.ndjson");
        trail.name = "a\"/\r\nb".to_owned();
        assert_eq!(file_name(&trail, Format::Csv, now), "audit-team-a-a----b-2026-03-02.csv");
    }
}
