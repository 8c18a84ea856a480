//! Moments as exports write them: RFC 3339, UTC, six digits of fraction, as [`rfc3339_microseconds`] does.
//!
//! Two of them stand in each row. Formatting by a library that is made for all calendars and precisions would take a
//! tenth of an export's time.
//!
//! [`rfc3339_microseconds`]: crate::event::rfc3339_microseconds

/// From 1970 to 2000, where Postgres begins to count, in microseconds.
const POSTGRES_EPOCH_MICROSECONDS: i64 = 946_684_800_000_000;

const MICROSECONDS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// Length of a moment's text.
const LENGTH: usize = "2026-03-02T09:14:05.000000Z".len();

/// A moment in whole microseconds, in the years 0 to 9999. Events have no others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Moment {
    /// Since 1970.
    microseconds: i64,
}

impl Moment {
    /// Of Postgres' binary `timestamptz`: microseconds since 2000.
    pub fn of_postgres(microseconds: i64) -> Self {
        Self { microseconds: microseconds.saturating_add(POSTGRES_EPOCH_MICROSECONDS) }
    }

    /// The text.
    pub fn text(self) -> [u8; LENGTH] {
        let seconds = self.microseconds.div_euclid(MICROSECONDS_PER_SECOND);
        let fraction = self.microseconds.rem_euclid(MICROSECONDS_PER_SECOND);
        let (year, month, day) = date(seconds.div_euclid(SECONDS_PER_DAY));
        let second = seconds.rem_euclid(SECONDS_PER_DAY);
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        digits(&mut text[0..4], year);
        digits(&mut text[5..7], month);
        digits(&mut text[8..10], day);
        digits(&mut text[11..13], second / 3_600);
        digits(&mut text[14..16], second / 60 % 60);
        digits(&mut text[17..19], second % 60);
        digits(&mut text[20..26], fraction);
        text
    }

    /// The text with three digits of fraction; never later than the moment.
    pub fn in_milliseconds(self) -> String {
        let text = self.text();
        format!("{}Z", String::from_utf8_lossy(&text[..LENGTH - "000Z".len()]))
    }
}

fn digits(place: &mut [u8], mut number: i64) {
    for digit in place.iter_mut().rev() {
        // The remainder is a digit.
        *digit = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
    }
}

/// Year, month and day of a number of days since 1970, in the proleptic Gregorian calendar: "`civil_from_days`" of Howard Hinnant's
/// "chrono-Compatible Low-Level Date Algorithms". Its years begin in March, so that a leap day is the last, and
/// 400 of them (an era) have always as many days.
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::rfc3339_microseconds;
    use jiff::Timestamp;
    use proptest::prelude::*;

    fn text(microseconds: i64) -> String {
        String::from_utf8(Moment { microseconds }.text().to_vec()).expect("ASCII")
    }

    #[test]
    fn postgres_counts_from_2000() {
        assert_eq!(Moment::of_postgres(0).text(), *b"2000-01-01T00:00:00.000000Z");
        assert_eq!(Moment::of_postgres(-1).text(), *b"1999-12-31T23:59:59.999999Z");
    }

    proptest! {
        /// From the year 1 to the last moment that RFC 3339 can write.
        #[test]
        fn every_moment_is_written_as_elsewhere(microseconds in -62_135_596_800_000_000_i64..253_402_207_200_000_000) {
            let reference = Timestamp::from_microsecond(microseconds).expect("in range");
            prop_assert_eq!(text(microseconds), rfc3339_microseconds(reference));
        }
    }

    #[test]
    fn every_day_of_four_centuries_is_written_as_elsewhere() {
        for day in 0..146_097 {
            let microseconds = (day * SECONDS_PER_DAY + 86_399) * MICROSECONDS_PER_SECOND + 999_999;
            let reference = Timestamp::from_microsecond(microseconds).expect("in range");
            assert_eq!(text(microseconds), rfc3339_microseconds(reference));
        }
    }
}
