//! Events of about 300 bytes of JSON, with values spread as in a real trail.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use std::fmt::Write as _;

/// Length of an id: 32 hexadecimal digits, random, so that ids arrive in no order.
const ID_LENGTH: usize = 32;

/// Stands for an id until it is written over.
const NO_ID: &str = "00000000000000000000000000000000";

/// Every month has as many.
const DAYS_OF_A_MONTH: usize = 28;

/// The body of a request, sent again and again with new ids.
#[derive(Debug)]
pub struct Events {
    random: SmallRng,
    body: Vec<u8>,
    /// Where the ids stand in the body.
    ids: Vec<usize>,
}

impl Events {
    /// Bodies of this many events of the trail's `day`, from 0 on; one event alone is not a batch.
    pub fn new(count: usize, day: usize) -> Self {
        let mut random = SmallRng::seed_from_u64(rand::random());
        let events: Vec<String> = (0..count).map(|_| event(&mut random, day)).collect();
        let text = if count == 1 { events.concat() } else { format!("{{\"events\":[{}]}}", events.join(",")) };
        let ids = text.match_indices(NO_ID).map(|(at, _)| at).collect();
        Self { random, body: text.into_bytes(), ids }
    }

    /// The body, as long as every other.
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The body with new ids.
    pub fn next_body(&mut self) -> &[u8] {
        for at in &self.ids {
            let id = hex(self.random.random());
            self.body[*at..at + ID_LENGTH].copy_from_slice(id.as_bytes());
        }
        &self.body
    }
}

/// An id that nobody had.
pub fn hex(number: u128) -> String {
    let mut text = String::with_capacity(ID_LENGTH);
    write!(text, "{number:032x}").expect("text can be written to");
    text
}

fn event(random: &mut SmallRng, day: usize) -> String {
    // The product of two even spreads: few values are common, many are rare.
    let mut one_of = |count: u32| (random.random::<f64>() * random.random::<f64>() * f64::from(count)).floor();
    let user = one_of(20_000);
    json!({
        "id": NO_ID,
        "timestamp": format!("2025-{:02}-{:02}T09:14:05.120Z", 1 + day / DAYS_OF_A_MONTH, 1 + day % DAYS_OF_A_MONTH),
        "type": format!("Event Type {}", one_of(170)),
        "actor": {"type": "user", "id": format!("usr_{user}"), "name": format!("Person {user}")},
        "resource": {"type": "warehouse", "id": format!("whs_{}", one_of(100_000)), "name": "Production"},
        "outcome": if one_of(10) > 5.0 { "failure" } else { "success" },
        "context": {"ip": "198.51.100.23", "requestId": "req-1002"},
        "changes": [{"field": "enabled", "before": true, "after": false}],
    })
    .to_string()
}
