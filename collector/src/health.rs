//! `GET /livez` and `GET /readyz`: probes, open to all. They say nothing that anybody could use.

use crate::database::State as Database;
use crate::openapi;
use crate::server::App;
use axum::extract::State;
use axum::http::StatusCode;

/// The process answers, which is all that a restart could mend.
#[utoipa::path(
    get, path = "/livez", tag = openapi::STATE,
    summary = "The process answers",
    responses((status = 200, description = "It does.", content_type = "text/plain", body = String))
)]
pub async fn livez() -> &'static str {
    "ok\n"
}

/// Requests are welcome. A database that is away does not change that: a 503 that says so is worth
/// more than a refused connection, and the operator asks ready replicas how the trail is.
/// Only a collector too old for the schema leaves the requests to others.
#[utoipa::path(
    get, path = "/readyz", tag = openapi::STATE,
    summary = "Requests are welcome",
    description = "Also while the database is away: a 503 that says so is worth more than a refused connection.",
    responses(
        (status = 200, description = "They are.", content_type = "text/plain", body = String),
        (status = 503, description = "The schema needs a newer collector.", content_type = "text/plain", body = String)
    )
)]
pub async fn readyz(State(app): State<App>) -> (StatusCode, &'static str) {
    match *app.database.borrow() {
        Database::TooOld(_) => (StatusCode::SERVICE_UNAVAILABLE, "the schema needs a newer collector\n"),
        Database::Opening(_) | Database::Open(_) | Database::InUse(_) => (StatusCode::OK, "ok\n"),
    }
}
