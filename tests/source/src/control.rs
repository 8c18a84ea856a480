//! The endpoints for tests: what was received, and how to misbehave.

use crate::Source;
use crate::received::Counts;
use crate::script::{Standing, Step};
use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;

/// `GET /received`: one JSON line a message, in order of first arrival.
///
/// # Panics
/// Never: a message is plain data, which always has a JSON form.
pub async fn received(State(source): State<Source>) -> impl IntoResponse {
    let received = source.received();
    let lines: String = received
        .messages()
        .iter()
        .map(|message| serde_json::to_string(message).expect("a message is plain data") + "\n")
        .collect();
    ([(header::CONTENT_TYPE, "application/x-ndjson")], lines)
}

/// `GET /count`.
pub async fn count(State(source): State<Source>) -> Json<Counts> {
    Json(source.received().counts())
}

/// `PUT /script`: a JSON list of steps, instead of those that are left.
pub async fn script(State(source): State<Source>, Json(steps): Json<Vec<Step>>) -> StatusCode {
    source.set_script(steps);
    StatusCode::NO_CONTENT
}

/// `PUT /standing`: how requests are treated that no step is for, instead of what was said before.
pub async fn standing(State(source): State<Source>, Json(standing): Json<Standing>) -> StatusCode {
    source.set_standing(standing);
    StatusCode::NO_CONTENT
}
