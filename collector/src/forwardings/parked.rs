//! `GET /v1/forwardings/{name}/parked`: events that a source refused for good.

use super::named;
use crate::access::{self, Identity, Verb};
use crate::openapi;
use crate::openapi::parameters::{cursor, number, once, with_default};
use crate::problem::{FieldError, Problem};
use crate::query::cursor::{CursorError, Scope, Selection, open, seal};
use crate::query::filter::Filter;
use crate::query::list::{LIMIT_DEFAULT, LIMITS};
use crate::query::parameters::Parameters;
use crate::query::record::{self, How, View};
use crate::server::App;
use crate::store::parked::{ParkedEvent, Place};
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use serde::Serialize;
use serde_json::json;
use utoipa::openapi::path::{Parameter, ParameterIn};
use utoipa::{IntoParams, ToSchema};

/// Kind of these cursors.
const KIND: u8 = 3;

/// `limit` and `cursor`.
pub struct ParkedParameters;

impl IntoParams for ParkedParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let limit = with_default(number(*LIMITS.start(), *LIMITS.end()), json!(LIMIT_DEFAULT));
        vec![
            once("limit", "Events of the page, at most.", limit, json!(10)),
            cursor("cursor", "`nextCursor` of the page before."),
        ]
    }
}

/// What a page is asked with.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Parts {
    limit: i64,
    cursor: Option<String>,
}

/// A page of parked events.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParkedPage {
    /// Oldest first.
    pub events: Vec<ParkedEvent>,
    /// Cursor of the next page; null when this is the last.
    #[schema(required)]
    pub next_cursor: Option<String>,
}

impl Parts {
    fn parse(pairs: Vec<(String, String)>) -> Result<Self, Problem> {
        let mut parameters = Parameters::new(pairs);
        let parts = Self {
            limit: parameters.number("limit", &LIMITS).unwrap_or(LIMIT_DEFAULT),
            cursor: parameters.once("cursor"),
        };
        parameters.finish().map(|()| parts)
    }

    /// Records the first page. A cursor was given for a list that is recorded.
    async fn record(&self, app: &App, name: &str, reader: &Identity, headers: &HeaderMap) -> Result<(), Problem> {
        if self.cursor.is_some() {
            return Ok(());
        }
        let asked = [("name", name.to_owned()), ("limit", self.limit.to_string())];
        let all = Filter::default();
        record::view(app, reader, headers, View { how: How::Parked, filter: &all, asked: &asked }).await
    }
}

/// What a forwarding has parked, in the order of the log. Parameters: `limit` and `cursor`. It is a view like any other: who looks
/// is recorded. Problem: 404 when the trail has no such forwarding.
#[utoipa::path(
    get, path = "/v1/forwardings/{name}/parked", tag = openapi::FORWARDING,
    summary = "A page of parked events",
    description = "Events that the source refused for good, oldest first: which they are and why, not what is in them. The first page is recorded in the trail.",
    params(openapi::parameters::NameOfPath, ParkedParameters),
    responses((status = 200, description = "A page.", body = ParkedPage), openapi::answers::Finding)
)]
pub async fn list_parked(
    State(app): State<App>,
    headers: HeaderMap,
    path: Result<Path<String>, PathRejection>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<ParkedPage>, Problem> {
    let reader = access::authorize(&app, &headers, Verb::Read).await?;
    let parts = Parts::parse(pairs)?;
    let document = app.document();
    let name = &named(&document, path)?.name;
    let store = app.store().await?;
    let (key, log_id) = (store.cursor_key().await?, store.head().await?.log_id);
    let scope = Scope { key, log_id, reader: &reader, selection: Selection::of_name(name) };
    let after = parts
        .cursor
        .as_deref()
        .map_or(Ok(Place::START), |cursor| decode(cursor, &scope))
        .map_err(|error| Problem::invalid(vec![FieldError::of("cursor", error.to_string())]))?;
    // The page is read while it is recorded, and answered when it is.
    let (mut events, ()) = tokio::try_join!(
        // One more than asked for tells whether there is a next page.
        read(&app, name, after, parts.limit + 1),
        parts.record(&app, name, &reader, &headers),
    )?;
    let more = i64::try_from(events.len()).is_ok_and(|count| count > parts.limit);
    if more {
        events.pop();
    }
    let next_cursor = events.last().filter(|_| more).map(|last| encode(last.place(), &scope));
    Ok(Json(ParkedPage { events, next_cursor }))
}

async fn read(app: &App, name: &str, after: Place, limit: i64) -> Result<Vec<ParkedEvent>, Problem> {
    let _turn = app.read_turn().await?;
    Ok(app.store().await?.parked(name, after, limit).await?)
}

/// A page ends at a place in the log. Unlike a query's cursor it is good in a later epoch too: what is parked keeps its place.
fn encode(Place { epoch, sequence }: Place, scope: &Scope<'_>) -> String {
    seal(KIND, [epoch, sequence], scope)
}

fn decode(text: &str, scope: &Scope<'_>) -> Result<Place, CursorError> {
    let [epoch, sequence] = open(KIND, text, scope)?;
    Ok(Place { epoch, sequence })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::SubmitterKind;
    use crate::query::cursor::{CursorKey, KEY_BYTES};
    use crate::query::filter::Order;
    use uuid::Uuid;

    fn parse(query: &[(&str, &str)]) -> Result<Parts, String> {
        let pairs = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Parts::parse(pairs).map_err(|problem| problem.detail().to_owned())
    }

    #[test]
    fn a_page_has_a_hundred_events_unless_asked_otherwise_and_a_thousand_at_most() {
        assert_eq!(parse(&[]).expect("valid").limit, 100);
        assert_eq!(parse(&[("limit", "1000")]).expect("valid").limit, 1000);
        assert_eq!(parse(&[("limit", "1001")]), Err("limit must be a number from 1 to 1000".to_owned()));
        assert_eq!(parse(&[("type", "a")]), Err("type is unknown here: known are limit, cursor".to_owned()));
    }

    #[test]
    fn a_cursor_is_good_for_one_forwarding_one_reader_and_this_list() {
        let key = CursorKey::new([7; KEY_BYTES]);
        let jane = Identity { kind: SubmitterKind::User, name: "jane".to_owned() };
        let joe = Identity { name: "joe".to_owned(), ..jane.clone() };
        let scope =
            |reader, name| Scope { key: &key, log_id: Uuid::from_u128(1), reader, selection: Selection::of_name(name) };
        let place = Place { epoch: 1, sequence: 41 };
        let cursor = encode(place, &scope(&jane, "to-segment"));
        assert_eq!(decode(&cursor, &scope(&jane, "to-segment")), Ok(place));
        assert_eq!(decode(&cursor, &scope(&joe, "to-segment")), Err(CursorError::OtherReader));
        assert_eq!(decode(&cursor, &scope(&jane, "elsewhere")), Err(CursorError::OtherSelection));
        let query = Scope { selection: Selection::of(&Filter::default(), Order::Desc), ..scope(&jane, "") };
        let of_query = crate::query::cursor::Cursor { epoch: 1, sequences: 0..41 }.encode(&query);
        assert_eq!(decode(&of_query, &query), Err(CursorError::Unknown));
    }
}
