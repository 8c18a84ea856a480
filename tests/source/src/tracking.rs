//! The Tracking API, as Segment documents it (HTTP API source): 400 when something is too large, 200 for all else;
//! what is incomplete is dropped behind the 200, and a `messageId` is stored once. Unlike Segment, and like
//! RudderStack, a wrong write key is answered 401.

use crate::Source;
use crate::connection::Cutter;
use crate::script::Step;
use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use std::io::{self, Write};

/// "32 KB" an event, in bytes; the smallest reading of it, so that nothing passes here which Segment refuses.
const ITEM_MAX_BYTES: usize = 32_000;

/// "500 KB" a batch, in bytes, read likewise.
const BODY_MAX_BYTES: usize = 500_000;

/// Events in a batch. Segment drops a larger batch behind a 200.
const BATCH_MAX_ITEMS: usize = 2_500;

/// What every answer 200 says.
const SUCCESS: &str = r#"{"success":true}"#;

/// `POST /v1/batch`.
pub async fn batch(
    State(source): State<Source>,
    ConnectInfo(cutter): ConnectInfo<Cutter>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(&source, &cutter, &headers, &body, |body| body["batch"].as_array().cloned()).await
}

/// `POST /v1/track`.
pub async fn track(
    State(source): State<Source>,
    ConnectInfo(cutter): ConnectInfo<Cutter>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(&source, &cutter, &headers, &body, |body| Some(vec![body.clone()])).await
}

async fn answer(
    source: &Source,
    cutter: &Cutter,
    headers: &HeaderMap,
    body: &[u8],
    items: impl Fn(&Value) -> Option<Vec<Value>>,
) -> Response {
    source.received().count_request();
    match source.next_step().unwrap_or(Step::Behave) {
        Step::Behave => take(source, headers, body, items),
        Step::StoreThenDrop => {
            let stored = take(source, headers, body, items);
            cutter.close();
            stored
        }
        Step::Status { code, retry_after } => refuse(code, retry_after),
        Step::Hang => std::future::pending().await,
        Step::Reset => {
            cutter.reset();
            StatusCode::OK.into_response()
        }
        Step::Half => half(),
        Step::OkFalse => json_text(r#"{"ok":false,"errors":["scripted"]}"#),
    }
}

fn take(source: &Source, headers: &HeaderMap, body: &[u8], items: impl Fn(&Value) -> Option<Vec<Value>>) -> Response {
    if body.len() > BODY_MAX_BYTES {
        return problem(StatusCode::BAD_REQUEST, "the body is larger than 500 KB");
    }
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        return problem(StatusCode::BAD_REQUEST, "the body is not JSON");
    };
    if !authorized(source, headers, &body) {
        return problem(StatusCode::UNAUTHORIZED, "the write key is not one of this source");
    }
    let Some(items) = items(&body) else {
        return problem(StatusCode::BAD_REQUEST, "the body has no batch");
    };
    if items.iter().any(|item| item.to_string().len() > ITEM_MAX_BYTES) {
        return problem(StatusCode::BAD_REQUEST, "an event is larger than 32 KB");
    }
    if items.len() > BATCH_MAX_ITEMS {
        return json_text(SUCCESS);
    }
    let stored = source.received().store(&items);
    match stored {
        Ok(new) => {
            if source.inner.print {
                print(new.iter().map(|place| &items[*place]));
            }
            json_text(SUCCESS)
        }
        Err(error) => problem(StatusCode::INTERNAL_SERVER_ERROR, &format!("the file cannot be written: {error}")),
    }
}

/// The key comes as Basic user, in the body, or both; whatever comes must be right.
fn authorized(source: &Source, headers: &HeaderMap, body: &Value) -> bool {
    let Some(expected) = &source.inner.write_key else { return true };
    let basic = headers.get(header::AUTHORIZATION).map(|value| basic_user(value.as_bytes()).unwrap_or_default());
    let in_body = body.get("writeKey").map(|key| key.as_str().unwrap_or_default().to_owned());
    let given: Vec<String> = basic.into_iter().chain(in_body).collect();
    !given.is_empty() && given.iter().all(|key| key == expected)
}

fn basic_user(header: &[u8]) -> Option<String> {
    let credentials = BASE64_STANDARD.decode(header.strip_prefix(b"Basic ")?).ok()?;
    let text = String::from_utf8(credentials).ok()?;
    // Segment insists on the colon.
    text.split_once(':').map(|(user, _)| user.to_owned())
}

/// One short line for each new event, for whoever watches the demo.
fn print<'a>(items: impl Iterator<Item = &'a Value>) {
    let mut out = io::stdout().lock();
    for item in items {
        // Whoever watched may be gone; that is no reason to fail the request.
        let _closed = writeln!(out, "{}", line(item));
    }
}

fn line(item: &Value) -> String {
    let properties = &item["properties"];
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let actor = &properties["actor"];
    let actor = [&actor["email"], &actor["name"], &item["userId"], &item["anonymousId"]].into_iter().find_map(text);
    let resource = &properties["resource"];
    let target = text(&resource["name"]).or_else(|| text(&resource["id"]));
    let resource = target.map(|target| format!("{} {target}", resource["type"].as_str().unwrap_or("resource")));
    let fields = [text(&item["timestamp"]), text(&item["event"]), actor, resource];
    fields.map(|field| field.unwrap_or_else(|| "-".to_owned())).join("  ")
}

fn refuse(code: u16, retry_after: Option<u64>) -> Response {
    let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = problem(status, "scripted");
    if let Some(seconds) = retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// Says that a whole answer follows, and breaks off.
fn half() -> Response {
    let (first, _) = SUCCESS.split_at(SUCCESS.len() / 2);
    let part = stream::iter([Ok(Bytes::from_static(first.as_bytes()))]);
    let end = stream::once(async {
        // What there is goes out only while the body has nothing more to give.
        tokio::task::yield_now().await;
        Err(io::Error::from(io::ErrorKind::ConnectionReset))
    });
    let body = Body::from_stream(part.chain(end));
    ([(header::CONTENT_TYPE, "application/json"), (header::CONTENT_LENGTH, "16")], body).into_response()
}

fn json_text(text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text).into_response()
}

fn problem(status: StatusCode, message: &str) -> Response {
    (status, axum::Json(json!({"success": false, "message": message}))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_when_what_who_and_on_what() {
        let item = json!({
            "timestamp": "2026-03-02T09:14:05.120Z", "event": "Warehouse Disabled", "userId": "usr_1",
            "properties": {"actor": {"id": "usr_1", "email": "ada@acme.example"},
                           "resource": {"type": "warehouse", "id": "whs_31", "name": "Production"}},
        });
        assert_eq!(line(&item), "2026-03-02T09:14:05.120Z  Warehouse Disabled  ada@acme.example  warehouse Production");
        assert_eq!(line(&json!({"event": "A", "anonymousId": "__system__"})), "-  A  __system__  -");
    }

    #[test]
    fn half_an_answer_is_announced_with_its_whole_length() {
        assert_eq!(SUCCESS.len(), 16);
        assert_eq!(half().headers()[header::CONTENT_LENGTH], "16");
    }
}
