//! CloudEvents 1.0 (CNCF, <https://github.com/cloudevents/spec>, v1.0.2): structured and batched JSON, and the HTTP
//! binding's binary mode. `docs/events.md` has the table of what becomes what.

use super::Edge;
use super::fields::{Faults, Fields, id_fault, text_fault};
use super::gather::{Gather, Items, Refusal, text};
use super::limits::{CE_SOURCE_MAX_CHARS, EVENT_MAX_WEIGHT_BYTES, ID_MAX_CHARS, IDENTITY_MAX_CHARS, TYPE_MAX_CHARS};
use super::media::MediaType;
use super::native;
use super::room::Held;
use crate::event::json::{Extent, Reading, Strict};
use crate::event::{Actor, ActorType, Change, Context, Event, Outcome, Resource};
use axum::http::HeaderMap;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use serde::de::DeserializeSeed;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// What precedes the name of an attribute in a header (HTTP binding, section 3.1.3.1).
const HEADER_PREFIX: &str = "ce-";

/// Members of `data` that mean what they mean in a native event.
const NATIVE: [&str; 6] = ["actor", "resource", "outcome", "context", "changes", "details"];

/// The member of `details` that keeps attributes which have no other place.
const ATTRIBUTES: &str = "cloudEvent";

/// Reads one structured CloudEvent (JSON format, section 3).
pub fn parse(body: &[u8], edge: &Edge<'_>, room: &Held) -> Result<Vec<Event>, Refusal> {
    let mut gather = Gather::new(edge, room, event);
    gather.take_text(text(body)?);
    gather.finish()
}

/// Reads a batch (JSON format, section 4). It may be empty.
pub fn parse_batch(body: &[u8], edge: &Edge<'_>, room: &Held) -> Result<Vec<Event>, Refusal> {
    let mut gather = Gather::new(edge, room, event);
    let mut deserializer = serde_json::Deserializer::from_str(text(body)?);
    let read =
        Items { gather: &mut gather, none: |_| {} }.deserialize(&mut deserializer).and_then(|()| deserializer.end());
    if let Err(error) = read {
        gather.unreadable(&error);
    }
    gather.finish()
}

/// Reads a CloudEvent whose attributes are headers and whose data is the body (HTTP binding, section 3.1).
pub fn parse_binary(headers: &HeaderMap, body: &[u8], edge: &Edge<'_>, room: &Held) -> Result<Vec<Event>, Refusal> {
    let mut gather = Gather::new(edge, room, event);
    let mut reading = Reading::up_to(EVENT_MAX_WEIGHT_BYTES);
    let mut members = attributes(headers, &mut gather.faults);
    if let Some(media_type) = headers.get("content-type").and_then(|value| value.to_str().ok())
        && members.insert("datacontenttype".to_owned(), media_type.into()).is_some()
    {
        gather.faults.note("datacontenttype", "must be sent as the header content-type");
    }
    if !body.is_empty() {
        match data_of_body(MediaType::of(headers), body, &mut reading) {
            Ok((name, value)) => drop(members.insert(name.to_owned(), value)),
            Err(rule) => gather.faults.note("data", rule),
        }
    }
    // What is wrong is noted in `gather`, room included.
    let _ = gather.take(Value::Object(members), reading);
    gather.finish()
}

/// Attributes in headers. Their values are quoted or not, then percent-encoded UTF-8 (HTTP binding, section 3.1.3.2).
fn attributes(headers: &HeaderMap, faults: &mut Faults) -> Map<String, Value> {
    let mut attributes = Map::new();
    for (header, value) in headers {
        let Some(name) = header.as_str().strip_prefix(HEADER_PREFIX) else { continue };
        if matches!(name, "data" | "data_base64") {
            faults.note(header.as_str(), "must not be a header: the body is the data");
        } else if let Some(value) = header_text(value.as_bytes()) {
            if attributes.insert(name.to_owned(), value.into()).is_some() {
                faults.note(name, "must be sent once");
            }
        } else {
            faults.note(name, "must be percent-encoded UTF-8 without U+0000");
        }
    }
    attributes
}

/// The text that a header's value stands for.
fn header_text(value: &[u8]) -> Option<String> {
    let unquoted = unquoted(value);
    let mut bytes = Vec::with_capacity(unquoted.len());
    let mut rest = &unquoted[..];
    while let [first, after @ ..] = rest {
        let escape = after.first_chunk::<2>().filter(|_| *first == b'%');
        // A sign that begins no escape stands for itself, as older senders mean it.
        let decoded = escape.and_then(|digits| hex::decode(digits).ok());
        rest = if decoded.is_some() { &after[2..] } else { after };
        bytes.push(decoded.map_or(*first, |decoded| decoded[0]));
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

/// What stands between double quotes, with backslashes undone; without quotes the value itself.
fn unquoted(value: &[u8]) -> Vec<u8> {
    let [b'"', inner @ .., b'"'] = value else { return value.to_vec() };
    let mut bytes = Vec::with_capacity(inner.len());
    let mut escaped = false;
    for byte in inner {
        if *byte == b'\\' && !escaped {
            escaped = true;
        } else {
            bytes.push(*byte);
            escaped = false;
        }
    }
    bytes
}

/// The member that a body of this type would be in structured mode.
fn data_of_body(
    media_type: Option<MediaType>,
    body: &[u8],
    reading: &mut Reading,
) -> Result<(&'static str, Value), String> {
    let is_text = media_type.as_ref().is_some_and(|media_type| media_type.is_text() && media_type.is_utf8());
    if media_type.is_some_and(|media_type| media_type.is_json()) {
        let mut deserializer = serde_json::Deserializer::from_slice(body);
        let value = Strict(reading).deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
        reading.within(0, || "data".to_owned());
        return value.map(|value| ("data", value)).map_err(|error| format!("is not JSON that can be kept: {error}"));
    }
    match std::str::from_utf8(body).ok().filter(|text| is_text && !text.contains('\0')) {
        Some(text) => Ok(("data", text.into())),
        None => Ok(("data_base64", BASE64_STANDARD.encode(body).into())),
    }
}

/// The attributes that every CloudEvent may have, and those that it brings along.
struct Attributes {
    id: String,
    source: String,
    r#type: String,
    time: Option<Timestamp>,
    subject: Option<String>,
    /// Those without a place of their own in an event.
    others: Map<String, Value>,
}

/// What an event takes from `data`.
#[derive(Default)]
struct Data {
    actor: Option<Actor>,
    resource: Option<Resource>,
    outcome: Option<Outcome>,
    context: Option<Context>,
    changes: Vec<Change>,
    details: Option<Map<String, Value>>,
    /// Where `details` came from.
    details_path: &'static str,
}

/// One CloudEvent. None when something is wrong with it, which is noted.
fn event(value: Value, edge: &Edge<'_>, faults: &mut Faults) -> Option<Event> {
    let faults_before = faults.errors.len();
    let mut fields = Fields::of(value, "", faults)?;
    let data = data(&mut fields);
    let mut attributes = Attributes::of(fields, edge.now);
    let actor = data.actor.or_else(|| attributes.actor(faults));
    let id = attributes.identity();
    let (source, subject) = (attributes.source, attributes.subject);
    let resource = match (data.resource, subject) {
        (None, Some(subject)) => Some(Resource { r#type: source.clone(), id: subject, name: None }),
        (resource, Some(subject)) => {
            attributes.others.insert("subject".to_owned(), subject.into());
            resource
        }
        (resource, None) => resource,
    };
    let details = details(data.details, attributes.others, data.details_path, faults);
    (faults.errors.len() == faults_before).then(|| Event {
        id,
        timestamp: attributes.time,
        r#type: attributes.r#type,
        actor: Some(actor.unwrap_or(Actor { r#type: ActorType::System, id: source, name: None, email: None })),
        resource,
        outcome: data.outcome,
        context: data.context,
        changes: data.changes,
        details,
    })
}

impl Attributes {
    /// Reads what is left of an event when `data` was read.
    fn of(mut fields: Fields<'_>, now: Timestamp) -> Self {
        for name in ["specversion", "id", "source", "type"] {
            fields.require(name);
        }
        fields.text_by("specversion", |version| (version != "1.0").then(|| "must be 1.0".to_owned()));
        let id = fields.id("id", ID_MAX_CHARS).unwrap_or_default();
        let source = fields.text_by("source", source_fault).unwrap_or_default();
        let r#type = fields.text("type", TYPE_MAX_CHARS).unwrap_or_default();
        let time = native::timestamp(&mut fields, "time", now);
        let subject = fields.text("subject", IDENTITY_MAX_CHARS);
        let is_json = |media_type: &String| {
            media_type.split(';').next().is_some_and(|essence| essence.trim() == "application/json")
        };
        // JSON is what data is anyway.
        let content_type = fields.text("datacontenttype", IDENTITY_MAX_CHARS).filter(|media_type| !is_json(media_type));
        let schema = fields.text("dataschema", IDENTITY_MAX_CHARS);
        let (others, faults) = fields.rest();
        let mut others = extensions(others, faults);
        for (name, value) in [("datacontenttype", content_type), ("dataschema", schema)] {
            others.extend(value.map(|value| (name.to_owned(), value.into())));
        }
        Self { id, source, r#type, time, subject, others }
    }

    /// Source and id together are the identity (CloudEvents, section 3.1.1). A source has no white space, so that the first
    /// space parts them; the hash of what is too long is of this form too.
    fn identity(&mut self) -> String {
        let joined = format!("{} {}", self.source, self.id);
        if joined.chars().count() <= ID_MAX_CHARS {
            return joined;
        }
        self.others.insert("id".to_owned(), self.id.clone().into());
        self.others.insert("source".to_owned(), self.source.clone().into());
        format!("sha256:{}", hex::encode(Sha256::digest(joined)))
    }

    /// Who did it by the extension Auth Context, if it says so.
    fn actor(&mut self, faults: &mut Faults) -> Option<Actor> {
        let kind = match self.others.get("authtype").map(Value::as_str) {
            None | Some(Some("app_user" | "user" | "unauthenticated" | "unknown")) => ActorType::User,
            Some(Some("service_account" | "api_key")) => ActorType::AccessToken,
            Some(Some("system")) => ActorType::System,
            Some(_) => {
                faults.note(
                    "authtype",
                    "must be one of app_user, user, service_account, api_key, system, unauthenticated, unknown",
                );
                return None;
            }
        };
        let id = self.others.get("authid")?.as_str().map(str::to_owned);
        let fault = id.as_ref().map_or(Some("must be a string".to_owned()), |id| text_fault(id, IDENTITY_MAX_CHARS));
        if let Some(rule) = fault {
            faults.note("authid", rule);
        }
        self.others.remove("authid");
        // What our own kinds of actors do not tell apart stays.
        if matches!(self.others.get("authtype").and_then(Value::as_str), Some("user" | "system")) {
            self.others.remove("authtype");
        }
        Some(Actor { r#type: kind, id: id?, name: None, email: None })
    }
}

/// A URI reference has no white space (RFC 3986, section 4.1).
fn source_fault(source: &str) -> Option<String> {
    let white = || source.contains(char::is_whitespace).then(|| "must not contain white space".to_owned());
    id_fault(source, CE_SOURCE_MAX_CHARS).or_else(white)
}

/// Extension attributes (CloudEvents, section 3.1, naming and type system). In JSON they are text, truth values or integers.
fn extensions(members: Map<String, Value>, faults: &mut Faults) -> Map<String, Value> {
    let mut extensions = Map::new();
    for (name, value) in members {
        if !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) || name.is_empty() {
            faults.note(name, "is not an attribute: those have lower-case letters and digits only");
        } else if value.is_object() || value.is_array() || value.is_f64() {
            faults.note(name, "must be a string, a boolean or an integer");
        } else if !value.is_null() {
            extensions.insert(name, value);
        }
    }
    extensions
}

/// `data`, or `data_base64`. An object whose members all are members of a native event is read as such; anything else
/// becomes `details`.
fn data(fields: &mut Fields<'_>) -> Data {
    let encoded = fields.text_by("data_base64", |text| {
        BASE64_STANDARD.decode(text).is_err().then(|| "must be base64 (RFC 4648, section 4)".to_owned())
    });
    let details = |name: &str, value| Some(Map::from_iter([(name.to_owned(), value)]));
    match (fields.any("data"), encoded) {
        (Some(_), Some(_)) => {
            fields.fault("data_base64", "must not stand beside data");
            Data::default()
        }
        (Some(Value::Object(members)), None) if is_native(&members) => native_data(members, fields.faults()),
        (Some(Value::Object(members)), None) => {
            Data { details: Some(members), details_path: "data", ..Data::default() }
        }
        (Some(value), None) => Data { details: details("data", value), details_path: "data", ..Data::default() },
        (None, Some(text)) => {
            Data { details: details("dataBase64", text.into()), details_path: "data_base64", ..Data::default() }
        }
        (None, None) => Data { details_path: "data", ..Data::default() },
    }
}

fn is_native(members: &Map<String, Value>) -> bool {
    !members.is_empty() && members.keys().all(|name| NATIVE.contains(&name.as_str()))
}

fn native_data(members: Map<String, Value>, faults: &mut Faults) -> Data {
    let Some(mut fields) = Fields::of(Value::Object(members), "data", faults) else { return Data::default() };
    Data {
        actor: native::actor(&mut fields),
        resource: native::resource(&mut fields),
        outcome: native::outcome(&mut fields),
        context: native::context(&mut fields),
        changes: native::changes(&mut fields),
        details: native::details(&mut fields),
        details_path: "data.details",
    }
}

/// `details`, with the attributes that have no other place, within the limits of `details`.
fn details(
    data: Option<Map<String, Value>>,
    attributes: Map<String, Value>,
    path: &str,
    faults: &mut Faults,
) -> Option<Map<String, Value>> {
    let mut details = data;
    if !attributes.is_empty() {
        let taken = details.get_or_insert_default().insert(ATTRIBUTES.to_owned(), Value::Object(attributes));
        if taken.is_some() {
            faults.note(format!("{path}.{ATTRIBUTES}"), "must have another name: attributes are kept under this one");
        }
    }
    for rule in details.iter().flat_map(|details| native::extent_faults(Extent::of_object(details))) {
        faults.note(path, rule);
    }
    details
}

#[cfg(test)]
mod tests;
