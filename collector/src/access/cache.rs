//! Decisions of the cluster, kept for some seconds, so that a busy client does not make two reviews
//! for each of its requests.

use super::Identity;
use super::reviews::Denial;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long a yes stays: also how long a person who was taken off the owners may still read.
pub const YES_KEPT: Duration = Duration::from_secs(10);

/// How long a no stays. Shorter, so that somebody who was just made an owner hardly notices, and long
/// enough that a client which insists does not load the API server.
pub const NO_KEPT: Duration = Duration::from_secs(3);

/// Decisions kept, at most: some hundred bytes each.
pub const DECISIONS_MAX: usize = 4096;

/// SHA-256 of what was asked: tokens themselves are not kept.
pub type Key = [u8; 32];

/// What the cluster said.
pub type Decision = Result<Identity, Denial>;

/// Decisions by what was asked.
#[derive(Debug, Default)]
pub struct Cache {
    entries: HashMap<Key, Entry>,
}

#[derive(Debug)]
struct Entry {
    until: Instant,
    decision: Decision,
}

impl Cache {
    /// The decision on `key`, if there is one that still holds.
    pub fn get(&self, key: &Key, now: Instant) -> Option<Decision> {
        self.entries.get(key).filter(|entry| now < entry.until).map(|entry| entry.decision.clone())
    }

    /// Keeps a decision. When there is no room, the one that ends first goes: under a flood of bad
    /// tokens that is one of theirs.
    pub fn put(&mut self, key: Key, decision: Decision, now: Instant) {
        if self.entries.len() >= DECISIONS_MAX {
            self.entries.retain(|_, entry| now < entry.until);
        }
        if self.entries.len() >= DECISIONS_MAX {
            let first = self.entries.iter().min_by_key(|(_, entry)| entry.until).map(|(key, _)| *key);
            first.and_then(|key| self.entries.remove(&key));
        }
        let kept = if decision.is_ok() { YES_KEPT } else { NO_KEPT };
        self.entries.insert(key, Entry { until: now + kept, decision });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::SubmitterKind;

    #[expect(clippy::unnecessary_wraps, reason = "stands where a decision is wanted")]
    fn yes() -> Decision {
        Ok(Identity { kind: SubmitterKind::User, name: "jane".to_owned() })
    }

    fn key(number: usize) -> Key {
        let mut key = Key::default();
        key[..8].copy_from_slice(&number.to_be_bytes());
        key
    }

    #[test]
    fn a_yes_holds_for_ten_seconds() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.put(key(1), yes(), now);
        assert_eq!(cache.get(&key(1), now + YES_KEPT.saturating_sub(Duration::from_millis(1))), Some(yes()));
        assert_eq!(cache.get(&key(1), now + YES_KEPT), None);
        assert_eq!(cache.get(&key(2), now), None);
    }

    #[test]
    fn a_no_holds_for_less() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.put(key(1), Err(Denial::UnknownToken), now);
        assert_eq!(cache.get(&key(1), now), Some(Err(Denial::UnknownToken)));
        assert_eq!(cache.get(&key(1), now + NO_KEPT), None);
    }

    #[test]
    fn a_flood_of_bad_tokens_pushes_out_its_own() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.put(key(0), yes(), now);
        for number in 1..=DECISIONS_MAX {
            cache.put(key(number), Err(Denial::UnknownToken), now);
        }
        assert_eq!(cache.entries.len(), DECISIONS_MAX);
        assert_eq!(cache.get(&key(0), now), Some(yes()));
    }
}
