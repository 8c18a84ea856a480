//! `POST /v1/forwardings/{name}/replay`: has parked events sent again.

use super::named;
use crate::access::{self, Verb};
use crate::ingest::body;
use crate::ingest::fields::{Faults, Fields, id_fault};
use crate::ingest::limits::ID_MAX_CHARS;
use crate::openapi;
use crate::problem::Problem;
use crate::query::parameters::Parameters;
use crate::query::record::{self, Replay};
use crate::server::App;
use crate::store::parked::Wanted;
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// Ids of one request, at most: as many as a page lists.
pub const IDS_MAX: usize = 1_000;

/// How many events will be sent again.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, ToSchema)]
pub struct Asked {
    /// Events that are parked and were asked for, now or before.
    #[schema(minimum = 0)]
    pub asked: i64,
}

/// Has a forwarding's parked events sent again: those with these ids, or all. Asking again is harmless, and ids that are not parked
/// do not count. A forwarding that is off sends them when it is on. The replay is recorded before it is asked for. Problem: 404 when
/// the trail has no such forwarding.
#[utoipa::path(
    post, path = "/v1/forwardings/{name}/replay", tag = openapi::FORWARDING,
    summary = "Has parked events sent again",
    description = "Those with these ids, or all without a body. Asking again is harmless, and ids that are not parked do not count. A forwarding that is off \
        sends them when it is on. Recorded in the trail. The answer comes before they are sent: what the source accepts is not parked any more.",
    params(openapi::parameters::NameOfPath),
    responses((status = 202, description = "They will be sent again.", body = Asked), openapi::answers::Replaying)
)]
pub async fn post_replay(
    State(app): State<App>,
    path: Result<Path<String>, PathRejection>,
    Query(pairs): Query<Vec<(String, String)>>,
    request: Request,
) -> Result<(StatusCode, Json<Asked>), Problem> {
    let headers = request.headers().clone();
    let owner = access::authorize(&app, &headers, Verb::Replay).await?;
    Parameters::new(pairs).finish()?;
    let document = app.document();
    let forwarding = &named(&document, path)?.name;
    let (wanted, _room) = body::receive(request, &app.room).await?.parse(|bytes, _| parse(bytes)).await?;
    let store = app.store().await?;
    let count = store.parked_count(forwarding, &wanted).await?;
    record::replay(&app, &owner, &headers, Replay { forwarding, wanted: &wanted, count }).await?;
    let asked = store.ask_for_replay(forwarding, &wanted).await?;
    Ok((StatusCode::ACCEPTED, Json(Asked { asked })))
}

/// Which events a body asks for: nothing, or an object without members, is all of them.
fn parse(body: &[u8]) -> Result<Wanted, Problem> {
    if body.trim_ascii().is_empty() {
        return Ok(Wanted::All);
    }
    let value: Value =
        serde_json::from_slice(body).map_err(|error| Problem::unreadable(format!("the body is not JSON: {error}")))?;
    let mut faults = Faults::default();
    let wanted = Fields::of(value, "", &mut faults).map(wanted);
    match wanted {
        None => {
            Err(Problem::unreadable("the body must be an object: {} asks for all, {\"events\": [\"<id>\"]} for some"))
        }
        Some(wanted) if faults.errors.is_empty() => Ok(wanted),
        Some(_) => Err(Problem::invalid(faults.errors)),
    }
}

fn wanted(mut fields: Fields<'_>) -> Wanted {
    let wanted = match fields.any("events") {
        None => Wanted::All,
        Some(value) => Wanted::Ids(ids(value).map_err(|rule| fields.fault("events", rule)).unwrap_or_default()),
    };
    fields.end("events");
    wanted
}

/// An empty list is a mistake, and must not stand for all.
fn ids(value: Value) -> Result<Vec<String>, String> {
    let rule = || format!("must be an array of 1 to {IDS_MAX} ids of events; leave it out to ask for all");
    let Value::Array(values) = value else { return Err(rule()) };
    if !(1..=IDS_MAX).contains(&values.len()) {
        return Err(rule());
    }
    let id = |(place, value): (usize, Value)| match value {
        Value::String(id) => {
            id_fault(&id, ID_MAX_CHARS).map_or(Ok(id), |rule| Err(format!("has an id at {place} that {rule}")))
        }
        _ => Err(rule()),
    };
    values.into_iter().enumerate().map(id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(body: &Value) -> Result<Wanted, String> {
        parse(body.to_string().as_bytes()).map_err(|problem| problem.detail().to_owned())
    }

    fn list(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("evt_{number}")).collect()
    }

    #[test]
    fn no_body_and_no_members_ask_for_all() {
        for body in ["", " \r\n", "{}", "{\"events\": null}"] {
            assert_eq!(parse(body.as_bytes()).ok(), Some(Wanted::All), "{body:?}");
        }
    }

    #[test]
    fn ids_are_taken_up_to_their_number() {
        for count in [1, IDS_MAX] {
            assert_eq!(read(&json!({"events": list(count)})), Ok(Wanted::Ids(list(count))));
        }
        let rule = "events must be an array of 1 to 1000 ids of events; leave it out to ask for all";
        for wrong in [json!(list(0)), json!(list(IDS_MAX + 1)), json!("evt_1"), json!([1]), json!({})] {
            assert_eq!(read(&json!({"events": wrong})), Err(rule.to_owned()));
        }
    }

    #[test]
    fn what_can_be_no_id_is_told_its_place_and_the_rule() {
        let longest = "é".repeat(ID_MAX_CHARS);
        assert!(read(&json!({"events": [longest]})).is_ok());
        let longer = format!("{longest}é");
        let told = read(&json!({"events": ["evt_1", longer]})).expect_err("too long");
        assert_eq!(told, "events has an id at 1 that must be at most 256 characters");
    }

    #[test]
    fn anything_else_is_refused_by_name() {
        assert_eq!(read(&json!({"ids": ["a"]})), Err("ids is not a field here; known are events".to_owned()));
        for body in ["[", "null {}", "\u{feff}"] {
            assert!(
                parse(body.as_bytes()).is_err_and(|problem| problem.detail().starts_with("the body is not JSON: "))
            );
        }
        for wrong in [json!([]), json!(null), json!("all")] {
            assert!(read(&wrong).is_err_and(|told| told.starts_with("the body must be an object: ")), "{wrong}");
        }
    }
}
