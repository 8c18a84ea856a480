//! What every request gets: an id, and one line in the log. The line has no query string, header or
//! body: those hold names of people, and secrets.

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;
use std::time::Instant;
use tracing::Instrument;
use uuid::Uuid;

/// Names a request in our log and in the client's.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Length of a client's own id, in bytes, at most.
pub const REQUEST_ID_MAX_BYTES: usize = 128;

/// Runs a request under its id, and answers with it.
pub async fn with_id(mut request: Request, next: Next) -> Response {
    let id = id(request.headers());
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let path = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str);
    let span = tracing::info_span!("request", id = id.to_str().unwrap_or_default(), method = %request.method(), path);
    let probe = matches!(path, "/livez" | "/readyz");
    let mut response = respond(request, next, probe).instrument(span).await;
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

async fn respond(request: Request, next: Next, probe: bool) -> Response {
    let begun = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    if probe {
        tracing::debug!(status, milliseconds, "answered");
    } else {
        tracing::info!(status, milliseconds, "answered");
    }
    response
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
