//! What the Public API answers: sources, and errors (facts of Segment, sections 2 and 7). Pure.

use audittrail_crds::document::Sensitive;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::time::Duration;

/// Longest text of a failure, in characters: a condition has room for it.
pub const WORDS_MAX_CHARS: usize = 300;

/// Errors of one answer that are told; the rest says the same.
const ERRORS_TOLD: usize = 3;

/// Longest id of a source, in characters. Segment's have 22.
const ID_MAX_CHARS: usize = 100;

/// A source of a workspace.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// Its id.
    pub id: String,
    /// Its slug, unique in the workspace.
    pub slug: String,
    /// Whether it passes on what it takes.
    pub enabled: bool,
    /// Its write keys.
    #[serde(default)]
    pub write_keys: Vec<Sensitive>,
}

impl Source {
    /// The key to write with: `present` where the source has it still, otherwise the first.
    pub fn write_key(&self, present: Option<&str>) -> Option<&Sensitive> {
        let kept = self.write_keys.iter().find(|key| Some(key.reveal()) == present);
        kept.or_else(|| self.write_keys.iter().find(|key| !key.reveal().is_empty()))
    }
}

/// One page of the list of sources.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct Page {
    /// The sources.
    pub sources: Vec<Source>,
    /// Where the next page is.
    pub pagination: Pagination,
}

/// Where the next page of a list is.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
pub struct Pagination {
    /// Cursor of the next page; absent or null on the last.
    pub next: Option<String>,
}

/// The answer that has one source.
#[derive(Deserialize)]
pub struct One {
    /// The source.
    pub source: Source,
}

#[derive(Deserialize)]
struct Envelope<T> {
    data: T,
}

/// Why something was not done. The words are for people, in one line, and hold no secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Failure {
    /// It may be done later, by itself: no answer, an overload, a failure of the other side.
    Unavailable {
        /// What happened.
        words: String,
        /// How long to wait, when the answer said so.
        after: Option<Duration>,
    },
    /// The token is refused.
    Token {
        /// What the answer said.
        words: String,
    },
    /// The request is refused, or the answer is not that of a Public API.
    Refused {
        /// The status code, when there was an answer.
        code: Option<u16>,
        /// What the answer said.
        words: String,
    },
}

impl Failure {
    /// A failure without an answer that says more.
    pub fn refused(words: impl Into<String>) -> Self {
        Self::Refused { code: None, words: words.into() }
    }

    /// Nobody answered.
    pub fn unavailable(words: impl Into<String>) -> Self {
        Self::Unavailable { words: words.into(), after: None }
    }

    /// What happened, in words.
    pub fn words(&self) -> &str {
        match self {
            Self::Unavailable { words, .. } | Self::Token { words } | Self::Refused { words, .. } => words,
        }
    }

    /// Whether there is nothing with that id.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { code: Some(404), .. })
    }

    /// Whether a refused creation may mean that the slug is taken. Segment has no code of its own for it.
    pub fn may_mean_taken(&self) -> bool {
        matches!(self, Self::Refused { code: Some(400 | 409 | 422), .. })
    }
}

/// An answer, read to its end.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    /// The status code.
    pub code: u16,
    /// `Retry-After`.
    pub retry_after: Option<String>,
    /// `X-RateLimit-Reset`.
    pub reset: Option<String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// What the answer brings, or the failure that it tells of. `token` is cut out of its words.
    pub fn data<T: DeserializeOwned>(&self, token: &Sensitive, now: Timestamp) -> Result<T, Failure> {
        self.success(token, now)?;
        let envelope: Result<Envelope<T>, _> = serde_json::from_slice(&self.body);
        // The parser's own words may quote the answer, and so a write key.
        envelope.map(|envelope| envelope.data).map_err(|error| {
            Failure::refused(format!(
                "the answer {} is not one of the Public API (line {}, column {}): check source.httpApi.create.apiEndpoint",
                self.code,
                error.line(),
                error.column()
            ))
        })
    }

    /// Nothing, or the failure that the answer tells of.
    pub fn success(&self, token: &Sensitive, now: Timestamp) -> Result<(), Failure> {
        let words = || presentable(&self.words(), token);
        match self.code {
            200..=299 => Ok(()),
            401 | 403 => Err(Failure::Token { words: words() }),
            408 | 429 | 500..=599 => Err(Failure::Unavailable { words: words(), after: self.after(now) }),
            code => Err(Failure::Refused { code: Some(code), words: words() }),
        }
    }

    /// The code, and what the error envelope says.
    fn words(&self) -> String {
        let told = serde_json::from_slice::<Errors>(&self.body).map(|errors| errors.words()).unwrap_or_default();
        if told.is_empty() {
            format!("it answered {}", self.code)
        } else {
            format!("it answered {}: {told}", self.code)
        }
    }

    /// How long to wait: the header of HTTP, the envelope's `msBeforeNext`, or the time of the reset (Segment,
    /// "Rate limits").
    fn after(&self, now: Timestamp) -> Option<Duration> {
        let seconds = || self.retry_after.as_deref()?.trim().parse().ok().map(Duration::from_secs);
        let milliseconds = || serde_json::from_slice::<Errors>(&self.body).ok()?.milliseconds_before_next();
        let reset = || {
            let at = jiff::fmt::rfc2822::parse(self.reset.as_deref()?.trim()).ok()?.timestamp();
            Duration::try_from(at.duration_since(now)).ok()
        };
        seconds().or_else(milliseconds).or_else(reset)
    }
}

/// The envelope of errors.
#[derive(Deserialize)]
struct Errors {
    errors: Vec<Told>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    r#type: Option<String>,
    message: Option<String>,
    field: Option<String>,
    data: Option<serde_json::Value>,
}

impl Errors {
    fn words(&self) -> String {
        let parts = self.errors.iter().take(ERRORS_TOLD).map(|told| {
            let words = told.message.as_deref().or(told.r#type.as_deref()).unwrap_or("no words");
            told.field.as_ref().map_or_else(|| words.to_owned(), |field| format!("{field}: {words}"))
        });
        parts.collect::<Vec<_>>().join("; ")
    }

    fn milliseconds_before_next(&self) -> Option<Duration> {
        let number = |told: &Told| told.data.as_ref()?.get("msBeforeNext")?.as_f64();
        let wait = self.errors.iter().find_map(number)?;
        Duration::try_from_secs_f64(wait / 1000.0).ok()
    }
}

/// Whether `id` can be part of a path as it is.
pub fn is_id(id: &str) -> bool {
    (1..=ID_MAX_CHARS).contains(&id.len())
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// One line without the token, cut to [`WORDS_MAX_CHARS`].
pub fn presentable(text: &str, token: &Sensitive) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ").replace(token.reveal(), "[redacted]");
    match text.char_indices().nth(WORDS_MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::now;
    use serde_json::{Value, json};

    fn token() -> Sensitive {
        Sensitive::new("sgp_secret")
    }

    fn answer(code: u16, body: &Value) -> Answer {
        Answer { code, body: body.to_string().into_bytes(), ..Answer::default() }
    }

    fn failure(answer: &Answer) -> Failure {
        answer.data::<One>(&token(), now()).err().expect("a failure")
    }

    #[test]
    fn a_source_is_read_and_what_it_has_besides_is_left() {
        let source = json!({"id": "rh5BDZp6QDHvXFCkibm1pR", "slug": "s", "name": "S", "enabled": true, "workspaceId": "w",
            "writeKeys": ["k"], "metadata": {"id": "iUM16Md8P2"}, "settings": {}, "labels": []});
        let one: One = answer(201, &json!({"data": {"source": source}})).data(&token(), now()).expect("a source");
        assert_eq!((one.source.slug.as_str(), one.source.enabled), ("s", true));
        assert_eq!(format!("{:?}", one.source.write_keys), "[[redacted]]");
    }

    #[test]
    fn the_last_page_has_no_next_or_a_null() {
        for pagination in [json!({"current": "MA=="}), json!({"current": "MA==", "next": null})] {
            let page = answer(200, &json!({"data": {"sources": [], "pagination": pagination}}));
            assert_eq!(page.data::<Page>(&token(), now()).expect("a page").pagination.next, None);
        }
    }

    #[test]
    fn every_code_has_its_failure() {
        let kind = |code| match failure(&answer(code, &json!({}))) {
            Failure::Unavailable { .. } => "later",
            Failure::Token { .. } => "token",
            Failure::Refused { .. } => "refused",
        };
        for code in [408, 429, 500, 502, 503, 504, 599] {
            assert_eq!(kind(code), "later", "{code}");
        }
        for code in [401, 403] {
            assert_eq!(kind(code), "token", "{code}");
        }
        for code in [300, 302, 400, 402, 404, 405, 409, 415, 422] {
            assert_eq!(kind(code), "refused", "{code}");
        }
        // A success without what was asked for: some other server.
        assert_eq!(kind(200), "refused");
    }

    #[test]
    fn the_words_are_those_of_the_envelope() {
        let body =
            json!({"errors": [{"type": "validation", "field": "slug", "message": "is taken"}, {"type": "other"}]});
        assert_eq!(failure(&answer(422, &body)).words(), "it answered 422: slug: is taken; other");
        assert_eq!(failure(&answer(502, &json!("<html>"))).words(), "it answered 502");
    }

    #[test]
    fn no_words_show_the_token_or_a_write_key() {
        let body = json!({"errors": [{"message": "no such\n token: Bearer sgp_secret"}]});
        assert_eq!(failure(&answer(401, &body)).words(), "it answered 401: no such token: Bearer [redacted]");
        let body =
            json!({"data": {"source": {"id": "i", "slug": "s", "enabled": "write-key", "writeKeys": ["write-key"]}}});
        assert!(!failure(&answer(200, &body)).words().contains("write-key"));
    }

    #[test]
    fn words_are_cut_past_300_characters_and_not_before() {
        assert_eq!(presentable(&"é".repeat(300), &token()).chars().count(), 300);
        assert!(presentable(&"é".repeat(301), &token()).ends_with("é…"));
    }

    #[test]
    fn the_wait_is_that_of_the_header_the_envelope_or_the_reset() {
        let after = |answer: &Answer| match failure(answer) {
            Failure::Unavailable { after, .. } => after.map(|after| after.as_millis()),
            other => panic!("{other:?}"),
        };
        let envelope =
            json!({"errors": [{"type": "too-many-requests", "data": {"msBeforeNext": 57647, "consumedPoints": 21}}]});
        let plain = answer(429, &json!({}));
        assert_eq!(after(&plain), None);
        assert_eq!(after(&Answer { retry_after: Some("7".to_owned()), ..answer(429, &envelope) }), Some(7000));
        assert_eq!(after(&answer(429, &envelope)), Some(57_647));
        let reset = |text: &str| after(&Answer { reset: Some(text.to_owned()), ..plain.clone() });
        assert_eq!(reset("Mon, 23 Nov 2026 10:00:30 +0000"), Some(30_000));
        assert_eq!(reset("Mon, 23 Nov 2026 10:00:30 GMT"), Some(30_000));
        // Past, or not a date.
        assert_eq!(reset("Mon, 23 Nov 2026 09:59:30 +0000"), None);
        assert_eq!(reset("soon"), None);
    }

    #[test]
    fn a_key_that_the_source_still_has_is_kept() {
        let keys = |keys: &[&str]| Source {
            id: "i".to_owned(),
            slug: "s".to_owned(),
            enabled: true,
            write_keys: keys.iter().map(|key| Sensitive::new(*key)).collect(),
        };
        let chosen = |source: &Source, present| source.write_key(present).map(|key| key.reveal().to_owned());
        assert_eq!(chosen(&keys(&["a", "b"]), None).as_deref(), Some("a"));
        assert_eq!(chosen(&keys(&["a", "b"]), Some("b")).as_deref(), Some("b"));
        assert_eq!(chosen(&keys(&["a", "b"]), Some("rotated")).as_deref(), Some("a"));
        assert_eq!(chosen(&keys(&["", "b"]), None).as_deref(), Some("b"));
        assert_eq!(chosen(&keys(&[]), Some("a")), None);
    }

    #[test]
    fn an_id_is_one_segment_of_a_path() {
        assert!(is_id("rh5BDZp6QDHvXFCkibm1pR") && is_id(&"a".repeat(ID_MAX_CHARS)));
        for id in ["", "..", "a/b", "a?b", "a%2F", &"a".repeat(ID_MAX_CHARS + 1)] {
            assert!(!is_id(id), "{id}");
        }
    }
}
