//! What an answer of the source means. Pure: the answer in, the verdict out. `docs/forwarding.md` has the table.

use crate::problem::FORWARDING_LOOP;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use serde::Deserialize;
use std::time::Duration;

/// What follows from an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// The source has it.
    Done,
    /// The source cannot take it now; not sooner than `after`, where it said so.
    Retry {
        /// What the source asked for.
        after: Option<Duration>,
    },
    /// The source refuses the write key.
    KeyRefused,
    /// The endpoint does not answer as an HTTP API source does.
    EndpointRefused,
    /// The batch is too large for the source: smaller ones may pass.
    TooLarge,
    /// The source refuses the content of the batch, or a part of it.
    Refused,
    /// The events come from the very trail that they are sent to.
    Loop,
}

/// An answer, as far as it decides.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// Status code.
    pub status: u16,
    /// The header `Retry-After`.
    pub retry_after: Option<&'a str>,
    /// The body.
    pub body: &'a [u8],
}

/// The verdict on a batch. `now` is what a date in `Retry-After` is counted from.
pub fn batch(answer: Answer<'_>, now: Timestamp) -> Verdict {
    match by_status(answer.status) {
        // Jitsu answers 200 to a batch of which it took only a part. What it took comes again with the same messageId.
        Verdict::Done if says_not_ok(answer.body) => Verdict::Refused,
        Verdict::Retry { .. } => Verdict::Retry { after: answer.retry_after.and_then(|value| retry_after(value, now)) },
        Verdict::KeyRefused if answer.status == 403 && says_loop(answer.body) => Verdict::Loop,
        verdict => verdict,
    }
}

/// The verdict on a probe, which is an empty batch: a source that finds fault with its content
/// is there, and did not refuse the key.
pub fn probe(answer: Answer<'_>, now: Timestamp) -> Verdict {
    match answer.status {
        200..=299 | 400 | 422 => Verdict::Done,
        _ => match batch(answer, now) {
            Verdict::Refused | Verdict::TooLarge => Verdict::EndpointRefused,
            verdict => verdict,
        },
    }
}

/// Every status code.
fn by_status(status: u16) -> Verdict {
    match status {
        200..=299 => Verdict::Done,
        // 402: Jitsu's word for a key whose quota is used up. 403: also a firewall's; help is needed either way.
        401..=403 => Verdict::KeyRefused,
        // RudderStack answers 404 for a source that is switched off. The others say that this is no place to POST
        // JSON to: wrong method or media type, a proxy without credentials, another host, another protocol.
        404 | 405 | 406 | 407 | 414 | 415 | 421 | 426 => Verdict::EndpointRefused,
        // 5xx, 408, 410, 429 and 460 (a load balancer whose client went away) are what Segment's own libraries
        // retry; 425 asks for it (RFC 8470).
        408 | 410 | 425 | 429 | 460 | 500..=599 => Verdict::Retry { after: None },
        413 => Verdict::TooLarge,
        // 400 and 422 among them: something in this batch.
        400..=499 => Verdict::Refused,
        // 1xx is no final answer, 3xx leads elsewhere (the key is not carried along), 6xx and up do not exist.
        _ => Verdict::EndpointRefused,
    }
}

fn says_not_ok(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Body {
        ok: Option<bool>,
    }
    serde_json::from_slice(body).is_ok_and(|body: Body| body.ok == Some(false))
}

/// Whether the body is the problem document (RFC 9457) with which a trail refuses events that have passed it already.
fn says_loop(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Problem {
        r#type: Option<String>,
    }
    serde_json::from_slice(body).is_ok_and(|problem: Problem| problem.r#type.as_deref() == Some(FORWARDING_LOOP))
}

/// Seconds or a date (RFC 9110, section 10.2.3). A date that has passed means at once.
fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = rfc2822::DateTimeParser::new().parse_timestamp(value).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-03-02T09:14:05Z".parse().expect("valid")
    }

    fn answer(status: u16) -> Answer<'static> {
        Answer { status, retry_after: None, body: b"" }
    }

    fn name(verdict: Verdict) -> &'static str {
        match verdict {
            Verdict::Done => "Done",
            Verdict::Retry { .. } => "Retry",
            Verdict::KeyRefused => "KeyRefused",
            Verdict::EndpointRefused => "EndpointRefused",
            Verdict::TooLarge => "TooLarge",
            Verdict::Refused => "Refused",
            Verdict::Loop => "Loop",
        }
    }

    /// Runs of status codes with the same verdict, one a line.
    fn table(verdict: impl Fn(u16) -> Verdict) -> String {
        let codes: Vec<u16> = (100..=599).collect();
        let runs = codes.chunk_by(|a, b| verdict(*a) == verdict(*b));
        let lines = runs.map(|run| format!("{}-{} {}", run[0], run[run.len() - 1], name(verdict(run[0]))));
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn every_status_code_of_a_batch_has_its_verdict() {
        insta::assert_snapshot!(table(|status| batch(answer(status), now())));
    }

    #[test]
    fn every_status_code_of_a_probe_has_its_verdict() {
        insta::assert_snapshot!(table(|status| probe(answer(status), now())));
    }

    /// The codes of a row of the table in `docs/forwarding.md`: single ones and ranges.
    fn codes(cell: &str) -> Vec<std::ops::RangeInclusive<u16>> {
        let range = |text: &str| {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            Some(first.trim().parse().ok()?..=last.trim().parse().ok()?)
        };
        cell.split(',').filter_map(range).collect()
    }

    #[test]
    fn the_documentation_has_the_verdict_on_every_status_code() {
        let page = include_str!("../../../docs/forwarding.md");
        let rows: Vec<_> = page
            .lines()
            .filter_map(|line| {
                let cells: Vec<&str> = line.split('|').map(str::trim).collect();
                let codes = codes(cells.get(1)?);
                (!codes.is_empty()).then(|| (codes, cells[2].to_owned()))
            })
            .collect();
        for status in 100..=599 {
            let told: Vec<&str> = rows
                .iter()
                .filter(|(codes, _)| codes.iter().any(|range| range.contains(&status)))
                .map(|(_, verdict)| verdict.as_str())
                .collect();
            assert_eq!(told, [name(batch(answer(status), now()))], "{status}");
        }
        assert!(page.contains(FORWARDING_LOOP));
    }

    #[test]
    fn a_batch_that_was_not_ok_is_not_done() {
        let body = |body| batch(Answer { body, ..answer(200) }, now());
        assert_eq!(body(br#"{"ok":false,"receivedEvents":2,"okEvents":1}"#), Verdict::Refused);
        for done in [r#"{"ok":true}"#, r#"{"success":true}"#, r#"{"ok":"false"}"#, "ok", "", "[]"] {
            assert_eq!(body(done.as_bytes()), Verdict::Done, "{done}");
        }
    }

    #[test]
    fn a_probe_is_done_when_the_source_finds_fault_with_its_emptiness() {
        assert_eq!(probe(Answer { body: br#"{"ok":false}"#, ..answer(200) }, now()), Verdict::Done);
    }

    #[test]
    fn a_403_is_a_loop_only_when_its_problem_document_says_so() {
        let verdict = |status, body: &str| batch(Answer { body: body.as_bytes(), ..answer(status) }, now());
        let problem = format!(r#"{{"type":"{FORWARDING_LOOP}","title":"t","status":403}}"#);
        assert_eq!(verdict(403, &problem), Verdict::Loop);
        assert_eq!(probe(Answer { body: problem.as_bytes(), ..answer(403) }, now()), Verdict::Loop);
        assert_eq!(verdict(401, &problem), Verdict::KeyRefused);
        assert_eq!(verdict(400, &problem), Verdict::Refused);
        for other in [r#"{"type":"about:blank"}"#, "{}", "[]", "", FORWARDING_LOOP] {
            assert_eq!(verdict(403, other), Verdict::KeyRefused, "{other}");
        }
    }

    #[test]
    fn retry_after_is_read_as_seconds_and_as_a_date() {
        let after = |value| match batch(Answer { retry_after: Some(value), ..answer(429) }, now()) {
            Verdict::Retry { after } => after.map(|after| after.as_secs()),
            _ => panic!("429 is retried"),
        };
        assert_eq!(after("7"), Some(7));
        assert_eq!(after("Mon, 02 Mar 2026 09:14:35 GMT"), Some(30));
        assert_eq!(after("Mon, 02 Mar 2026 09:14:00 GMT"), Some(0));
        assert_eq!(after("soon"), None);
    }
}
