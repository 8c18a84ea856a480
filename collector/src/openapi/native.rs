//! Schemas of native events, as [`ingest::native`](crate::ingest::native) reads them, with its limits. What JSON Schema cannot say
//! stands in descriptions.

use crate::event::{ActorType, Outcome};
use crate::ingest::limits::{
    BATCH_MAX_EVENTS, CHANGE_FIELD_MAX_CHARS, CHANGES_MAX, EMAIL_MAX_CHARS, ID_MAX_CHARS, IDENTITY_MAX_CHARS,
    JSON_MAX_BYTES, JSON_MAX_LEVELS, JSON_MAX_MEMBERS, NAME_MAX_CHARS, REQUEST_ID_MAX_CHARS, TIMESTAMP_AHEAD_MAX,
    TIMESTAMP_MIN, TYPE_MAX_CHARS, USER_AGENT_MAX_CHARS,
};
use serde_json::{Map, Value, json};

/// Text without control characters.
const TEXT_PATTERN: &str = r"^[^\u0000-\u001f\u007f-\u009f]+$";

/// The same without invisible characters (but those past U+FFFF), and without white space at its ends.
pub const ID_PATTERN: &str = concat!(
    r"^[^\s\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]",
    r"([^\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]*",
    r"[^\s\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb])?$",
);

/// Schemas by name.
pub fn schemas() -> Map<String, Value> {
    [
        ("NewEvent", event()),
        ("NewEvents", events()),
        ("NewActor", actor()),
        ("NewResource", resource()),
        ("NewContext", context()),
        ("NewChanges", changes()),
        ("NewDetails", details()),
    ]
    .map(|(name, schema)| (name.to_owned(), schema))
    .into_iter()
    .collect()
}

/// An object that has no other members than these.
pub fn closed(description: &str, required: &[&str], properties: &Value) -> Value {
    let mut schema = json!({
        "type": "object",
        "description": description,
        "additionalProperties": false,
        "properties": properties,
    });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

/// Text of 1 to so many characters.
pub fn text(description: &str, max_chars: usize) -> Value {
    json!({"type": "string", "description": description, "minLength": 1, "maxLength": max_chars, "pattern": TEXT_PATTERN})
}

/// An id: text in which everything can be seen.
pub fn id(description: &str, max_chars: usize) -> Value {
    json!({"type": "string", "description": description, "minLength": 1, "maxLength": max_chars, "pattern": ID_PATTERN})
}

/// The same, which may be left out: `null` counts as absent.
pub fn optional(mut schema: Value) -> Value {
    match &schema["type"] {
        Value::String(name) => schema["type"] = json!([name, "null"]),
        _ => schema = json!({"anyOf": [schema, {"type": "null"}]}),
    }
    if let Some(names) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        names.push(Value::Null);
    }
    schema
}

/// A schema of this document.
pub fn refer(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// A moment at which something happened.
pub fn moment(description: &str) -> Value {
    let bounds = format!(
        "RFC 3339, not before {TIMESTAMP_MIN}, and at most {TIMESTAMP_AHEAD_MAX:#} ahead of the collector's clock."
    );
    json!({"type": "string", "format": "date-time", "description": format!("{description} {bounds}")})
}

/// The members of an event that CloudEvents may carry in `data` too.
pub fn parts() -> [(&'static str, Value); 6] {
    [
        ("actor", refer("NewActor")),
        ("resource", optional(refer("NewResource"))),
        ("outcome", optional(json!({"type": "string", "enum": Outcome::NAMES, "description": "How it ended."}))),
        ("context", optional(refer("NewContext"))),
        ("changes", optional(refer("NewChanges"))),
        ("details", optional(refer("NewDetails"))),
    ]
}

fn event() -> Value {
    let identity = "Identity: the same id again is the same event. A UUIDv7 is made where there is none. Nothing in it is invisible.";
    let r#type = "What happened. A strict catalogue takes only types that it knows.";
    let mut properties = json!({
        "id": optional(id(identity, ID_MAX_CHARS)),
        "timestamp": optional(moment("When it happened; when it was received stands in.")),
        "type": text(r#type, TYPE_MAX_CHARS),
    });
    for (name, schema) in parts() {
        properties[name] = schema;
    }
    closed("An event to be stored.", &["type", "actor"], &properties)
}

fn events() -> Value {
    let events = json!({"type": "array", "minItems": 1, "maxItems": BATCH_MAX_EVENTS, "items": refer("NewEvent")});
    closed("Events to be stored, all of them or none.", &["events"], &json!({ "events": events }))
}

fn actor() -> Value {
    let properties = json!({
        "type": {"type": "string", "enum": ActorType::NAMES, "description": "Kind of actor."},
        "id": text("Identity of the actor in its own system.", IDENTITY_MAX_CHARS),
        "name": optional(text("Name, as people read it.", NAME_MAX_CHARS)),
        "email": optional(text("E-mail address.", EMAIL_MAX_CHARS)),
    });
    closed("Who did it.", &["type", "id"], &properties)
}

fn resource() -> Value {
    let properties = json!({
        "type": text("Kind of resource, for example `warehouse`.", IDENTITY_MAX_CHARS),
        "id": text("Identity of the resource in its own system.", IDENTITY_MAX_CHARS),
        "name": optional(text("Name, as people read it.", NAME_MAX_CHARS)),
    });
    closed("What it was done to.", &["type", "id"], &properties)
}

fn context() -> Value {
    let ip = json!({"anyOf": [{"type": "string", "format": "ipv4"}, {"type": "string", "format": "ipv6"}, {"type": "null"}]});
    let properties = json!({
        "ip": ip,
        "userAgent": optional(text("Its user agent.", USER_AGENT_MAX_CHARS)),
        "requestId": optional(text("Identity of the request that caused the event.", REQUEST_ID_MAX_CHARS)),
    });
    closed("Where it came from.", &[], &properties)
}

fn changes() -> Value {
    let properties = json!({
        "field": text("Name or path of the field.", CHANGE_FIELD_MAX_CHARS),
        "before": {"description": "Value before; absent when there was none."},
        "after": {"description": "Value after; absent when there is none."},
    });
    let change = closed("One changed field.", &["field"], &properties);
    json!({"type": "array", "description": format!("What changed, field by field. {}", extent()), "maxItems": CHANGES_MAX, "items": change})
}

fn details() -> Value {
    json!({"type": "object", "description": format!("Anything else. {}", extent())})
}

/// Limits of free JSON, which no schema can express.
fn extent() -> String {
    format!(
        "At most {JSON_MAX_BYTES} bytes as canonical JSON, {JSON_MAX_LEVELS} levels and {JSON_MAX_MEMBERS} members on all levels; \
         no U+0000, and no integer past 2^53."
    )
}
