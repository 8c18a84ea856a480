//! Segment's Tracking API: `POST /v1/track`, `POST /v1/batch`, and the calls that are answered and not stored. What an
//! item means is [`crate::segment`].
//!
//! Segment answers 200 and drops what it cannot use. A trail drops nothing behind a 200: what can be stored of a batch is
//! stored, and then a 400 tells the rest. A client that sends the batch again, or halves of it, finds the stored
//! ones as duplicates. Errors have Segment's shape, not that of problem documents; but for events that were in this trail
//! already, which are refused whole, so that no event goes round for ever: only a forwarding meets that.

use super::body::BodyError;
use super::items::{self, Item, event_bytes};
use super::limits::BATCH_MAX_EVENTS;
use super::room::{Held, NoRoom};
use super::tame::tame;
use super::{Edge, body, http};
use crate::access::{self, Access, Identity, Verb};
use crate::event::SubmittedBy;
use crate::metrics::{self, Call, Input};
use crate::openapi;
use crate::problem::{FieldError, Problem};
use crate::segment::decode::{self, Batch, Tracked};
use crate::segment::passed::Loop;
use crate::server::App;
use crate::store::Receipt;
use crate::store::writer::{Arrived, WriteError};
use audittrail_crds::catalogue::Catalogue;
use audittrail_crds::document::Trail;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{BoxError, Json};
use futures::StreamExt;
use serde::Serialize;
use serde_json::Value;
use std::error::Error;
use utoipa::ToSchema;
use uuid::Uuid;

/// Errors listed in an answer. A forwarding reads answers up to a limit, and nobody reads more.
pub const ERRORS_MAX: usize = 100;

/// A body whose sender only its own content tells, in bytes as sent: Segment's 500 KB for a batch. Nobody may hold more of
/// our memory without having shown who they are.
pub const UNNAMED_MAX_BYTES: usize = 512 * 1024;

/// What bodies have to be, as errors say it.
const WANTED: &str = "a call of Segment's Tracking API";

/// The answer to what was taken.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TrackingSuccess)]
pub struct Success {
    /// True.
    success: bool,
}

/// The answer to what was not, or not all.
#[derive(Debug)]
pub enum Refused {
    /// These items; all others were stored.
    Items(Errors),
    /// The request. In Segment's shape, with the status and headers of the problem.
    Request(Box<Problem>),
    /// The request, since its events come in a circle. By this problem's type, a forwarding knows it.
    Loop(Box<Problem>),
}

#[derive(Serialize, ToSchema)]
#[schema(as = TrackingRefusal)]
pub(crate) struct RefusedBody {
    /// False.
    success: bool,
    /// What to do about it.
    message: String,
    /// What was not stored. All other calls of the batch were.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
}

/// What a path takes.
#[derive(Clone, Copy)]
enum Path {
    Track,
    Batch,
    Other(Call),
}

/// `POST /v1/track`: one event.
#[utoipa::path(
    post, path = "/v1/track", tag = openapi::SEGMENT,
    summary = "Adds an event: a track call",
    responses((status = 200, description = "The event is durable.", body = Success), openapi::answers::Tracking)
)]
pub async fn post_track(State(app): State<App>, request: Request) -> Result<Json<Success>, Refused> {
    take(&app, Path::Track, request).await
}

/// `POST /v1/batch`: any number of calls; those of type `track` are events.
#[utoipa::path(
    post, path = "/v1/batch", tag = openapi::SEGMENT,
    summary = "Adds events: a batch of calls",
    description = "What can be stored is stored, and then a 400 tells the rest. Sent again, what was stored is a duplicate.",
    responses((status = 200, description = "All events are durable.", body = Success), openapi::answers::Tracking)
)]
pub async fn post_batch(State(app): State<App>, request: Request) -> Result<Json<Success>, Refused> {
    take(&app, Path::Batch, request).await
}

/// Declares the handlers of calls that SDKs send, and in which nothing is an event.
macro_rules! not_stored {
    ($($handler:ident = $path:literal, $call:ident;)+) => {
        $(#[doc = concat!("`POST ", $path, "`: taken, and not stored.")]
        #[utoipa::path(
            post, path = $path, tag = openapi::SEGMENT,
            summary = "Takes a call that is no event, and stores nothing",
            responses((status = 200, description = "Taken.", body = Success), openapi::answers::Tracking)
        )]
        pub async fn $handler(State(app): State<App>, request: Request) -> Result<Json<Success>, Refused> {
            take(&app, Path::Other(Call::$call), request).await
        })+
    };
}

not_stored! {
    post_identify = "/v1/identify", Identify;
    post_page = "/v1/page", Page;
    post_screen = "/v1/screen", Screen;
    post_group = "/v1/group", Group;
    post_alias = "/v1/alias", Alias;
}

async fn take(app: &App, path: Path, request: Request) -> Result<Json<Success>, Refused> {
    // A header that is there decides; without one, the body may hold the write key.
    let identity = if request.headers().contains_key(header::AUTHORIZATION) {
        Some(access::authorize(app, request.headers(), Verb::Write).await?)
    } else {
        None
    };
    let request = if identity.is_none() { limited(request) } else { request };
    let (access, catalogue) = (app.access.clone(), app.catalogue());
    let read = move |bytes: &[u8], room: &Held| read(bytes, path, identity, &access, &catalogue, room);
    let received = body::receive(request, &app.room).await.map_err(not_received)?;
    let (mut calls, room) = received.parse(read).await?;
    refuse_loops(app, &calls).await?;
    let receipt = store(app, &mut calls, &room).await?;
    metrics::acknowledged(Input::Segment, receipt.accepted, receipt.duplicates);
    calls.refused.answer()
}

/// Refuses all calls when the event of one has been here. Those that no forwarding sent cost no more than a look.
async fn refuse_loops(app: &App, calls: &Calls) -> Result<(), Refused> {
    if calls.tracked.iter().all(|(_, tracked)| tracked.passed.is_empty()) {
        return Ok(());
    }
    let here = app.log_id().await?;
    let Some((id, found)) = calls.first_loop(here) else { return Ok(()) };
    let Trail { namespace, name, .. } = &app.document().trail;
    tracing::warn!(reason = %found, "events were refused which forwardings lead in a circle");
    Err(Refused::Loop(Box::new(Problem::forwarding_loop(format!(
        "nothing was stored by the trail {namespace}/{name} (log {here}): event {id} {found}. Forwardings lead in a circle: \
         switch off, or delete, the AuditForwarding that sends to this trail, or one on the way to it"
    )))))
}

/// Too much from someone who is not known yet.
#[derive(Debug, thiserror::Error)]
#[error("a body without an Authorization header may have {UNNAMED_MAX_BYTES} bytes at most")]
struct UnnamedTooLarge;

/// The request, whose body ends with an error past [`UNNAMED_MAX_BYTES`].
fn limited(request: Request) -> Request {
    let mut left = UNNAMED_MAX_BYTES;
    request.map(|body| {
        Body::from_stream(body.into_data_stream().map(move |piece| {
            let piece = piece?;
            left = left.checked_sub(piece.len()).ok_or(UnnamedTooLarge)?;
            Ok::<Bytes, BoxError>(piece)
        }))
    })
}

fn not_received(error: BodyError) -> Problem {
    let mut cause: Option<&(dyn Error + 'static)> = Some(&error);
    while let Some(inner) = cause {
        if inner.is::<UnnamedTooLarge>() {
            return Problem::too_large(inner.to_string());
        }
        cause = inner.source();
    }
    error.into()
}

/// What a body holds.
struct Calls {
    submitted_by: SubmittedBy,
    /// Events, with the index of the item where there is a batch.
    tracked: Vec<(Option<usize>, Tracked)>,
    refused: Errors,
}

/// What could not be stored: the first [`ERRORS_MAX`], and how many items.
#[derive(Debug, Default)]
pub struct Errors {
    listed: Vec<FieldError>,
    items: usize,
}

fn read(
    bytes: &[u8],
    path: Path,
    identity: Option<Identity>,
    access: &Access,
    catalogue: &Catalogue,
    room: &Held,
) -> Result<Calls, Problem> {
    let body = tame(bytes, room)?;
    let whole = items::whole(&body, &["batch"])
        .map_err(|error| Problem::unreadable(format!("the body is not {WANTED}: {error}")))?;
    let identity = match identity {
        Some(identity) => identity,
        None => by_body(access, &whole)?,
    };
    let mut calls = Calls { submitted_by: identity.submitted_by(), tracked: Vec::new(), refused: Errors::default() };
    let edge = Edge::here(catalogue);
    match path {
        Path::Track => calls.track(None, whole, &Batch::default(), &edge, room)?,
        Path::Other(call) => metrics::call_not_stored(call),
        Path::Batch => {
            let batch = Batch::of(&whole.members);
            let mut indices = 0..;
            let found = items::each(&body, "batch", &[], |item| calls.call(indices.next(), item, &batch, &edge, room));
            if !found.map_err(|error| error.problem(WANTED))? {
                return Err(Problem::invalid(vec![FieldError::of("batch", "must be an array")]));
            }
        }
    }
    Ok(calls)
}

/// Whose write key the body holds.
fn by_body(access: &Access, body: &Item) -> Result<Identity, Problem> {
    match body.members.get("writeKey").and_then(Value::as_str) {
        Some(key) => access.authorize_write_key(key),
        None => Err(Problem::credential_missing(
            "send the write key as the user of Basic, as a Bearer token, or as writeKey in the body",
        )),
    }
}

impl Calls {
    /// The first event that came in a circle to the log `here`: its id, and how.
    fn first_loop(&self, here: Uuid) -> Option<(&str, Loop)> {
        self.tracked.iter().find_map(|(_, it)| Some((&*it.event.id, Loop::found(&it.passed, here)?)))
    }

    /// Takes an item of a batch.
    fn call(
        &mut self,
        index: Option<usize>,
        item: Item,
        batch: &Batch,
        edge: &Edge<'_>,
        room: &Held,
    ) -> Result<(), NoRoom> {
        match item.members.get("type").and_then(Value::as_str) {
            Some("track") => return self.track(index, item, batch, edge, room),
            Some(other @ ("identify" | "page" | "screen" | "group" | "alias")) => {
                metrics::call_not_stored(Call::named(other));
            }
            _ if !item.is_object => self.refused.note(index, vec![FieldError::of("", "must be an object")]),
            _ => self.refused.note(
                index,
                vec![FieldError::of("type", "must be one of track, identify, page, screen, group, alias")],
            ),
        }
        Ok(())
    }

    /// Takes a track call.
    fn track(
        &mut self,
        index: Option<usize>,
        item: Item,
        batch: &Batch,
        edge: &Edge<'_>,
        room: &Held,
    ) -> Result<(), NoRoom> {
        match decode::track(item, batch, edge) {
            Ok(tracked) => {
                room.grow(event_bytes(&tracked.event) + size_of_val(&*tracked.passed))?;
                self.tracked.push((index, tracked));
            }
            Err(faults) => self.refused.note(index, faults),
        }
        Ok(())
    }
}

impl Errors {
    /// Notes what is wrong with one item.
    fn note(&mut self, index: Option<usize>, faults: Vec<FieldError>) {
        self.items += 1;
        let room = ERRORS_MAX.saturating_sub(self.listed.len());
        self.listed.extend(faults.into_iter().take(room).map(|fault| FieldError { index, ..fault }));
    }

    fn answer(self) -> Result<Json<Success>, Refused> {
        if self.items == 0 { Ok(Json(Success { success: true })) } else { Err(Refused::Items(self)) }
    }

    fn message(&self) -> String {
        match (self.items, self.listed.first()) {
            (_, None) => String::new(),
            (1, Some(only)) if only.index.is_none() => only.to_string(),
            (1, Some(only)) => format!("1 item was not stored, all others were: {only}"),
            (items, Some(first)) => format!("{items} items were not stored, all others were: {first}"),
        }
    }
}

/// Stores the events, chunk by chunk. Those whose ids are taken by other content are errors.
async fn store(app: &App, calls: &mut Calls, room: &Held) -> Result<Receipt, Problem> {
    let mut receipt = Receipt::default();
    let mut tracked = std::mem::take(&mut calls.tracked).into_iter().peekable();
    while tracked.peek().is_some() {
        let chunk = tracked.by_ref().take(BATCH_MAX_EVENTS).collect();
        receipt = receipt.and(store_chunk(app, chunk, &calls.submitted_by, &mut calls.refused, room).await?);
    }
    Ok(receipt)
}

async fn store_chunk(
    app: &App,
    mut chunk: Vec<(Option<usize>, Tracked)>,
    submitted_by: &SubmittedBy,
    refused: &mut Errors,
    room: &Held,
) -> Result<Receipt, Problem> {
    let mut there = 0;
    while !chunk.is_empty() {
        let arrived =
            |(_, tracked): &(_, Tracked)| Arrived { event: tracked.event.clone(), passed: tracked.passed.clone() };
        let events: Vec<Arrived> = chunk.iter().map(arrived).collect();
        match app.writer().await?.append_arrived(events, submitted_by.clone(), room.clone()).await {
            Ok(receipt) => return Ok(Receipt { duplicates: receipt.duplicates + there, ..receipt }),
            Err(WriteError::Conflict(indices)) if !indices.is_empty() => {
                for (index, tracked) in indices.iter().rev().map(|place| chunk.remove(*place)) {
                    if tracked.corrected {
                        // The same item sent again has another correction: its id decides, as it does for Segment.
                        there += 1;
                    } else {
                        refused.note(index, vec![taken(&tracked.event.id)]);
                    }
                }
            }
            Err(error) => return Err(http::problem(&error)),
        }
    }
    Ok(Receipt { duplicates: there, ..Receipt::default() })
}

fn taken(id: &str) -> FieldError {
    FieldError::of("messageId", format!("{id} is taken by an event with other content"))
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self::Request(Box::new(problem))
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let body = |message, errors| Json(RefusedBody { success: false, message, errors });
        match self {
            Self::Items(errors) => (StatusCode::BAD_REQUEST, body(errors.message(), errors.listed)).into_response(),
            Self::Request(problem) => {
                let message = problem.detail().to_owned();
                let (mut parts, _) = problem.into_response().into_parts();
                parts.headers.remove(header::CONTENT_TYPE);
                parts.headers.remove(header::CONTENT_LENGTH);
                (parts.status, parts.headers, body(message, Vec::new())).into_response()
            }
            Self::Loop(problem) => problem.into_response(),
        }
    }
}
