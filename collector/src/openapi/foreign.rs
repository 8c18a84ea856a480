//! Schemas of events in shapes that others have defined. Where odd content is cut and not refused, the schema is as wide as what
//! is read.

use super::native::{closed, id, moment, optional, refer, text};
use crate::ingest::limits::{BATCH_MAX_EVENTS, CE_SOURCE_MAX_CHARS, ID_MAX_CHARS, IDENTITY_MAX_CHARS, TYPE_MAX_CHARS};
use serde_json::{Map, Value, json};

/// Kinds of actors of the extension Auth Context of CloudEvents.
const AUTH_TYPES: [&str; 7] =
    ["app_user", "user", "service_account", "api_key", "system", "unauthenticated", "unknown"];

/// Schemas by name.
pub fn schemas() -> Map<String, Value> {
    [
        ("CloudEvent", cloud_event()),
        ("CloudEvents", cloud_events()),
        ("KubernetesEventList", kubernetes()),
        ("TrackCall", track()),
        ("BatchCall", batch()),
        ("OtherCall", other()),
    ]
    .map(|(name, schema)| (name.to_owned(), schema))
    .into_iter()
    .collect()
}

fn cloud_event() -> Value {
    let data = "An object whose members are all among actor, resource, outcome, context, changes and details is read as those of a \
        native event; anything else becomes `details`. Not beside `data_base64`.";
    let mut schema = closed(
        "A CloudEvent 1.0. Its source and id together are the identity of the event.",
        &["specversion", "id", "source", "type"],
        &json!({
            "specversion": {"const": "1.0"},
            "id": id("Identity within its source.", ID_MAX_CHARS),
            "source": {
                "type": "string",
                "minLength": 1,
                "maxLength": CE_SOURCE_MAX_CHARS,
                "pattern": r"^\S+$",
                "description": "Where it comes from: a URI reference, which may have letters of any script, and no white space.",
            },
            "type": text("What happened.", TYPE_MAX_CHARS),
            "time": optional(moment("When it happened.")),
            "subject": optional(text("Becomes the resource, where `data` names none.", IDENTITY_MAX_CHARS)),
            "datacontenttype": optional(text("Media type of the data.", IDENTITY_MAX_CHARS)),
            "dataschema": optional(text("Schema of the data.", IDENTITY_MAX_CHARS)),
            "authtype": attribute(&format!("Kind of the actor, where `data` names none: one of {}.", AUTH_TYPES.join(", "))),
            "authid": attribute(&format!("Identity of the actor, where `data` names none: text of 1 to {IDENTITY_MAX_CHARS} characters.")),
            "data": {"description": data},
            "data_base64": {"type": ["string", "null"], "contentEncoding": "base64", "description": "Data that is no JSON."},
        }),
    );
    // Extension attributes (CloudEvents, section 3.1).
    schema["additionalProperties"] = attribute("An extension attribute.");
    schema["propertyNames"] = json!({"pattern": "^([a-z0-9]+|data_base64)$"});
    schema
}

/// Extension attributes may be of these types; what they are beside depends on the other members.
fn attribute(description: &str) -> Value {
    json!({"type": ["string", "boolean", "integer", "null"], "description": description})
}

fn cloud_events() -> Value {
    json!({"type": "array", "maxItems": BATCH_MAX_EVENTS, "items": refer("CloudEvent")})
}

fn kubernetes() -> Value {
    json!({
        "type": "object",
        "description": "An EventList of audit.k8s.io/v1, as the webhook backend of an API server sends it. What an event cannot hold is \
            cut, and marked in its details.",
        "properties": {"items": {"type": ["array", "null"]}},
    })
}

fn track() -> Value {
    let mut properties = call();
    properties.extend([
        ("event".to_owned(), json!({"description": "What happened: text. Required."})),
        ("properties".to_owned(), json!({"description": "Becomes `details`: an object."})),
    ]);
    json!({
        "type": "object",
        "description": "A track call of Segment's Tracking API. What an event cannot hold is cut, and marked in its details; only a call \
            that says neither what nor who is refused.",
        "required": ["event"],
        "properties": properties,
    })
}

fn batch() -> Value {
    let item = json!({
        "type": "object",
        "description": "A call. One that cannot be stored is told with its index, and all others are stored.",
        "required": ["type"],
        "properties": {"type": {"enum": ["track", "identify", "page", "screen", "group", "alias"]}},
    });
    json!({
        "type": "object",
        "description": "Calls of Segment's Tracking API. Those of type `track` become events; identify, page, screen, group and alias are \
            taken and not stored.",
        "required": ["batch"],
        "properties": {
            "batch": {"type": ["array", "null"], "items": item},
            "sentAt": {"description": "The sender's clock: a moment."},
            "context": {"description": "Stands in where a call has none: an object."},
            "writeKey": write_key(),
        },
    })
}

fn other() -> Value {
    json!({
        "description": "A call of Segment's Tracking API that is taken and not stored: an object, but any JSON is taken.",
        "properties": call(),
    })
}

/// What every call has.
fn call() -> Map<String, Value> {
    let described = |text: &str| json!({ "description": text });
    [
        ("messageId", described("Becomes the id: text.")),
        (
            "userId",
            described("Becomes the actor: text or a number. This or `anonymousId` is required where an event is made."),
        ),
        ("anonymousId", described("Becomes the actor where there is no `userId`.")),
        ("timestamp", described("When it happened: a moment.")),
        ("context", described("Where it came from: an object.")),
        ("writeKey", write_key()),
    ]
    .map(|(name, schema)| (name.to_owned(), schema))
    .into_iter()
    .collect()
}

fn write_key() -> Value {
    json!({"description": "The write key, where no header names one."})
}
