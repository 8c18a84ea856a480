//! Native events: one object, `{"events": [...]}`, or one a line.

use super::Edge;
use super::fields::{Faults, Fields};
use super::gather::{Gather, Items, Refusal, text};
use super::limits::{
    BATCH_MAX_EVENTS, CHANGE_FIELD_MAX_CHARS, CHANGES_MAX, EMAIL_MAX_CHARS, EVENT_MAX_WEIGHT_BYTES, ID_MAX_CHARS,
    IDENTITY_MAX_CHARS, JSON_MAX_BYTES, JSON_MAX_LEVELS, JSON_MAX_MEMBERS, NAME_MAX_CHARS, REQUEST_ID_MAX_CHARS,
    TIMESTAMP_AHEAD_MAX, TIMESTAMP_EARLIEST, TIMESTAMP_MIN, TYPE_MAX_CHARS, USER_AGENT_MAX_CHARS,
};
use super::room::Held;
use crate::event::json::{Extent, Reading, Strict};
use crate::event::{Actor, ActorType, Change, Context, Event, Outcome, Resource, whole_microseconds};
use jiff::Timestamp;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;
use std::net::IpAddr;

/// Reads one event, or a batch. Either all events are valid, or every fault of every event is returned. What they take
/// of memory is taken of `room`.
pub fn parse(body: &[u8], edge: &Edge<'_>, room: &Held) -> Result<Vec<Event>, Refusal> {
    let mut gather = Gather::new(edge, room, event);
    let mut deserializer = serde_json::Deserializer::from_str(text(body)?);
    let read = Document(&mut gather).deserialize(&mut deserializer).and_then(|()| deserializer.end());
    if let Err(error) = read {
        gather.unreadable(&error);
    }
    gather.finish()
}

/// Reads one event a line (NDJSON). Lines that are empty, or nothing but white space, do not count.
pub fn parse_lines(body: &[u8], edge: &Edge<'_>, room: &Held) -> Result<Vec<Event>, Refusal> {
    let mut gather = Gather::new(edge, room, event);
    let mut lines = text(body)?.split('\n').filter(|line| !line.trim_ascii().is_empty());
    let mut count = 0;
    for line in lines.by_ref().take(BATCH_MAX_EVENTS) {
        gather.faults.at(Some(count));
        gather.take_text(line);
        if gather.is_out_of_room() {
            return gather.finish();
        }
        count += 1;
    }
    if count == 0 || lines.next().is_some() {
        gather.batch_fault();
    }
    gather.finish()
}

/// The whole of a body: one event, or an object whose one member `events` has many.
struct Document<'g, 'a>(&'g mut Gather<'a>);

impl<'de> DeserializeSeed<'de> for Document<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Document<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event, or an object with an array \"events\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let Self(gather) = self;
        let mut reading = Reading::up_to(EVENT_MAX_WEIGHT_BYTES);
        let mut event = Strict(&mut reading).members();
        let mut batches = 0;
        while let Some(key) = members.next_key::<String>()? {
            if key != "events" {
                event.next(key, &mut members)?;
            } else if batches == 0 {
                batches += 1;
                gather.place = "events";
                members.next_value_seed(Items { gather: &mut *gather, none: |gather| gather.batch_fault() })?;
                gather.place = "";
            } else {
                members.next_value::<IgnoredAny>()?;
                gather.faults.note("events", "stands twice in one object");
            }
        }
        let event = event.end();
        if batches == 0 {
            return gather.take(Value::Object(event), reading).map_err(A::Error::custom);
        }
        gather.faults.unreadable(reading.breaches);
        for name in event.keys() {
            gather.faults.note(name, "is not a field beside events");
        }
        Ok(())
    }
}

/// One event; none when something is wrong with it, which is noted.
pub(super) fn event(value: Value, edge: &Edge<'_>, faults: &mut Faults) -> Option<Event> {
    let faults_before = faults.errors.len();
    let mut fields = Fields::of(value, "", faults)?;
    let event = Event {
        id: fields.id("id", ID_MAX_CHARS).unwrap_or_else(edge.new_id),
        timestamp: timestamp(&mut fields, "timestamp", edge.now),
        r#type: fields.required_text("type", TYPE_MAX_CHARS).unwrap_or_default(),
        actor: required_actor(&mut fields),
        resource: resource(&mut fields),
        outcome: outcome(&mut fields),
        context: context(&mut fields),
        changes: changes(&mut fields),
        details: details(&mut fields),
    };
    fields.end("id, timestamp, type, actor, resource, outcome, context, changes, details");
    (faults.errors.len() == faults_before).then_some(event)
}

/// RFC 3339, kept to the microsecond as Postgres does.
pub(super) fn timestamp(fields: &mut Fields<'_>, name: &str, now: Timestamp) -> Option<Timestamp> {
    let value = fields.any(name)?;
    let parsed: Option<Timestamp> = value.as_str().and_then(|text| text.parse().ok()).map(whole_microseconds);
    match parsed {
        Some(moment) if moment < TIMESTAMP_EARLIEST => {
            fields.fault(name, format!("must not be before {TIMESTAMP_MIN}"));
        }
        Some(moment) if moment > latest(now) => {
            fields.fault(name, format!("must be at most {TIMESTAMP_AHEAD_MAX:#} ahead of the collector's clock"));
        }
        Some(moment) => return Some(moment),
        None => fields.fault(name, format!("must be an RFC 3339 timestamp with its offset, from {TIMESTAMP_MIN} on")),
    }
    None
}

fn latest(now: Timestamp) -> Timestamp {
    now.saturating_add(TIMESTAMP_AHEAD_MAX).expect("a duration without calendar units")
}

fn required_actor(fields: &mut Fields<'_>) -> Option<Actor> {
    if fields.is_absent("actor") {
        fields.fault("actor", "is required: an audit event says who did it");
    }
    actor(fields)
}

pub(super) fn actor(fields: &mut Fields<'_>) -> Option<Actor> {
    let value = fields.any("actor")?;
    let path = fields.path("actor");
    let mut actor = Fields::of(value, &path, fields.faults())?;
    actor.require("type");
    let r#type = actor.name("type", ActorType::NAMES, ActorType::parse);
    let id = actor.required_text("id", IDENTITY_MAX_CHARS);
    let name = actor.text("name", NAME_MAX_CHARS);
    let email = actor.text("email", EMAIL_MAX_CHARS);
    actor.end("type, id, name, email");
    Some(Actor { r#type: r#type?, id: id?, name, email })
}

pub(super) fn resource(fields: &mut Fields<'_>) -> Option<Resource> {
    let value = fields.any("resource")?;
    let path = fields.path("resource");
    let mut resource = Fields::of(value, &path, fields.faults())?;
    let r#type = resource.required_text("type", IDENTITY_MAX_CHARS);
    let id = resource.required_text("id", IDENTITY_MAX_CHARS);
    let name = resource.text("name", NAME_MAX_CHARS);
    resource.end("type, id, name");
    Some(Resource { r#type: r#type?, id: id?, name })
}

pub(super) fn outcome(fields: &mut Fields<'_>) -> Option<Outcome> {
    fields.name("outcome", Outcome::NAMES, Outcome::parse)
}

pub(super) fn context(fields: &mut Fields<'_>) -> Option<Context> {
    let value = fields.any("context")?;
    let path = fields.path("context");
    let mut context = Fields::of(value, &path, fields.faults())?;
    let ip = context.any("ip").and_then(|ip| {
        let valid = ip.as_str().filter(|text| text.parse::<IpAddr>().is_ok()).map(str::to_owned);
        if valid.is_none() {
            context.fault("ip", "must be an IPv4 or IPv6 address");
        }
        valid
    });
    let user_agent = context.text("userAgent", USER_AGENT_MAX_CHARS);
    let request_id = context.text("requestId", REQUEST_ID_MAX_CHARS);
    context.end("ip, userAgent, requestId");
    Some(Context { ip, user_agent, request_id })
}

pub(super) fn changes(fields: &mut Fields<'_>) -> Vec<Change> {
    let Some(value) = fields.any("changes") else { return Vec::new() };
    let extent = Extent::of(&value);
    match value {
        Value::Array(items) if items.len() <= CHANGES_MAX => {
            check_extent(fields, "changes", extent);
            let path = fields.path("changes");
            let change = |(index, item)| change(item, &format!("{path}[{index}]"), fields.faults());
            items.into_iter().enumerate().filter_map(change).collect()
        }
        _ => {
            fields.fault("changes", format!("must be an array of at most {CHANGES_MAX} changes"));
            Vec::new()
        }
    }
}

fn change(value: Value, path: &str, faults: &mut Faults) -> Option<Change> {
    let mut change = Fields::of(value, path, faults)?;
    let field = change.required_text("field", CHANGE_FIELD_MAX_CHARS);
    let before = change.any("before");
    let after = change.any("after");
    change.end("field, before, after");
    Some(Change { field: field?, before, after })
}

pub(super) fn details(fields: &mut Fields<'_>) -> Option<Map<String, Value>> {
    let Value::Object(details) = fields.any("details")? else {
        fields.fault("details", "must be an object");
        return None;
    };
    check_extent(fields, "details", Extent::of_object(&details));
    Some(details)
}

fn check_extent(fields: &mut Fields<'_>, name: &str, extent: Extent) {
    for rule in extent_faults(extent) {
        fields.fault(name, rule);
    }
}

/// The rules that free JSON of this extent breaks.
pub(super) fn extent_faults(extent: Extent) -> Vec<String> {
    let mut rules = Vec::new();
    if extent.bytes > JSON_MAX_BYTES {
        rules.push(format!("must be at most {JSON_MAX_BYTES} bytes of JSON"));
    }
    if extent.levels > JSON_MAX_LEVELS {
        rules.push(format!("must be nested at most {JSON_MAX_LEVELS} levels deep"));
    }
    if extent.members > JSON_MAX_MEMBERS {
        rules.push(format!("must have at most {JSON_MAX_MEMBERS} members on all levels"));
    }
    rules
}

#[cfg(test)]
mod tests;
