//! The sources of a workspace, in the shape of Segment's Public API: `GET` and `POST /sources`, `GET`, `PATCH` and
//! `DELETE /sources/{id}`. One token, pages, slugs that are unique, the envelope of errors; and failures by script, also in
//! the middle: what was asked for is done, and the answer is lost.
//!
//! `PUT /workspace/script` takes a JSON list of [`Fault`]s, for tests that are another process.

use crate::Source;
use crate::connection::Cutter;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, RawQuery, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Sources of a page when none are asked for, and the most.
const PAGE: (usize, usize) = (200, 1000);

/// The catalogue's id of the HTTP API source.
const HTTP_API_SOURCE: &str = "iUM16Md8P2";

/// A workspace.
#[derive(Debug, Default)]
pub struct Workspace {
    state: Mutex<Inventory>,
}

#[derive(Debug, Default)]
struct Inventory {
    token: Option<String>,
    sources: Vec<Made>,
    /// Sources that were ever made: ids and keys are never used again.
    made: u64,
    script: Vec<Fault>,
    outage: Option<Step>,
    requests: Vec<String>,
}

/// A source of the workspace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Made {
    /// Its id.
    pub id: String,
    /// Its slug.
    pub slug: String,
    /// Whether it is switched on.
    pub enabled: bool,
    /// Its write key.
    pub write_key: String,
}

/// What the next request with this method meets.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fault {
    /// The method, for example `POST`.
    pub method: String,
    /// What happens.
    pub step: Step,
}

/// What a request meets.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Step {
    /// Nothing is done; answers with this status in an envelope of errors.
    Status(u16),
    /// Nothing is done; answers 429, and says so many milliseconds to wait.
    Overload(u64),
    /// Nothing is done, and no answer ever comes.
    Hang,
    /// Nothing is done, and the connection is reset.
    Reset,
    /// It is done, and the connection is reset before the answer.
    DoThenReset,
    /// It is done, and no answer ever comes.
    DoThenHang,
    /// It is done, and the answer is this status in an envelope of errors.
    DoThenStatus(u16),
}

impl Fault {
    /// What the next request with `method` meets.
    pub fn new(method: &Method, step: Step) -> Self {
        Self { method: method.to_string(), step }
    }
}

impl Workspace {
    /// A workspace that takes this token, and none where it is absent.
    pub fn new(token: Option<String>) -> Self {
        let workspace = Self::default();
        workspace.inventory().token = token;
        workspace
    }

    /// The sources that are there.
    pub fn sources(&self) -> Vec<Made> {
        self.inventory().sources.clone()
    }

    /// Sources that were ever made.
    pub fn made(&self) -> u64 {
        self.inventory().made
    }

    /// Requests so far, as `METHOD path`.
    pub fn requests(&self) -> Vec<String> {
        self.inventory().requests.clone()
    }

    /// Faults for requests to come, after those that are left.
    pub fn script(&self, faults: impl IntoIterator<Item = Fault>) {
        self.inventory().script.extend(faults);
    }

    /// Faults that no request has met yet.
    pub fn script_left(&self) -> usize {
        self.inventory().script.len()
    }

    /// What every request meets from now on, besides the script; none ends it.
    pub fn outage(&self, step: Option<Step>) {
        self.inventory().outage = step;
    }

    /// Takes another token from now on.
    pub fn set_token(&self, token: &str) {
        self.inventory().token = Some(token.to_owned());
    }

    /// Makes a source, as people do.
    ///
    /// # Panics
    /// When the slug is taken.
    pub fn make(&self, slug: &str) -> Made {
        self.inventory().make(slug, true).expect("the slug is free")
    }

    /// Switches a source on or off, as people do, and as Segment does with one that nothing is connected to.
    pub fn switch(&self, slug: &str, enabled: bool) {
        self.inventory().sources.iter_mut().filter(|one| one.slug == slug).for_each(|one| one.enabled = enabled);
    }

    /// Removes a source, as people do.
    pub fn remove(&self, slug: &str) {
        self.inventory().sources.retain(|one| one.slug != slug);
    }

    fn inventory(&self) -> MutexGuard<'_, Inventory> {
        // A test that panicked while it looked has changed nothing.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a request, and says what it meets.
    fn meet(&self, method: &Method, path: &str) -> Option<Step> {
        let mut inventory = self.inventory();
        inventory.requests.push(format!("{method} {path}"));
        let scripted = inventory.script.iter().position(|fault| fault.method == method.as_str());
        scripted.map(|place| inventory.script.remove(place).step).or(inventory.outage)
    }
}

impl Inventory {
    fn make(&mut self, slug: &str, enabled: bool) -> Option<Made> {
        if self.sources.iter().any(|one| one.slug == slug) {
            return None;
        }
        self.made += 1;
        let (id, write_key) = (format!("src_{}", self.made), format!("key-{}-of-{slug}", self.made));
        let made = Made { id, slug: slug.to_owned(), enabled, write_key };
        self.sources.push(made.clone());
        Some(made)
    }
}

impl Made {
    fn json(&self) -> Value {
        json!({"id": self.id, "slug": self.slug, "name": self.slug, "workspaceId": "ws_acme", "enabled": self.enabled,
            "writeKeys": [self.write_key], "metadata": {"id": HTTP_API_SOURCE, "slug": "http-api", "name": "HTTP API"},
            "settings": {}, "labels": []})
    }
}

/// The routes of the Public API.
pub(crate) fn routes() -> Router<Source> {
    Router::new()
        .route("/sources", get(list).post(create))
        .route("/sources/{id}", get(read).patch(update).delete(delete))
        .route("/workspace/script", put(script))
}

async fn script(State(source): State<Source>, Json(faults): Json<Vec<Fault>>) -> StatusCode {
    source.workspace().script(faults);
    StatusCode::NO_CONTENT
}

async fn list(
    State(source): State<Source>,
    ConnectInfo(cutter): ConnectInfo<Cutter>,
    headers: HeaderMap,
    RawQuery(query): RawQuery,
) -> Response {
    let workspace = source.workspace();
    answer(workspace, &cutter, &headers, (&Method::GET, "/sources"), || page(workspace, query.as_deref())).await
}

async fn create(
    State(source): State<Source>,
    ConnectInfo(cutter): ConnectInfo<Cutter>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let workspace = source.workspace();
    answer(workspace, &cutter, &headers, (&Method::POST, "/sources"), || made(workspace, &body)).await
}

async fn read(
    State(source): State<Source>,
    ConnectInfo(cutter): ConnectInfo<Cutter>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Response {
    let workspace = source.workspace();
    let path = format!("/sources/{id}");
    answer(workspace, &cutter, &headers, (&Method::GET, &path), || {
        let found = workspace.sources().into_iter().find(|one| one.id == id);
        found.map_or_else(not_found, |one| one_source(StatusCode::OK, &one))
    })
    .await
}

async fn update(
    State(source): State<Source>,
    ConnectInfo(cutter): ConnectInfo<Cutter>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Bytes,
) -> Response {
    let workspace = source.workspace();
    let path = format!("/sources/{id}");
    answer(workspace, &cutter, &headers, (&Method::PATCH, &path), || {
        let change: Value = serde_json::from_slice(&body).unwrap_or_default();
        let mut inventory = workspace.inventory();
        let Some(found) = inventory.sources.iter_mut().find(|one| one.id == id) else { return not_found() };
        found.enabled = change["enabled"].as_bool().unwrap_or(found.enabled);
        one_source(StatusCode::OK, found)
    })
    .await
}

async fn delete(
    State(source): State<Source>,
    ConnectInfo(cutter): ConnectInfo<Cutter>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Response {
    let workspace = source.workspace();
    let path = format!("/sources/{id}");
    answer(workspace, &cutter, &headers, (&Method::DELETE, &path), || {
        let mut inventory = workspace.inventory();
        let before = inventory.sources.len();
        inventory.sources.retain(|one| one.id != id);
        if inventory.sources.len() == before {
            not_found()
        } else {
            data(StatusCode::OK, &json!({"status": "SUCCESS"}))
        }
    })
    .await
}

async fn answer(
    workspace: &Workspace,
    cutter: &Cutter,
    headers: &HeaderMap,
    (method, path): (&Method, &str),
    behave: impl FnOnce() -> Response,
) -> Response {
    let step = workspace.meet(method, path);
    let authorized = || if authorized(workspace, headers) { behave() } else { unauthorized() };
    match step {
        None => authorized(),
        Some(Step::Status(code)) => scripted(code),
        Some(Step::Overload(milliseconds)) => overload(milliseconds),
        Some(Step::Hang) => std::future::pending().await,
        Some(Step::Reset) => {
            cutter.reset();
            StatusCode::OK.into_response()
        }
        Some(Step::DoThenReset) => {
            let done = authorized();
            cutter.reset();
            done
        }
        Some(Step::DoThenHang) => {
            authorized();
            std::future::pending().await
        }
        Some(Step::DoThenStatus(code)) => {
            authorized();
            scripted(code)
        }
    }
}

fn authorized(workspace: &Workspace, headers: &HeaderMap) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let inventory = workspace.inventory();
    given.is_some() && given == inventory.token.as_deref()
}

fn page(workspace: &Workspace, query: Option<&str>) -> Response {
    let parameter = |name: &str| parameter(query.unwrap_or_default(), name);
    let count = match parameter("count").map(|text| text.parse::<usize>()) {
        None => PAGE.0,
        Some(Ok(count)) if (1..=PAGE.1).contains(&count) => count,
        Some(_) => return invalid("pagination.count", "must be between 1 and 1000"),
    };
    let start = match parameter("cursor") {
        None => 0,
        Some(cursor) => match place(&cursor) {
            Some(place) => place,
            None => return invalid("pagination.cursor", "is not a cursor"),
        },
    };
    let sources = workspace.sources();
    let end = (start + count).min(sources.len());
    let next = (end < sources.len()).then(|| BASE64_STANDARD.encode(end.to_string()));
    let shown: Vec<Value> = sources.get(start..end).unwrap_or_default().iter().map(Made::json).collect();
    let pagination = json!({"current": BASE64_STANDARD.encode(start.to_string()), "next": next});
    data(StatusCode::OK, &json!({"sources": shown, "pagination": pagination}))
}

/// A parameter as the documentation writes it, `pagination.count`, or as Segment's SDKs do, `pagination[count]`.
fn parameter(query: &str, name: &str) -> Option<String> {
    let names = [format!("pagination.{name}"), format!("pagination%5B{name}%5D"), format!("pagination[{name}]")];
    let pair = |pair: &str| {
        pair.split_once('=').filter(|(key, _)| names.iter().any(|name| name == key)).map(|(_, v)| v.to_owned())
    };
    query.split('&').find_map(pair)
}

fn place(cursor: &str) -> Option<usize> {
    let bytes = BASE64_STANDARD.decode(cursor.replace("%3D", "=")).ok()?;
    String::from_utf8(bytes).ok()?.parse().ok()
}

fn made(workspace: &Workspace, body: &[u8]) -> Response {
    let Ok(input) = serde_json::from_slice::<Value>(body) else { return invalid("body", "is not JSON") };
    let Some(slug) = input["slug"].as_str().filter(|slug| is_slug(slug)) else {
        return invalid("slug", "must be lower case letters, digits and dashes");
    };
    let Some(enabled) = input["enabled"].as_bool() else { return invalid("enabled", "must be a boolean") };
    if input["metadataId"] != HTTP_API_SOURCE {
        return invalid("metadataId", "is no source of the catalogue");
    }
    match workspace.inventory().make(slug, enabled) {
        Some(made) => one_source(StatusCode::CREATED, &made),
        None => invalid("slug", "is taken"),
    }
}

fn is_slug(slug: &str) -> bool {
    !slug.is_empty() && slug.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

fn one_source(status: StatusCode, source: &Made) -> Response {
    data(status, &json!({"source": source.json()}))
}

fn data(status: StatusCode, data: &Value) -> Response {
    let media = [(header::CONTENT_TYPE, "application/vnd.segment.v1+json")];
    (status, media, json!({"data": data}).to_string()).into_response()
}

fn scripted(code: u16) -> Response {
    error(StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), "scripted", None)
}

fn not_found() -> Response {
    error(StatusCode::NOT_FOUND, "there is no such source", None)
}

fn unauthorized() -> Response {
    error(StatusCode::UNAUTHORIZED, "the token is not one of this workspace", None)
}

fn invalid(field: &str, message: &str) -> Response {
    error(StatusCode::UNPROCESSABLE_ENTITY, message, Some(field))
}

fn overload(milliseconds: u64) -> Response {
    let told = json!({"type": "too-many-requests", "message": "slow down", "data": {"msBeforeNext": milliseconds}});
    (StatusCode::TOO_MANY_REQUESTS, Json(json!({"errors": [told]}))).into_response()
}

fn error(status: StatusCode, message: &str, field: Option<&str>) -> Response {
    let mut told = json!({"type": status.as_str(), "message": message, "status": status.as_u16()});
    if let Some(field) = field {
        told["field"] = json!(field);
    }
    (status, Json(json!({"errors": [told]}))).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slug_is_taken_once_and_free_again_after_its_source_is_gone() {
        let workspace = Workspace::default();
        let first = workspace.make("a");
        assert_eq!(workspace.inventory().make("a", true), None);
        workspace.remove("a");
        assert_ne!(workspace.make("a").id, first.id);
        assert_eq!((workspace.sources().len(), workspace.made()), (1, 2));
    }

    #[test]
    fn parameters_are_those_of_the_documentation_and_of_the_sdks() {
        for query in ["pagination.count=3&x=1", "x=1&pagination[count]=3", "pagination%5Bcount%5D=3"] {
            assert_eq!(parameter(query, "count").as_deref(), Some("3"), "{query}");
        }
        assert_eq!(parameter("count=3", "count"), None);
    }

    #[test]
    fn a_fault_is_for_the_next_request_of_its_method_and_an_outage_for_all() {
        let workspace = Workspace::default();
        let faults = r#"[{"method": "POST", "step": {"status": 500}}, {"method": "POST", "step": "hang"}]"#;
        workspace.script(serde_json::from_str::<Vec<Fault>>(faults).expect("faults"));
        assert_eq!(workspace.meet(&Method::GET, "/sources"), None);
        assert_eq!(workspace.meet(&Method::POST, "/sources"), Some(Step::Status(500)));
        workspace.outage(Some(Step::Reset));
        assert_eq!(workspace.meet(&Method::POST, "/sources"), Some(Step::Hang));
        assert_eq!(workspace.meet(&Method::POST, "/sources"), Some(Step::Reset));
        assert_eq!(workspace.requests(), ["GET /sources", "POST /sources", "POST /sources", "POST /sources"]);
    }
}
