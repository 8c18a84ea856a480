//! Answers that several handlers share: errors in their three shapes, and headers.

use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use utoipa::IntoResponses;
use utoipa::openapi::{Ref, RefOr, Response};

/// How an error is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Shape {
    /// RFC 9457.
    Problem,
    /// As Segment's Tracking API does.
    Tracking,
    /// As Segment's Public API does.
    PublicApi,
}

/// Declares sets of errors: what they are for, their shape, and the statuses.
macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident = $shape:ident [$($status:ident),+ $(,)?];)+) => {
        $($(#[$doc])* pub struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                Shape::$shape.refer(&[$(StatusCode::$status),+])
            }
        })+

        /// Every error that is answered, in its shape.
        fn errors() -> Vec<(Shape, StatusCode)> {
            vec![$($((Shape::$shape, StatusCode::$status)),+),+]
        }
    };
}

errors! {
    /// Of a request that has neither parameters nor content.
    Asking = Problem [UNAUTHORIZED, FORBIDDEN, INTERNAL_SERVER_ERROR, SERVICE_UNAVAILABLE];
    /// Of a query.
    Reading = Problem [
        BAD_REQUEST, UNAUTHORIZED, FORBIDDEN, URI_TOO_LONG, REQUEST_HEADER_FIELDS_TOO_LARGE, INTERNAL_SERVER_ERROR,
        SERVICE_UNAVAILABLE,
    ];
    /// Of one event.
    Finding = Problem [
        BAD_REQUEST, UNAUTHORIZED, FORBIDDEN, NOT_FOUND, URI_TOO_LONG, REQUEST_HEADER_FIELDS_TOO_LARGE,
        INTERNAL_SERVER_ERROR, SERVICE_UNAVAILABLE,
    ];
    /// Of a replay.
    Replaying = Problem [
        BAD_REQUEST, UNAUTHORIZED, FORBIDDEN, NOT_FOUND, REQUEST_TIMEOUT, PAYLOAD_TOO_LARGE, URI_TOO_LONG,
        UNSUPPORTED_MEDIA_TYPE, REQUEST_HEADER_FIELDS_TOO_LARGE, INTERNAL_SERVER_ERROR, SERVICE_UNAVAILABLE,
    ];
    /// Of events that are written, each of which must be valid.
    Writing = Problem [
        BAD_REQUEST, UNAUTHORIZED, FORBIDDEN, REQUEST_TIMEOUT, CONFLICT, PAYLOAD_TOO_LARGE, UNSUPPORTED_MEDIA_TYPE,
        INTERNAL_SERVER_ERROR, SERVICE_UNAVAILABLE,
    ];
    /// Of events that are cut where they are odd.
    Taming = Problem [
        BAD_REQUEST, UNAUTHORIZED, FORBIDDEN, REQUEST_TIMEOUT, PAYLOAD_TOO_LARGE, UNSUPPORTED_MEDIA_TYPE,
        INTERNAL_SERVER_ERROR, SERVICE_UNAVAILABLE,
    ];
    /// Of calls of Segment's Tracking API.
    Tracking = Tracking [
        BAD_REQUEST, UNAUTHORIZED, FORBIDDEN, REQUEST_TIMEOUT, PAYLOAD_TOO_LARGE, UNSUPPORTED_MEDIA_TYPE,
        INTERNAL_SERVER_ERROR, SERVICE_UNAVAILABLE,
    ];
    /// Of Segment's Public API.
    PublicApi = PublicApi [
        UNAUTHORIZED, FORBIDDEN, NOT_ACCEPTABLE, URI_TOO_LONG, UNPROCESSABLE_ENTITY, TOO_MANY_REQUESTS,
        REQUEST_HEADER_FIELDS_TOO_LARGE,
        INTERNAL_SERVER_ERROR, SERVICE_UNAVAILABLE,
    ];
}

impl Shape {
    /// Names the answers among the components.
    fn refer(self, statuses: &[StatusCode]) -> BTreeMap<String, RefOr<Response>> {
        let named = |status: &StatusCode| RefOr::Ref(Ref::from_response_name(self.name(*status)));
        statuses.iter().map(|status| (status.as_u16().to_string(), named(status))).collect()
    }

    fn name(self, status: StatusCode) -> String {
        of_the_server(status).map_or_else(|| format!("{self:?}{}", status.as_u16()), str::to_owned)
    }

    fn schema(self) -> Value {
        let name = match self {
            Self::Problem => "Problem",
            Self::Tracking => "TrackingRefusal",
            Self::PublicApi => "PublicApiErrors",
        };
        json!({"$ref": format!("#/components/schemas/{name}")})
    }

    fn media_types(self, status: StatusCode) -> &'static [&'static str] {
        match self {
            Self::Problem => &[crate::problem::MEDIA_TYPE],
            Self::Tracking => &["application/json"],
            Self::PublicApi if status == StatusCode::NOT_ACCEPTABLE => &["application/json"],
            Self::PublicApi => &crate::public_api::media::MEDIA_TYPES,
        }
    }

    fn response(self, status: StatusCode) -> Value {
        if of_the_server(status).is_some() {
            return json!({"description": meaning(status)});
        }
        let schema = self.schema();
        let mut content: Map<String, Value> =
            self.media_types(status).iter().map(|name| ((*name).to_owned(), json!({"schema": schema}))).collect();
        if (self, status) == (Self::Tracking, StatusCode::FORBIDDEN) {
            // Of events that forwardings lead in a circle: a forwarding reads it.
            content.insert(crate::problem::MEDIA_TYPE.to_owned(), json!({"schema": Self::Problem.schema()}));
        }
        json!({"description": meaning(status), "headers": self.headers(status), "content": content})
    }

    fn headers(self, status: StatusCode) -> Value {
        let mut names = vec!["X-Request-Id"];
        names.extend(match status {
            StatusCode::UNAUTHORIZED => Some("WWW-Authenticate"),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Some("Accept-Encoding"),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Some("Retry-After"),
            _ => None,
        });
        let counted = [StatusCode::NOT_ACCEPTABLE, StatusCode::UNPROCESSABLE_ENTITY, StatusCode::TOO_MANY_REQUESTS]
            .contains(&status);
        if self == Self::PublicApi && counted {
            names.extend(RATE_HEADERS);
        }
        refer_to_headers(&names)
    }
}

/// Name of an answer that is the HTTP server's, before anybody looks at the request: it has no content and no headers of ours.
fn of_the_server(status: StatusCode) -> Option<&'static str> {
    match status {
        StatusCode::URI_TOO_LONG => Some("UriTooLong"),
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Some("HeadTooLong"),
        _ => None,
    }
}

/// What a caller of Segment's Public API has spent.
const RATE_HEADERS: [&str; 3] = ["X-RateLimit-Consumed", "X-RateLimit-Remaining", "X-RateLimit-Reset"];

/// What a status means here.
fn meaning(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST => "The request is not valid: each field and the rule that it breaks is named.",
        StatusCode::UNAUTHORIZED => "The request carries no credential, or one that is not known.",
        StatusCode::FORBIDDEN => "The credential does not allow this.",
        StatusCode::NOT_FOUND => "There is no such thing.",
        StatusCode::NOT_ACCEPTABLE => "`Accept` names none of the media types of the answer.",
        StatusCode::REQUEST_TIMEOUT => "The content took too long to arrive.",
        StatusCode::CONFLICT => "An id is taken by an event with other content. Nothing of the request was stored.",
        StatusCode::PAYLOAD_TOO_LARGE => "The content is larger than a request may be.",
        StatusCode::URI_TOO_LONG => "The path with its parameters is longer than 65,534 bytes.",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => "The path and the headers are longer than 96 KiB together.",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "The media type or the coding of the content is not known.",
        StatusCode::UNPROCESSABLE_ENTITY => "A parameter is not valid.",
        StatusCode::TOO_MANY_REQUESTS => "The caller has spent the requests of this window.",
        StatusCode::INTERNAL_SERVER_ERROR => {
            "A defect of the collector. Its log has the reason, under the request's id."
        }
        StatusCode::SERVICE_UNAVAILABLE => {
            "Something that this needs is away, or too much is asked at once: later it works."
        }
        _ => unreachable!("no set of errors has another status"),
    }
}

/// `components.responses`.
pub fn responses() -> Value {
    errors()
        .into_iter()
        .map(|(shape, status)| (shape.name(status), shape.response(status)))
        .collect::<Map<_, _>>()
        .into()
}

/// `components.headers`.
pub fn headers() -> Value {
    let text =
        |what: &str| json!({"description": what, "required": true, "schema": {"type": "string", "minLength": 1}});
    let number =
        |what: &str| json!({"description": what, "required": true, "schema": {"type": "integer", "minimum": 0}});
    let mut coding = text("The content codings that are accepted, where it was the coding that is not known.");
    coding["required"] = json!(false);
    json!({
        "X-Request-Id": text("Names the request in the collector's log. That of the request, if it had a short and plain one."),
        "WWW-Authenticate": text("How to show who you are (RFC 9110, section 11.6.1)."),
        "Accept-Encoding": coding,
        "Retry-After": number("After how many seconds to try again."),
        "X-RateLimit-Consumed": number("Requests of this window, this one included."),
        "X-RateLimit-Remaining": number("Requests left in this window."),
        "X-RateLimit-Reset": text("When the next window begins (RFC 5322, section 3.3)."),
    })
}

/// Adds what every answer has to one that stands at its handler.
pub fn finish(path: &str, answer: &mut Value) {
    let mut names = vec!["X-Request-Id"];
    if path == "/audit-events" {
        names.extend(RATE_HEADERS);
    }
    let shared = refer_to_headers(&names);
    match answer["headers"].as_object_mut() {
        Some(own) => own.extend(shared.as_object().cloned().unwrap_or_default()),
        None => answer["headers"] = shared,
    }
}

fn refer_to_headers(names: &[&str]) -> Value {
    let refer = |name: &&str| ((*name).to_owned(), json!({"$ref": format!("#/components/headers/{name}")}));
    names.iter().map(refer).collect::<Map<_, _>>().into()
}
