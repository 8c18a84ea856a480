//! How often one caller may ask: points of a fixed window of time, one a request, as Segment counts them. Each replica counts
//! for itself.

use crate::access::Identity;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Requests of one caller in one window. Segment does not publish its number for this endpoint: this is the largest that it
/// publishes for another, and lets a client read 300,000 events a minute.
pub const POINTS_MAX: u32 = 300;

/// Length of a window: Segment's limits are by the minute.
pub const WINDOW: Duration = Duration::from_mins(1);

/// Callers counted at once, at most: some hundred bytes each. Only those who may read are counted.
pub const CALLERS_MAX: usize = 4096;

/// What callers spent in their windows.
#[derive(Debug, Default)]
pub struct Budgets {
    callers: HashMap<Caller, Count>,
}

/// Kind and name of an identity.
type Caller = (&'static str, String);

#[derive(Debug)]
struct Count {
    until: Instant,
    points: u32,
}

/// Where a caller stands after a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Spent {
    /// Requests of this window, those that were too many included.
    pub consumed: u32,
    /// Requests that are left in this window.
    pub remaining: u32,
    /// Time until the next window.
    pub resets_in: Duration,
}

impl Spent {
    /// Whether the request is one too many.
    pub fn is_over(&self) -> bool {
        self.consumed > POINTS_MAX
    }
}

impl Budgets {
    /// Counts a request. A window begins with its first request.
    pub fn spend(&mut self, identity: &Identity, now: Instant) -> Spent {
        let caller = (identity.kind.as_str(), identity.name.clone());
        self.make_room(&caller, now);
        let count = self.callers.entry(caller).or_insert(Count { until: now + WINDOW, points: 0 });
        if count.until <= now {
            *count = Count { until: now + WINDOW, points: 0 };
        }
        count.points = count.points.saturating_add(1);
        Spent {
            consumed: count.points,
            remaining: POINTS_MAX.saturating_sub(count.points),
            resets_in: count.until.saturating_duration_since(now),
        }
    }

    /// When there is no room for one more, the caller whose window ends first is forgotten, and may begin a new one.
    fn make_room(&mut self, caller: &Caller, now: Instant) {
        if self.callers.len() < CALLERS_MAX || self.callers.contains_key(caller) {
            return;
        }
        self.callers.retain(|_, count| now < count.until);
        if self.callers.len() >= CALLERS_MAX {
            let first = self.callers.iter().min_by_key(|(_, count)| count.until).map(|(caller, _)| caller.clone());
            first.and_then(|caller| self.callers.remove(&caller));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::SubmitterKind;

    fn caller(number: usize) -> Identity {
        Identity { kind: SubmitterKind::User, name: number.to_string() }
    }

    #[test]
    fn a_caller_may_spend_all_points_of_a_window_and_not_one_more() {
        let (mut budgets, now) = (Budgets::default(), Instant::now());
        for number in 1..=POINTS_MAX {
            let spent = budgets.spend(&caller(1), now);
            assert!(!spent.is_over(), "{number}");
            assert_eq!((spent.consumed, spent.remaining), (number, POINTS_MAX - number));
        }
        let second = Duration::from_secs(1);
        let spent = budgets.spend(&caller(1), now + second);
        assert!(spent.is_over());
        assert_eq!(spent, Spent { consumed: POINTS_MAX + 1, remaining: 0, resets_in: WINDOW.saturating_sub(second) });
    }

    #[test]
    fn a_window_begins_with_a_request_and_ends_after_its_time() {
        let (mut budgets, now) = (Budgets::default(), Instant::now());
        budgets.spend(&caller(1), now);
        assert_eq!(budgets.spend(&caller(1), now + WINDOW.saturating_sub(Duration::from_nanos(1))).consumed, 2);
        assert_eq!(budgets.spend(&caller(1), now + WINDOW).consumed, 1);
    }

    #[test]
    fn callers_do_not_spend_each_others_points() {
        let (mut budgets, now) = (Budgets::default(), Instant::now());
        budgets.spend(&caller(1), now);
        let token = Identity { kind: SubmitterKind::Token, ..caller(1) };
        assert_eq!(budgets.spend(&caller(2), now).consumed, 1);
        assert_eq!(budgets.spend(&token, now).consumed, 1);
    }

    #[test]
    fn callers_are_counted_up_to_the_bound_and_then_the_oldest_is_forgotten() {
        let (mut budgets, now) = (Budgets::default(), Instant::now());
        let at = |number: usize| now + Duration::from_millis(u64::try_from(number).expect("small"));
        for number in 0..CALLERS_MAX {
            budgets.spend(&caller(number), at(number));
        }
        let late = at(CALLERS_MAX);
        assert_eq!(budgets.spend(&caller(0), late).consumed, 2);
        assert_eq!(budgets.spend(&caller(CALLERS_MAX), late).consumed, 1);
        assert_eq!(budgets.callers.len(), CALLERS_MAX);
        assert_eq!(budgets.spend(&caller(1), late).consumed, 2);
        assert_eq!(budgets.spend(&caller(0), late).consumed, 1);
    }

    #[test]
    fn windows_that_ended_make_room_for_others() {
        let (mut budgets, now) = (Budgets::default(), Instant::now());
        for number in 0..CALLERS_MAX {
            budgets.spend(&caller(number), now);
        }
        budgets.spend(&caller(CALLERS_MAX), now + WINDOW);
        assert_eq!(budgets.callers.len(), 1);
    }
}
