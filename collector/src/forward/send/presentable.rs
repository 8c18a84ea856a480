//! Errors as people see them: in a condition, a status, a log.

use super::ERROR_MAX_CHARS;
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD};
use std::fmt::Write as _;

/// What stands in place of a key.
const REDACTED: &str = "[redacted]";

/// One line of plain characters, without the key in any form that a source may have found it in, cut to
/// [`ERROR_MAX_CHARS`].
pub(super) fn presentable(text: &str, write_key: &str) -> String {
    let text = forms(write_key).iter().fold(text.to_owned(), |text, form| text.replace(form, REDACTED));
    // Control characters could move a terminal's cursor, and Postgres keeps no U+0000.
    let spaced = text.replace(char::is_control, " ");
    let line = spaced.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(ERROR_MAX_CHARS) {
        Some(_) => line.chars().take(ERROR_MAX_CHARS - 1).chain(['…']).collect(),
        None => line,
    }
}

/// How the key was sent and how a source may write it: in the header and with the alphabet of URLs (RFC 4648, sections 4
/// and 5), in JSON, in a URL, and as it is. Forms that contain others come first.
fn forms(write_key: &str) -> Vec<String> {
    if write_key.is_empty() {
        return Vec::new();
    }
    let user = format!("{write_key}:");
    let json = serde_json::to_string(write_key).expect("text always has a JSON form");
    vec![
        BASE64_STANDARD.encode(&user),
        BASE64_STANDARD_NO_PAD.encode(&user),
        BASE64_URL_SAFE_NO_PAD.encode(&user),
        BASE64_STANDARD.encode(write_key),
        BASE64_STANDARD_NO_PAD.encode(write_key),
        BASE64_URL_SAFE_NO_PAD.encode(write_key),
        percent_encoded(write_key, |encoded, byte| write!(encoded, "%{byte:02X}")),
        percent_encoded(write_key, |encoded, byte| write!(encoded, "%{byte:02x}")),
        json.trim_matches('"').to_owned(),
        write_key.to_owned(),
    ]
}

/// RFC 3986, section 2.1: all but the unreserved characters.
fn percent_encoded(text: &str, encode: fn(&mut String, u8) -> std::fmt::Result) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encode(&mut encoded, byte).expect("a String takes all that is written");
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_shows_the_key_as_it_is_or_encoded() {
        assert_eq!(
            presentable("key\n  secret, header Basic c2VjcmV0Og== and c2VjcmV0Og, c2VjcmV0", "secret"),
            "key [redacted], header Basic [redacted] and [redacted], [redacted]"
        );
        let key = "a/b?c\"ü~";
        for shown in ["a/b?c\"ü~", r#"a/b?c\"ü~"#, "a%2Fb%3Fc%22%C3%BC~", "a%2fb%3fc%22%c3%bc~"] {
            assert_eq!(presentable(&format!("({shown})"), key), "([redacted])", "{shown}");
        }
        let url_safe = BASE64_URL_SAFE_NO_PAD.encode(format!("{key}:"));
        assert!(url_safe.contains(['-', '_']), "the key shows the difference: {url_safe}");
        assert_eq!(presentable(&url_safe, key), "[redacted]");
    }

    #[test]
    fn a_key_where_the_text_is_cut_is_not_shown_by_half() {
        let shown = presentable(&format!("{}secret", "x".repeat(ERROR_MAX_CHARS - 3)), "secret");
        assert!(!shown.contains('s'), "{shown}");
    }

    #[test]
    fn without_a_key_nothing_is_redacted() {
        assert_eq!(presentable("a : b", ""), "a : b");
    }

    #[test]
    fn an_error_is_one_line_of_plain_characters() {
        assert_eq!(presentable("a\0b\r\n\u{1b}[31mc\u{85}d", "k"), "a b [31mc d");
    }

    #[test]
    fn an_error_is_cut_past_300_characters_and_not_before() {
        assert_eq!(presentable(&"é".repeat(300), "k").chars().count(), 300);
        let cut = presentable(&"é".repeat(301), "k");
        assert_eq!(cut.chars().count(), 300);
        assert!(cut.ends_with("é…"));
    }
}
