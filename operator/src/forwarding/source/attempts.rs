//! When the Public API is asked: what this process remembers of each forwarding, and the pauses. The decisions are pure.

use super::answer::Failure;
use super::trouble::Trouble;
use crate::context::RECHECK;
use audittrail_crds::document::Sensitive;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Between two attempts, whatever changes.
const PAUSE_LEAST: Duration = Duration::from_secs(1);

/// Longest pause after a failure that passes by itself; it doubles up to this. Also the pause after a refusal, which
/// usually ends with a change of the resource or of a Secret, and then at once; and while a source is switched off.
const PAUSE_LONGEST: Duration = Duration::from_mins(1);

/// Longest wait that the Public API may ask for.
const ASKED_LONGEST: Duration = Duration::from_mins(5);

/// What is remembered, by UID of the forwarding.
#[derive(Debug, Default)]
pub struct Attempts {
    made: Mutex<HashMap<String, Attempt>>,
    /// Since when a source that is not asked for any more waits for its deletion.
    left: Mutex<HashMap<String, Instant>>,
}

/// The last attempt.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    /// With what it was made.
    pub with: With,
    /// Whether the key is kept since: the source was found or made now, or earlier.
    pub kept: bool,
    /// Failures in a row.
    pub failures: u32,
    /// What is to be said until the next one.
    pub trouble: Option<Trouble>,
    /// Not before this, whatever changes.
    pub not_before: Instant,
    /// The next one, when nothing changes.
    pub next: Instant,
}

/// What an attempt depends on: when it differs, the next one need not wait.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct With {
    /// Generation of the forwarding.
    pub generation: Option<i64>,
    /// Version of the Secret with the token.
    pub token: Option<String>,
    /// The authorities to trust.
    pub authorities: Option<String>,
    /// The write key in our Secret, where it is from the Public API that is asked. After a success, the one that belongs there.
    pub key: Option<Sensitive>,
}

/// Whether the write key is kept already.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Key {
    /// The Secret has it, so that forwarding goes on whatever the Public API says.
    Kept,
    /// It is yet to come.
    Lacking,
}

impl Attempts {
    /// The last attempt for a forwarding.
    pub fn last(&self, uid: &str) -> Option<Attempt> {
        lock(&self.made).get(uid).cloned()
    }

    /// Remembers an attempt, and forgets those of forwardings that are gone: each other one has a later attempt by now.
    pub fn remember(&self, uid: &str, attempt: Attempt, now: Instant) {
        let mut made = lock(&self.made);
        made.retain(|_, one| now < one.next + RECHECK);
        made.insert(uid.to_owned(), attempt);
        lock(&self.left).remove(uid);
    }

    /// Since when the source of this forwarding waits for its deletion: since now, where nothing is remembered.
    pub fn left_since(&self, uid: &str, now: Instant) -> Instant {
        *lock(&self.left).entry(uid.to_owned()).or_insert(now)
    }

    /// Forgets a forwarding.
    pub fn forget(&self, uid: &str) {
        lock(&self.made).remove(uid);
        lock(&self.left).remove(uid);
    }
}

/// How long to wait before the next attempt.
pub fn wait(last: Option<&Attempt>, with: &With, now: Instant) -> Duration {
    let Some(last) = last else { return Duration::ZERO };
    let due = if last.with == *with { last.next } else { last.not_before };
    due.saturating_duration_since(now)
}

/// The attempt as it is remembered: `outcome` is the trouble with the source that was found or made, or why there is none.
pub fn attempt(
    last: Option<&Attempt>,
    with: With,
    key: Key,
    outcome: Result<Option<Trouble>, (&Failure, Trouble)>,
    now: Instant,
) -> Attempt {
    let (failure, trouble) = match outcome {
        Ok(trouble) => {
            let pause = if trouble.is_some() { PAUSE_LONGEST } else { RECHECK };
            let (not_before, next) = (now + PAUSE_LEAST, now + pause);
            return Attempt { with, kept: true, failures: 0, trouble, not_before, next };
        }
        Err(failed) => failed,
    };
    let failures = last.map_or(0, |last| last.failures);
    let (not_before, next) = match failure {
        Failure::Unavailable { after: Some(after), .. } => {
            let after = (*after).clamp(PAUSE_LEAST, ASKED_LONGEST);
            (after, after)
        }
        Failure::Unavailable { after: None, .. } => (PAUSE_LEAST, pause(failures)),
        Failure::Token { .. } | Failure::Refused { .. } if key == Key::Kept => (PAUSE_LEAST, RECHECK),
        Failure::Token { .. } | Failure::Refused { .. } => (PAUSE_LEAST, PAUSE_LONGEST),
    };
    // Without the key there is nothing to say but this. With it, what was found last still holds.
    let trouble = match key {
        Key::Lacking => Some(trouble),
        Key::Kept => last.filter(|last| last.kept).and_then(|last| last.trouble.clone()),
    };
    let kept = key == Key::Kept;
    Attempt { with, kept, failures: failures + 1, trouble, not_before: now + not_before, next: now + next }
}

fn pause(failures_before: u32) -> Duration {
    PAUSE_LEAST.saturating_mul(2_u32.saturating_pow(failures_before)).min(PAUSE_LONGEST)
}

/// A thread that panicked while it held the lock left whole values.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(generation: i64) -> With {
        With { generation: Some(generation), ..With::default() }
    }

    fn failed(last: Option<&Attempt>, key: Key, failure: &Failure, now: Instant) -> Attempt {
        attempt(last, with(1), key, Err((failure, Trouble::of(failure, "token"))), now)
    }

    fn later(after: Option<u64>) -> Failure {
        Failure::Unavailable { words: "no answer".to_owned(), after: after.map(Duration::from_secs) }
    }

    fn refusal() -> Failure {
        Failure::Token { words: "it answered 401".to_owned() }
    }

    fn off() -> Trouble {
        Trouble::SwitchedOff { slug: "s".to_owned(), id: "i".to_owned() }
    }

    #[test]
    fn the_first_attempt_waits_for_nothing_and_the_next_after_a_success_for_an_hour() {
        let now = Instant::now();
        assert_eq!(wait(None, &with(1), now), Duration::ZERO);
        let made = attempt(None, with(1), Key::Lacking, Ok(None), now);
        assert_eq!(wait(Some(&made), &with(1), now), RECHECK);
        assert_eq!(wait(Some(&made), &with(1), now + RECHECK), Duration::ZERO);
    }

    #[test]
    fn a_change_waits_for_a_second_and_no_longer() {
        let now = Instant::now();
        let made = attempt(None, with(1), Key::Lacking, Ok(None), now);
        let other_key = With { key: Some(Sensitive::new("of-nobody")), ..with(1) };
        assert_eq!(wait(Some(&made), &with(2), now), PAUSE_LEAST);
        assert_eq!(wait(Some(&made), &other_key, now), PAUSE_LEAST);
        assert_eq!(wait(Some(&made), &with(2), now + PAUSE_LEAST), Duration::ZERO);
        let refused = failed(None, Key::Lacking, &refusal(), now);
        assert_eq!(wait(Some(&refused), &with(1), now), PAUSE_LONGEST);
        assert_eq!(wait(Some(&refused), &with(2), now), PAUSE_LEAST);
    }

    #[test]
    fn the_pause_doubles_from_a_second_to_a_minute_and_starts_anew_after_a_success() {
        let now = Instant::now();
        let mut last = None;
        let mut seconds = Vec::new();
        for _ in 0..8 {
            let next = failed(last.as_ref(), Key::Lacking, &later(None), now);
            seconds.push(wait(Some(&next), &with(1), now).as_secs());
            last = Some(next);
        }
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        let made = attempt(last.as_ref(), with(1), Key::Lacking, Ok(None), now);
        assert_eq!(failed(Some(&made), Key::Lacking, &later(None), now).next, now + PAUSE_LEAST);
    }

    #[test]
    fn a_wait_that_is_asked_for_is_kept_even_when_something_changes() {
        let now = Instant::now();
        for (asked, kept) in [(0, 1), (1, 1), (57, 57), (300, 300), (301, 300)] {
            let told = failed(None, Key::Lacking, &later(Some(asked)), now);
            assert_eq!(wait(Some(&told), &with(2), now).as_secs(), kept, "{asked}");
            assert_eq!(wait(Some(&told), &with(1), now).as_secs(), kept, "{asked}");
        }
    }

    #[test]
    fn where_the_key_is_kept_a_failure_is_no_trouble_and_a_source_that_is_off_stays_so() {
        let now = Instant::now();
        assert_eq!(failed(None, Key::Lacking, &refusal(), now).trouble, Some(Trouble::of(&refusal(), "token")));
        assert_eq!(failed(None, Key::Kept, &refusal(), now).trouble, None);
        let found = attempt(None, with(1), Key::Kept, Ok(Some(off())), now);
        assert_eq!(wait(Some(&found), &with(1), now), PAUSE_LONGEST);
        let once = failed(Some(&found), Key::Kept, &later(None), now);
        assert_eq!(
            (&once.trouble, &failed(Some(&once), Key::Kept, &refusal(), now).trouble),
            (&Some(off()), &Some(off()))
        );
        assert_eq!(attempt(Some(&once), with(1), Key::Kept, Ok(None), now).trouble, None);
    }
}
