//! Native events: one object, or `{"events": [...]}`.

use super::fields::{Faults, Fields};
use super::limits::{
    BATCH_MAX_EVENTS, CHANGE_FIELD_MAX_CHARS, CHANGES_MAX, EMAIL_MAX_CHARS, ID_MAX_CHARS, IDENTITY_MAX_CHARS,
    JSON_MAX_BYTES, NAME_MAX_CHARS, REQUEST_ID_MAX_CHARS, TIMESTAMP_MIN, TYPE_MAX_CHARS, USER_AGENT_MAX_CHARS,
};
use crate::event::{Actor, ActorType, Change, Context, Event, Outcome, Resource, json, whole_microseconds};
use crate::problem::FieldError;
use jiff::Timestamp;
use serde_json::{Map, Value};
use std::net::IpAddr;

/// Reads the events of a request body. Either all of them are valid, or every fault of every event is
/// returned. An event without an id gets one from `new_id`.
pub fn parse(body: &[u8], mut new_id: impl FnMut() -> String) -> Result<Vec<Event>, Vec<FieldError>> {
    let mut faults = Faults::default();
    let events = match json::parse(body) {
        Ok(value) => items(value, &mut faults)
            .into_iter()
            .filter_map(|(index, item)| {
                faults.index = index;
                event(item, &mut new_id, &mut faults)
            })
            .collect(),
        Err(error) => {
            faults.note("", format!("the body is not JSON that can be kept: {error}"));
            Vec::new()
        }
    };
    if faults.errors.is_empty() { Ok(events) } else { Err(faults.errors) }
}

/// The events of the body, with their indices where it is a batch.
fn items(body: Value, faults: &mut Faults) -> Vec<(Option<usize>, Value)> {
    if body.get("events").is_none() {
        return vec![(None, body)];
    }
    let Some(mut batch) = Fields::of(body, "", faults) else { return Vec::new() };
    let items = match batch.any("events") {
        Some(Value::Array(items)) if (1..=BATCH_MAX_EVENTS).contains(&items.len()) => items,
        _ => {
            batch.fault("events", format!("must be an array of 1 to {BATCH_MAX_EVENTS} events"));
            Vec::new()
        }
    };
    batch.end("events");
    items.into_iter().enumerate().map(|(index, item)| (Some(index), item)).collect()
}

/// One event; none when something is wrong with it, which is noted.
fn event(value: Value, new_id: &mut impl FnMut() -> String, faults: &mut Faults) -> Option<Event> {
    let faults_before = faults.errors.len();
    let mut fields = Fields::of(value, "", faults)?;
    let event = Event {
        id: fields.text("id", ID_MAX_CHARS).unwrap_or_else(new_id),
        timestamp: timestamp(&mut fields),
        r#type: fields.required_text("type", TYPE_MAX_CHARS).unwrap_or_default(),
        actor: actor(&mut fields),
        resource: resource(&mut fields),
        outcome: fields.name("outcome", Outcome::NAMES, Outcome::parse),
        context: context(&mut fields),
        changes: changes(&mut fields),
        details: details(&mut fields),
    };
    fields.end("id, timestamp, type, actor, resource, outcome, context, changes, details");
    (faults.errors.len() == faults_before).then_some(event)
}

/// RFC 3339, kept to the microsecond as Postgres does.
fn timestamp(fields: &mut Fields<'_>) -> Option<Timestamp> {
    let value = fields.any("timestamp")?;
    let earliest: Timestamp = TIMESTAMP_MIN.parse().expect("a constant of ours");
    let parsed = value.as_str().and_then(|text| text.parse().ok()).map(whole_microseconds);
    if parsed.is_none_or(|moment| moment < earliest) {
        fields.fault("timestamp", format!("must be an RFC 3339 timestamp with its offset, from {TIMESTAMP_MIN} on"));
        return None;
    }
    parsed
}

fn actor(fields: &mut Fields<'_>) -> Option<Actor> {
    let Some(value) = fields.any("actor") else {
        fields.fault("actor", "is required: an audit event says who did it");
        return None;
    };
    let path = fields.path("actor");
    let mut actor = Fields::of(value, &path, fields.faults())?;
    if actor.is_absent("type") {
        actor.fault("type", "is required");
    }
    let r#type = actor.name("type", ActorType::NAMES, ActorType::parse);
    let id = actor.required_text("id", IDENTITY_MAX_CHARS);
    let name = actor.text("name", NAME_MAX_CHARS);
    let email = actor.text("email", EMAIL_MAX_CHARS);
    actor.end("type, id, name, email");
    Some(Actor { r#type: r#type?, id: id?, name, email })
}

fn resource(fields: &mut Fields<'_>) -> Option<Resource> {
    let value = fields.any("resource")?;
    let path = fields.path("resource");
    let mut resource = Fields::of(value, &path, fields.faults())?;
    let r#type = resource.required_text("type", IDENTITY_MAX_CHARS);
    let id = resource.required_text("id", IDENTITY_MAX_CHARS);
    let name = resource.text("name", NAME_MAX_CHARS);
    resource.end("type, id, name");
    Some(Resource { r#type: r#type?, id: id?, name })
}

fn context(fields: &mut Fields<'_>) -> Option<Context> {
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

fn changes(fields: &mut Fields<'_>) -> Vec<Change> {
    let items = match fields.any("changes") {
        None => return Vec::new(),
        Some(Value::Array(items)) if items.len() <= CHANGES_MAX => items,
        Some(_) => {
            fields.fault("changes", format!("must be an array of at most {CHANGES_MAX} changes"));
            return Vec::new();
        }
    };
    let path = fields.path("changes");
    let changes: Vec<Change> = items
        .into_iter()
        .enumerate()
        .filter_map(|(index, item)| change(item, &format!("{path}[{index}]"), fields.faults()))
        .collect();
    if json::canonical(&changes).len() > JSON_MAX_BYTES {
        fields.fault("changes", format!("must be at most {JSON_MAX_BYTES} bytes of JSON"));
    }
    changes
}

fn change(value: Value, path: &str, faults: &mut Faults) -> Option<Change> {
    let mut change = Fields::of(value, path, faults)?;
    let field = change.required_text("field", CHANGE_FIELD_MAX_CHARS);
    let before = change.any("before");
    let after = change.any("after");
    change.end("field, before, after");
    Some(Change { field: field?, before, after })
}

fn details(fields: &mut Fields<'_>) -> Option<Map<String, Value>> {
    match fields.any("details")? {
        Value::Object(details) if json::canonical(&details).len() <= JSON_MAX_BYTES => Some(details),
        _ => {
            fields.fault("details", format!("must be an object of at most {JSON_MAX_BYTES} bytes of JSON"));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(body: &Value) -> Result<Vec<Event>, Vec<FieldError>> {
        parse(&serde_json::to_vec(body).expect("JSON"), || "made".to_owned())
    }

    fn smallest() -> Value {
        json!({"type": "Warehouse Disabled", "actor": {"type": "user", "id": "usr_1"}})
    }

    /// The smallest event with the member at `pointer` set to `value`.
    fn with(name: &str, value: Value) -> Value {
        let mut event = smallest();
        event[name] = value;
        event
    }

    fn fault(body: &Value) -> FieldError {
        let mut errors = read(body).expect_err("refused");
        assert_eq!(errors.len(), 1, "{errors:?}");
        errors.remove(0)
    }

    #[test]
    fn the_smallest_event_needs_a_type_and_an_actor() {
        assert_eq!(read(&smallest()).expect("valid")[0].id, "made");
    }

    #[test]
    fn a_whole_event_comes_back_as_it_was_sent() {
        let whole = json!({
            "id": "evt_1", "timestamp": "2026-03-02T09:14:05.12Z", "type": "Warehouse Disabled",
            "actor": {"type": "user", "id": "usr_1", "name": "Ada", "email": "ada@example.com"},
            "resource": {"type": "warehouse", "id": "whs_1", "name": "Production"},
            "outcome": "success",
            "context": {"ip": "2001:db8::1", "userAgent": "curl", "requestId": "r1"},
            "changes": [{"field": "enabled", "before": true, "after": false}],
            "details": {"free": ["form"]},
        });
        let events = read(&whole).expect("valid");
        assert_eq!(serde_json::to_value(&events[0]).expect("JSON"), whole);
    }

    #[test]
    fn every_fault_of_every_event_is_listed_with_its_index() {
        let body = json!({"events": [smallest(), {"type": "", "actor": {"type": "robot", "id": "a"}}, {"typo": 1}]});
        let faults: Vec<(Option<usize>, String)> =
            read(&body).expect_err("refused").into_iter().map(|fault| (fault.index, fault.field)).collect();
        let expected = [(1, "type"), (1, "actor.type"), (2, "type"), (2, "actor"), (2, "typo")];
        assert_eq!(faults, expected.map(|(index, field)| (Some(index), field.to_owned())));
    }

    #[test]
    fn a_batch_has_one_to_five_thousand_events() {
        let batch = |count| json!({"events": vec![smallest(); count]});
        assert_eq!(read(&batch(BATCH_MAX_EVENTS)).expect("valid").len(), BATCH_MAX_EVENTS);
        assert_eq!(fault(&batch(BATCH_MAX_EVENTS + 1)).field, "events");
        assert_eq!(fault(&batch(0)).field, "events");
    }

    #[test]
    fn text_is_accepted_at_its_limit_and_refused_one_past_it() {
        let long = |chars| Value::String("ä".repeat(chars));
        read(&with("id", long(ID_MAX_CHARS))).expect("valid");
        assert_eq!(fault(&with("id", long(ID_MAX_CHARS + 1))).field, "id");
        read(&with("type", long(TYPE_MAX_CHARS))).expect("valid");
        assert_eq!(fault(&with("type", long(TYPE_MAX_CHARS + 1))).field, "type");
    }

    #[test]
    fn control_characters_are_refused() {
        assert!(fault(&with("id", json!("a\nb"))).rule.contains("control"));
    }

    #[test]
    fn timestamps_need_an_offset_and_are_cut_to_microseconds() {
        assert_eq!(fault(&with("timestamp", json!("2026-03-02T09:14:05"))).field, "timestamp");
        assert_eq!(fault(&with("timestamp", json!("1969-12-31T23:59:59Z"))).field, "timestamp");
        assert_eq!(fault(&with("timestamp", json!(1_772_442_845))).field, "timestamp");
        let event = &read(&with("timestamp", json!("2026-03-02T09:14:05.1234567Z"))).expect("valid")[0];
        assert_eq!(event.timestamp, Some("2026-03-02T09:14:05.123456Z".parse().expect("valid")));
    }

    #[test]
    fn an_address_must_be_one() {
        assert_eq!(fault(&with("context", json!({"ip": "localhost"}))).field, "context.ip");
    }

    #[test]
    fn faults_inside_changes_name_their_place() {
        assert_eq!(fault(&with("changes", json!([{"field": "a"}, {"after": 1}]))).field, "changes[1].field");
    }

    #[test]
    fn details_are_accepted_at_their_limit_and_refused_one_past_it() {
        let details = |bytes: usize| json!({"a": "x".repeat(bytes - r#"{"a":""}"#.len())});
        read(&with("details", details(JSON_MAX_BYTES))).expect("valid");
        assert_eq!(fault(&with("details", details(JSON_MAX_BYTES + 1))).field, "details");
        assert_eq!(fault(&with("details", json!([]))).field, "details");
    }

    #[test]
    fn a_body_that_is_not_json_says_why() {
        let errors = parse(b"{", String::new).expect_err("refused");
        assert!(errors[0].rule.contains("not JSON"), "{errors:?}");
    }
}
