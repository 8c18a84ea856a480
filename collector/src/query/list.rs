//! `GET /v1/events`: a page of events.

use super::cursor::{Cursor, Scope, Selection};
use super::export::ndjson;
use super::export::row::Row;
use super::filter::{Filter, Order};
use super::page;
use super::parameters::Parameters;
use super::record::{self, How, View};
use crate::access::{self, Identity, Verb};
use crate::event::StoredEvent;
use crate::openapi;
use crate::problem::{FieldError, Problem};
use crate::server::App;
use crate::store::read::Window;
use audittrail_crds::catalogue::Catalogue;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use sqlx::FromRow;
use sqlx::postgres::PgRow;
use std::ops::{Range, RangeInclusive};
use utoipa::ToSchema;
use uuid::Uuid;

/// Events of a page when `limit` is absent.
pub const LIMIT_DEFAULT: i64 = 100;

/// What `limit` may be.
pub const LIMITS: RangeInclusive<i64> = 1..=1000;

/// What a page is asked with.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Parts {
    filter: Filter,
    order: Order,
    limit: i64,
    cursor: Option<String>,
}

/// A page, as it is described: [`json`] writes it.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "camelCase")]
pub struct Page {
    /// The events, in the order asked for.
    pub events: Vec<StoredEvent>,
    /// Cursor of the next page; null when this is the last.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

impl Parts {
    fn parse(pairs: Vec<(String, String)>, catalogue: &Catalogue) -> Result<Self, Problem> {
        let mut parameters = Parameters::new(pairs);
        let parts = Self {
            filter: Filter::take(&mut parameters, catalogue),
            order: Order::take(&mut parameters),
            limit: parameters.number("limit", &LIMITS).unwrap_or(LIMIT_DEFAULT),
            cursor: parameters.once("cursor"),
        };
        parameters.finish().map(|()| parts)
    }

    /// A cursor belongs to what was asked, whatever the catalogue says when the next page is.
    fn selection(&self) -> Selection {
        Selection::of(&self.filter, self.order)
    }

    /// Records the first page. A cursor was given for a query that is recorded.
    async fn record(&self, app: &App, reader: &Identity, headers: &HeaderMap) -> Result<(), Problem> {
        if self.cursor.is_some() {
            return Ok(());
        }
        let asked = [("order", self.order.as_str().to_owned()), ("limit", self.limit.to_string())];
        record::view(app, reader, headers, View { how: How::List, filter: &self.filter, asked: &asked }).await
    }
}

/// The events that match, newest first unless `order=asc`. Parameters: those of [`Filter`], `order`, `limit` and `cursor`.
/// The first page is recorded before it is answered; its window is pinned before that, so it does not show its own record.
#[utoipa::path(
    get, path = "/v1/events", tag = openapi::READING,
    summary = "A page of events",
    description = "The events that match: OR within a parameter, AND across them. A page of large events may have fewer than `limit`, and a `nextCursor`. The first page of a query is recorded in the trail.",
    params(openapi::parameters::FilterParameters, openapi::parameters::PageParameters),
    responses((status = 200, description = "A page.", body = Page), openapi::answers::Reading)
)]
pub async fn list_events(
    State(app): State<App>,
    headers: HeaderMap,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<impl IntoResponse, Problem> {
    let reader = access::authorize(&app, &headers, Verb::Read).await?;
    let parts = Parts::parse(pairs, &app.catalogue())?;
    let store = app.store().await?;
    let (key, selection) = (store.cursor_key().await?, parts.selection());
    let scope = |log_id| Scope { key, log_id, reader: &reader, selection };
    let window = match &parts.cursor {
        Some(cursor) => go_on(&app, cursor, scope).await?,
        None => pin(&app, &parts.filter).await?,
    };
    // The page is read while it is recorded, and answered when it is.
    let (page, ()) = tokio::try_join!(read(&app, &parts, &window, scope), parts.record(&app, &reader, &headers))?;
    Ok(([(header::CONTENT_TYPE, "application/json")], page))
}

/// All of the log that can match, as it is now.
async fn pin(app: &App, filter: &Filter) -> Result<Window, Problem> {
    let _turn = app.read_turn().await?;
    Ok(app.store().await?.window(filter).await?)
}

/// The page as it is answered: while it is made, it has a turn.
async fn read<'a>(
    app: &App,
    parts: &Parts,
    window: &Window,
    scope: impl Fn(Uuid) -> Scope<'a>,
) -> Result<Vec<u8>, Problem> {
    let _turn = app.read_turn().await?;
    let mut page = page::Page::of(parts.limit);
    let rows = page.rows();
    let mut take = |row: &PgRow| {
        let (row, mut event) = (Row::from_row(row)?, Vec::new());
        ndjson::object(&row, &mut event);
        let bytes = event.len();
        Ok(page.add(row.sequence, event, bytes))
    };
    app.store().await?.first(&parts.filter, &window.sequences, parts.order, rows, &mut take).await?;
    let (events, cut_after) = page.finish();
    let left = cut_after.map(|last| rest(&window.sequences, parts.order, last));
    let next_cursor = left.map(|sequences| Cursor { epoch: window.epoch, sequences }.encode(&scope(window.log_id)));
    Ok(json(&events, next_cursor.as_deref()))
}

/// A page of events that are JSON already.
fn json(events: &[Vec<u8>], next_cursor: Option<&str>) -> Vec<u8> {
    let next_cursor = serde_json::to_string(&next_cursor).expect("text is JSON");
    [br#"{"events":["#, events.join(&b',').as_slice(), br#"],"nextCursor":"#, next_cursor.as_bytes(), b"}"].concat()
}

/// What the cursor says is left.
async fn go_on<'a>(app: &App, cursor: &str, scope: impl Fn(Uuid) -> Scope<'a>) -> Result<Window, Problem> {
    let _turn = app.read_turn().await?;
    let head = app.store().await?.head().await?;
    let cursor = Cursor::decode(cursor, &scope(head.log_id), head.epoch)
        .map_err(|error| Problem::invalid(vec![FieldError::of("cursor", error.to_string())]))?;
    Ok(Window { log_id: head.log_id, epoch: head.epoch, sequences: cursor.sequences })
}

/// The window without the events of a page that ends with this one: they lie at one of its ends.
fn rest(window: &Range<i64>, order: Order, last: i64) -> Range<i64> {
    match order {
        Order::Desc => window.start..last,
        Order::Asc => last + 1..window.end,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &[(&str, &str)]) -> Result<Parts, String> {
        let pairs = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Parts::parse(pairs, &Catalogue::default()).map_err(|problem| problem.detail().to_owned())
    }

    #[test]
    fn a_page_has_a_hundred_events_unless_asked_otherwise() {
        assert_eq!(parse(&[]).expect("valid").limit, 100);
        assert_eq!(parse(&[("limit", "1000")]).expect("valid").limit, 1000);
        assert_eq!(parse(&[("limit", "1001")]), Err("limit must be a number from 1 to 1000".to_owned()));
    }

    #[test]
    fn the_known_parameters_are_listed_to_who_sends_another() {
        assert_eq!(
            parse(&[("offset", "10")]),
            Err("offset is unknown here: known are type, area, actor, actorType, resource, resourceType, \
                 outcome, submittedBy, from, to, q, order, limit, cursor"
                .to_owned())
        );
    }

    #[test]
    fn a_page_takes_its_events_from_the_end_it_began_at() {
        assert_eq!(rest(&(5..42), Order::Desc, 40), 5..40);
        assert_eq!(rest(&(5..42), Order::Asc, 6), 7..42);
    }

    #[test]
    fn a_page_is_json_whatever_it_holds() {
        let text = |events: &[Vec<u8>], next_cursor| String::from_utf8(json(events, next_cursor)).expect("UTF-8");
        assert_eq!(text(&[], None), r#"{"events":[],"nextCursor":null}"#);
        let events = [b"{}".to_vec(), br#"{"a":1}"#.to_vec()];
        assert_eq!(text(&events, Some("AA")), r#"{"events":[{},{"a":1}],"nextCursor":"AA"}"#);
    }
}
