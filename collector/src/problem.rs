//! Errors as clients see them: problem documents (RFC 9457).

use crate::event::json;
use crate::store::walk::ReadError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use std::fmt;
use utoipa::ToSchema;

/// Media type of a problem document (RFC 9457, section 3).
pub const MEDIA_TYPE: &str = "application/problem+json";

/// After how many seconds a client may try again when nothing more is known: a restart of a database
/// takes some seconds, and clients that all come back at once would make it longer.
pub const RETRY_AFTER_SECONDS: u32 = 2;

/// Errors listed in one problem, at most: each event of the largest batch, twice.
pub const ERRORS_MAX: usize = 10_000;

/// SQLSTATE `query_canceled`: the statement ran into its timeout.
const QUERY_CANCELED: &str = "57014";

/// One field and the rule that it breaks.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, ToSchema)]
pub struct FieldError {
    /// Index of the event in its batch, from 0; absent where there is no batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// The field, as a path such as `actor.id`, or the parameter.
    pub field: String,
    /// The rule, as what to do about it: `must not be empty`.
    pub rule: String,
}

impl FieldError {
    /// The error of a parameter or of a request without a batch.
    pub fn of(field: impl Into<String>, rule: impl Into<String>) -> Self {
        Self { index: None, field: field.into(), rule: rule.into() }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            Some(index) => write!(f, "event {index}: {} {}", self.field, self.rule),
            None => write!(f, "{} {}", self.field, self.rule),
        }
    }
}

/// An answer that is not the one hoped for. Its text is for the caller: it never holds secrets or
/// what other clients sent.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, ToSchema)]
#[schema(description = "A problem document (RFC 9457).")]
pub struct Problem {
    /// The kind of problem, which stays the same.
    r#type: &'static str,
    /// The kind, as people read it.
    title: &'static str,
    /// The status of the answer.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What is wrong, and what to do about it.
    detail: String,
    /// The fields that break rules.
    #[schema(max_items = 10_000)]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    #[serde(skip)]
    header: Option<Header>,
}

/// The header that belongs to a problem.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Header {
    Challenge(&'static str),
    RetryAfterSeconds(u32),
    AcceptEncoding(&'static str),
}

/// Declares the types of problems: their stable URI, title and status in one place.
macro_rules! problem_types {
    ($($name:ident = $status:ident, $slug:literal, $title:literal;)+) => {
        $(const $name: Type = Type {
            uri: concat!("https://audittrail.dev/problems/", $slug),
            title: $title,
            status: StatusCode::$status.as_u16(),
        };)+
    };
}

struct Type {
    uri: &'static str,
    title: &'static str,
    status: u16,
}

problem_types! {
    INVALID = BAD_REQUEST, "invalid", "The request is not valid";
    UNAUTHENTICATED = UNAUTHORIZED, "unauthenticated", "The request carries no valid credential";
    FORBIDDEN = FORBIDDEN, "forbidden", "The credential does not allow this";
    LOOP = FORBIDDEN, "forwarding-loop", "Forwardings lead in a circle";
    NOT_FOUND = NOT_FOUND, "not-found", "There is nothing here";
    METHOD_NOT_ALLOWED = METHOD_NOT_ALLOWED, "method-not-allowed", "The resource has no such method";
    TIMEOUT = REQUEST_TIMEOUT, "timeout", "The request took too long to arrive";
    CONFLICT = CONFLICT, "conflict", "An id is taken by other content";
    TOO_LARGE = PAYLOAD_TOO_LARGE, "too-large", "The request is too large";
    UNSUPPORTED = UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The content is of an unknown type";
    TOO_MANY = TOO_MANY_REQUESTS, "too-many-requests", "There are too many requests";
    INTERNAL = INTERNAL_SERVER_ERROR, "internal", "The collector failed";
    UNAVAILABLE = SERVICE_UNAVAILABLE, "unavailable", "The collector cannot do this at the moment";
}

/// Type of the problem that a forwarding meets whose events come from the trail that it sends them to.
pub const FORWARDING_LOOP: &str = LOOP.uri;

impl Problem {
    fn new(of: &Type, detail: impl Into<String>) -> Self {
        let Type { uri, title, status } = *of;
        Self { r#type: uri, title, status, detail: detail.into(), errors: Vec::new(), header: None }
    }

    /// 400: the request breaks rules. At most 10,000 errors are listed; the detail tells the first, and how many there are.
    pub fn invalid(errors: Vec<FieldError>) -> Self {
        Self::new(&INVALID, summary(&errors)).with_errors(errors)
    }

    /// 400: the body cannot be read at all.
    pub fn unreadable(detail: impl Into<String>) -> Self {
        Self::new(&INVALID, detail)
    }

    /// 401: no credential was sent.
    pub fn credential_missing(detail: impl Into<String>) -> Self {
        let header = Some(Header::Challenge(r#"Bearer realm="audittrail""#));
        Self { header, ..Self::new(&UNAUTHENTICATED, detail) }
    }

    /// 401: the credential is not known (RFC 6750, section 3.1, `invalid_token`).
    pub fn credential_unknown(detail: impl Into<String>) -> Self {
        let header = Some(Header::Challenge(r#"Bearer realm="audittrail", error="invalid_token""#));
        Self { header, ..Self::new(&UNAUTHENTICATED, detail) }
    }

    /// 403: the credential is known and does not allow this.
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(&FORBIDDEN, detail)
    }

    /// 403: the events were in this trail already, and were forwarded back to it.
    pub fn forwarding_loop(detail: impl Into<String>) -> Self {
        Self::new(&LOOP, detail)
    }

    /// 404.
    pub fn not_found(detail: impl Into<String>) -> Self {
        Self::new(&NOT_FOUND, detail)
    }

    /// 405.
    pub fn method_not_allowed(detail: impl Into<String>) -> Self {
        Self::new(&METHOD_NOT_ALLOWED, detail)
    }

    /// 409: ids are taken by other content; each is listed.
    pub fn conflict(errors: Vec<FieldError>) -> Self {
        Self::new(&CONFLICT, summary(&errors)).with_errors(errors)
    }

    /// 408: the body did not arrive in time.
    pub fn timeout(detail: impl Into<String>) -> Self {
        Self::new(&TIMEOUT, detail)
    }

    /// 413: the request passes a limit, which `detail` names with its unit.
    pub fn too_large(detail: impl Into<String>) -> Self {
        Self::new(&TOO_LARGE, detail)
    }

    /// 415.
    pub fn unsupported_media_type(detail: impl Into<String>) -> Self {
        Self::new(&UNSUPPORTED, detail)
    }

    /// 415: the content coding is unknown; `accepted` lists those that are not (RFC 9110, section 12.5.3).
    pub fn unsupported_encoding(accepted: &'static str, detail: impl Into<String>) -> Self {
        Self { header: Some(Header::AcceptEncoding(accepted)), ..Self::new(&UNSUPPORTED, detail) }
    }

    /// 429: this caller asks for too much.
    pub fn too_many_requests(retry_after_seconds: u32, detail: impl Into<String>) -> Self {
        Self::new(&TOO_MANY, detail).retry_after(retry_after_seconds)
    }

    /// 500: a bug, or data that this version cannot read. The log has what is not said here.
    pub fn internal() -> Self {
        Self::new(&INTERNAL, "the collector's log has the reason, under the id in x-request-id")
    }

    /// 503: something that this needs is away.
    pub fn unavailable(retry_after_seconds: u32, detail: impl Into<String>) -> Self {
        Self::new(&UNAVAILABLE, detail).retry_after(retry_after_seconds)
    }

    /// 503: a query took longer than it may.
    fn query_too_long() -> Self {
        Self::unavailable(RETRY_AFTER_SECONDS, "the query took too long: ask for less, for example with from and to")
    }

    /// The status that this is answered with.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// What the caller reads.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The fields that break rules.
    pub fn errors(&self) -> &[FieldError] {
        &self.errors
    }

    fn with_errors(mut self, mut errors: Vec<FieldError>) -> Self {
        errors.truncate(ERRORS_MAX);
        self.errors = errors;
        self
    }

    fn retry_after(mut self, seconds: u32) -> Self {
        self.header = Some(Header::RetryAfterSeconds(seconds));
        self
    }
}

fn summary(errors: &[FieldError]) -> String {
    match errors {
        [] => String::new(),
        [only] => only.to_string(),
        [first, ..] => format!("{first} ({} errors in all)", errors.len()),
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Database(error) => error.into(),
            ReadError::TooLong => {
                tracing::warn!("a query took too long");
                Self::query_too_long()
            }
        }
    }
}

/// A read that failed. Logged here, since callers only pass it on.
impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Database(refusal) if refusal.code().is_some_and(|code| code == QUERY_CANCELED) => {
                tracing::warn!(%error, "a query ran into the statement timeout");
                Self::query_too_long()
            }
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => {
                tracing::error!(%error, "the database holds what this version cannot read");
                Self::internal()
            }
            _ => {
                tracing::warn!(%error, "the database does not answer");
                Self::unavailable(RETRY_AFTER_SECONDS, "the database does not answer")
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json::canonical(&self);
        let mut response = (self.status(), [(header::CONTENT_TYPE, MEDIA_TYPE)], body).into_response();
        match self.header {
            Some(Header::Challenge(challenge)) => {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            }
            Some(Header::RetryAfterSeconds(seconds)) => {
                response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
            }
            Some(Header::AcceptEncoding(accepted)) => {
                response.headers_mut().insert(header::ACCEPT_ENCODING, HeaderValue::from_static(accepted));
            }
            None => {}
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn document(problem: &Problem) -> serde_json::Value {
        serde_json::to_value(problem).expect("serializable")
    }

    #[test]
    fn an_invalid_batch_lists_index_field_and_rule() {
        let bad = |index, field: &str| FieldError {
            index: Some(index),
            field: field.to_owned(),
            rule: "must not be empty".to_owned(),
        };
        assert_eq!(
            document(&Problem::invalid(vec![bad(0, "id"), bad(7, "actor.id")])),
            json!({
                "type": "https://audittrail.dev/problems/invalid",
                "title": "The request is not valid",
                "status": 400,
                "detail": "event 0: id must not be empty (2 errors in all)",
                "errors": [
                    {"index": 0, "field": "id", "rule": "must not be empty"},
                    {"index": 7, "field": "actor.id", "rule": "must not be empty"},
                ],
            })
        );
    }

    #[test]
    fn a_parameter_has_no_index() {
        assert_eq!(
            document(&Problem::invalid(vec![FieldError::of("limit", "must be a number from 1 to 1000")])),
            json!({
                "type": "https://audittrail.dev/problems/invalid",
                "title": "The request is not valid",
                "status": 400,
                "detail": "limit must be a number from 1 to 1000",
                "errors": [{"field": "limit", "rule": "must be a number from 1 to 1000"}],
            })
        );
    }

    #[test]
    fn errors_are_listed_up_to_the_bound() {
        let errors = |count| vec![FieldError::of("id", "is taken"); count];
        assert_eq!(Problem::conflict(errors(ERRORS_MAX)).errors.len(), ERRORS_MAX);
        let one_more = Problem::conflict(errors(ERRORS_MAX + 1));
        assert_eq!(one_more.errors.len(), ERRORS_MAX);
        assert!(one_more.detail.contains("10001 errors"));
    }

    #[test]
    fn a_problem_without_errors_has_no_such_member() {
        assert_eq!(
            document(&Problem::too_many_requests(3, "wait")),
            json!({
                "type": "https://audittrail.dev/problems/too-many-requests",
                "title": "There are too many requests",
                "status": 429,
                "detail": "wait",
            })
        );
    }

    #[test]
    fn each_problem_has_the_header_that_belongs_to_it() {
        let header = |problem: Problem, name| problem.into_response().headers().get(name).cloned();
        let unavailable = header(Problem::unavailable(5, ""), header::RETRY_AFTER);
        assert_eq!(unavailable.expect("present"), "5");
        let missing = header(Problem::credential_missing(""), header::WWW_AUTHENTICATE);
        assert_eq!(missing.expect("present"), r#"Bearer realm="audittrail""#);
        let unknown = header(Problem::credential_unknown(""), header::WWW_AUTHENTICATE);
        assert_eq!(unknown.expect("present"), r#"Bearer realm="audittrail", error="invalid_token""#);
        assert_eq!(header(Problem::forbidden(""), header::CONTENT_TYPE).expect("present"), MEDIA_TYPE);
    }

    /// Forwardings of other versions know it by this.
    #[test]
    fn a_loop_has_a_type_of_its_own() {
        assert_eq!(FORWARDING_LOOP, "https://audittrail.dev/problems/forwarding-loop");
        let problem = document(&Problem::forwarding_loop("come no more"));
        assert_eq!((&problem["type"], &problem["status"]), (&json!(FORWARDING_LOOP), &json!(403)));
    }
}
