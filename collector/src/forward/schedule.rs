//! When to try again. Pure: the verdict, the attempt and a random number in, the wait out.

use super::verdict::Verdict;
use std::time::Duration;

/// Shortest wait.
const WAIT_MIN: Duration = Duration::from_millis(500);

/// Longest wait between attempts, as in Segment's own libraries.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// Longest wait that a source can ask for, as in Segment's own libraries.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(5);

/// Wait after a fault that somebody has to mend. A change of the resource or its Secret ends it at once.
const MENDED_BY_HAND: Duration = Duration::from_secs(30);

/// How long to wait after the given failed attempt (from 0) before the next. `jitter` is random, from 0 to
/// 1: many forwardings to one source must not all come back in the same moment.
pub fn wait(verdict: Verdict, attempt: u32, jitter: f64) -> Duration {
    match verdict {
        Verdict::Done => Duration::ZERO,
        Verdict::Retry { after: Some(after) } => after.clamp(WAIT_MIN, RETRY_AFTER_MAX),
        Verdict::Retry { after: None } => backoff(attempt, jitter),
        _ => MENDED_BY_HAND,
    }
}

/// Between 0.5 s and 1 s at first, then twice as much each time, up to between 30 s and 60 s.
fn backoff(attempt: u32, jitter: f64) -> Duration {
    let longest = WAIT_MIN.saturating_mul(2_u32.saturating_pow(attempt.saturating_add(1))).min(WAIT_MAX);
    let shortest = longest / 2;
    shortest + shortest.mul_f64(jitter.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Verdict = Verdict::Retry { after: None };

    fn after(after: Duration) -> Duration {
        wait(Verdict::Retry { after: Some(after) }, 0, 0.5)
    }

    #[test]
    fn the_first_wait_is_between_half_a_second_and_one() {
        assert_eq!(wait(RETRY, 0, 0.0), Duration::from_millis(500));
        assert_eq!(wait(RETRY, 0, 1.0), Duration::from_secs(1));
    }

    #[test]
    fn waits_double_up_to_a_minute_and_stay_there() {
        let longest: Vec<u64> = (0..9).map(|attempt| wait(RETRY, attempt, 1.0).as_secs()).collect();
        assert_eq!(longest, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(wait(RETRY, u32::MAX, 1.0), WAIT_MAX);
        assert_eq!(wait(RETRY, u32::MAX, 0.0), Duration::from_secs(30));
    }

    #[test]
    fn retry_after_is_honoured_from_half_a_second_to_five_minutes() {
        assert_eq!(after(Duration::ZERO), WAIT_MIN);
        assert_eq!(after(Duration::from_secs(7)), Duration::from_secs(7));
        assert_eq!(after(Duration::from_mins(5)), Duration::from_mins(5));
        assert_eq!(after(Duration::from_secs(301)), Duration::from_mins(5));
    }

    #[test]
    fn what_must_be_mended_by_hand_is_tried_each_thirty_seconds() {
        for verdict in
            [Verdict::KeyRefused, Verdict::EndpointRefused, Verdict::TooLarge, Verdict::Refused, Verdict::Loop]
        {
            assert_eq!(wait(verdict, 9, 1.0), Duration::from_secs(30));
        }
    }
}
