//! What reading events needs beside their bytes, so that readers are pure: the clock, the catalogue, ids.

use super::fields::Faults;
use crate::event::Event;
use audittrail_crds::catalogue::Catalogue;
use jiff::Timestamp;
use uuid::Uuid;

/// What a reader of events is given.
#[derive(Clone, Copy, Debug)]
pub struct Edge<'a> {
    /// The moment of reading, against which clock skew is measured.
    pub now: Timestamp,
    /// The types of events there are.
    pub catalogue: &'a Catalogue,
    /// Makes the id of an event that has none.
    pub new_id: fn() -> String,
}

impl<'a> Edge<'a> {
    /// With the machine's clock and random ids.
    pub fn here(catalogue: &'a Catalogue) -> Self {
        Self { now: Timestamp::now(), catalogue, new_id: || Uuid::now_v7().to_string() }
    }

    /// Puts the event's type into the catalogue's spelling. Notes a type that a strict catalogue does not know, and
    /// details which break the type's schema.
    pub fn catalogue(&self, event: &mut Event, faults: &mut Faults) {
        match self.catalogue.spelling(&event.r#type) {
            Ok(spelling) => event.r#type = spelling,
            Err(rule) => return faults.note("type", rule),
        }
        for (field, rule) in self.catalogue.details_faults(&event.r#type, event.details.as_ref()) {
            faults.note(field, rule);
        }
    }
}
