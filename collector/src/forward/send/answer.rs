//! An answer of a source: read within limits, and what it says in words.

use reqwest::Response;
use reqwest::header::RETRY_AFTER;
use serde_json::Value;
use std::borrow::Cow;

/// Largest answer that is read, in bytes. It has room for an error about each item of a batch.
const ANSWER_MAX_BYTES: usize = 1024 * 1024;

/// Members in which JSON answers say what is wrong, the most telling first: those of the usual APIs, then those of problem
/// documents (RFC 9457, section 3.1) and Jitsu's.
const TELLING_MEMBERS: [&str; 5] = ["message", "error", "detail", "title", "errors"];

/// An answer.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) status: u16,
    /// The header `Retry-After`.
    pub(super) retry_after: Option<String>,
    /// The body; of one that is not a success and larger than [`ANSWER_MAX_BYTES`], the beginning.
    pub(super) body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AnswerError {
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    #[error("its answer is larger than {ANSWER_MAX_BYTES} bytes")]
    TooLarge,
}

/// Reads an answer to its end: of one that breaks off nobody knows what it would have said. Of a refusal the status says
/// enough, so that one which is too large is one nevertheless.
pub(super) async fn read(mut response: Response) -> Result<Answered, AnswerError> {
    let status = response.status();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = ANSWER_MAX_BYTES - body.len();
        body.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() > room {
            if status.is_success() {
                return Err(AnswerError::TooLarge);
            }
            break;
        }
    }
    Ok(Answered { status: status.as_u16(), retry_after, body })
}

/// What a source says about itself: the most telling text of a JSON body, else the body as text.
pub(super) fn words(body: &[u8]) -> Cow<'_, str> {
    let json = serde_json::from_slice(body).ok();
    match json.as_ref().and_then(telling) {
        Some(text) => Cow::Owned(text.to_owned()),
        None => String::from_utf8_lossy(body),
    }
}

fn telling(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) if !text.trim().is_empty() => Some(text),
        Value::Array(values) => values.iter().find_map(telling),
        Value::Object(members) => TELLING_MEMBERS.iter().find_map(|name| members.get(*name).and_then(telling)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_json_the_most_telling_member_is_told() {
        for (body, expected) in [
            (r#"{"success":false,"message":"no such source","error":"x"}"#, "no such source"),
            (r#"{"code":"invalid","error":"no key"}"#, "no key"),
            (r#"{"error":{"code":7,"message":"quota"}}"#, "quota"),
            (r#"{"type":"about:blank","title":"Forbidden","detail":"It went in a circle."}"#, "It went in a circle."),
            (r#"{"message":"","detail":" ","title":"Gone"}"#, "Gone"),
            (r#"{"ok":false,"receivedEvents":2,"errors":["no destination","x"]}"#, "no destination"),
            (r#"{"errors":[{"type":"bad-request","message":"too long"}]}"#, "too long"),
            (r#""just text""#, "just text"),
        ] {
            assert_eq!(words(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn what_is_not_json_or_says_nothing_is_told_as_it_is() {
        for body in ["<html>502</html>", r#"{"ok":false}"#, r#"{"message":7}"#, r#"{"message":"cut o"#, ""] {
            assert_eq!(words(body.as_bytes()), body);
        }
        assert_eq!(words(b"a\xffb"), "a\u{fffd}b");
    }
}
