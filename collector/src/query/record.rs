//! Who looked, and who had events sent again: each view, each export and each replay is an event of the trail, durable before
//! anything is answered.
//!
//! A query is recorded once. Its later pages carry a cursor, which only this trail gives out ([`super::cursor`]), and are not
//! recorded again. Recording reads nothing, so it is never recorded itself.

use super::filter::Filter;
use crate::access::Identity;
use crate::event::json::Extent;
use crate::event::{Actor, ActorType, Context, Event, Resource, SubmittedBy, SubmitterKind};
use crate::ingest::cut::Cut;
use crate::ingest::limits::{IDENTITY_MAX_CHARS, NAME_MAX_CHARS, REQUEST_ID_MAX_CHARS, USER_AGENT_MAX_CHARS};
use crate::metrics::{self, Input};
use crate::problem::{Problem, RETRY_AFTER_SECONDS};
use crate::request::REQUEST_ID;
use crate::server::App;
use crate::store::parked::Wanted;
use crate::store::writer::WriteError;
use audittrail_crds::document::Trail;
use axum::http::{HeaderMap, HeaderName, header};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// Type of the event of a view: one event or a page, on any endpoint.
pub const VIEWED: &str = "Audit Trail Viewed";

/// Type of the event of an export.
pub const EXPORTED: &str = "Audit Trail Exported";

/// Type of the event of a replay: parked events were asked to be sent again.
pub const REPLAYED: &str = "Audit Forwarding Replayed";

/// What `submittedBy` of these events is named. Its kind is what nobody can forge.
pub const SUBMITTER_NAME: &str = "collector";

/// Kind of the resource that was looked at. Its id is the trail's `namespace/name`.
pub const RESOURCE_TYPE: &str = "audit_trail";

/// Kind of the resource of a replay. Its id is the forwarding's `namespace/name`.
pub const FORWARDING_RESOURCE_TYPE: &str = "audit_forwarding";

/// What a replay is asked with, as method and route.
const REPLAY_ENDPOINT: &str = "POST /v1/forwardings/{name}/replay";

/// Size of the parameters in `details`, in bytes of JSON. The endpoint, and a mark of what was cut, have room beside them.
const PARAMETERS_MAX_BYTES: usize = 48 * 1024;

/// Details up to this size, in bytes of JSON, take no room of those that clients write: nearly all are smaller, who looks must not
/// wait for who writes, and as many as the writer's queue holds take 4 MiB.
const ROOM_FROM_BYTES: usize = 4 * 1024;

/// Characters of one value, at most: no parameter has longer ones. Halved until all parameters fit, so that every value
/// keeps its beginning: nobody hides what was asked behind much else.
const VALUE_MAX_CHARS: usize = 2_048;

/// How the trail was looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum How {
    /// A page of events.
    List,
    /// One event.
    Event,
    /// All events that match, as CSV.
    Csv,
    /// All events that match, as NDJSON.
    Ndjson,
    /// The live tail.
    Stream,
    /// A page in the shape of Segment's Public API.
    AuditEvents,
    /// A page of what a forwarding has parked.
    Parked,
}

impl How {
    /// What was asked, as method and route.
    pub fn endpoint(self) -> &'static str {
        match self {
            Self::List => "GET /v1/events",
            Self::Event => "GET /v1/events/{id}",
            Self::Csv => "GET /v1/events.csv",
            Self::Ndjson => "GET /v1/events.ndjson",
            Self::Stream => "GET /v1/events/stream",
            Self::AuditEvents => "GET /audit-events",
            Self::Parked => "GET /v1/forwardings/{name}/parked",
        }
    }

    fn event_type(self) -> &'static str {
        match self {
            Self::List | Self::Event | Self::Stream | Self::AuditEvents | Self::Parked => VIEWED,
            Self::Csv | Self::Ndjson => EXPORTED,
        }
    }
}

/// A view, as it was asked for.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The endpoint.
    pub how: How,
    /// Which events.
    pub filter: &'a Filter,
    /// Parameters beside the filter that were given, such as `order`, `limit`, `after`, or the `id` of the path.
    pub asked: &'a [(&'static str, String)],
}

/// A replay, as it was asked for.
#[derive(Clone, Copy, Debug)]
pub struct Replay<'a> {
    /// Name of the forwarding.
    pub forwarding: &'a str,
    /// Which of its parked events.
    pub wanted: &'a Wanted,
    /// How many of them were parked when this was asked.
    pub count: i64,
}

/// Records a view of the trail, and returns once that is durable. Call it after the parameters were checked and what is
/// answered was pinned, and answer nothing before it has returned; reading meanwhile is fine. Problem: 503 when it cannot be
/// recorded, and then nothing may be answered.
pub async fn view(app: &App, identity: &Identity, headers: &HeaderMap, view: View<'_>) -> Result<(), Problem> {
    append(app, event(Uuid::now_v7(), &app.document().trail, identity, headers, view)).await
}

/// Records a replay, and returns once that is durable. Call it before the replay. Problem: 503 when it cannot be recorded, and
/// then nothing may be sent again.
pub async fn replay(app: &App, identity: &Identity, headers: &HeaderMap, replay: Replay<'_>) -> Result<(), Problem> {
    append(app, replay_event(Uuid::now_v7(), &app.document().trail, identity, headers, replay)).await
}

async fn append(app: &App, event: Event) -> Result<(), Problem> {
    let room = app.room.enter();
    let details_bytes = event.details.as_ref().map_or(0, |details| Extent::of_object(details).bytes);
    room.grow(details_bytes.saturating_sub(ROOM_FROM_BYTES))?;
    let submitted_by = SubmittedBy { kind: SubmitterKind::Collector, name: SUBMITTER_NAME.to_owned() };
    let receipt = app.writer().await?.append(vec![event], submitted_by, room).await.map_err(|error| problem(&error))?;
    metrics::acknowledged(Input::View, receipt.accepted, receipt.duplicates);
    Ok(())
}

fn problem(error: &WriteError) -> Problem {
    Problem::unavailable(
        RETRY_AFTER_SECONDS,
        format!("who asks is recorded in the trail first, and this could not be: {error}"),
    )
}

/// The event of a view.
fn event(id: Uuid, trail: &Trail, identity: &Identity, headers: &HeaderMap, view: View<'_>) -> Event {
    let mut cut = Cut::default();
    let mut event = begun(id, view.how.event_type(), identity, headers, &mut cut);
    event.resource = Some(resource(trail, &mut cut));
    event.details = Some(details(view, &mut cut));
    cut.mark_event(&mut event);
    event
}

/// The event of a replay.
fn replay_event(id: Uuid, trail: &Trail, identity: &Identity, headers: &HeaderMap, replay: Replay<'_>) -> Event {
    let mut cut = Cut::default();
    let mut event = begun(id, REPLAYED, identity, headers, &mut cut);
    event.resource = Some(Resource {
        r#type: FORWARDING_RESOURCE_TYPE.to_owned(),
        id: cut.text("resource.id", &format!("{}/{}", trail.namespace, replay.forwarding), IDENTITY_MAX_CHARS),
        name: None,
    });
    let mut asked = vec![("name", json!(replay.forwarding))];
    if let Wanted::Ids(ids) = replay.wanted {
        asked.push(("events", json!(ids)));
    }
    let mut details = Map::new();
    details.insert("endpoint".to_owned(), json!(REPLAY_ENDPOINT));
    details.insert("parameters".to_owned(), Value::Object(fitting(&asked, &mut cut)));
    details.insert("count".to_owned(), json!(replay.count));
    event.details = Some(details);
    cut.mark_event(&mut event);
    event
}

/// What every record says: who asked, and how. How it ended is not known when it is recorded, so it has no outcome.
fn begun(id: Uuid, r#type: &str, identity: &Identity, headers: &HeaderMap, cut: &mut Cut) -> Event {
    Event {
        id: id.to_string(),
        timestamp: None,
        r#type: r#type.to_owned(),
        actor: Some(actor(identity, cut)),
        resource: None,
        outcome: None,
        context: Some(Context {
            // The connection's other end may be a proxy's, and a header is anybody's text.
            ip: None,
            user_agent: text_of(headers, &header::USER_AGENT)
                .map(|text| cut.text("context.userAgent", &text, USER_AGENT_MAX_CHARS)),
            request_id: text_of(headers, &REQUEST_ID)
                .map(|text| cut.text("context.requestId", &text, REQUEST_ID_MAX_CHARS)),
        }),
        changes: Vec::new(),
        details: None,
    }
}

/// A person is a user. Service accounts, and fixed tokens of a collector without Kubernetes, stand for themselves: nobody
/// knows who holds them.
fn actor(identity: &Identity, cut: &mut Cut) -> Actor {
    let r#type = match identity.kind {
        SubmitterKind::User => ActorType::User,
        SubmitterKind::ServiceAccount | SubmitterKind::Token | SubmitterKind::WriteKey => ActorType::AccessToken,
        SubmitterKind::Collector => ActorType::System,
    };
    Actor { r#type, id: cut.text("actor.id", &identity.name, IDENTITY_MAX_CHARS), name: None, email: None }
}

fn resource(trail: &Trail, cut: &mut Cut) -> Resource {
    Resource {
        r#type: RESOURCE_TYPE.to_owned(),
        id: cut.text("resource.id", &format!("{}/{}", trail.namespace, trail.name), IDENTITY_MAX_CHARS),
        name: Some(cut.text("resource.name", &trail.workspace, NAME_MAX_CHARS)).filter(|name| !name.is_empty()),
    }
}

/// A header's text; what is not UTF-8 in it is shown as U+FFFD.
fn text_of(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let value = headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    value.filter(|text| !text.is_empty())
}

fn details(view: View<'_>, cut: &mut Cut) -> Map<String, Value> {
    let mut details = Map::new();
    details.insert("endpoint".to_owned(), json!(view.how.endpoint()));
    let mut asked = of_filter(view.filter);
    asked.extend(view.asked.iter().map(|(name, value)| (*name, json!(value))));
    let parameters = fitting(&asked, cut);
    if !parameters.is_empty() {
        details.insert("parameters".to_owned(), Value::Object(parameters));
    }
    details
}

/// A filter under the names of its parameters: what may be given several times is a list.
fn of_filter(filter: &Filter) -> Vec<(&'static str, Value)> {
    let Filter {
        types,
        spellings: _,
        areas,
        area_types: _,
        actors,
        actor_types,
        resources,
        resource_types,
        outcomes,
        submitted_by,
        from,
        to,
        words,
    } = filter;
    let many = [
        ("type", json!(types)),
        ("area", json!(areas)),
        ("actor", json!(actors)),
        ("actorType", json!(actor_types)),
        ("resource", json!(resources)),
        ("resourceType", json!(resource_types)),
        ("outcome", json!(outcomes)),
        ("submittedBy", json!(submitted_by)),
    ];
    let one = [("from", json!(from)), ("to", json!(to)), ("q", json!(words.as_slice().join(" ")))];
    many.into_iter().chain(one).filter(|(_, value)| !is_nothing(value)).collect()
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    }
}

/// The parameters, their values as long as all of them have room.
fn fitting(asked: &[(&'static str, Value)], cut: &mut Cut) -> Map<String, Value> {
    let fits = |max_chars: &usize| {
        Extent::of_object(&shortened(asked, *max_chars, &mut Cut::default())).bytes <= PARAMETERS_MAX_BYTES
    };
    let lengths = std::iter::successors(Some(VALUE_MAX_CHARS), |chars| Some(chars / 2)).take_while(|chars| *chars > 0);
    let max_chars = lengths.into_iter().find(fits).unwrap_or(1);
    shortened(asked, max_chars, cut)
}

fn shortened(asked: &[(&'static str, Value)], max_chars: usize, cut: &mut Cut) -> Map<String, Value> {
    asked
        .iter()
        .map(|(name, value)| ((*name).to_owned(), short(&format!("details.parameters.{name}"), value, max_chars, cut)))
        .collect()
}

fn short(place: &str, value: &Value, max_chars: usize, cut: &mut Cut) -> Value {
    match value {
        Value::String(text) => json!(cut.text(place, text, max_chars)),
        Value::Array(values) => values.iter().map(|value| short(place, value, max_chars, cut)).collect(),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forwardings::replay::IDS_MAX;
    use crate::ingest::limits::ID_MAX_CHARS;
    use crate::ingest::room::Room;
    use crate::ingest::{Edge, native};
    use crate::query::parameters::{Parameters, VALUE_MAX_BYTES, VALUES_MAX};
    use audittrail_crds::catalogue::Catalogue;
    use audittrail_crds::document::{self, CatalogueMode};
    use axum::http::HeaderValue;

    const ID: Uuid = Uuid::from_u128(0x018b_cfe5_6800_7000_8000_0000_0000_0000);

    fn jane() -> Identity {
        Identity { kind: SubmitterKind::User, name: "jane@example.com".to_owned() }
    }

    fn filter(query: &[(&str, &str)]) -> Filter {
        let pairs = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut parameters = Parameters::new(pairs);
        let filter = Filter::take(&mut parameters, &Catalogue::default());
        parameters.finish().expect("valid");
        filter
    }

    fn recorded(identity: &Identity, headers: &HeaderMap, view: View<'_>) -> Event {
        event(ID, &crate::document::tests::document(1).trail, identity, headers, view)
    }

    /// The event as it comes back when it is sent to a trail whose catalogue is strict: no rule is broken.
    fn accepted(event: &Event) -> Vec<Event> {
        let strict = document::Catalogue { mode: CatalogueMode::Strict, ..document::Catalogue::default() };
        let catalogue = Catalogue::of(&strict).expect("valid");
        let body = serde_json::to_vec(event).expect("JSON");
        native::parse(&body, &Edge::here(&catalogue), &Room::default().enter()).expect("valid")
    }

    #[test]
    fn a_view_tells_who_looked_at_what_and_how() {
        let mut headers = HeaderMap::new();
        headers.insert(header::USER_AGENT, HeaderValue::from_static("curl/8"));
        headers.insert(REQUEST_ID, HeaderValue::from_static("req-1"));
        let filter = filter(&[
            ("type", "Warehouse Disabled"),
            ("area", "Warehouses"),
            ("actor", "usr_1"),
            ("actor", "usr_2"),
            ("actorType", "user"),
            ("resource", "wh_1"),
            ("resourceType", "warehouse"),
            ("outcome", "denied"),
            ("submittedBy", "team-a/app"),
            ("from", "2026-03-02T09:00:00Z"),
            ("to", "2026-03-03T00:00:00Z"),
            ("q", "Jane  main"),
        ]);
        let asked = [("order", "asc".to_owned()), ("limit", "10".to_owned())];
        let event = recorded(&jane(), &headers, View { how: How::List, filter: &filter, asked: &asked });
        assert_eq!(
            serde_json::to_value(&event).expect("JSON"),
            json!({
                "id": "018bcfe5-6800-7000-8000-000000000000",
                "type": "Audit Trail Viewed",
                "actor": {"type": "user", "id": "jane@example.com"},
                "resource": {"type": "audit_trail", "id": "team-a/acme", "name": "Acme"},
                "context": {"userAgent": "curl/8", "requestId": "req-1"},
                "details": {"endpoint": "GET /v1/events", "parameters": {
                    "type": ["Warehouse Disabled"], "area": ["Warehouses"], "actor": ["usr_1", "usr_2"],
                    "actorType": ["user"], "resource": ["wh_1"], "resourceType": ["warehouse"],
                    "outcome": ["denied"], "submittedBy": ["team-a/app"], "from": "2026-03-02T09:00:00Z",
                    "to": "2026-03-03T00:00:00Z", "q": "jane main", "order": "asc", "limit": "10",
                }},
            })
        );
        assert_eq!(accepted(&event), [event]);
    }

    #[test]
    fn who_is_no_person_is_an_access_token() {
        let all = Filter::default();
        for (kind, expected) in [
            (SubmitterKind::User, ActorType::User),
            (SubmitterKind::ServiceAccount, ActorType::AccessToken),
            (SubmitterKind::Token, ActorType::AccessToken),
        ] {
            let identity = Identity { kind, ..jane() };
            let event = recorded(&identity, &HeaderMap::new(), View { how: How::Event, filter: &all, asked: &[] });
            assert_eq!(event.actor.expect("an actor").r#type, expected);
        }
    }

    #[test]
    fn exports_and_views_are_different_types_of_the_catalogue() {
        let all = Filter::default();
        let all_ways = [How::List, How::Event, How::Stream, How::AuditEvents, How::Parked, How::Csv, How::Ndjson];
        let types = all_ways.map(|how| {
            let event = recorded(&jane(), &HeaderMap::new(), View { how, filter: &all, asked: &[] });
            assert_eq!(event.details, json!({"endpoint": how.endpoint()}).as_object().cloned());
            assert_eq!(accepted(&event), std::slice::from_ref(&event));
            event.r#type
        });
        assert_eq!(types, [VIEWED, VIEWED, VIEWED, VIEWED, VIEWED, EXPORTED, EXPORTED]);
        assert_eq!(Catalogue::default().types_of("Audit Trail").collect::<Vec<_>>(), [VIEWED, EXPORTED, REPLAYED]);
    }

    fn replayed(wanted: &Wanted, count: i64) -> Event {
        let replay = Replay { forwarding: "to-segment", wanted, count };
        replay_event(ID, &crate::document::tests::document(1).trail, &jane(), &HeaderMap::new(), replay)
    }

    #[test]
    fn a_replay_tells_who_asked_for_which_events_of_which_forwarding_and_how_many() {
        let event = replayed(&Wanted::All, 12);
        assert_eq!(
            serde_json::to_value(&event).expect("JSON"),
            json!({
                "id": "018bcfe5-6800-7000-8000-000000000000",
                "type": "Audit Forwarding Replayed",
                "actor": {"type": "user", "id": "jane@example.com"},
                "resource": {"type": "audit_forwarding", "id": "team-a/to-segment"},
                "context": {},
                "details": {
                    "endpoint": "POST /v1/forwardings/{name}/replay", "parameters": {"name": "to-segment"}, "count": 12,
                },
            })
        );
        assert_eq!(accepted(&event), [event]);
        let some = replayed(&Wanted::Ids(vec!["evt_1".to_owned()]), 1);
        let parameters = &some.details.as_ref().expect("details")["parameters"];
        assert_eq!(parameters, &json!({"name": "to-segment", "events": ["evt_1"]}));
    }

    #[test]
    fn a_replay_of_the_longest_ids_keeps_the_beginning_of_each() {
        let ids = (0..IDS_MAX).map(|number| format!("{number:04}{}", "🦀".repeat(ID_MAX_CHARS - 4))).collect();
        let event = replayed(&Wanted::Ids(ids), 0);
        let kept = event.details.as_ref().expect("details")["parameters"]["events"].as_array().expect("ids").clone();
        assert_eq!(kept.len(), IDS_MAX);
        assert!(kept[999].as_str().is_some_and(|id| id.starts_with("0999")), "{}", kept[999]);
        assert_eq!(accepted(&event), [event]);
    }

    #[test]
    fn however_much_is_asked_an_event_has_room_for_the_beginning_of_each_value() {
        let long = |unit: &str| -> Vec<String> {
            let value = |number| format!("{number:04}{}", unit.repeat((VALUE_MAX_BYTES - 4) / unit.len()));
            (0..VALUES_MAX).map(value).collect()
        };
        for unit in ["x", "\"", "é", "🦀", "\u{1}"] {
            let values = long(unit);
            let many = Filter {
                types: values.clone(),
                areas: values.clone(),
                actors: values.clone(),
                resources: values.clone(),
                resource_types: values.clone(),
                submitted_by: values.clone(),
                ..Filter::default()
            };
            let asked = [("after", values[0].clone())];
            let event = recorded(&jane(), &HeaderMap::new(), View { how: How::Csv, filter: &many, asked: &asked });
            let details = event.details.clone().expect("details");
            let kept = details["parameters"]["submittedBy"].as_array().expect("values");
            assert_eq!(kept.len(), VALUES_MAX);
            for (number, value) in kept.iter().enumerate() {
                let value = value.as_str().expect("text");
                assert!(value.starts_with(&format!("{number:04}")) && value.chars().count() >= 16, "{value}");
            }
            assert!(details["cut"].as_array().is_some_and(|cut| cut.contains(&json!("details.parameters.type"))));
            assert_eq!(accepted(&event), [event]);
        }
    }

    #[test]
    fn what_has_room_is_not_cut() {
        let value = "x".repeat(VALUE_MAX_BYTES);
        let types: Vec<String> = (10..30).map(|number| format!("{number}{}", &value[2..])).collect();
        let filter = Filter { types: types.clone(), ..Filter::default() };
        let event = recorded(&jane(), &HeaderMap::new(), View { how: How::List, filter: &filter, asked: &[] });
        assert_eq!(
            event.details,
            json!({"endpoint": "GET /v1/events", "parameters": {"type": types}}).as_object().cloned()
        );
    }

    #[test]
    fn odd_names_and_headers_are_cut_and_marked() {
        let identity = Identity { name: format!("a\nb{}", "c".repeat(IDENTITY_MAX_CHARS)), ..jane() };
        let mut headers = HeaderMap::new();
        let agent = [b"\xff".as_slice(), "x".repeat(USER_AGENT_MAX_CHARS).as_bytes()].concat();
        headers.insert(header::USER_AGENT, HeaderValue::from_bytes(&agent).expect("visible"));
        let all = Filter::default();
        let event = recorded(&identity, &headers, View { how: How::List, filter: &all, asked: &[] });
        assert!(event.actor.as_ref().is_some_and(|actor| actor.id.starts_with("a\u{fffd}bc")));
        assert_eq!(event.details.as_ref().expect("details")["cut"], json!(["actor.id", "context.userAgent"]));
        assert_eq!(accepted(&event), [event]);
    }
}
