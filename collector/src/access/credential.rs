//! The credential of a request: one `Authorization` header (RFC 9110, section 11.6.2). Never the URL,
//! which ends up in logs.

use crate::problem::Problem;
use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Length of a credential, in bytes, at most. Tokens with many groups have some thousand.
pub const CREDENTIAL_MAX_BYTES: usize = 16 * 1024;

const WANTED: &str = "send one header Authorization: Bearer TOKEN (or a write key as the user of Basic)";

/// What a request shows to be let in.
#[derive(Clone, Eq, PartialEq)]
pub enum Credential {
    /// A token or a write key (RFC 6750).
    Bearer(String),
    /// The user of Basic (RFC 7617): a write key, as HTTP API clients send it. The password is not looked at.
    BasicUser(String),
}

impl Credential {
    /// Of the headers of a request; a 401 when there is none that can be read.
    pub fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        let mut values = headers.get_all(header::AUTHORIZATION).iter();
        let value = values.next().ok_or_else(|| Problem::credential_missing(WANTED))?;
        let readable = value.to_str().ok().filter(|text| text.len() <= CREDENTIAL_MAX_BYTES && values.next().is_none());
        readable
            .and_then(parse)
            .ok_or_else(|| Problem::credential_missing(format!("the Authorization header cannot be read: {WANTED}")))
    }

    /// The secret itself. Callers must not print it.
    pub fn secret(&self) -> &str {
        match self {
            Self::Bearer(secret) | Self::BasicUser(secret) => secret,
        }
    }
}

fn parse(value: &str) -> Option<Credential> {
    let (scheme, rest) = value.split_once(' ')?;
    let rest = rest.trim();
    let credential = if scheme.eq_ignore_ascii_case("bearer") {
        Credential::Bearer(rest.to_owned())
    } else if scheme.eq_ignore_ascii_case("basic") {
        let pair = String::from_utf8(STANDARD.decode(rest).ok()?).ok()?;
        Credential::BasicUser(pair.split_once(':')?.0.to_owned())
    } else {
        return None;
    };
    Some(credential).filter(|credential| !credential.secret().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn read(values: &[&str]) -> Option<Credential> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::AUTHORIZATION, HeaderValue::from_str(value).expect("valid"));
        }
        Credential::of(&headers).ok()
    }

    #[expect(clippy::unnecessary_wraps, reason = "stands where a credential is read")]
    fn bearer(secret: &str) -> Option<Credential> {
        Some(Credential::Bearer(secret.to_owned()))
    }

    #[test]
    fn bearer_is_read_whatever_its_case() {
        assert!(read(&["Bearer abc"]) == bearer("abc"));
        assert!(read(&["bEARER  abc"]) == bearer("abc"));
    }

    #[test]
    fn the_user_of_basic_is_read() {
        let basic = format!("Basic {}", STANDARD.encode("key:password"));
        assert!(read(&[&basic]) == Some(Credential::BasicUser("key".to_owned())));
    }

    #[test]
    fn what_cannot_be_read_is_none() {
        let no_colon = format!("Basic {}", STANDARD.encode("key"));
        for value in ["abc", "Bearer ", "Basic ???", "Digest abc", no_colon.as_str()] {
            assert!(read(&[value]).is_none(), "{value}");
        }
        assert!(read(&["Bearer a", "Bearer b"]).is_none());
    }

    #[test]
    fn credentials_are_accepted_up_to_their_length() {
        let of_length = |length: usize| format!("Bearer {}", "x".repeat(length - "Bearer ".len()));
        assert!(read(&[&of_length(CREDENTIAL_MAX_BYTES)]).is_some());
        assert!(read(&[&of_length(CREDENTIAL_MAX_BYTES + 1)]).is_none());
    }
}
