//! `POST /v1/events` and `POST /v1/kubernetes`. Both answer after the COMMIT.

use super::limits::BATCH_MAX_EVENTS;
use super::{kubernetes, native};
use crate::access::{self, Verb};
use crate::event::{Event, SubmittedBy};
use crate::problem::{FieldError, Problem, RETRY_AFTER_SECONDS};
use crate::server::App;
use crate::store::Receipt;
use crate::store::writer::WriteError;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::{Json, RequestExt};
use uuid::Uuid;

/// `POST /v1/events`: one event, or `{"events": [...]}`. A batch with one bad event is refused whole.
pub async fn post_events(State(app): State<App>, request: Request) -> Result<Json<Receipt>, Problem> {
    let submitted_by = access::authorize(&app, request.headers(), Verb::Write).await?.submitted_by();
    require_json(request.headers())?;
    let body: Bytes = request.extract().await?;
    let events = native::parse(&body, new_id).map_err(Problem::invalid)?;
    let ids: Vec<String> = events.iter().map(|event| event.id.clone()).collect();
    app.writer()?.append(events, submitted_by, body.len()).await.map(Json).map_err(|error| match error {
        WriteError::Conflict(indices) => conflict(&ids, &indices),
        other => problem(&other),
    })
}

/// `POST /v1/kubernetes`: an `EventList` of an API server's audit webhook backend.
pub async fn post_kubernetes(State(app): State<App>, request: Request) -> Result<Json<Receipt>, Problem> {
    let submitted_by = access::authorize(&app, request.headers(), Verb::Write).await?.submitted_by();
    let body: Bytes = request.extract().await?;
    let events = kubernetes::parse(&body, new_id)
        .map_err(|error| Problem::unreadable(format!("the body is not an EventList of audit.k8s.io/v1: {error}")))?;
    let mut receipt = Receipt::default();
    // A list is as long as the API server likes to make it; a retry finds what was stored as duplicates.
    for events in events.chunks(BATCH_MAX_EVENTS) {
        receipt = receipt.and(append_all(&app, events.to_vec(), &submitted_by, body.len()).await?);
    }
    Ok(Json(receipt))
}

/// Stores what can be stored. An id that stands with other content was mapped by another version of this
/// collector before an upgrade: the event is there, and refusing the batch would lose the others.
async fn append_all(
    app: &App,
    mut events: Vec<Event>,
    submitted_by: &SubmittedBy,
    body_bytes: usize,
) -> Result<Receipt, Problem> {
    let mut there = 0;
    loop {
        match app.writer()?.append(events.clone(), submitted_by.clone(), body_bytes).await {
            Ok(receipt) => return Ok(Receipt { duplicates: receipt.duplicates + there, ..receipt }),
            Err(WriteError::Conflict(indices)) if !indices.is_empty() => {
                there += indices.len();
                indices.iter().rev().for_each(|index| drop(events.remove(*index)));
            }
            Err(error) => return Err(problem(&error)),
        }
    }
}

fn new_id() -> String {
    Uuid::now_v7().to_string()
}

fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = media_type.and_then(|value| value.split(';').next()).map(str::trim);
    if essence.is_some_and(|essence| essence.eq_ignore_ascii_case("application/json")) {
        Ok(())
    } else {
        Err(Problem::unsupported_media_type("send events with content-type: application/json"))
    }
}

fn conflict(ids: &[String], indices: &[usize]) -> Problem {
    let taken = |index: &usize| FieldError {
        index: (ids.len() > 1).then_some(*index),
        field: "id".to_owned(),
        rule: format!("{} is taken by an event with other content; nothing of this request was stored", ids[*index]),
    };
    Problem::conflict(indices.iter().map(taken).collect())
}

fn problem(error: &WriteError) -> Problem {
    match error {
        WriteError::Refused => Problem::internal(),
        WriteError::Conflict(_) | WriteError::Overloaded | WriteError::Unavailable => {
            Problem::unavailable(RETRY_AFTER_SECONDS, error.to_string())
        }
    }
}
