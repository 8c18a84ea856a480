//! `GET /livez` and `GET /readyz`: probes, open to all. They say nothing that anybody could use.

use crate::database::State as Database;
use crate::server::App;
use axum::extract::State;
use axum::http::StatusCode;

/// The process answers, which is all that a restart could mend.
pub async fn livez() -> &'static str {
    "ok\n"
}

/// Requests are welcome. A database that is away does not change that: a 503 that says so is worth
/// more than a refused connection, and the operator asks ready replicas how the trail is.
/// Only a collector too old for the schema leaves the requests to others.
pub async fn readyz(State(app): State<App>) -> (StatusCode, &'static str) {
    match *app.database.borrow() {
        Database::TooOld(_) => (StatusCode::SERVICE_UNAVAILABLE, "the schema needs a newer collector\n"),
        Database::Opening(_) | Database::Open | Database::InUse(_) => (StatusCode::OK, "ok\n"),
    }
}
