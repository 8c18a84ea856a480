//! What holds for any input: no bytes make a reader panic, and every valid event comes back as it was sent.

use super::gather::Refusal;
use super::limits::*;
use super::room::{Held, Room};
use super::{Edge, cloudevents, native};
use crate::event::Event;
use audittrail_crds::catalogue::Catalogue;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

type Parse = fn(&[u8], &Edge<'_>, &Held) -> Result<Vec<Event>, Refusal>;

const READERS: [Parse; 5] =
    [native::parse, native::parse_lines, cloudevents::parse, cloudevents::parse_batch, parse_binary_json];

fn parse_binary_json(body: &[u8], edge: &Edge<'_>, room: &Held) -> Result<Vec<Event>, Refusal> {
    let pairs = [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "a"),
        ("ce-source", "b"),
        ("ce-type", "c"),
    ];
    let headers: HeaderMap = pairs
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .into_iter()
        .collect();
    cloudevents::parse_binary(&headers, body, edge, room)
}

fn read(parse: Parse, body: &[u8]) -> Result<Vec<Event>, Refusal> {
    let catalogue = Catalogue::default();
    let edge = Edge {
        now: "2026-03-02T09:14:05Z".parse().expect("valid"),
        catalogue: &catalogue,
        new_id: || "made".to_owned(),
    };
    let room = Room::default();
    let read = parse(body, &edge, &room.enter());
    assert_eq!(room.free_bytes(), super::room::ROOM_MAX_BYTES, "all room is given back");
    if let Err(Refusal::Invalid(errors)) = &read {
        assert!(!errors.is_empty(), "a refusal says why");
    }
    read
}

/// Text that may stand anywhere.
fn text(max_chars: usize) -> impl Strategy<Value = String> {
    vec("[^\\p{Cc}]", 1..=max_chars.min(20)).prop_map(|chars| chars.concat())
}

fn id() -> impl Strategy<Value = String> {
    "[!-~äé😀]([ -~äé😀]{0,20}[!-~äé😀])?"
}

fn free() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        (-(1_i64 << 53)..=1 << 53).prop_map(Value::from),
        (-1e6..1e6).prop_map(Value::from),
        "[^\0]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            vec(prop_oneof![Just(Value::Null), inner.clone()], 0..6).prop_map(Value::from),
            btree_map("[^\0]{0,6}", inner, 0..6).prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn object(members: Vec<(&str, Option<Value>)>) -> Value {
    Value::Object(members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect())
}

fn some<T: Into<Value> + std::fmt::Debug>(value: impl Strategy<Value = T>) -> impl Strategy<Value = Option<Value>> {
    option::of(value.prop_map(Into::into))
}

fn actor() -> impl Strategy<Value = Value> {
    let kind = prop_oneof![Just("user"), Just("accessToken"), Just("system")];
    (kind, text(IDENTITY_MAX_CHARS), some(text(NAME_MAX_CHARS)), some(text(EMAIL_MAX_CHARS))).prop_map(
        |(kind, id, name, email)| {
            object(vec![("type", Some(kind.into())), ("id", Some(id.into())), ("name", name), ("email", email)])
        },
    )
}

fn resource() -> impl Strategy<Value = Value> {
    (text(IDENTITY_MAX_CHARS), text(IDENTITY_MAX_CHARS), some(text(NAME_MAX_CHARS)))
        .prop_map(|(kind, id, name)| object(vec![("type", Some(kind.into())), ("id", Some(id.into())), ("name", name)]))
}

fn context() -> impl Strategy<Value = Value> {
    let ip = any::<std::net::IpAddr>().prop_map(|ip| ip.to_string());
    (some(ip), some(text(USER_AGENT_MAX_CHARS)), some(text(REQUEST_ID_MAX_CHARS))).prop_map(
        |(ip, user_agent, request_id)| object(vec![("ip", ip), ("userAgent", user_agent), ("requestId", request_id)]),
    )
}

fn change() -> impl Strategy<Value = Value> {
    (text(CHANGE_FIELD_MAX_CHARS), option::of(free()), option::of(free())).prop_map(|(field, before, after)| {
        object(vec![("field", Some(field.into())), ("before", before), ("after", after)])
    })
}

/// A valid event, as it would be given back.
fn event() -> impl Strategy<Value = Value> {
    let timestamp = (0_i64..1_772_442_845_000_000)
        .prop_map(|micros| jiff::Timestamp::from_microsecond(micros).expect("in range").to_string());
    let outcome = prop_oneof![Just("success"), Just("failure"), Just("denied")];
    let details = btree_map("[^\0]{0,6}", free(), 0..6).prop_map(|all| Value::Object(all.into_iter().collect()));
    let first = (id(), some(timestamp), "X[ -~]{0,20}", actor(), some(resource()));
    let second = (some(outcome), some(context()), vec(change(), 0..4), option::of(details));
    (first, second).prop_map(|((id, timestamp, kind, actor, resource), (outcome, context, changes, details))| {
        object(vec![
            ("id", Some(id.into())),
            ("timestamp", timestamp),
            ("type", Some(kind.into())),
            ("actor", Some(actor)),
            ("resource", resource),
            ("outcome", outcome),
            ("context", context),
            ("changes", Some(changes).filter(|changes| !changes.is_empty()).map(Value::from)),
            ("details", details),
        ])
    })
}

/// A valid event with some of its bytes changed, cut or doubled.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let damage = vec((any::<prop::sample::Index>(), 0..4_u8, any::<u8>()), 1..8);
    (event(), damage, any::<bool>()).prop_map(|(event, damage, batch)| {
        let mut body = if batch { json!({"events": [event]}).to_string() } else { event.to_string() }.into_bytes();
        for (place, kind, byte) in damage {
            let at = if body.is_empty() { continue } else { place.index(body.len()) };
            match kind {
                0 => body[at] = byte,
                1 => drop(body.remove(at)),
                2 => body.insert(at, byte),
                _ => body.truncate(at),
            }
        }
        body
    })
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(body in vec(any::<u8>(), 0..200)) {
        for parse in READERS {
            let _ = read(parse, &body);
        }
    }

    #[test]
    fn no_damaged_event_makes_a_reader_panic(body in damaged()) {
        for parse in READERS {
            let _ = read(parse, &body);
        }
    }

    #[test]
    fn any_json_is_an_event_or_says_what_is_wrong(value in free()) {
        for parse in READERS {
            let _ = read(parse, value.to_string().as_bytes());
        }
    }

    #[test]
    fn every_valid_event_comes_back_as_it_was_sent(events in vec(event(), 1..4)) {
        let back = |parse: Parse, body: String| {
            serde_json::to_value(read(parse, body.as_bytes()).expect("valid")).expect("JSON")
        };
        prop_assert_eq!(back(native::parse, events[0].to_string()), json!([events[0]]));
        prop_assert_eq!(back(native::parse, json!({"events": events}).to_string()), json!(events));
        let lines = events.iter().map(Value::to_string).collect::<Vec<_>>().join("\n");
        prop_assert_eq!(back(native::parse_lines, lines), json!(events));
    }

    /// Sent as a CloudEvent whose data are its members, an event is the same but for its id.
    #[test]
    fn a_native_event_in_a_cloud_event_is_the_same(event in event()) {
        let members = ["actor", "resource", "outcome", "context", "changes", "details"];
        let data = object(members.map(|name| (name, event.get(name).cloned())).to_vec());
        let sent = object(vec![
            ("specversion", Some("1.0".into())),
            ("source", Some("/property".into())),
            ("id", event.get("id").cloned()),
            ("type", event.get("type").cloned()),
            ("time", event.get("timestamp").cloned()),
            ("data", Some(data)),
        ]);
        let mut expected = event;
        expected["id"] = format!("/property {}", expected["id"].as_str().expect("text")).into();
        let read = read(cloudevents::parse, sent.to_string().as_bytes()).expect("valid");
        prop_assert_eq!(serde_json::to_value(&read[0]).expect("JSON"), expected);
    }
}
