//! In which of Segment's media types an answer is given: its content is the same in all of them.

use axum::http::{HeaderMap, HeaderValue, header};

/// Segment's media types, stable version first (`auditTrailApi.ts`, `produces`).
pub const MEDIA_TYPES: [&str; 4] = [
    "application/vnd.segment.v1+json",
    JSON,
    "application/vnd.segment.v1beta+json",
    "application/vnd.segment.v1alpha+json",
];

/// For who does not say, or takes anything.
const JSON: &str = "application/json";

/// A media type of [`MEDIA_TYPES`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MediaType(&'static str);

impl MediaType {
    /// Plain JSON.
    pub const JSON: Self = Self(JSON);

    /// The one that `Accept` likes best (RFC 9110, section 12.5.1): by its weight, named before a wildcard, then the first.
    /// None where it likes none of them.
    pub fn wanted(headers: &HeaderMap) -> Option<Self> {
        let accept = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let ranges: Vec<Range> = accept.flat_map(|value| value.split(',')).filter_map(Range::parse).collect();
        if ranges.is_empty() {
            return Some(Self::JSON);
        }
        let liked = ranges.into_iter().filter(|range| range.weight > 0).rev();
        liked.max_by_key(|range| (range.weight, range.named)).map(|range| range.media_type)
    }

    /// As a header.
    pub fn header(self) -> HeaderValue {
        HeaderValue::from_static(self.0)
    }
}

/// A range of `Accept` that one of ours lies in.
struct Range {
    media_type: MediaType,
    named: bool,
    /// In thousandths: a weight has three digits at most.
    weight: u16,
}

impl Range {
    /// None where none of ours lies in it: but what is not wanted at all stays, with weight 0.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(';').map(str::trim);
        let range = parts.next().filter(|range| !range.is_empty())?;
        let weight = parts.find_map(|parameter| parameter.strip_prefix("q=")).map_or(1000, thousandths);
        let named = MEDIA_TYPES.into_iter().find(|name| name.eq_ignore_ascii_case(range));
        match named {
            Some(name) => Some(Self { media_type: MediaType(name), named: true, weight }),
            None if matches!(range, "*/*" | "application/*") => {
                Some(Self { media_type: MediaType::JSON, named: false, weight })
            }
            None => Some(Self { media_type: MediaType::JSON, named: false, weight: 0 }),
        }
    }
}

/// What cannot be read wants nothing.
fn thousandths(weight: &str) -> u16 {
    let digits = |fraction: &str| {
        let read = fraction.parse::<u16>().ok().filter(|_| fraction.len() <= 3)?;
        Some(read * 10_u16.pow(3 - u32::try_from(fraction.len()).ok()?))
    };
    match weight.split_once('.') {
        None if weight == "1" => 1000,
        Some(("1", zeros)) if zeros.bytes().all(|digit| digit == b'0') => 1000,
        Some(("0", fraction)) => digits(fraction).unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(accept: &[&'static str]) -> Option<&'static str> {
        let mut headers = HeaderMap::new();
        for value in accept {
            headers.append(header::ACCEPT, HeaderValue::from_static(value));
        }
        MediaType::wanted(&headers).map(|media_type| media_type.0)
    }

    #[test]
    fn each_media_type_is_answered_to_who_asks_for_it() {
        for name in MEDIA_TYPES {
            assert_eq!(wanted(&[name]), Some(name));
        }
        assert_eq!(wanted(&["Application/JSON; charset=utf-8"]), Some("application/json"));
    }

    #[test]
    fn who_does_not_say_gets_json() {
        assert_eq!(wanted(&[]), Some("application/json"));
        assert_eq!(wanted(&[""]), Some("application/json"));
        assert_eq!(wanted(&["*/*"]), Some("application/json"));
        assert_eq!(wanted(&["text/html, application/*;q=0.8"]), Some("application/json"));
    }

    #[test]
    fn the_heaviest_wins_then_what_is_named_then_the_first() {
        let (v1, json, alpha) = (MEDIA_TYPES[0], MEDIA_TYPES[1], MEDIA_TYPES[3]);
        assert_eq!(wanted(&["application/json;q=0.5, application/vnd.segment.v1+json;q=0.51"]), Some(v1));
        assert_eq!(wanted(&["*/*, application/vnd.segment.v1alpha+json"]), Some(alpha));
        assert_eq!(wanted(&["application/json, application/vnd.segment.v1+json"]), Some(json));
        assert_eq!(wanted(&["application/vnd.segment.v1+json", "application/json"]), Some(v1));
        assert_eq!(wanted(&["application/json;q=0, */*;q=0.1"]), Some(json));
    }

    #[test]
    fn who_wants_something_else_gets_nothing() {
        assert_eq!(wanted(&["text/html"]), None);
        assert_eq!(wanted(&["application/vnd.segment.v2+json"]), None);
        assert_eq!(wanted(&["application/json;q=0"]), None);
        assert_eq!(wanted(&["application/json;q=0.000"]), None);
    }

    #[test]
    fn weights_have_three_digits() {
        for (text, expected) in [("1", 1000), ("1.000", 1000), ("0.5", 500), ("0.05", 50), ("0.005", 5), ("0.999", 999)]
        {
            assert_eq!(thousandths(text), expected, "{text}");
        }
        for text in ["0", "0.", "0.0005", "1.5", "2", "-1", "x"] {
            assert_eq!(thousandths(text), 0, "{text}");
        }
    }
}
