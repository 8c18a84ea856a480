//! What every request gets: an id, one line in the log, its place in the metrics, and a span where requests are traced.
//! None of them has a path, query string, header or body: those hold names of people, and secrets.

use crate::metrics::{self, method_label};
use crate::telemetry::RequestSpan;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use std::time::{Duration, Instant};
use tracing::Instrument;
use uuid::Uuid;

/// Names a request in our log and in the client's.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Length of a client's own id, in bytes, at most.
pub const REQUEST_ID_MAX_BYTES: usize = 128;

/// In place of the route, where a path has none. The path itself is the client's text.
const NO_ROUTE: &str = "none";

/// Asked every few seconds by the kubelet: a line each would be all that the log holds.
const PROBES: [&str; 2] = ["/livez", "/readyz"];

/// Routes that events are posted to, those of Segment's API which are not stored included.
const WRITES: [&str; 9] = [
    "/v1/events",
    "/v1/kubernetes",
    "/v1/track",
    "/v1/batch",
    "/v1/identify",
    "/v1/page",
    "/v1/screen",
    "/v1/group",
    "/v1/alias",
];

/// Runs a request under its id, and answers with it. Counts it, and traces it where that is wanted.
pub async fn with_id(mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let id = id(request.headers());
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map(MatchedPath::as_str);
    let method = request.method().clone();
    let traced = RequestSpan::begin(&method, route, request.headers());
    let span = tracing::info_span!(
        "request",
        id = id.to_str().unwrap_or_default(),
        method = method_label(&method),
        route = route.unwrap_or(NO_ROUTE),
        trace_id = traced.as_ref().map(|traced| tracing::field::display(traced.trace_id())),
    );
    let mut response = match &traced {
        Some(traced) => traced.around(next.run(request).instrument(span.clone())).await,
        None => next.run(request).instrument(span.clone()).await,
    };
    span.in_scope(|| log(route, response.status(), begun.elapsed()));
    count(&method, route, response.status(), begun.elapsed());
    if let Some(traced) = traced {
        traced.end(response.status());
    }
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

fn log(route: Option<&str>, status: StatusCode, taken: Duration) {
    let status = status.as_u16();
    let milliseconds = u64::try_from(taken.as_millis()).unwrap_or(u64::MAX);
    if route.is_some_and(|route| PROBES.contains(&route)) {
        tracing::debug!(status, milliseconds, "answered");
    } else {
        tracing::info!(status, milliseconds, "answered");
    }
}

fn count(method: &Method, route: Option<&str>, status: StatusCode, taken: Duration) {
    metrics::answered(method, route.unwrap_or(NO_ROUTE), status, taken);
    let refused = status.is_client_error() || status.is_server_error();
    if refused && method == Method::POST && route.is_some_and(|route| WRITES.contains(&route)) {
        metrics::refused(status);
    }
}

/// The client's own id if it is short and plain, else a new one.
fn id(headers: &HeaderMap) -> HeaderValue {
    let plain = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        (1..=REQUEST_ID_MAX_BYTES).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
    };
    headers.get(REQUEST_ID).filter(plain).cloned().unwrap_or_else(new_id)
}

fn new_id() -> HeaderValue {
    HeaderValue::try_from(Uuid::new_v4().to_string()).unwrap_or_else(|_| HeaderValue::from_static("none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> HeaderValue {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_ID, HeaderValue::from_str(value).expect("valid"));
        id(&headers)
    }

    #[test]
    fn a_plain_id_of_the_client_stays() {
        assert_eq!(of("abc-1"), "abc-1");
        let longest = "x".repeat(REQUEST_ID_MAX_BYTES);
        assert_eq!(of(&longest), longest);
    }

    #[test]
    fn any_other_id_is_replaced() {
        for bad in ["", "two words", &"x".repeat(REQUEST_ID_MAX_BYTES + 1)] {
            assert_eq!(of(bad).len(), 36, "{bad:?}");
        }
    }
}
