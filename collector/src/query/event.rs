//! `GET /v1/events/{id}`: one event.

use super::filter::Filter;
use super::parameters::Parameters;
use super::record::{self, How, View};
use crate::access::{self, Verb};
use crate::event::StoredEvent;
use crate::ingest::fields::id_fault;
use crate::ingest::limits::ID_MAX_CHARS;
use crate::openapi;
use crate::problem::{FieldError, Problem};
use crate::server::App;
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query, State};
use axum::http::HeaderMap;
use std::ops::Range;

/// The event with this id, percent-encoded in the path. Where several identity days have it, that of the latest day. Every
/// look is recorded, also one that finds nothing. Problem: 404 when no event has it, or retention dropped it.
#[utoipa::path(
    get, path = "/v1/events/{id}", tag = openapi::READING,
    summary = "One event",
    description = "The event with this id; where several identity days have it, that of the latest day. Every look is recorded in the trail.",
    params(openapi::parameters::IdOfPath),
    responses((status = 200, description = "The event.", body = StoredEvent), openapi::answers::Finding)
)]
pub async fn get_event(
    State(app): State<App>,
    headers: HeaderMap,
    path: Result<Path<String>, PathRejection>,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Json<StoredEvent>, Problem> {
    let reader = access::authorize(&app, &headers, Verb::Read).await?;
    Parameters::new(pairs).finish()?;
    let asked = [("id", id(path)?)];
    let everything = Filter::default();
    let among = {
        let _turn = app.read_turn().await?;
        app.store().await?.window(&everything).await?.sequences
    };
    // The event is looked for while that is recorded, and answered when it is.
    let (found, ()) = tokio::try_join!(
        find(&app, &asked[0].1, &among),
        record::view(&app, &reader, &headers, View { how: How::Event, filter: &everything, asked: &asked }),
    )?;
    found.map(Json).ok_or_else(|| Problem::not_found("no event of the trail has this id, or it is no longer kept"))
}

async fn find(app: &App, id: &str, among: &Range<i64>) -> Result<Option<StoredEvent>, Problem> {
    let _turn = app.read_turn().await?;
    Ok(app.store().await?.event_by_id(id, among).await?)
}

/// What can be no id is told which rule it breaks.
fn id(path: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    let invalid = |rule: &str| Problem::invalid(vec![FieldError::of("id", rule)]);
    let Path(id) = path.map_err(|_| invalid("must be UTF-8, percent-encoded"))?;
    match id_fault(&id, ID_MAX_CHARS) {
        None => Ok(id),
        Some(rule) => Err(invalid(&rule)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(id_of_path: &str) -> Option<String> {
        id(Ok(Path(id_of_path.to_owned()))).err().map(|problem| problem.detail().to_owned())
    }

    #[test]
    fn an_id_is_looked_for_up_to_its_length() {
        assert_eq!(refusal(&"é".repeat(ID_MAX_CHARS)), None);
        assert_eq!(refusal(&"é".repeat(ID_MAX_CHARS + 1)).as_deref(), Some("id must be at most 256 characters"));
        assert_eq!(refusal("a\nb").as_deref(), Some("id must not contain control characters"));
    }
}
