//! The Tracking API, as Segment documents it (HTTP API source): 400 when something is too large, 200 for all else;
//! what is incomplete is dropped behind the 200, and a `messageId` is stored once. Unlike Segment, and like
//! RudderStack, a wrong write key is answered 401.

use crate::Source;
use crate::connection::Cutter;
use crate::received::{Request, event_id};
use crate::script::{PoisonAnswer, Standing, Step};
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use flate2::read::GzDecoder;
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::io::{self, Read, Write};
use std::time::Duration;
use tokio::time::sleep;

/// "32 KB" an event, in bytes; the smallest reading of it, so that nothing passes here which Segment refuses.
const ITEM_MAX_BYTES: usize = 32_000;

/// "500 KB" a batch, in bytes, read likewise.
const BODY_MAX_BYTES: usize = 500_000;

/// Events in a batch. Segment drops a larger batch behind a 200.
const BATCH_MAX_ITEMS: usize = 2_500;

/// What a compressed body may become, in bytes: far more than is taken, and not all memory.
const PLAIN_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Type of the problem that a trail answers which an event has passed before.
const LOOP_PROBLEM: &str = "https://audittrail.dev/problems/forwarding-loop";

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

/// A request as it was read.
struct Arrived {
    request: Request,
    /// Every key that it came with, by header and in its body.
    keys: Vec<String>,
    body_bytes: usize,
    items: Result<Vec<Value>, &'static str>,
}

async fn answer(
    source: &Source,
    cutter: &Cutter,
    headers: &HeaderMap,
    body: &[u8],
    items: impl Fn(&Value) -> Option<Vec<Value>>,
) -> Response {
    let number = source.received().count_request();
    let standing = source.standing();
    let step = source.next_step().or_else(|| standing.always.clone()).unwrap_or(Step::Behave);
    if standing.latency_milliseconds > 0 {
        sleep(Duration::from_millis(standing.latency_milliseconds)).await;
    }
    let arrived = Arrived::read(number, headers, body, items);
    if arrived.items.as_ref().is_ok_and(Vec::is_empty) {
        source.received().count_probe();
    }
    match step {
        Step::Behave => take(source, &standing, &arrived),
        Step::StoreThenDrop => {
            let stored = take(source, &standing, &arrived);
            cutter.close();
            stored
        }
        Step::StoreThenHang => {
            take(source, &standing, &arrived);
            std::future::pending().await
        }
        Step::Drip(pause) => drip(take(source, &standing, &arrived), pause).await,
        Step::Status { code, retry_after } => {
            refused_alone(source, &arrived, code);
            refuse(code, retry_after)
        }
        Step::OkFalse => {
            refused_alone(source, &arrived, 200);
            json_text(r#"{"ok":false,"errors":["scripted"]}"#)
        }
        Step::Redirect(location) => (StatusCode::TEMPORARY_REDIRECT, [(header::LOCATION, location)]).into_response(),
        Step::Loop => loop_problem(),
        Step::Hang => std::future::pending().await,
        Step::Reset => {
            cutter.reset();
            StatusCode::OK.into_response()
        }
        Step::Half => half(),
    }
}

impl Arrived {
    fn read(number: u64, headers: &HeaderMap, body: &[u8], items: impl Fn(&Value) -> Option<Vec<Value>>) -> Self {
        let basic = headers.get(header::AUTHORIZATION).map(|value| basic_user(value.as_bytes()).unwrap_or_default());
        let plain = plain(headers, body);
        let body_bytes = plain.as_ref().map_or(0, |plain| plain.len());
        let json = plain.and_then(|plain| serde_json::from_slice::<Value>(&plain).map_err(|_| "the body is not JSON"));
        let member = |name: &str| json.as_ref().ok().and_then(|body| body.get(name)).map(text);
        let keys: Vec<String> = basic.into_iter().chain(member("writeKey")).collect();
        let request = Request { number, write_key: keys.first().cloned(), sent_at: member("sentAt") };
        let items = json.and_then(|body| items(&body).ok_or("the body has no batch"));
        Self { request, keys, body_bytes, items }
    }
}

/// The body as it was before compression.
fn plain<'a>(headers: &HeaderMap, body: &'a [u8]) -> Result<Cow<'a, [u8]>, &'static str> {
    match headers.get(header::CONTENT_ENCODING).map(HeaderValue::as_bytes) {
        None => Ok(Cow::Borrowed(body)),
        Some(b"gzip") => {
            let mut plain = Vec::new();
            let read = GzDecoder::new(body).take(PLAIN_MAX_BYTES).read_to_end(&mut plain);
            read.map(|_| Cow::Owned(plain)).map_err(|_| "the body is not gzip")
        }
        Some(_) => Err("the body has an encoding that is not gzip"),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// What a source does that behaves.
fn take(source: &Source, standing: &Standing, arrived: &Arrived) -> Response {
    if standing.body_max_bytes.is_some_and(|most| arrived.body_bytes > most) {
        refused_alone(source, arrived, 413);
        return problem(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than this source takes");
    }
    if arrived.body_bytes > BODY_MAX_BYTES {
        return problem(StatusCode::BAD_REQUEST, "the body is larger than 500 KB");
    }
    let items = match &arrived.items {
        Ok(items) => items,
        Err(fault) => return problem(StatusCode::BAD_REQUEST, fault),
    };
    if !authorized(source, &arrived.keys) {
        return problem(StatusCode::UNAUTHORIZED, "the write key is not one of this source");
    }
    if items.iter().any(|item| item.to_string().len() > ITEM_MAX_BYTES) {
        return problem(StatusCode::BAD_REQUEST, "an event is larger than 32 KB");
    }
    if items.len() > BATCH_MAX_ITEMS {
        return json_text(SUCCESS);
    }
    let (poison, good): (Vec<&Value>, Vec<&Value>) =
        items.iter().partition(|item| standing.poison.refuses(item, event_id(item)));
    match (poison.is_empty(), standing.poison.answer) {
        (true, _) => store(source, &arrived.request, &good).unwrap_or_else(|| json_text(SUCCESS)),
        (false, PoisonAnswer::Refuse) => {
            source.received().refuse(&arrived.request, &poison, 400);
            problem(StatusCode::BAD_REQUEST, "an event has a property that this source does not take")
        }
        (false, PoisonAnswer::Fail) => problem(StatusCode::INTERNAL_SERVER_ERROR, "an event made this source fail"),
        (false, PoisonAnswer::OkFalse) => {
            source.received().refuse(&arrived.request, &poison, 200);
            store(source, &arrived.request, &good).unwrap_or_else(|| partly(items.len(), good.len()))
        }
    }
}

/// Stores items; an answer only when that fails.
fn store(source: &Source, request: &Request, items: &[&Value]) -> Option<Response> {
    let stored = source.received().store(request, items);
    match stored {
        Ok(new) => {
            if source.inner.print {
                print(new.iter().map(|place| items[*place]));
            }
            None
        }
        Err(error) => Some(problem(StatusCode::INTERNAL_SERVER_ERROR, &format!("the file cannot be written: {error}"))),
    }
}

/// A refusal of a request with one item is one of that item, where it is the content that is refused.
fn refused_alone(source: &Source, arrived: &Arrived, code: u16) {
    if let (Ok([item]), 200 | 400 | 413 | 422) = (arrived.items.as_deref(), code) {
        source.received().refuse(&arrived.request, &[item], code);
    }
}

/// The key comes as Basic user, in the body, or both; whatever comes must be right.
fn authorized(source: &Source, keys: &[String]) -> bool {
    let Some(expected) = &source.inner.write_key else { return true };
    !keys.is_empty() && keys.iter().all(|key| key == expected)
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

/// Byte by byte, so that no pause alone looks like the end.
async fn drip(response: Response, pause: Duration) -> Response {
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, BODY_MAX_BYTES).await.unwrap_or_default();
    let drops = stream::unfold(bytes, move |mut rest| async move {
        sleep(pause).await;
        (!rest.is_empty()).then(|| (Ok::<_, io::Error>(rest.split_to(1)), rest))
    });
    Response::from_parts(parts, Body::from_stream(drops))
}

/// What a trail answers that finds itself among those an event passed.
fn loop_problem() -> Response {
    let problem = json!({"type": LOOP_PROBLEM, "title": "Forwarding loop", "status": 403,
                         "detail": "An event of this request has passed this trail before."});
    (StatusCode::FORBIDDEN, [(header::CONTENT_TYPE, "application/problem+json")], problem.to_string()).into_response()
}

/// Jitsu's answer to a batch of which it took a part.
fn partly(received: usize, ok: usize) -> Response {
    axum::Json(json!({"ok": false, "receivedEvents": received, "okEvents": ok, "errors": ["poison"]})).into_response()
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
