//! An item as an event. Four kinds of items are told apart by their shape:
//!
//! | item | recognised by |
//! |---|---|
//! | of an `AuditForwarding`, format `SegmentAudit` | our library, event `Audit`, and the event's id and type in `properties` |
//! | of an `AuditForwarding`, format `Named` | our library, and the event's id in `properties` |
//! | of Segment's own audit forwarding | event `Audit`, and the type in `properties` |
//! | of any SDK | everything else |
//!
//! What an event cannot hold is cut and marked in `details`. Only an item that says neither what nor who is refused,
//! and one that the trail's own catalogue refuses.

mod audit;

use super::{AUDIT, LIBRARY, SYSTEM, passed};
use crate::event::json::Extent;
use crate::event::{Actor, ActorType, Change, Context, Event, Outcome, Resource, whole_microseconds};
use crate::ingest::Edge;
use crate::ingest::cut::Cut;
use crate::ingest::fields::Faults;
use crate::ingest::items::Item;
use crate::ingest::limits::{
    CHANGE_FIELD_MAX_CHARS, CHANGES_MAX, EMAIL_MAX_CHARS, IDENTITY_MAX_CHARS, JSON_MAX_BYTES, JSON_MAX_LEVELS,
    JSON_MAX_MEMBERS, NAME_MAX_CHARS, REQUEST_ID_MAX_CHARS, TIMESTAMP_AHEAD_MAX, TIMESTAMP_EARLIEST, TYPE_MAX_CHARS,
    USER_AGENT_MAX_CHARS,
};
use crate::problem::FieldError;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};
use std::net::IpAddr;
use uuid::Uuid;

/// A sender's clock that differs by more than a request takes is wrong, and its timestamps are corrected. Below, they stay as
/// they are, so that an item which is sent again is the same event.
pub const CLOCK_TRUSTED_WITHIN: SignedDuration = SignedDuration::from_mins(1);

type Members = Map<String, Value>;

/// What the items of one body share.
#[derive(Debug, Default)]
pub struct Batch {
    context: Members,
    sent_at: Option<Timestamp>,
}

impl Batch {
    /// Of the members beside `batch`.
    pub fn of(body: &Members) -> Self {
        Self { context: object(body, "context").cloned().unwrap_or_default(), sent_at: moment(body, "sentAt") }
    }
}

/// An item's event.
#[derive(Debug, PartialEq)]
pub struct Tracked {
    /// The event.
    pub event: Event,
    /// Whether its timestamp was corrected, by an amount that differs each time the item is sent.
    pub corrected: bool,
    /// Logs of the trails that it passed, oldest first; there may be more than [`passed::PASSED_MAX`].
    pub passed: Vec<Uuid>,
}

/// The event of a track call, or all that is missing for one.
pub fn track(item: Item, batch: &Batch, edge: &Edge<'_>) -> Result<Tracked, Vec<FieldError>> {
    let mut faults = Faults::default();
    if !item.is_object {
        faults.note("", "must be an object");
        return Err(faults.errors);
    }
    let shape = Shape::of(&item.members);
    let passed = passed::of(&item.members);
    let mut reader = Reader { members: item.members, batch, edge, cut: Cut::default() };
    item.taken_out.iter().filter_map(|path| shape.place(path)).for_each(|place| reader.cut.note(&place));
    let (mut event, corrected) = match shape {
        Shape::Named => (reader.named(&mut faults), false),
        Shape::SegmentAudit => (reader.audit(&mut faults), false),
        Shape::SegmentsOwn => (reader.segments_own(&mut faults), false),
        Shape::Sdk => reader.sdk(&mut faults),
    };
    if event.r#type.is_empty() {
        faults.note("event", "is required: it is the event's type");
    } else {
        edge.catalogue(&mut event, &mut faults);
    }
    if !faults.errors.is_empty() {
        return Err(faults.errors);
    }
    // After the schema was met: the mark is ours.
    reader.cut.mark_event(&mut event);
    Ok(Tracked { event, corrected, passed })
}

/// Who made an item.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Shape {
    Named,
    SegmentAudit,
    SegmentsOwn,
    Sdk,
}

impl Shape {
    fn of(item: &Members) -> Self {
        let library = object(item, "context").and_then(|context| object(context, "library"));
        let properties = object(item, "properties");
        let has = |name| properties.is_some_and(|properties| text(properties, name).is_some());
        let ours = library.and_then(|library| text(library, "name")) == Some(LIBRARY) && has("id");
        let audit = text(item, "event") == Some(AUDIT) && has("type");
        match (ours, audit) {
            (true, true) => Self::SegmentAudit,
            (true, false) => Self::Named,
            (false, true) => Self::SegmentsOwn,
            (false, false) => Self::Sdk,
        }
    }

    /// Where in the event the member at `path` of the item would be; none where it is nowhere.
    fn place(self, path: &str) -> Option<String> {
        let inner = path.strip_prefix("properties")?;
        match self {
            Self::Named => inner.strip_prefix('.').map(str::to_owned),
            Self::SegmentAudit | Self::SegmentsOwn => {
                inner.strip_prefix(".details").map(|rest| format!("details{rest}"))
            }
            Self::Sdk => Some(format!("details{inner}")),
        }
    }
}

/// The context of an item, and behind it that of its batch: neither is copied.
#[derive(Clone, Copy)]
struct Layers<'a> {
    item: &'a Members,
    batch: &'a Members,
}

impl<'a> Layers<'a> {
    fn get(self, name: &str) -> Option<&'a Value> {
        self.item.get(name).or_else(|| self.batch.get(name))
    }

    fn text(self, name: &str) -> Option<&'a str> {
        self.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }
}

struct Reader<'a> {
    members: Members,
    batch: &'a Batch,
    edge: &'a Edge<'a>,
    cut: Cut,
}

impl Reader<'_> {
    /// What [`super::encode::item`] made in format `Named`.
    fn named(&mut self, faults: &mut Faults) -> Event {
        let mut properties = self.take_object("properties").unwrap_or_default();
        self.note_truncated(&properties);
        let context = self.take_object("context").unwrap_or_default();
        let timestamp = moment(&self.members, "timestamp");
        let details = self.take_details(&mut properties, "details");
        let r#type = self.event_type();
        Event {
            id: self.id(text(&properties, "id")),
            timestamp: self.timestamp(timestamp),
            r#type,
            actor: self.named_actor(properties.get("actor"), faults),
            resource: object(&properties, "resource").and_then(|resource| self.resource(resource)),
            outcome: text(&properties, "outcome").and_then(Outcome::parse),
            context: self
                .context(Layers { item: &context, batch: &Members::new() })
                .or_else(|| object(&properties, "context").map(|_nothing_said| Context::default())),
            changes: self.changes(properties.remove("changes")),
            details,
        }
    }

    /// The actor of the event; nobody, where the person was erased: then the system stands in the item.
    fn named_actor(&mut self, actor: Option<&Value>, faults: &mut Faults) -> Option<Actor> {
        let erased = actor.is_none() && text(&self.members, "anonymousId") == Some(SYSTEM);
        if erased {
            return None;
        }
        actor.and_then(Value::as_object).and_then(|actor| self.actor(actor)).or_else(|| self.user(faults))
    }

    /// What was left out to keep the item small enough.
    fn note_truncated(&mut self, properties: &Members) {
        for missing in properties.get("truncated").and_then(Value::as_array).into_iter().flatten() {
            self.cut.note(missing.as_str().unwrap_or_default());
        }
    }

    /// What any SDK makes.
    fn sdk(&mut self, faults: &mut Faults) -> (Event, bool) {
        let context = self.take_object("context").unwrap_or_default();
        let context = Layers { item: &context, batch: &self.batch.context };
        let mut actor = self.user(faults);
        if let (Some(actor), Some(traits)) = (&mut actor, context.get("traits").and_then(Value::as_object)) {
            actor.name = self.cut.optional("actor.name", text(traits, "name"), NAME_MAX_CHARS);
            actor.email = self.cut.optional("actor.email", text(traits, "email"), EMAIL_MAX_CHARS);
        }
        let (moment, corrected) = self.corrected();
        let mut members = std::mem::take(&mut self.members);
        let details = self.take_details(&mut members, "properties");
        self.members = members;
        let event = Event {
            id: self.message_id(),
            timestamp: self.timestamp(moment),
            r#type: self.event_type(),
            actor,
            resource: None,
            outcome: None,
            context: self.context(context),
            changes: Vec::new(),
            details,
        };
        (event, corrected)
    }

    /// When it happened by our clock: `receivedAt - (sentAt - originalTimestamp)`, where the sender's is wrong.
    fn corrected(&self) -> (Option<Timestamp>, bool) {
        let given = moment(&self.members, "originalTimestamp").or_else(|| moment(&self.members, "timestamp"));
        let sent_at = moment(&self.members, "sentAt").or(self.batch.sent_at);
        let (Some(given), Some(sent_at)) = (given, sent_at) else { return (given, false) };
        let behind = self.edge.now.duration_since(sent_at);
        if behind.abs() <= CLOCK_TRUSTED_WITHIN {
            return (Some(given), false);
        }
        (given.checked_add(behind).ok(), true)
    }

    /// A moment that an event can have.
    fn timestamp(&mut self, given: Option<Timestamp>) -> Option<Timestamp> {
        let latest = self.edge.now.saturating_add(TIMESTAMP_AHEAD_MAX).unwrap_or(Timestamp::MAX);
        let kept = given.map(whole_microseconds).filter(|moment| (TIMESTAMP_EARLIEST..=latest).contains(moment));
        let said = ["timestamp", "originalTimestamp"].iter().any(|name| self.members.get(*name).is_some_and(is_said));
        if kept.is_none() && said {
            self.cut.note("timestamp");
        }
        kept
    }

    fn event_type(&mut self) -> String {
        self.cut.optional("type", text(&self.members, "event"), TYPE_MAX_CHARS).unwrap_or_default()
    }

    fn message_id(&mut self) -> String {
        let given = text(&self.members, "messageId").map(str::to_owned);
        self.id(given.as_deref())
    }

    fn id(&mut self, given: Option<&str>) -> String {
        given.and_then(|given| self.cut.id(given)).unwrap_or_else(self.edge.new_id)
    }

    /// Whose `userId` or `anonymousId` it is. Nobody knows a person with only the latter, who is one nevertheless.
    fn user(&mut self, faults: &mut Faults) -> Option<Actor> {
        let identity = |name| match self.members.get(name) {
            Some(Value::String(id)) if !id.is_empty() => Some(id.clone()),
            Some(Value::Number(id)) => Some(id.to_string()),
            _ => None,
        };
        let Some(id) = identity("userId").or_else(|| identity("anonymousId")) else {
            faults.note("userId", "or anonymousId is required: an audit event says who did it");
            return None;
        };
        let r#type = if id == SYSTEM { ActorType::System } else { ActorType::User };
        Some(Actor { r#type, id: self.cut.text("actor.id", &id, IDENTITY_MAX_CHARS), name: None, email: None })
    }

    fn actor(&mut self, actor: &Members) -> Option<Actor> {
        Some(Actor {
            r#type: text(actor, "type").and_then(ActorType::parse)?,
            id: self.cut.text("actor.id", text(actor, "id")?, IDENTITY_MAX_CHARS),
            name: self.cut.optional("actor.name", text(actor, "name"), NAME_MAX_CHARS),
            email: self.cut.optional("actor.email", text(actor, "email"), EMAIL_MAX_CHARS),
        })
    }

    fn resource(&mut self, resource: &Members) -> Option<Resource> {
        Some(Resource {
            r#type: self.cut.text("resource.type", text(resource, "type")?, IDENTITY_MAX_CHARS),
            id: self.cut.text("resource.id", text(resource, "id")?, IDENTITY_MAX_CHARS),
            name: self.cut.optional("resource.name", text(resource, "name"), NAME_MAX_CHARS),
        })
    }

    /// None when it says nothing that an event has a place for.
    fn context(&mut self, context: Layers<'_>) -> Option<Context> {
        let given = context.text("ip");
        let ip = given.filter(|ip| ip.parse::<IpAddr>().is_ok()).map(str::to_owned);
        if given.is_some() && ip.is_none() {
            self.cut.note("context.ip");
        }
        let read = Context {
            ip,
            user_agent: self.cut.optional("context.userAgent", context.text("userAgent"), USER_AGENT_MAX_CHARS),
            request_id: self.cut.optional("context.requestId", context.text("requestId"), REQUEST_ID_MAX_CHARS),
        };
        Some(read).filter(|context| *context != Context::default())
    }

    fn changes(&mut self, changes: Option<Value>) -> Vec<Change> {
        let Some(changes) = changes.filter(is_said) else { return Vec::new() };
        let Extent { bytes, levels, members } = Extent::of(&changes);
        let fits = bytes <= JSON_MAX_BYTES && levels <= JSON_MAX_LEVELS && members <= JSON_MAX_MEMBERS;
        let read = match changes {
            Value::Array(changes) if fits && changes.len() <= CHANGES_MAX => {
                changes.into_iter().map(change).collect::<Option<Vec<Change>>>()
            }
            _ => None,
        };
        read.unwrap_or_else(|| {
            self.cut.note("changes");
            Vec::new()
        })
    }

    /// The member `name`, as `details`.
    fn take_details(&mut self, members: &mut Members, name: &str) -> Option<Members> {
        let value = members.remove(name).filter(is_said)?;
        let Some(mut details) = into_object(value) else {
            self.cut.note("details");
            return None;
        };
        self.cut.fit(&mut details);
        Some(details)
    }

    fn take_object(&mut self, name: &str) -> Option<Members> {
        self.members.remove(name).and_then(into_object)
    }
}

/// A change whose field an event could have.
fn change(value: Value) -> Option<Change> {
    let mut members = into_object(value)?;
    let field = text(&members, "field")?;
    if field.chars().count() > CHANGE_FIELD_MAX_CHARS || field.chars().any(char::is_control) {
        return None;
    }
    Some(Change {
        field: field.to_owned(),
        before: members.remove("before").filter(is_said),
        after: members.remove("after").filter(is_said),
    })
}

/// `null` is as good as nothing.
fn is_said(value: &Value) -> bool {
    !value.is_null()
}

fn into_object(value: Value) -> Option<Members> {
    match value {
        Value::Object(members) => Some(members),
        _ => None,
    }
}

fn object<'a>(members: &'a Members, name: &str) -> Option<&'a Members> {
    members.get(name).and_then(Value::as_object)
}

/// Text that says something.
fn text<'a>(members: &'a Members, name: &str) -> Option<&'a str> {
    members.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

fn moment(members: &Members, name: &str) -> Option<Timestamp> {
    text(members, name).and_then(|text| text.parse().ok())
}

#[cfg(test)]
mod tests;
