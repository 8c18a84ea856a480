//! Which format a request to `POST /v1/events` has: its headers decide.

use crate::problem::Problem;
use axum::http::{HeaderMap, header};

/// What is accepted, as a 415 lists it.
const ACCEPTED: &str = "application/json (an event, or an object with an array \"events\"), application/x-ndjson (an event a line), \
    application/cloudevents+json, application/cloudevents-batch+json, all in UTF-8, and any type beside a header ce-specversion \
    (CloudEvents in binary mode)";

/// Format of a body.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Format {
    /// One native event, or a batch of them.
    Json,
    /// A native event a line.
    Lines,
    /// One CloudEvent, structured (CloudEvents HTTP binding, section 3.2).
    CloudEvent,
    /// A batch of CloudEvents (section 3.3).
    CloudEvents,
    /// One CloudEvent, its attributes in headers (section 3.1).
    CloudEventHeaders,
}

/// A media type (RFC 9110, section 8.3.1), as far as it matters here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MediaType {
    /// Type and subtype, in lower case.
    pub essence: String,
    /// The parameter `charset`, in lower case.
    pub charset: Option<String>,
}

impl MediaType {
    /// Reads the header content-type. None when it is absent or unreadable.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let text = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        let mut parts = text.split(';');
        let essence = parts.next()?.trim().to_ascii_lowercase();
        let charset = parts.filter_map(|part| part.split_once('=')).find_map(|(name, value)| {
            let value = value.trim().trim_matches('"').to_ascii_lowercase();
            name.trim().eq_ignore_ascii_case("charset").then_some(value)
        });
        Some(Self { essence, charset })
    }

    /// Whether text of this type is UTF-8. JSON always is, so absence means that (RFC 8259, section 8.1).
    pub fn is_utf8(&self) -> bool {
        self.charset.as_deref().is_none_or(|charset| matches!(charset, "utf-8" | "utf8" | "us-ascii"))
    }

    /// Whether this is JSON.
    pub fn is_json(&self) -> bool {
        matches!(&*self.essence, "application/json" | "text/json") || self.essence.ends_with("+json")
    }

    /// Whether this is text.
    pub fn is_text(&self) -> bool {
        self.essence.starts_with("text/")
            || matches!(&*self.essence, "application/xml")
            || self.essence.ends_with("+xml")
    }
}

/// The format of a request with these headers; a problem (415) that lists what is accepted.
pub fn format(headers: &HeaderMap) -> Result<Format, Problem> {
    let media_type = MediaType::of(headers);
    let format = match media_type.as_ref().map_or("", |media_type| &*media_type.essence) {
        // These come first: a structured event may repeat its attributes in headers (section 3.2.3.1).
        "application/cloudevents+json" => Format::CloudEvent,
        "application/cloudevents-batch+json" => Format::CloudEvents,
        _ if headers.contains_key("ce-specversion") => Format::CloudEventHeaders,
        "application/json" => Format::Json,
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" => Format::Lines,
        "" => return Err(unsupported("a content-type is required")),
        _ => return Err(unsupported("this content-type is not known")),
    };
    if media_type.is_some_and(|media_type| {
        !media_type.is_utf8() && (media_type.is_json() || format != Format::CloudEventHeaders)
    }) {
        return Err(unsupported("the charset must be utf-8"));
    }
    Ok(format)
}

fn unsupported(what: &str) -> Problem {
    Problem::unsupported_media_type(format!("{what}; accepted: {ACCEPTED}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().expect("a name"), HeaderValue::from_static(value))).collect()
    }

    fn of(content_type: &'static str) -> Result<Format, Problem> {
        format(&headers(&[("content-type", content_type)]))
    }

    #[test]
    fn each_content_type_has_its_format() {
        for (content_type, expected) in [
            ("application/json", Format::Json),
            ("Application/JSON; Charset=\"UTF-8\"", Format::Json),
            ("application/x-ndjson", Format::Lines),
            ("application/ndjson", Format::Lines),
            ("application/jsonl;charset=utf-8", Format::Lines),
            ("application/cloudevents+json; charset=UTF-8", Format::CloudEvent),
            ("application/cloudevents-batch+json", Format::CloudEvents),
        ] {
            assert_eq!(of(content_type), Ok(expected), "{content_type}");
        }
    }

    #[test]
    fn what_is_not_known_lists_what_is() {
        for content_type in ["text/plain", "application/xml", "", "application/cloudevents+xml", "application/jsonx"] {
            let problem = of(content_type).expect_err(content_type);
            assert_eq!(problem.status(), 415);
            assert!(problem.detail().contains("application/x-ndjson"), "{problem:?}");
        }
        assert_eq!(format(&HeaderMap::new()).expect_err("refused").status(), 415);
    }

    #[test]
    fn only_utf_8_is_read() {
        for content_type in ["application/json; charset=iso-8859-1", "application/x-ndjson;charset=utf-16"] {
            assert!(of(content_type).expect_err("refused").detail().contains("charset"), "{content_type}");
        }
        let latin = headers(&[("ce-specversion", "1.0"), ("content-type", "application/json; charset=latin1")]);
        assert_eq!(format(&latin).expect_err("refused").status(), 415);
    }

    #[test]
    fn a_ce_specversion_makes_any_other_type_binary_mode() {
        let with = |content_type| format(&headers(&[("ce-specversion", "1.0"), ("content-type", content_type)]));
        for content_type in ["application/json", "text/plain", "image/png"] {
            assert_eq!(with(content_type), Ok(Format::CloudEventHeaders), "{content_type}");
        }
        assert_eq!(with("application/cloudevents+json"), Ok(Format::CloudEvent));
        assert_eq!(format(&headers(&[("ce-specversion", "1.0")])), Ok(Format::CloudEventHeaders));
    }
}
