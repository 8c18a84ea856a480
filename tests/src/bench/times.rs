//! How long requests took.

use std::fmt;
use std::time::Duration;

/// Times of the requests of one case, in order.
#[derive(Clone, Debug, Default)]
pub struct Times(Vec<Duration>);

impl Times {
    /// Of requests in any order.
    pub fn of(mut requests: Vec<Duration>) -> Self {
        requests.sort_unstable();
        Self(requests)
    }

    /// Whether there are any.
    pub fn is_measured(&self) -> bool {
        !self.0.is_empty()
    }

    /// Half of them took at most this; zero when there are none.
    pub fn p50(&self) -> Duration {
        self.at(50)
    }

    /// 99 of 100 took at most this; zero when there are none.
    pub fn p99(&self) -> Duration {
        self.at(99)
    }

    fn at(&self, percent: usize) -> Duration {
        self.0.get(self.0.len() * percent / 100).copied().unwrap_or_default()
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p50 {}, p99 {} ms", milliseconds(self.p50()), milliseconds(self.p99()))
    }
}

/// In milliseconds, with as many digits as mean something.
pub fn milliseconds(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1e3;
    match milliseconds {
        0.0..1.0 => format!("{milliseconds:.2}"),
        1.0..10.0 => format!("{milliseconds:.1}"),
        _ => format!("{milliseconds:.0}"),
    }
}

/// How many times as long one is.
pub fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64()
}
