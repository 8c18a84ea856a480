//! `maxEventsPerSecond`: when the next batch may go out. Pure, but for the moment that is remembered.

use std::time::Duration;
use tokio::time::Instant;

/// When a source may get more.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Most events in a second; none means no limit.
    per_second: Option<u32>,
    free_at: Instant,
}

impl Pace {
    /// At most so many events in a second, from now on.
    pub fn new(per_second: Option<u32>, now: Instant) -> Self {
        Self { per_second: per_second.filter(|events| *events > 0), free_at: now }
    }

    /// Most events of a batch: what a second allows, so that no batch is followed by a longer silence.
    pub fn batch_max(&self) -> usize {
        self.per_second.and_then(|events| usize::try_from(events).ok()).unwrap_or(usize::MAX)
    }

    /// When the next batch may go out.
    pub fn free_at(&self) -> Instant {
        self.free_at
    }

    /// A batch of so many events goes out now.
    pub fn sends(&mut self, events: usize, now: Instant) {
        self.free_at = self.free_at.max(now) + self.takes(events);
    }

    /// How long so many events take at this pace.
    fn takes(&self, events: usize) -> Duration {
        let events = u32::try_from(events).unwrap_or(u32::MAX);
        self.per_second.map_or(Duration::ZERO, |per_second| Duration::from_secs(1) * events / per_second)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_keeps_the_next_one_back_for_as_long_as_its_events_take() {
        let now = Instant::now();
        let mut pace = Pace::new(Some(100), now);
        assert_eq!((pace.free_at(), pace.batch_max()), (now, 100));
        pace.sends(50, now);
        assert_eq!(pace.free_at(), now + Duration::from_millis(500));
        pace.sends(100, now + Duration::from_millis(500));
        assert_eq!(pace.free_at(), now + Duration::from_millis(1_500));
    }

    #[test]
    fn time_without_batches_is_not_made_up_for() {
        let now = Instant::now();
        let mut pace = Pace::new(Some(1), now);
        let later = now + Duration::from_mins(1);
        pace.sends(1, later);
        assert_eq!(pace.free_at(), later + Duration::from_secs(1));
    }

    #[test]
    fn without_a_limit_nothing_waits() {
        let now = Instant::now();
        let mut pace = Pace::new(None, now);
        pace.sends(2_500, now);
        assert_eq!((pace.free_at(), pace.batch_max()), (now, usize::MAX));
    }

    #[test]
    fn the_highest_pace_and_the_largest_batch_do_not_overflow() {
        let now = Instant::now();
        let mut pace = Pace::new(Some(1_000_000), now);
        pace.sends(2_500, now);
        assert_eq!(pace.free_at(), now + Duration::from_micros(2_500));
    }
}
