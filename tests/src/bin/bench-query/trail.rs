//! The events that queries are asked of: a year of a trail, the same each time but for their ids.
//!
//! Values are spread as in a real trail (few are common, many are rare), and some stand where nobody would find them by chance:
//! a rare actor, words that hardly any event has, terms that are common alone and hardly ever meet.

use audittrail_crds::catalogue::Catalogue;
use audittrail_tests::bench::events::hex;
use jiff::{SignedDuration, Timestamp};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use std::fmt::Write as _;

/// The first event's time.
const BEGIN: Timestamp = Timestamp::constant(1_735_689_600, 0);

/// The year, in microseconds.
const YEAR_MICROSECONDS: usize = 365 * 86_400 * 1_000_000;

/// Actors, of which the last have hardly an event.
const ACTORS: usize = 20_000;

/// Resources, of which the last have hardly an event.
const RESOURCES: usize = 100_000;

/// Kinds of resources; a resource has the kind of its number.
pub const RESOURCE_TYPES: [&str; 6] = ["warehouse", "source", "space", "destination", "source", "function"];

/// Types of which each has a share of all events that one in a catalogue's long tail never has.
pub const COMMON_TYPES: [&str; 2] = ["Source Modified", "Warehouse Modified"];

/// Actors with five and with two hundred events in the year.
pub const RARE_ACTORS: [(&str, usize); 2] = [("usr_rare", 5), ("usr_seldom", 200)];

/// How often terms meet that are common alone: [`COMMON_TYPES`], the first with a failure, the second with a warehouse.
const MEETINGS: usize = 5;

/// A word that three events of a month have in their details.
pub const RARE_WORD: &str = "quokka";

/// Events of a year that have it.
const RARE_WORDS: usize = 36;

/// A word that a quarter of all events have in their details.
pub const COMMON_WORD: &str = "approved";

/// A word of no event.
pub const ABSENT_WORD: &str = "thylacine";

/// Makes the events.
#[derive(Clone, Debug)]
pub struct Trail {
    /// Events of the year.
    year: usize,
    /// Types in an order in which neighbours are not of one area.
    types: Vec<String>,
}

impl Trail {
    /// A trail with so many events in its year.
    pub fn new(year: usize) -> Self {
        Self { year, types: types() }
    }

    /// Its types, the commonest first, without [`COMMON_TYPES`].
    pub fn types(&self) -> &[String] {
        &self.types
    }

    /// The body of a request with `count` events from this one on. Those after the year follow by milliseconds.
    pub fn body(&self, first: usize, count: usize) -> Vec<u8> {
        let mut random = SmallRng::seed_from_u64(first as u64);
        let mut text = String::with_capacity(count * 900);
        text.push_str("{\"events\":[");
        for number in first..first + count {
            if number > first {
                text.push(',');
            }
            self.event(&mut text, &mut random, number);
        }
        text.push_str("]}");
        text.into_bytes()
    }

    fn event(&self, text: &mut String, random: &mut SmallRng, number: usize) {
        let kind = random.random::<f64>();
        let r#type = match kind {
            0.0..0.08 => COMMON_TYPES[0],
            0.08..0.14 => COMMON_TYPES[1],
            _ => &self.types[skewed(random, self.types.len())],
        };
        let (r#type, outcome, resource) = self.term(random, number, r#type);
        let actor = self.actor(random, number);
        let word = if self.is_one_of(number, RARE_WORDS, 4) {
            RARE_WORD
        } else if random.random::<f64>() < 0.25 {
            COMMON_WORD
        } else {
            "routine"
        };
        let id = hex(rand::random());
        let ticket = random.random::<u32>();
        let timestamp = self.timestamp(number);
        let resource_type = RESOURCE_TYPES[resource % RESOURCE_TYPES.len()];
        write!(
            text,
            r#"{{"id":"{id}","timestamp":"{timestamp}","type":"{type}","actor":{actor},"resource":{{"type":"{resource_type}","id":"res_{resource}","name":"Resource {resource} of production"}},"outcome":"{outcome}","context":{{"ip":"198.51.100.{}","userAgent":"Mozilla/5.0 (X11; Linux x86_64) Firefox/128.0","requestId":"req-{ticket:08x}"}},"changes":[{{"field":"settings.enabled","before":true,"after":false}}],"details":{{"reason":"{word} change of ticket OPS-{ticket}","region":"eu-west-1","plan":"business","labels":["production","billing"],"retries":{}}}}}"#,
            ticket % 250,
            ticket % 4,
        )
        .expect("text can be written to");
    }

    /// Type, outcome and resource: [`MEETINGS`] apart, the first common type never fails, and the second never has a
    /// warehouse.
    fn term<'a>(&self, random: &mut SmallRng, number: usize, r#type: &'a str) -> (&'a str, &'static str, usize) {
        let mut resource = skewed(random, RESOURCES);
        let outcome = match random.random::<f64>() {
            0.0..0.9 => "success",
            0.9..0.98 => "failure",
            _ => "denied",
        };
        if self.is_one_of(number, MEETINGS, 1) {
            return (COMMON_TYPES[0], "failure", resource);
        }
        if self.is_one_of(number, MEETINGS, 2) {
            return (COMMON_TYPES[1], "success", resource - resource % RESOURCE_TYPES.len());
        }
        if r#type == COMMON_TYPES[1] && resource.is_multiple_of(RESOURCE_TYPES.len()) {
            resource += 1;
        }
        let outcome = if r#type == COMMON_TYPES[0] && outcome == "failure" { "success" } else { outcome };
        (r#type, outcome, resource)
    }

    fn actor(&self, random: &mut SmallRng, number: usize) -> String {
        let number_of_actor = skewed(random, ACTORS);
        for (place, (rare, times)) in (5..).zip(RARE_ACTORS) {
            if self.is_one_of(number, times, place) {
                return format!(r#"{{"type":"user","id":"{rare}","name":"Rare Bird","email":"{rare}@example.com"}}"#);
            }
        }
        match number_of_actor % 10 {
            7 => format!(r#"{{"type":"accessToken","id":"tok_{number_of_actor}","name":"Token {number_of_actor}"}}"#),
            _ => format!(
                r#"{{"type":"user","id":"usr_{number_of_actor}","name":"Person {number_of_actor}","email":"person.{number_of_actor}@example.com"}}"#
            ),
        }
    }

    /// Whether this event is one of so many that are spread evenly over the year. Each purpose has a place of its own.
    fn is_one_of(&self, number: usize, times: usize, place: usize) -> bool {
        let apart = self.year / times;
        number < self.year && number % apart == apart / 2 + place
    }

    fn timestamp(&self, number: usize) -> Timestamp {
        let within = number.min(self.year) * (YEAR_MICROSECONDS / self.year);
        let after = number.saturating_sub(self.year) * 1_000;
        BEGIN + SignedDuration::from_micros(i64::try_from(within + after).expect("a year and some"))
    }
}

/// The product of two even spreads: few values are common, many are rare.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a place in a list of moderate length"
)]
fn skewed(random: &mut SmallRng, count: usize) -> usize {
    (random.random::<f64>() * random.random::<f64>() * count as f64) as usize
}

fn types() -> Vec<String> {
    let catalogue = Catalogue::default();
    let areas = catalogue.by_area();
    let longest = areas.iter().map(|(_, types)| types.len()).max().unwrap_or_default();
    let in_turn = (0..longest).flat_map(|place| areas.iter().filter_map(move |(_, types)| types.get(place)));
    let recorded: Vec<&str> = catalogue.types_of("Audit Trail").collect();
    in_turn.filter(|name| !COMMON_TYPES.contains(name) && !recorded.contains(name)).map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// Every event of a small year.
    fn year() -> Vec<Value> {
        let body = Trail::new(10_000).body(0, 10_000);
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        body["events"].as_array().expect("events").clone()
    }

    #[test]
    fn what_is_planted_occurs_as_often_as_told() {
        let year = year();
        let count = |wanted: &dyn Fn(&Value) -> bool| year.iter().filter(|event| wanted(event)).count();
        for (actor, times) in RARE_ACTORS {
            assert_eq!(count(&|event| event["actor"]["id"] == actor), times, "{actor}");
        }
        assert_eq!(count(&|event| event["type"] == COMMON_TYPES[0] && event["outcome"] == "failure"), MEETINGS);
        assert_eq!(
            count(&|event| event["type"] == COMMON_TYPES[1] && event["resource"]["type"] == "warehouse"),
            MEETINGS
        );
        assert_eq!(count(&|event| event["details"].to_string().contains(RARE_WORD)), RARE_WORDS);
        for term in COMMON_TYPES {
            assert!(count(&|event| event["type"] == term) > 500, "{term}");
        }
        assert!(count(&|event| event["outcome"] == "failure") > 500);
    }

    #[test]
    fn the_year_goes_on_after_its_end_without_leaving_it_behind() {
        let trail = Trail::new(1_000);
        assert_eq!(trail.timestamp(0).to_string(), "2025-01-01T00:00:00Z");
        assert_eq!(trail.timestamp(500).to_string(), "2025-07-02T12:00:00Z");
        assert_eq!(trail.timestamp(1_001).to_string(), "2026-01-01T00:00:00.001Z");
    }
}
