//! `GET /audit-events`, version 1 of Segment's Public API.
//!
//! Parameters: `startTime`, `endTime`, `resourceId`, `resourceType`, `pagination.count`, `pagination.cursor`; the last two may be
//! spelt `pagination[count]` as well, as Segment's SDKs do. Segment does not say what it does with others; here they are errors,
//! since a misspelt filter that is ignored shows what was not asked for.

use super::bookmark::Bookmark;
use super::budget::Spent;
use super::event::AuditEvent;
use super::media::MediaType;
use super::refused::Refused;
use crate::access::{self, Identity, Verb};
use crate::openapi;
use crate::problem::{FieldError, Problem};
use crate::query::cursor::{Scope, Selection};
use crate::query::export::row::Row;
use crate::query::filter::{Filter, Order};
use crate::query::page;
use crate::query::parameters::{MOMENTS, Parameters};
use crate::query::record::{self, How, View};
use crate::server::App;
use crate::store::read::Window;
use axum::Json;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use jiff::civil::DateTime;
use jiff::fmt::rfc2822::DateTimePrinter;
use jiff::tz::TimeZone;
use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use serde::Serialize;
use serde_json::json;
use sqlx::FromRow;
use sqlx::postgres::PgRow;
use std::ops::RangeInclusive;
use std::sync::PoisonError;
use std::time::Instant;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// Events of a page when `pagination.count` is absent (Segment's page Pagination).
pub const COUNT_DEFAULT: i64 = 200;

/// What `pagination.count` may be (`paginationInput.ts`).
pub const COUNTS: RangeInclusive<i64> = 1..=1000;

/// Requests of this window, this one included.
const CONSUMED: HeaderName = HeaderName::from_static("x-ratelimit-consumed");

/// Requests left in this window.
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");

/// When the next window begins, as RFC 5322, section 3.3, writes dates.
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// What a page is asked with.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Asked {
    filter: Filter,
    count: i64,
    cursor: Option<String>,
}

/// `ListAuditEvents200Response`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PublicApiAuditEventsAnswer)]
struct Answer {
    data: Output,
}

/// `ListAuditEventsV1Output`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PublicApiAuditEvents)]
struct Output {
    events: Vec<AuditEvent>,
    pagination: Pagination,
}

/// `PaginationOutput`, without `totalEntries`: counting them costs more than the page.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PublicApiPagination)]
struct Pagination {
    current: String,
    #[schema(required)]
    next: Option<String>,
    #[schema(required)]
    previous: Option<String>,
}

/// A page of events, newest first. The first page of a query is recorded before it is answered.
#[utoipa::path(
    get, path = "/audit-events", tag = openapi::SEGMENT,
    summary = "A page of events, as Segment's Public API shows them",
    description = "Newest first. `pagination[count]` and `pagination[cursor]` are read as well. A page of large events may have fewer than `pagination.count`, and a `next`. The first page of a query is recorded in the trail.",
    params(AuditEventsParameters),
    responses(
        (
            status = 200, description = "A page.",
            content(
                (Answer = "application/vnd.segment.v1+json"),
                (Answer = "application/json"),
                (Answer = "application/vnd.segment.v1beta+json"),
                (Answer = "application/vnd.segment.v1alpha+json")
            )
        ),
        openapi::answers::PublicApi
    )
)]
pub async fn list_audit_events(
    State(app): State<App>,
    headers: HeaderMap,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Response {
    let wanted = MediaType::wanted(&headers);
    let mut response = match access::authorize(&app, &headers, Verb::Read).await {
        Ok(reader) => {
            let spent = app.budgets.lock().unwrap_or_else(PoisonError::into_inner).spend(&reader, Instant::now());
            let mut response = match obstacle(wanted, &spent) {
                None => page(&app, &headers, &reader, pairs).await.map_err(Refused::from).into_response(),
                Some(refused) => refused.into_response(),
            };
            tell(response.headers_mut(), &spent, Timestamp::now());
            response
        }
        Err(problem) => Refused::from(problem).into_response(),
    };
    response.headers_mut().insert(header::CONTENT_TYPE, wanted.unwrap_or(MediaType::JSON).header());
    response
}

/// The parameters, as they are described.
struct AuditEventsParameters;

impl IntoParams for AuditEventsParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        use openapi::parameters::{cursor, number, once, text, with_default};
        let count = with_default(number(*COUNTS.start(), *COUNTS.end()), json!(COUNT_DEFAULT));
        vec![
            once(
                "startTime",
                "Happened at this moment (ISO 8601) or later.",
                text(),
                json!("2026-03-02T09:14:05.000Z"),
            ),
            once("endTime", "Happened before this moment (ISO 8601).", text(), json!("2126-01-01T00:00:00.000Z")),
            once("resourceId", "Identity of the resource.", text(), json!("wh_1")),
            once("resourceType", "Kind of the resource.", text(), json!("warehouse")),
            once("pagination.count", "Events of the page, at most.", count, json!(10)),
            cursor("pagination.cursor", "`next` or `previous` of a page."),
        ]
    }
}

/// Any other method.
pub async fn method_not_allowed() -> Refused {
    Refused::method_not_allowed()
}

/// Why nothing else is looked at.
fn obstacle(wanted: Option<MediaType>, spent: &Spent) -> Option<Refused> {
    if spent.is_over() {
        Some(Refused::too_many_requests(spent))
    } else {
        wanted.is_none().then(Refused::not_acceptable)
    }
}

/// Tells a caller what is left.
fn tell(headers: &mut HeaderMap, spent: &Spent, now: Timestamp) {
    headers.insert(CONSUMED, spent.consumed.into());
    headers.insert(REMAINING, spent.remaining.into());
    if let Some(reset) = now.checked_add(spent.resets_in).ok().and_then(rfc5322) {
        headers.insert(RESET, reset);
    }
}

/// A date in UTC, in whole seconds and never too early. None past the year 9999.
fn rfc5322(moment: Timestamp) -> Option<HeaderValue> {
    let whole = moment.round(TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Ceil)).ok()?;
    let text = DateTimePrinter::new().zoned_to_string(&whole.to_zoned(TimeZone::UTC)).ok()?;
    HeaderValue::try_from(text).ok()
}

async fn page(
    app: &App,
    headers: &HeaderMap,
    reader: &Identity,
    pairs: Vec<(String, String)>,
) -> Result<Response, Problem> {
    let mut asked = Asked::parse(pairs)?;
    let store = app.store().await?;
    let (key, selection) = (store.cursor_key().await?, asked.selection());
    let scope = |log_id| Scope { key, log_id, reader, selection };
    let (log_id, bookmark) = match &asked.cursor {
        Some(cursor) => go_on(app, cursor, scope).await?,
        None => begin(app, &asked, reader, headers).await?,
    };
    let bookmark = asked.within(bookmark);
    // While the answer is made, it has a turn.
    let _turn = app.read_turn().await?;
    let mut page = page::Page::of(asked.count);
    let rows = page.rows();
    let mut take = |row: &PgRow| {
        let row = Row::from_row(row)?;
        let event = AuditEvent::from(&row);
        let bytes = event.bytes();
        Ok(page.add(row.sequence, event, bytes))
    };
    store.first(&asked.filter, &bookmark.sequences(), bookmark.order(), rows, &mut take).await?;
    let (events, cut_after) = page.finish();
    let (events, beside) = (bookmark.newest_first(events), bookmark.beside(cut_after));
    let encode = |bookmark: &Bookmark| bookmark.encode(&scope(log_id));
    let pagination = Pagination {
        current: encode(&bookmark),
        next: beside.next.as_ref().map(encode),
        previous: beside.previous.as_ref().map(encode),
    };
    Ok(Json(Answer { data: Output { events, pagination } }).into_response())
}

/// The log and the bookmark of a first page: what it can see is pinned, then it is recorded.
async fn begin(app: &App, asked: &Asked, reader: &Identity, headers: &HeaderMap) -> Result<(Uuid, Bookmark), Problem> {
    let window = pin(app, &asked.filter).await?;
    asked.record(app, reader, headers).await?;
    Ok((window.log_id, Bookmark::first(&window, asked.filter.to)))
}

async fn pin(app: &App, filter: &Filter) -> Result<Window, Problem> {
    let _turn = app.read_turn().await?;
    Ok(app.store().await?.window(filter).await?)
}

/// The log and the bookmark of a cursor.
async fn go_on<'a>(app: &App, cursor: &str, scope: impl Fn(Uuid) -> Scope<'a>) -> Result<(Uuid, Bookmark), Problem> {
    let _turn = app.read_turn().await?;
    let head = app.store().await?.head().await?;
    let bookmark = Bookmark::decode(cursor, &scope(head.log_id), head.epoch)
        .map_err(|error| Problem::invalid(vec![FieldError::of("pagination.cursor", error.to_string())]))?;
    Ok((head.log_id, bookmark))
}

impl Asked {
    fn parse(pairs: Vec<(String, String)>) -> Result<Self, Problem> {
        let mut parameters = Parameters::new(pairs.into_iter().map(in_one_spelling).collect());
        let filter = Filter {
            from: moment(&mut parameters, "startTime"),
            to: moment(&mut parameters, "endTime"),
            resources: parameters.once("resourceId").into_iter().collect(),
            resource_types: parameters.once("resourceType").into_iter().collect(),
            ..Filter::default()
        };
        if filter.from.zip(filter.to).is_some_and(|(from, to)| from >= to) {
            parameters.refuse("endTime", "must be later than startTime");
        }
        let asked = Self {
            filter: filter.in_whole_microseconds(),
            count: parameters.number("pagination.count", &COUNTS).unwrap_or(COUNT_DEFAULT),
            cursor: parameters.once("pagination.cursor"),
        };
        parameters.finish().map(|()| asked)
    }

    /// What a cursor belongs to. It holds `endTime` itself.
    fn selection(&self) -> Selection {
        Selection::of(&Filter { to: None, ..self.filter.clone() }, Order::Desc)
    }

    /// The end of the time is the cursor's when none is given. A later one does not make the query larger, which was recorded as
    /// it began.
    fn within(&mut self, bookmark: Bookmark) -> Bookmark {
        let ends = [self.filter.to, bookmark.end_time];
        self.filter.to = ends.into_iter().flatten().min();
        Bookmark { end_time: self.filter.to, ..bookmark }
    }

    async fn record(&self, app: &App, reader: &Identity, headers: &HeaderMap) -> Result<(), Problem> {
        let asked = [("limit", self.count.to_string())];
        record::view(app, reader, headers, View { how: How::AuditEvents, filter: &self.filter, asked: &asked }).await
    }
}

/// Segment documents `pagination.count`; its SDKs send `pagination[count]`.
fn in_one_spelling((name, value): (String, String)) -> (String, String) {
    match name.as_str() {
        "pagination[count]" => ("pagination.count".to_owned(), value),
        "pagination[cursor]" => ("pagination.cursor".to_owned(), value),
        _ => (name, value),
    }
}

/// Takes a moment: Segment asks for ISO 8601, which also knows dates, and times without an offset. Those are of UTC here.
fn moment(parameters: &mut Parameters, name: &'static str) -> Option<Timestamp> {
    let value = parameters.once(name)?;
    let moment = value.parse().ok().or_else(|| in_utc(&value)).filter(|moment| MOMENTS.contains(moment));
    if moment.is_none() {
        parameters.refuse(
            name,
            "must be a time like 2026-03-02T09:14:05.000Z or a date like 2026-03-02 (ISO 8601; a + in it is written %2B in a URL)",
        );
    }
    moment
}

/// A date, or a time without an offset. The name of a time zone behind it is none of ISO 8601's, and would be ignored.
fn in_utc(value: &str) -> Option<Timestamp> {
    let moment: DateTime = value.parse().ok().filter(|_| !value.contains('['))?;
    TimeZone::UTC.to_timestamp(moment).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::public_api::bookmark::Side;
    use std::time::Duration;

    fn parse(query: &[(&str, &str)]) -> Result<Asked, String> {
        let pairs = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Asked::parse(pairs).map_err(|problem| problem.detail().to_owned())
    }

    fn at(moment: &str) -> Timestamp {
        moment.parse().expect("valid")
    }

    #[test]
    fn every_parameter_has_its_field() {
        let asked = parse(&[
            ("startTime", "2026-03-02T09:00:00+02:00"),
            ("endTime", "2026-03-03T00:00:00.000Z"),
            ("resourceId", "whs_31"),
            ("resourceType", "warehouse"),
            ("pagination.count", "3"),
            ("pagination.cursor", "Mw=="),
        ]);
        let filter = Filter {
            from: Some(at("2026-03-02T07:00:00Z")),
            to: Some(at("2026-03-03T00:00:00Z")),
            resources: vec!["whs_31".to_owned()],
            resource_types: vec!["warehouse".to_owned()],
            ..Filter::default()
        };
        assert_eq!(asked, Ok(Asked { filter, count: 3, cursor: Some("Mw==".to_owned()) }));
    }

    #[test]
    fn pagination_is_read_in_both_spellings() {
        let documented = parse(&[("pagination.count", "3"), ("pagination.cursor", "a")]);
        assert_eq!(documented, parse(&[("pagination[count]", "3"), ("pagination[cursor]", "a")]));
        let twice = parse(&[("pagination.count", "3"), ("pagination[count]", "4")]);
        assert_eq!(twice, Err("pagination.count may be given once".to_owned()));
    }

    #[test]
    fn a_page_has_200_events_unless_asked_otherwise_and_1000_at_most() {
        let count = |count| parse(&[("pagination.count", count)]).map(|asked| asked.count);
        assert_eq!(parse(&[]).expect("valid").count, 200);
        assert_eq!(count("1"), Ok(1));
        assert_eq!(count("1000"), Ok(1000));
        for wrong in ["0", "1001", "-1", "ten"] {
            assert_eq!(count(wrong), Err("pagination.count must be a number from 1 to 1000".to_owned()), "{wrong}");
        }
    }

    #[test]
    fn an_unknown_parameter_is_told_the_known_ones() {
        assert_eq!(
            parse(&[("type", "Warehouse Disabled")]),
            Err("type is unknown here: known are startTime, endTime, resourceId, resourceType, pagination.count, \
                 pagination.cursor"
                .to_owned())
        );
    }

    #[test]
    fn moments_are_those_of_iso_8601() {
        let start = |text| parse(&[("startTime", text)]).map(|asked| asked.filter.from);
        assert_eq!(start("2006-01-02T15:04:05.000Z"), Ok(Some(at("2006-01-02T15:04:05Z"))));
        assert_eq!(start("2006-01-02"), Ok(Some(at("2006-01-02T00:00:00Z"))));
        assert_eq!(start("2006-01-02T15:04:05"), Ok(Some(at("2006-01-02T15:04:05Z"))));
        assert_eq!(start("2006-01-02T15:04:05.0000019Z"), Ok(Some(at("2006-01-02T15:04:05.000002Z"))));
        for wrong in ["yesterday", "1136214245", "2006-01-02T15:04:05 02:00", "2006-01-02T15:04:05[Europe/Berlin]"] {
            assert!(start(wrong).is_err_and(|rule| rule.starts_with("startTime must be a time like ")), "{wrong}");
        }
    }

    #[test]
    fn a_time_that_ends_before_it_starts_is_refused() {
        let noon = "2026-03-02T12:00:00Z";
        let refusal = parse(&[("startTime", noon), ("endTime", noon)]);
        assert_eq!(refusal, Err("endTime must be later than startTime".to_owned()));
    }

    #[test]
    fn a_page_ends_where_its_cursor_or_its_request_says_whichever_is_first() {
        let (noon, later) = (Some(at("2026-03-02T12:00:00Z")), Some(at("2026-03-02T13:00:00Z")));
        for (given, held, expected) in
            [(None, None, None), (None, noon, noon), (noon, None, noon), (later, noon, noon), (noon, later, noon)]
        {
            let mut asked = parse(&[]).expect("valid");
            asked.filter.to = given;
            let bookmark = Bookmark { epoch: 0, window: 0..9, at: 5, side: Side::Older, end_time: held };
            let bookmark = asked.within(bookmark);
            assert_eq!((asked.filter.to, bookmark.end_time), (expected, expected));
        }
    }

    #[test]
    fn a_cursor_goes_on_without_the_end_time_and_with_no_other_filter() {
        let selection = |query: &[(&str, &str)]| parse(query).expect("valid").selection();
        assert_eq!(selection(&[("endTime", "2026-03-02")]), selection(&[]));
        for (name, value) in [("startTime", "2026-03-02"), ("resourceId", "a"), ("resourceType", "a")] {
            assert_ne!(selection(&[(name, value)]), selection(&[]), "{name}");
        }
    }

    #[test]
    fn a_caller_is_told_what_is_left_and_a_reset_that_is_not_too_early() {
        let mut headers = HeaderMap::new();
        let spent = Spent { consumed: 21, remaining: 279, resets_in: Duration::from_millis(57_647) };
        tell(&mut headers, &spent, at("2026-03-02T09:14:05Z"));
        assert_eq!(headers[CONSUMED], "21");
        assert_eq!(headers[REMAINING], "279");
        assert_eq!(headers[RESET], "Mon, 2 Mar 2026 09:15:03 +0000");
    }
}
