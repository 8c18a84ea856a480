//! A place in the log as clients hold it: `epoch.sequence` of the last event that they have. Ids of the live tail, and what
//! exports go on after.

use crate::problem::{FieldError, Problem};
use crate::store::place::Standing;
use std::fmt;

/// Right after the event of this sequence, in the log as it was in this epoch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Place {
    /// The epoch.
    pub epoch: i64,
    /// The sequence.
    pub sequence: i64,
}

/// Why nothing can go on from a place.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum PlaceError {
    /// Not something that a collector has given out.
    #[error("must be the epoch and the sequence of an event, such as 0.1234")]
    Unreadable,
    /// No event of this trail had it.
    #[error("is past the newest event of this trail: start again without it")]
    Ahead,
    /// The event was lost, and its sequence was or will be given to another.
    #[error(
        "is of an event that was lost when the database was restored: start again without it, and expect events that differ"
    )]
    Lost,
}

impl Place {
    /// Reads what [`Place`] is written as, and nothing else.
    pub fn parse(text: &str) -> Result<Self, PlaceError> {
        let number = |text: &str| text.parse().ok().filter(|number| *number >= 0);
        let place = text
            .split_once('.')
            .and_then(|(epoch, sequence)| Some(Self { epoch: number(epoch)?, sequence: number(sequence)? }));
        place.filter(|place| place.to_string() == text).ok_or(PlaceError::Unreadable)
    }

    /// The place right before the event of this sequence; none before the first.
    pub fn before(epoch: i64, sequence: i64) -> Option<Self> {
        (sequence > 0).then(|| Self { epoch, sequence: sequence - 1 })
    }

    /// The sequence to go on with, in the log as it stands.
    pub fn next(self, standing: &Standing) -> Result<i64, PlaceError> {
        if self.epoch > standing.head.epoch {
            Err(PlaceError::Ahead)
        } else if standing.lost {
            Err(PlaceError::Lost)
        } else if self.sequence >= standing.head.next_sequence {
            Err(PlaceError::Ahead)
        } else {
            Ok(self.sequence + 1)
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.sequence)
    }
}

impl PlaceError {
    /// The problem (400) of a request that named the place in this parameter or header.
    pub fn of(self, field: &str) -> Problem {
        Problem::invalid(vec![FieldError::of(field, self.to_string())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::replica::Head;
    use uuid::Uuid;

    fn next(place: &str, (epoch, next_sequence): (i64, i64), lost: bool) -> Result<i64, PlaceError> {
        let head = Head { log_id: Uuid::nil(), epoch, next_sequence };
        Place::parse(place).expect("a place").next(&Standing { head, lost })
    }

    #[test]
    fn a_place_is_read_as_it_is_written() {
        for text in ["0.0", "3.17", "9223372036854775807.9223372036854775807"] {
            assert_eq!(Place::parse(text).expect("a place").to_string(), text);
        }
        for text in
            ["", ".", "1", "1.", ".1", "-1.0", "0.-1", "+0.1", "00.1", "0.01", "0.1.2", " 0.1", "0.9223372036854775808"]
        {
            assert_eq!(Place::parse(text), Err(PlaceError::Unreadable), "{text:?}");
        }
    }

    #[test]
    fn before_the_first_event_is_no_place() {
        assert_eq!(Place::before(3, 0), None);
        assert_eq!(Place::before(3, 1), Some(Place { epoch: 3, sequence: 0 }));
    }

    #[test]
    fn what_is_in_the_log_goes_on_after_it() {
        assert_eq!(next("0.9", (0, 10), false), Ok(10));
        assert_eq!(next("0.10", (0, 10), false), Err(PlaceError::Ahead));
        assert_eq!(next("1.0", (0, 10), false), Err(PlaceError::Ahead));
    }

    #[test]
    fn an_older_epoch_goes_on_where_nothing_was_lost() {
        assert_eq!(next("0.4", (1, 10), false), Ok(5));
        assert_eq!(next("0.4", (1, 10), true), Err(PlaceError::Lost));
    }
}
