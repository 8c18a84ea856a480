//! `GET /v1/events`: a page of events.

use super::cursor::{Cursor, CursorError, Selection};
use super::filter::{Filter, Order};
use super::parameters::Parameters;
use crate::access::{self, Verb};
use crate::event::StoredEvent;
use crate::problem::{FieldError, Problem};
use crate::server::App;
use crate::store::Store;
use crate::store::read::Window;
use axum::Json;
use axum::extract::{Query, State};
use axum::http::HeaderMap;
use serde::Serialize;
use std::ops::{Range, RangeInclusive};

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

/// A page.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Page {
    /// The events, in the order asked for.
    pub events: Vec<StoredEvent>,
    /// Cursor of the next page; null when this is the last.
    pub next_cursor: Option<String>,
}

impl Parts {
    fn parse(pairs: Vec<(String, String)>) -> Result<Self, Problem> {
        let mut parameters = Parameters::new(pairs);
        let parts = Self {
            filter: Filter::take(&mut parameters),
            order: Order::take(&mut parameters),
            limit: parameters.number("limit", &LIMITS).unwrap_or(LIMIT_DEFAULT),
            cursor: parameters.once("cursor"),
        };
        parameters.finish().map(|()| parts)
    }

    fn selection(&self) -> Selection {
        Selection::of(&self.filter, self.order)
    }
}

/// The events that match, newest first unless `order=asc`. Parameters: those of [`Filter`], `order`,
/// `limit` and `cursor`.
pub async fn list_events(
    State(app): State<App>,
    headers: HeaderMap,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<Page>, Problem> {
    access::authorize(&app, &headers, Verb::Read).await?;
    let mut parts = Parts::parse(pairs)?;
    // A cursor belongs to what was asked, whatever the catalogue says when the next page is.
    let selection = parts.selection();
    parts.filter.spell(&app.catalogue());
    let store = app.store().await?;
    let _turn = app.read_turn().await?;
    let window = window(store, &parts, selection).await?;
    // One more than asked for tells whether there is a next page.
    let mut events = store.events(&parts.filter, &window.sequences, parts.order, parts.limit + 1).await?;
    let more = i64::try_from(events.len()).is_ok_and(|count| count > parts.limit);
    if more {
        events.pop();
    }
    let left = if more { rest(&window.sequences, parts.order, &events) } else { None };
    let next_cursor = left.map(|sequences| Cursor { epoch: window.epoch, sequences }.encode(window.log_id, selection));
    Ok(Json(Page { events, next_cursor }))
}

/// What the query has left: all of the log as it is now, or what the cursor says.
async fn window(store: &Store, parts: &Parts, selection: Selection) -> Result<Window, Problem> {
    let Some(text) = &parts.cursor else { return Ok(store.window(&parts.filter).await?) };
    let head = store.head().await?;
    let cursor = Cursor::decode(text, head.log_id, head.epoch, selection).map_err(refused)?;
    Ok(Window { log_id: head.log_id, epoch: head.epoch, sequences: cursor.sequences })
}

fn refused(error: CursorError) -> Problem {
    Problem::invalid(vec![FieldError::of("cursor", error.to_string())])
}

/// The window without the events of this page, which lie at one of its ends.
pub(super) fn rest(window: &Range<i64>, order: Order, page: &[StoredEvent]) -> Option<Range<i64>> {
    let last = page.last()?.sequence;
    Some(match order {
        Order::Desc => window.start..last,
        Order::Asc => last + 1..window.end,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(query: &[(&str, &str)]) -> Result<Parts, String> {
        let pairs = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Parts::parse(pairs).map_err(|problem| problem.detail().to_owned())
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
            Err("offset is unknown here: known are type, actor, actorType, resource, resourceType, outcome, \
                 submittedBy, from, to, order, limit, cursor"
                .to_owned())
        );
    }

    #[test]
    fn a_page_takes_its_events_from_the_end_it_began_at() {
        let page = [crate::query::tests::stored(41), crate::query::tests::stored(40)];
        assert_eq!(rest(&(5..42), Order::Desc, &page), Some(5..40));
        let page = [crate::query::tests::stored(5), crate::query::tests::stored(6)];
        assert_eq!(rest(&(5..42), Order::Asc, &page), Some(7..42));
        assert_eq!(rest(&(5..42), Order::Asc, &[]), None);
    }
}
