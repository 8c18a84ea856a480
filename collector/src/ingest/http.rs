//! `POST /v1/events` and `POST /v1/kubernetes`. Both answer after the COMMIT.

use super::gather::Refusal;
use super::limits::BATCH_MAX_EVENTS;
use super::media::{self, Format};
use super::room::Held;
use super::{Edge, body, cloudevents, kubernetes, native};
use crate::access::{self, Verb};
use crate::event::{Event, SubmittedBy};
use crate::metrics::{self, Input};
use crate::openapi;
use crate::problem::{FieldError, Problem, RETRY_AFTER_SECONDS};
use crate::server::App;
use crate::store::Receipt;
use crate::store::writer::WriteError;
use axum::Json;
use axum::extract::{Request, State};

/// `POST /v1/events`: one event or many, native or CloudEvents. A batch with one bad event is refused whole.
#[utoipa::path(
    post, path = "/v1/events", tag = openapi::WRITING,
    summary = "Adds events",
    description = "One event or many, native or CloudEvents. A batch with one bad event is refused whole, and each bad index is listed. \
        The same id again is a duplicate.",
    responses((status = 200, description = "All events are durable.", body = Receipt), openapi::answers::Writing)
)]
pub async fn post_events(State(app): State<App>, request: Request) -> Result<Json<Receipt>, Problem> {
    let submitted_by = access::authorize(&app, request.headers(), Verb::Write).await?.submitted_by();
    let format = media::format(request.headers())?;
    let input = input(&format);
    let headers = request.headers().clone();
    let catalogue = app.catalogue.get();
    let parse = move |bytes: &[u8], room: &Held| {
        let edge = Edge::here(&catalogue);
        match format {
            Format::Json => native::parse(bytes, &edge, room),
            Format::Lines => native::parse_lines(bytes, &edge, room),
            Format::CloudEvent => cloudevents::parse(bytes, &edge, room),
            Format::CloudEvents => cloudevents::parse_batch(bytes, &edge, room),
            Format::CloudEventHeaders => cloudevents::parse_binary(&headers, bytes, &edge, room),
        }
    };
    let (events, room) = body::receive(request, &app.room).await?.parse(parse).await?;
    if events.is_empty() {
        return Ok(Json(Receipt::default()));
    }
    let ids: Vec<String> = events.iter().map(|event| event.id.clone()).collect();
    let receipt = app.writer().await?.append(events, submitted_by, room).await.map_err(|error| match error {
        WriteError::Conflict(indices) => conflict(&ids, &indices),
        other => problem(&other),
    })?;
    metrics::acknowledged(input, receipt.accepted, receipt.duplicates);
    Ok(Json(receipt))
}

fn input(format: &Format) -> Input {
    match format {
        Format::Json | Format::Lines => Input::Native,
        Format::CloudEvent | Format::CloudEvents | Format::CloudEventHeaders => Input::CloudEvents,
    }
}

/// `POST /v1/kubernetes`: an `EventList` of an API server's audit webhook backend.
#[utoipa::path(
    post, path = "/v1/kubernetes", tag = openapi::WRITING,
    summary = "Adds audit events of a Kubernetes API server",
    description = "For its webhook backend, which never sends a refused batch again: content is cut by rule, and only JSON that cannot be read \
        is refused.",
    responses((status = 200, description = "All events are durable.", body = Receipt), openapi::answers::Taming)
)]
pub async fn post_kubernetes(State(app): State<App>, request: Request) -> Result<Json<Receipt>, Problem> {
    let submitted_by = access::authorize(&app, request.headers(), Verb::Write).await?.submitted_by();
    let (catalogue, objects) = (app.catalogue(), app.document().ingest.kubernetes_objects);
    let parse = move |bytes: &[u8], room: &Held| {
        kubernetes::parse(bytes, &Edge::here(&catalogue), objects, room)
            .map_err(|error| error.problem("an EventList of audit.k8s.io/v1"))
    };
    let (events, room) = body::receive(request, &app.room).await?.parse(parse).await?;
    let mut receipt = Receipt::default();
    // A list is as long as the API server likes to make it; a retry finds what was stored as duplicates.
    for events in events.chunks(BATCH_MAX_EVENTS) {
        let stored = append_all(&app, events.to_vec(), &submitted_by, &room).await?;
        metrics::acknowledged(Input::Kubernetes, stored.accepted, stored.duplicates);
        receipt = receipt.and(stored);
    }
    Ok(Json(receipt))
}

/// Stores what can be stored. An id that stands with other content was mapped by another version of this
/// collector before an upgrade: the event is there, and refusing the batch would lose the others.
async fn append_all(
    app: &App,
    mut events: Vec<Event>,
    submitted_by: &SubmittedBy,
    room: &Held,
) -> Result<Receipt, Problem> {
    let mut there = 0;
    loop {
        match app.writer().await?.append(events.clone(), submitted_by.clone(), room.clone()).await {
            Ok(receipt) => return Ok(Receipt { duplicates: receipt.duplicates + there, ..receipt }),
            Err(WriteError::Conflict(indices)) if !indices.is_empty() => {
                there += indices.len();
                indices.iter().rev().for_each(|index| drop(events.remove(*index)));
            }
            Err(error) => return Err(problem(&error)),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Invalid(errors) => Self::invalid(errors),
            Refusal::NoRoom(no_room) => no_room.into(),
        }
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

pub(super) fn problem(error: &WriteError) -> Problem {
    match error {
        WriteError::Refused => Problem::internal(),
        WriteError::Conflict(_) | WriteError::Overloaded | WriteError::Unavailable => {
            Problem::unavailable(RETRY_AFTER_SECONDS, error.to_string())
        }
    }
}
