//! Parameters of a query string: each is taken by name, every bad one is named, and what nobody took
//! is unknown.

use crate::ingest::limits::IDENTITY_MAX_CHARS;
use crate::problem::{FieldError, Problem};
use jiff::Timestamp;
use std::ops::RangeInclusive;

/// Values of one parameter, at most: OR over more is a report, not a filter.
pub const VALUES_MAX: usize = 100;

/// Length of one value, in bytes, at most: the longest identity that an event may have, in UTF-8.
pub const VALUE_MAX_BYTES: usize = 4 * IDENTITY_MAX_CHARS;

/// Earliest and latest moment that RFC 3339 can write, and Postgres can compare. The latest is a whole microsecond, so that
/// each of them can be rounded up to one.
pub const MOMENTS: RangeInclusive<Timestamp> =
    Timestamp::constant(-62_135_596_800, 0)..=Timestamp::constant(253_402_207_200, 999_999_000);

/// Parameters not yet taken, and what was wrong with those that were.
#[derive(Debug)]
pub struct Parameters {
    pairs: Vec<(String, String)>,
    known: Vec<&'static str>,
    errors: Vec<FieldError>,
}

impl Parameters {
    /// Of a decoded query string.
    pub fn new(pairs: Vec<(String, String)>) -> Self {
        Self { pairs, known: Vec::new(), errors: Vec::new() }
    }

    /// Takes all values of `name`: sorted and without repetition, since they are a set.
    pub fn texts(&mut self, name: &'static str) -> Vec<String> {
        self.known.push(name);
        let (taken, left) = std::mem::take(&mut self.pairs).into_iter().partition(|(key, _)| key == name);
        self.pairs = left;
        let mut values: Vec<String> = taken.into_iter().map(|(_, value): (String, String)| value).collect();
        values.sort_unstable();
        values.dedup();
        if values.len() > VALUES_MAX {
            self.refuse(name, format!("may be given {VALUES_MAX} times at most"));
        }
        if let Some(rule) = values.iter().find_map(|value| broken_rule(value)) {
            self.refuse(name, rule);
        }
        values
    }

    /// Takes all values of `name`, each one of a closed list.
    pub fn named<T>(&mut self, name: &'static str, parse: impl Fn(&str) -> Option<T>, names: &[&str]) -> Vec<T> {
        let values = self.texts(name);
        let parsed: Option<Vec<T>> = values.iter().map(|value| parse(value)).collect();
        parsed.unwrap_or_else(|| {
            self.refuse(name, format!("must be one of {}", names.join(", ")));
            Vec::new()
        })
    }

    /// Takes the only value of `name`, one of a closed list.
    pub fn named_once<T>(
        &mut self,
        name: &'static str,
        parse: impl Fn(&str) -> Option<T>,
        names: &[&str],
    ) -> Option<T> {
        let value = self.once(name)?;
        let parsed = parse(&value);
        if parsed.is_none() {
            self.refuse(name, format!("must be one of {}", names.join(", ")));
        }
        parsed
    }

    /// Takes the only value of `name`.
    pub fn once(&mut self, name: &'static str) -> Option<String> {
        let mut values = self.texts(name);
        if values.len() > 1 {
            self.refuse(name, "may be given once");
        }
        values.pop()
    }

    /// Takes the only value of `name`, a moment.
    pub fn moment(&mut self, name: &'static str) -> Option<Timestamp> {
        let value = self.once(name)?;
        let moment = value.parse().ok().filter(|moment| MOMENTS.contains(moment));
        if moment.is_none() {
            self.refuse(name, "must be a time like 2026-03-02T09:14:05Z (RFC 3339; a + in it is written %2B in a URL)");
        }
        moment
    }

    /// Takes the only value of `name`, a whole number.
    pub fn number(&mut self, name: &'static str, range: &RangeInclusive<i64>) -> Option<i64> {
        let value = self.once(name)?;
        let number = value.parse().ok().filter(|number| range.contains(number));
        if number.is_none() {
            self.refuse(name, format!("must be a number from {} to {}", range.start(), range.end()));
        }
        number
    }

    /// Notes that `name` breaks a rule.
    pub fn refuse(&mut self, name: &'static str, rule: impl Into<String>) {
        self.errors.push(FieldError::of(name, rule));
    }

    /// Everything was taken: what is left over is unknown.
    pub fn finish(mut self) -> Result<(), Problem> {
        let unknown = std::mem::take(&mut self.pairs);
        for (name, _) in unknown {
            let name: String = name.chars().take(VALUE_MAX_BYTES).collect();
            let known = if self.known.is_empty() { "none".to_owned() } else { self.known.join(", ") };
            self.errors.push(FieldError::of(name, format!("is unknown here: known are {known}")));
        }
        if self.errors.is_empty() { Ok(()) } else { Err(Problem::invalid(self.errors)) }
    }
}

fn broken_rule(value: &str) -> Option<String> {
    if value.is_empty() {
        Some("must not be empty".to_owned())
    } else if value.len() > VALUE_MAX_BYTES {
        Some(format!("may have {VALUE_MAX_BYTES} bytes at most"))
    } else if value.contains('\0') {
        Some("must not contain U+0000".to_owned())
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(query: &[(&str, &str)]) -> Parameters {
        Parameters::new(query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
    }

    fn errors(parameters: &Parameters) -> Vec<String> {
        parameters.errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_unknown_parameter_is_told_the_known_ones() {
        let mut parameters = parameters(&[("type", "a"), ("tpye", "b")]);
        parameters.texts("type");
        parameters.texts("actor");
        let problem = parameters.finish().expect_err("refused");
        assert_eq!(problem.detail(), "tpye is unknown here: known are type, actor");
    }

    #[test]
    fn every_bad_parameter_is_named() {
        let mut parameters = parameters(&[("type", ""), ("limit", "0"), ("from", "yesterday")]);
        parameters.texts("type");
        parameters.number("limit", &(1..=10));
        parameters.moment("from");
        assert_eq!(
            errors(&parameters),
            [
                "type must not be empty",
                "limit must be a number from 1 to 10",
                "from must be a time like 2026-03-02T09:14:05Z (RFC 3339; a + in it is written %2B in a URL)",
            ]
        );
    }

    #[test]
    fn values_are_accepted_up_to_their_length() {
        let long = |bytes| "x".repeat(bytes);
        let refused = |value: &str| {
            let mut parameters = parameters(&[("type", value)]);
            parameters.texts("type");
            !parameters.errors.is_empty()
        };
        assert!(!refused(&long(VALUE_MAX_BYTES)));
        assert!(refused(&long(VALUE_MAX_BYTES + 1)));
        assert!(refused("a\0b"));
    }

    #[test]
    fn a_parameter_is_accepted_up_to_its_number_of_values() {
        let refused = |count: usize| {
            let values: Vec<String> = (0..count).map(|index| index.to_string()).collect();
            let pairs: Vec<(&str, &str)> = values.iter().map(|value| ("type", value.as_str())).collect();
            let mut parameters = parameters(&pairs);
            parameters.texts("type");
            !parameters.errors.is_empty()
        };
        assert!(!refused(VALUES_MAX));
        assert!(refused(VALUES_MAX + 1));
    }

    #[test]
    fn numbers_are_accepted_at_both_bounds() {
        let number = |value| parameters(&[("limit", value)]).number("limit", &(1..=1000));
        assert_eq!(number("1"), Some(1));
        assert_eq!(number("1000"), Some(1000));
        assert_eq!(number("0"), None);
        assert_eq!(number("1001"), None);
        assert_eq!(number("ten"), None);
    }

    #[test]
    fn what_may_be_given_once_is_refused_twice() {
        let mut parameters = parameters(&[("order", "asc"), ("order", "desc")]);
        parameters.once("order");
        assert_eq!(errors(&parameters), ["order may be given once"]);
    }

    #[test]
    fn moments_that_rfc_3339_cannot_write_are_refused() {
        let moment = |value| parameters(&[("from", value)]).moment("from");
        assert!(moment("0001-01-01T00:00:00Z").is_some());
        assert!(moment("9999-12-30T22:00:00.999999Z").is_some());
        assert!(moment("9999-12-30T22:00:00.999999001Z").is_none());
        assert!(moment("-000001-01-01T00:00:00Z").is_none());
        assert!(moment("2026-03-02T09:00:00 02:00").is_none());
    }
}
