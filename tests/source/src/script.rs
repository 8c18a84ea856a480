//! How to misbehave, request by request.

use serde::Deserialize;

/// What one request meets. In JSON an object with one member, for example `{"status": 500}`,
/// `{"status": 429, "retryAfter": 2}` or `{"hang": true}`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "Members")]
pub enum Step {
    /// Answers with this status and stores nothing, with `Retry-After` in seconds where given.
    Status {
        /// The status code.
        code: u16,
        /// The header's value, in seconds.
        retry_after: Option<u64>,
    },
    /// Never answers and stores nothing.
    Hang,
    /// Resets the connection (TCP RST) and stores nothing.
    Reset,
    /// Stores nothing, and sends half of an answer 200.
    Half,
    /// Stores the events, but closes the connection without an answer.
    StoreThenDrop,
    /// Stores nothing, and answers 200 with `"ok": false`.
    OkFalse,
    /// Behaves: lets a request pass between two steps.
    Behave,
}

/// The members of a step as they are written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "one for each member of the wire form, of which only one may be set")]
struct Members {
    status: Option<u16>,
    retry_after: Option<u64>,
    #[serde(default)]
    hang: bool,
    #[serde(default)]
    reset: bool,
    #[serde(default)]
    half: bool,
    #[serde(default)]
    store_then_drop: bool,
    #[serde(default)]
    ok_false: bool,
    #[serde(default)]
    behave: bool,
}

impl TryFrom<Members> for Step {
    type Error = &'static str;

    fn try_from(members: Members) -> Result<Self, Self::Error> {
        let Members { retry_after, .. } = members;
        let status = members.status.map(|code| Self::Status { code, retry_after });
        let flags = [
            (members.hang, Self::Hang),
            (members.reset, Self::Reset),
            (members.half, Self::Half),
            (members.store_then_drop, Self::StoreThenDrop),
            (members.ok_false, Self::OkFalse),
            (members.behave, Self::Behave),
        ];
        let mut given = flags.into_iter().filter_map(|(on, step)| on.then_some(step)).chain(status);
        match (given.next(), given.next()) {
            (Some(step), None) if retry_after.is_none() || status.is_some() => Ok(step),
            _ => Err("a step has one of: status (with retryAfter), hang, reset, half, storeThenDrop, okFalse, behave"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_read_from_json() {
        let text = r#"[{"status":500},{"status":429,"retryAfter":2},{"hang":true},{"reset":true},{"half":true},
            {"storeThenDrop":true},{"okFalse":true},{"behave":true}]"#;
        let steps: Vec<Step> = serde_json::from_str(text).expect("valid");
        assert_eq!(
            steps,
            [
                Step::Status { code: 500, retry_after: None },
                Step::Status { code: 429, retry_after: Some(2) },
                Step::Hang,
                Step::Reset,
                Step::Half,
                Step::StoreThenDrop,
                Step::OkFalse,
                Step::Behave,
            ]
        );
    }

    #[test]
    fn a_step_with_no_member_or_with_two_is_refused() {
        for text in ["{}", r#"{"hang":true,"reset":true}"#, r#"{"hang":true,"retryAfter":2}"#, r#"{"explode":true}"#] {
            assert!(serde_json::from_str::<Step>(text).is_err(), "{text}");
        }
    }
}
