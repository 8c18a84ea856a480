//! Gathers the events of one request while its body is read, one by one, so that no more than one of them stands in
//! memory unchecked.

use super::Edge;
use super::fields::Faults;
use super::limits::{BATCH_MAX_EVENTS, EVENT_MAX_WEIGHT_BYTES};
use super::room::{Held, NoRoom};
use crate::event::Event;
use crate::event::json::{Reading, Strict, object_bytes};
use crate::problem::FieldError;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, SeqAccess, Visitor};
use serde_json::Value;
use std::fmt;

/// Why no events were read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// These rules are broken.
    #[error("{} rules are broken", .0.len())]
    Invalid(Vec<FieldError>),
    /// There is no room for the events.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
}

/// Makes an event of a value. None when something is wrong with it, which is noted.
pub(super) type ReadEvent = fn(Value, &Edge<'_>, &mut Faults) -> Option<Event>;

/// What was gathered so far.
pub(super) struct Gather<'a> {
    edge: &'a Edge<'a>,
    room: &'a Held,
    read: ReadEvent,
    pub faults: Faults,
    /// Where a value of the wrong kind would stand.
    pub place: &'static str,
    events: Vec<Event>,
    no_room: Option<NoRoom>,
}

impl<'a> Gather<'a> {
    pub fn new(edge: &'a Edge<'a>, room: &'a Held, read: ReadEvent) -> Self {
        Self { edge, room, read, faults: Faults::default(), place: "", events: Vec::new(), no_room: None }
    }

    /// Takes the next value, with what its reading noted.
    pub fn take(&mut self, value: Value, reading: Reading) -> Result<(), NoRoom> {
        let bytes = kept_bytes(&value, &reading);
        self.room.grow(bytes).inspect_err(|no_room| self.no_room = Some(*no_room))?;
        self.faults.unreadable(reading.breaches);
        let errors_before = self.faults.errors.len();
        let event = (self.read)(value, self.edge, &mut self.faults).map(|mut event| {
            self.edge.catalogue(&mut event, &mut self.faults);
            event
        });
        // Nothing is stored once something is wrong: what comes is only checked.
        if errors_before > 0 || !self.faults.errors.is_empty() {
            self.events = Vec::new();
        } else {
            self.events.extend(event);
        }
        Ok(())
    }

    /// Reads one event from JSON text that has nothing else.
    pub fn take_text(&mut self, text: &str) {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let mut reading = Reading::up_to(EVENT_MAX_WEIGHT_BYTES);
        let read =
            Strict(&mut reading).deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
        match read {
            // Whether there was room is asked at the end.
            Ok(value) => drop(self.take(value, reading)),
            Err(error) => self.unreadable(&error),
        }
    }

    /// Notes that the text is not JSON, or not the JSON that was expected.
    pub fn unreadable(&mut self, error: &serde_json::Error) {
        if self.no_room.is_some() {
            // Our own way out of the reading.
        } else if error.is_data() {
            self.faults.note(self.place, error.to_string());
        } else {
            // What is not JSON has no fields that could be wrong.
            let index = self.faults.index;
            self.faults.errors.retain(|error| error.index != index);
            self.faults.note("", format!("is not JSON that can be kept: {error}"));
        }
    }

    /// Notes a batch that has too many events, or none.
    pub fn batch_fault(&mut self) {
        self.faults.at(None);
        self.faults.note(self.place, format!("must be 1 to {BATCH_MAX_EVENTS} events"));
    }

    pub fn is_out_of_room(&self) -> bool {
        self.no_room.is_some()
    }

    /// The events, if all of them are valid.
    pub fn finish(self) -> Result<Vec<Event>, Refusal> {
        match self.no_room {
            Some(no_room) => Err(no_room.into()),
            None if self.faults.errors.is_empty() => Ok(self.events),
            None => Err(Refusal::Invalid(self.faults.errors)),
        }
    }
}

/// Reads an array of events. Its fewest are decided by who asks.
pub(super) struct Items<'g, 'a> {
    pub gather: &'g mut Gather<'a>,
    /// What is wrong with an array that has none, as far as anything is.
    pub none: fn(&mut Gather<'_>),
}

impl<'de> DeserializeSeed<'de> for Items<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Items<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        for index in 0..BATCH_MAX_EVENTS {
            self.gather.faults.at(Some(index));
            if items.next_element_seed(Item { gather: self.gather })?.is_none() {
                if index == 0 {
                    (self.none)(self.gather);
                }
                self.gather.faults.at(None);
                return Ok(());
            }
        }
        self.gather.faults.at(None);
        let mut more = false;
        while items.next_element::<IgnoredAny>()?.is_some() {
            more = true;
        }
        if more {
            self.gather.batch_fault();
        }
        Ok(())
    }
}

/// Reads one event.
struct Item<'g, 'a> {
    gather: &'g mut Gather<'a>,
}

impl<'de> DeserializeSeed<'de> for Item<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let mut reading = Reading::up_to(EVENT_MAX_WEIGHT_BYTES);
        let value = Strict(&mut reading).deserialize(deserializer)?;
        self.gather.take(value, reading).map_err(D::Error::custom)
    }
}

/// What the event of a value takes of memory: an object of known members becomes plain fields.
fn kept_bytes(value: &Value, reading: &Reading) -> usize {
    let gone = |value: Option<&Value>| value.and_then(Value::as_object).map_or(0, object_bytes);
    let gone =
        gone(Some(value)) + ["actor", "resource", "context"].map(|name| gone(value.get(name))).iter().sum::<usize>();
    size_of::<Event>() + reading.weight_bytes.saturating_sub(gone)
}

/// The body as text. A fault says where it is not UTF-8.
pub(super) fn text(body: &[u8]) -> Result<&str, Refusal> {
    let refuse = |rule: String| Err(Refusal::Invalid(vec![FieldError::of("", rule)]));
    match std::str::from_utf8(body) {
        Err(error) => refuse(format!("is not UTF-8 from byte {} on", error.valid_up_to())),
        // RFC 8259, section 8.1: nobody may add one.
        Ok(text) if text.starts_with('\u{feff}') => {
            refuse("begins with a byte order mark, which JSON has not".to_owned())
        }
        Ok(text) => Ok(text),
    }
}
