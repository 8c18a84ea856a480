//! What every input format must keep to, whatever the bytes: no panic, no event that storing could trip over, no room that
//! stays taken. The fuzz targets try bytes of their own, `tests/unit/corpus.rs` the corpus.

use audittrail_collector::event::{Actor, ActorType, Event};
use audittrail_collector::ingest::gather::Refusal;
use audittrail_collector::ingest::items;
use audittrail_collector::ingest::room::{Held, ROOM_MAX_BYTES, Room};
use audittrail_collector::ingest::tame::tame;
use audittrail_collector::ingest::{self, Edge};
use audittrail_collector::segment::decode::{self, Batch};
use audittrail_crds::catalogue::Catalogue;
use audittrail_crds::document::KubernetesObjects;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use std::sync::LazyLock;

static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(Catalogue::default);

/// Reads with a clock that stands still, so that what is found can be tried again.
fn with(read: impl FnOnce(&Edge<'_>, &Held) -> Vec<Event>) {
    let now = "2026-03-02T09:14:05Z".parse().expect("a timestamp");
    let edge = Edge { now, catalogue: &CATALOGUE, new_id: || "made".to_owned() };
    let room = Room::default();
    let held = room.enter();
    let events = read(&edge, &held);
    drop(held);
    assert_eq!(room.free_bytes(), ROOM_MAX_BYTES, "all room is given back");
    for event in events {
        is_valid(&event, &edge);
    }
}

/// Whatever it was made from, it is an event that could have been sent as one.
fn is_valid(event: &Event, edge: &Edge<'_>) {
    // Only a forwarded event whose person was erased has no actor.
    let somebody = Actor { r#type: ActorType::System, id: "erased".to_owned(), name: None, email: None };
    let event = Event { actor: event.actor.clone().or(Some(somebody)), ..event.clone() };
    let text = serde_json::to_vec(&event).expect("JSON");
    let again = ingest::native::parse(&text, edge, &Room::default().enter());
    assert_eq!(again.as_deref(), Ok(std::slice::from_ref(&event)), "{}", String::from_utf8_lossy(&text));
}

/// A refusal says why.
fn events(read: Result<Vec<Event>, Refusal>) -> Vec<Event> {
    match read {
        Ok(events) => events,
        Err(Refusal::Invalid(errors)) => {
            assert!(!errors.is_empty(), "a refusal without a reason");
            Vec::new()
        }
        Err(Refusal::NoRoom(_)) => Vec::new(),
    }
}

/// One event, or a batch.
pub fn native(bytes: &[u8]) {
    with(|edge, room| events(ingest::native::parse(bytes, edge, room)));
}

/// One event a line.
pub fn ndjson(bytes: &[u8]) {
    with(|edge, room| events(ingest::native::parse_lines(bytes, edge, room)));
}

/// An array is a batch. Binary mode is lines of headers, an empty line, and data. Anything else is structured.
pub fn cloudevents(bytes: &[u8]) {
    with(|edge, room| {
        events(match bytes.first() {
            Some(b'[') => ingest::cloudevents::parse_batch(bytes, edge, room),
            Some(b'c') => {
                let end = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or(bytes.len());
                let body = bytes.get(end + 2..).unwrap_or_default();
                ingest::cloudevents::parse_binary(&headers(&bytes[..end]), body, edge, room)
            }
            _ => ingest::cloudevents::parse(bytes, edge, room),
        })
    });
}

fn headers(lines: &[u8]) -> HeaderMap {
    let header = |line: &[u8]| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).ok()?;
        Some((HeaderName::from_bytes(&line[..colon]).ok()?, value))
    };
    let mut headers = HeaderMap::new();
    for (name, value) in lines.split(|byte| *byte == b'\n').filter_map(header) {
        headers.append(name, value);
    }
    headers
}

/// An `EventList` of audit.k8s.io.
pub fn kubernetes(bytes: &[u8]) {
    for objects in [KubernetesObjects::Omit, KubernetesObjects::Keep] {
        with(|edge, room| ingest::kubernetes::parse(bytes, edge, objects, room).unwrap_or_default());
    }
}

/// A call of Segment's Tracking API, or a batch of them.
pub fn segment(bytes: &[u8]) {
    with(|edge, room| {
        let Ok(body) = tame(bytes, room) else { return Vec::new() };
        let Ok(whole) = items::whole(&body, &["batch"]) else { return Vec::new() };
        let batch = Batch::of(&whole.members);
        let mut events: Vec<Event> =
            decode::track(whole, &Batch::default(), edge).into_iter().map(|it| it.event).collect();
        let _ = items::each(&body, "batch", &[], |item| {
            events.extend(decode::track(item, &batch, edge).map(|tracked| tracked.event));
            Ok(())
        });
        events
    });
}
