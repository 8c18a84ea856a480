//! Errors as Segment's Public API tells them: `RequestErrorEnvelope`.

use super::budget::Spent;
use super::media::MEDIA_TYPES;
use crate::problem::Problem;
use axum::Json;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

/// Why a request is not answered with what it asked for.
#[derive(Debug)]
pub struct Refused {
    status: StatusCode,
    headers: HeaderMap,
    errors: Vec<RequestError>,
}

/// `RequestError`.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = PublicApiError)]
pub struct RequestError {
    r#type: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
    status: u16,
}

#[derive(Serialize, ToSchema)]
#[schema(as = PublicApiErrors)]
pub(crate) struct Envelope {
    errors: Vec<RequestError>,
}

impl Refused {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, headers: HeaderMap::new(), errors: vec![RequestError::new(status, message)] }
    }

    /// 405.
    pub fn method_not_allowed() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "audit events can only be listed, with GET")
    }

    /// 406.
    pub fn not_acceptable() -> Self {
        let types = MEDIA_TYPES.join(", ");
        Self::new(StatusCode::NOT_ACCEPTABLE, format!("Accept names none of the media types of the answer: {types}"))
    }

    /// 429, in the words of Segment's page Rate Limits.
    pub fn too_many_requests(spent: &Spent) -> Self {
        let milliseconds = spent.resets_in.as_nanos().div_ceil(1_000_000);
        let mut refused = Self::new(StatusCode::TOO_MANY_REQUESTS, "Too many requests");
        refused.errors[0].data = Some(json!({
            "remainingPoints": spent.remaining,
            "msBeforeNext": u64::try_from(milliseconds).unwrap_or(u64::MAX),
            "consumedPoints": spent.consumed,
        }));
        let seconds = u64::try_from(milliseconds.div_ceil(1_000)).unwrap_or(u64::MAX);
        refused.headers.insert(header::RETRY_AFTER, seconds.into());
        refused
    }
}

impl RequestError {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { r#type: kind(status), message: message.into(), field: None, data: None, status: status.as_u16() }
    }
}

/// Segment names `validation`, `server` and `unknown` in its model, and `RequestError` where the limit is reached.
fn kind(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "unauthorized",
        StatusCode::FORBIDDEN => "forbidden",
        StatusCode::UNPROCESSABLE_ENTITY => "validation",
        StatusCode::TOO_MANY_REQUESTS => "RequestError",
        status if status.is_server_error() => "server",
        _ => "unknown",
    }
}

/// What a parameter breaks is 422 here. Headers such as `Retry-After` stay.
impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        let status = match problem.status() {
            StatusCode::BAD_REQUEST => StatusCode::UNPROCESSABLE_ENTITY,
            status => status,
        };
        let mut errors: Vec<RequestError> = problem
            .errors()
            .iter()
            .map(|error| RequestError {
                field: Some(error.field.clone()),
                ..RequestError::new(status, error.to_string())
            })
            .collect();
        if errors.is_empty() {
            errors.push(RequestError::new(status, problem.detail()));
        }
        let mut headers = problem.into_response().into_parts().0.headers;
        headers.remove(header::CONTENT_TYPE);
        headers.remove(header::CONTENT_LENGTH);
        Self { status, headers, errors }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.status, self.headers, Json(Envelope { errors: self.errors })).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::FieldError;
    use std::time::Duration;

    fn errors(refused: &Refused) -> Value {
        serde_json::to_value(&refused.errors).expect("JSON")
    }

    #[test]
    fn each_broken_parameter_is_a_validation_error_of_its_field() {
        let broken = |field: &str| FieldError::of(field, "must not be empty");
        let refused = Refused::from(Problem::invalid(vec![broken("resourceId"), broken("resourceType")]));
        assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(
            errors(&refused),
            json!([
                {"type": "validation", "message": "resourceId must not be empty", "field": "resourceId", "status": 422},
                {"type": "validation", "message": "resourceType must not be empty", "field": "resourceType", "status": 422},
            ])
        );
    }

    #[test]
    fn a_problem_keeps_its_status_its_words_and_its_header() {
        let refused = Refused::from(Problem::credential_missing("send one"));
        assert_eq!(errors(&refused), json!([{"type": "unauthorized", "message": "send one", "status": 401}]));
        assert!(refused.headers.contains_key(header::WWW_AUTHENTICATE));
        let refused = Refused::from(Problem::unavailable(2, "later"));
        assert_eq!(errors(&refused), json!([{"type": "server", "message": "later", "status": 503}]));
        assert_eq!(refused.headers[header::RETRY_AFTER], "2");
        let refused = Refused::from(Problem::forbidden("no"));
        assert_eq!(errors(&refused), json!([{"type": "forbidden", "message": "no", "status": 403}]));
    }

    #[test]
    fn an_answer_is_segments_envelope_and_no_problem_document() {
        let response = Refused::from(Problem::forbidden("no")).into_response();
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/json");
        assert_eq!(serde_json::to_value(Envelope { errors: Vec::new() }).expect("JSON"), json!({"errors": []}));
    }

    #[test]
    fn who_asked_too_often_is_told_when_the_next_window_begins() {
        let left = |resets_in| Refused::too_many_requests(&Spent { consumed: 301, remaining: 0, resets_in });
        let refused = left(Duration::from_micros(57_646_001));
        assert_eq!(
            errors(&refused),
            json!([{"type": "RequestError", "message": "Too many requests", "status": 429,
                "data": {"remainingPoints": 0, "msBeforeNext": 57_647, "consumedPoints": 301}}])
        );
        assert_eq!(refused.headers[header::RETRY_AFTER], "58");
        assert_eq!(left(Duration::from_secs(1)).headers[header::RETRY_AFTER], "1");
    }
}
