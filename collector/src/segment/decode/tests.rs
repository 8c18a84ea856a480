use super::*;
use crate::event::tests::event;
use crate::event::{StoredEvent, rfc3339_microseconds};
use crate::ingest::fields::id_fault;
use crate::ingest::items;
use crate::ingest::limits::ID_MAX_CHARS;
use crate::ingest::native;
use crate::ingest::room::Room;
use crate::ingest::tame::tame;
use crate::segment::audit;
use crate::segment::encode::{self, ITEM_MAX_BYTES};
use crate::segment::tests::{LOG, full, stored};
use audittrail_crds::catalogue::Catalogue;
use audittrail_crds::document::{self, Format};
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;

const NOW: &str = "2026-03-02T09:20:00Z";

type Decoded = Result<Tracked, Vec<FieldError>>;

fn at(moment: &str) -> Timestamp {
    moment.parse().expect("a moment")
}

fn read_by(catalogue: &Catalogue, body: &str) -> Vec<Decoded> {
    let edge = Edge { now: at(NOW), catalogue, new_id: || "made".to_owned() };
    let body = tame(body.as_bytes(), &Room::default().enter()).expect("room");
    let batch = Batch::of(&items::whole(&body, &["batch"]).expect("readable").members);
    let mut decoded = Vec::new();
    let take = |item| {
        decoded.push(track(item, &batch, &edge));
        Ok(())
    };
    items::each(&body, "batch", &[], take).expect("readable");
    decoded
}

fn read(body: &str) -> Vec<Decoded> {
    read_by(&Catalogue::default(), body)
}

fn one(item: &Value) -> Tracked {
    read(&json!({"batch": [item]}).to_string()).remove(0).expect("an event")
}

fn faults(item: &Value) -> Vec<String> {
    let faults = read(&json!({"batch": [item]}).to_string()).remove(0).expect_err("no event");
    faults.into_iter().map(|fault| fault.field).collect()
}

fn item(format: Format, stored: &StoredEvent) -> Bytes {
    encode::item(LOG, "Acme", format, stored)
}

/// What comes of an item that we made, sent as our forwarder sends it.
fn sent(format: Format, stored: &StoredEvent) -> Tracked {
    let item = String::from_utf8(item(format, stored).into()).expect("JSON is UTF-8");
    let body = format!(r#"{{"batch":[{item}],"sentAt":"2026-03-02T11:00:00Z","writeKey":"k"}}"#);
    let tracked = read(&body).remove(0).expect("an event");
    assert!(!tracked.corrected);
    tracked
}

fn forwarded(stored: &StoredEvent) -> Event {
    sent(Format::Named, stored).event
}

fn as_it_was(stored: &StoredEvent) -> Event {
    Event { timestamp: Some(stored.timestamp), ..stored.event.clone() }
}

fn identify() -> Value {
    json!({"type": "track", "event": "Invoice Sent", "userId": "usr_1"})
}

fn with(name: &str, value: Value) -> Value {
    let mut item = identify();
    item[name] = value;
    item
}

#[test]
fn an_event_with_every_member_arrives_equal() {
    assert_eq!(forwarded(&stored(full())), as_it_was(&stored(full())));
}

#[test]
fn an_event_whose_person_was_erased_arrives_without_one() {
    let erased = stored(Event { actor: None, ..event("evt_1") });
    assert_eq!(forwarded(&erased).actor, None);
    // Nobody else gets away with naming nobody.
    let ours = |actor: Value, user: Value| {
        json!({"event": "A", "anonymousId": user, "context": {"library": {"name": LIBRARY}},
            "properties": {"id": "e", "actor": actor}})
    };
    assert_eq!(one(&ours(json!({"type": "robot"}), json!("anon_1"))).event.actor.expect("somebody").id, "anon_1");
    let nobody = read(
        &json!({"batch": [{"event": "A", "context": {"library": {"name": LIBRARY}}, "properties": {"id": "e"}}]})
            .to_string(),
    );
    assert_eq!(nobody[0].as_ref().expect_err("no event")[0].field, "userId");
}

#[test]
fn what_was_cut_on_the_way_is_missing_and_marked() {
    let large = || json!({"t": "x".repeat(ITEM_MAX_BYTES)});
    let without_details = forwarded(&stored(Event { details: large().as_object().cloned(), ..full() }));
    assert_eq!(without_details.details.map(Value::Object), Some(json!({"cut": ["details"]})));
    assert_eq!(without_details.changes, full().changes);

    let changes = vec![Change { field: "text".to_owned(), before: None, after: Some(large()) }];
    let without_changes = forwarded(&stored(Event { changes: changes.clone(), ..full() }));
    assert!(without_changes.changes.is_empty());
    let expected = json!({"reason": "by mistake", "nested": {"n": 1}, "cut": ["changes"]});
    assert_eq!(without_changes.details.map(Value::Object), Some(expected));

    let own_mark = json!({"cut": "of diamond"}).as_object().cloned();
    let beside = forwarded(&stored(Event { changes, details: own_mark, ..full() }));
    assert_eq!(beside.details.map(Value::Object), Some(json!({"cut": "of diamond", "audittrail.cut": ["changes"]})));
}

fn word() -> impl Strategy<Value = String> {
    "[^\\p{Cc}]{1,12}"
}

fn id() -> impl Strategy<Value = String> {
    word().prop_filter("an id", |text| id_fault(text, ID_MAX_CHARS).is_none())
}

fn anything() -> impl Strategy<Value = Value> {
    const EXACT: i64 = 1 << 53;
    let text = || any::<String>().prop_map(|text| text.replace('\0', ""));
    #[expect(clippy::cast_precision_loss, reason = "2^53 is exact in a double")]
    let exact = |number: &f64| number.fract() != 0.0 || number.abs() <= EXACT as f64;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-EXACT..=EXACT).prop_map(Value::from),
        any::<f64>()
            .prop_filter("a number of JSON", move |number| number.is_finite() && exact(number))
            .prop_map(Value::from),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(text(), inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

fn details() -> impl Strategy<Value = Map<String, Value>> {
    let name = prop_oneof![any::<String>().prop_map(|text| text.replace('\0', "")), Just("cut".to_owned())];
    prop::collection::btree_map(name, anything(), 0..5).prop_map(|map| map.into_iter().collect())
}

prop_compose! {
    fn events()(
        (id, r#type, microseconds) in (id(), word(), 0..=1_772_446_800_000_000_i64),
        actor in prop::option::of((0..3_usize, word(), prop::option::of(word()), prop::option::of(word()))),
        resource in prop::option::of((word(), word(), prop::option::of(word()))),
        outcome in prop::option::of(0..3_usize),
        context in prop::option::of((prop::option::of(any::<IpAddr>()), prop::option::of(word()), prop::option::of(word()))),
        changes in prop::collection::vec((word(), prop::option::of(anything()), prop::option::of(anything())), 0..3),
        details in prop::option::of(details()),
    ) -> StoredEvent {
        let event = Event {
            id,
            timestamp: None,
            r#type,
            actor: actor.map(|(kind, id, name, email)| Actor {
                r#type: ActorType::parse(ActorType::NAMES[kind]).expect("a name"), id, name, email,
            }),
            resource: resource.map(|(r#type, id, name)| Resource { r#type, id, name }),
            outcome: outcome.and_then(|index| Outcome::parse(Outcome::NAMES[index])),
            context: context.map(|(ip, user_agent, request_id)| Context {
                ip: ip.map(|ip| ip.to_string()), user_agent, request_id,
            }),
            changes: changes.into_iter().map(|(field, before, after)| Change {
                field, before: before.filter(is_said), after: after.filter(is_said),
            }).collect(),
            details,
        };
        StoredEvent { timestamp: Timestamp::from_microsecond(microseconds).expect("in range"), ..stored(event) }
    }
}

proptest! {
    #[test]
    fn an_event_that_was_not_cut_arrives_equal(stored in events()) {
        prop_assume!(item(Format::Named, &stored).len() < ITEM_MAX_BYTES);
        prop_assert_eq!(forwarded(&stored), as_it_was(&stored));
    }

    #[test]
    fn an_event_in_segments_own_shape_arrives_equal_but_for_its_details(stored in events()) {
        let item = item(Format::SegmentAudit, &stored);
        prop_assert!(item.len() <= ITEM_MAX_BYTES);
        let item: Value = serde_json::from_slice(&item).expect("JSON");
        let written = item["properties"]["details"].as_object().expect("details");
        prop_assert!(written.values().all(Value::is_string), "{written:?}");
        prop_assume!(item["properties"].get("truncated").is_none());

        let arrived = sent(Format::SegmentAudit, &stored).event;
        let texts = |details: &Option<Map<String, Value>>| details.iter().flatten().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        prop_assert_eq!(texts(&arrived.details), texts(&stored.event.details));
        prop_assert!(arrived.details.iter().flatten().all(|(_, value)| value.is_string()));
        let said = |context: &Option<Context>| context.clone().filter(|context| *context != Context::default());
        let expected = as_it_was(&stored);
        let expected = Event { context: said(&expected.context), details: arrived.details.clone(), ..expected };
        prop_assert_eq!(arrived, expected);
    }

    #[test]
    fn the_trails_that_an_event_passed_arrive_with_it(passed in prop::collection::vec(any::<u128>().prop_map(Uuid::from_u128), 0..20)) {
        let stored = StoredEvent { passed: passed.clone(), ..stored(full()) };
        let expected: Vec<Uuid> = passed.into_iter().chain([LOG]).collect();
        for format in [Format::Named, Format::SegmentAudit] {
            prop_assert_eq!(&sent(format, &stored).passed, &expected);
        }
    }

    #[test]
    fn any_item_is_an_event_or_has_faults(item in anything()) {
        let _either = read(&json!({"batch": [item]}).to_string());
    }

    #[test]
    fn any_members_of_a_track_call_make_a_valid_event(
        (context, properties, id) in (anything(), anything(), anything()),
        shape in 0..4,
    ) {
        let mut item = json!({"event": "A", "userId": "u", "messageId": id, "context": context, "properties": properties});
        if shape > 0 {
            item["context"] = json!({"library": {"name": LIBRARY}, "ip": context, "userAgent": properties,
                "audittrail": {"passed": context}});
            item["properties"] = json!({"id": "e", "actor": context, "changes": properties, "details": context});
        }
        if shape > 1 {
            item["event"] = json!(AUDIT);
            item["properties"] = json!({"id": "e", "type": "A", "details": {"subject": properties, "target": context,
                "changes": properties, "own_changes": properties, "a": context, "resource_id": "1", "resource_type": "b"}});
        }
        if shape > 2 {
            item["properties"]["details"]["changes"] = json!(properties.to_string());
        }
        let event = one(&item).event;
        let sent_natively = serde_json::to_vec(&event).expect("JSON");
        let edge = Edge { now: at(NOW), catalogue: &Catalogue::default(), new_id: String::new };
        let again = native::parse(&sent_natively, &edge, &Room::default().enter());
        prop_assert_eq!(again, Ok(vec![event]));
    }
}

#[test]
fn an_event_of_any_sdk_has_who_what_when_and_where() {
    let item = json!({
        "type": "track", "event": "Invoice Sent", "userId": "usr_1", "messageId": "node-next-1-a",
        "timestamp": "2026-03-02T09:14:05.12Z",
        "context": {"ip": "192.0.2.7", "userAgent": "Mozilla", "library": {"name": "analytics-node", "version": "3"},
            "traits": {"name": "Ada", "email": "ada@acme.example"}},
        "properties": {"sum": 12}, "integrations": {"All": true},
    });
    let expected = Event {
        id: "node-next-1-a".to_owned(),
        timestamp: Some(at("2026-03-02T09:14:05.12Z")),
        r#type: "Invoice Sent".to_owned(),
        actor: Some(Actor {
            r#type: ActorType::User,
            id: "usr_1".to_owned(),
            name: Some("Ada".to_owned()),
            email: Some("ada@acme.example".to_owned()),
        }),
        resource: None,
        outcome: None,
        context: Some(Context {
            ip: Some("192.0.2.7".to_owned()),
            user_agent: Some("Mozilla".to_owned()),
            request_id: None,
        }),
        changes: Vec::new(),
        details: json!({"sum": 12}).as_object().cloned(),
    };
    assert_eq!(one(&item), Tracked { event: expected, corrected: false, passed: Vec::new() });
}

#[test]
fn the_context_of_a_batch_is_that_of_its_items_unless_they_say_otherwise() {
    let body = json!({
        "context": {"ip": "192.0.2.7", "userAgent": "of the batch"},
        "batch": [with("context", json!({"userAgent": "of the item"}))],
    });
    let context = read(&body.to_string()).remove(0).expect("an event").event.context.expect("kept");
    assert_eq!((context.ip.as_deref(), context.user_agent.as_deref()), (Some("192.0.2.7"), Some("of the item")));
}

#[test]
fn whoever_has_no_user_id_is_known_by_the_anonymous_one() {
    let actor = |item: Value| one(&item).event.actor.expect("somebody");
    let anonymous = actor(json!({"event": "A", "anonymousId": "anon_1"}));
    assert_eq!((anonymous.r#type, &*anonymous.id), (ActorType::User, "anon_1"));
    let system = actor(json!({"event": "A", "anonymousId": SYSTEM}));
    assert_eq!((system.r#type, &*system.id), (ActorType::System, SYSTEM));
    assert_eq!(actor(json!({"event": "A", "userId": 97, "anonymousId": "anon_1"})).id, "97");
    assert_eq!(actor(json!({"event": "A", "userId": "", "anonymousId": "anon_1"})).id, "anon_1");
}

#[test]
fn an_item_that_says_neither_what_nor_who_is_no_event() {
    assert_eq!(faults(&json!({"type": "track"})), ["userId", "event"]);
    assert_eq!(faults(&with("event", json!(""))), ["event"]);
    assert_eq!(faults(&with("event", json!(7))), ["event"]);
    assert_eq!(faults(&json!("track")), [""]);
}

#[test]
fn an_item_without_a_message_id_gets_one() {
    assert_eq!(one(&identify()).event.id, "made");
    assert_eq!(one(&with("messageId", json!(""))).event.id, "made");
}

#[test]
fn a_clock_that_is_wrong_is_corrected_by_when_the_item_was_sent() {
    let when = |sent_at: &str, timestamp: &str| {
        let tracked = one(&json!({"event": "A", "userId": "u", "sentAt": sent_at, "timestamp": timestamp}));
        (rfc3339_microseconds(tracked.event.timestamp.expect("a time")), tracked.corrected)
    };
    // A minute is what a request may take.
    let given = "2026-03-02T09:00:00.000000Z".to_owned();
    assert_eq!(when("2026-03-02T09:19:00Z", &given), (given.clone(), false));
    assert_eq!(when("2026-03-02T09:21:00Z", &given), (given.clone(), false));
    // An hour behind, and an hour ahead.
    assert_eq!(when("2026-03-02T08:20:00Z", "2026-03-02T08:00:00Z"), (given.clone(), true));
    assert_eq!(when("2026-03-02T10:20:00Z", "2026-03-02T10:00:00Z"), (given.clone(), true));
    let original = json!({"event": "A", "userId": "u", "sentAt": "2026-03-02T10:20:00Z",
        "timestamp": "2020-01-01T00:00:00Z", "originalTimestamp": "2026-03-02T10:00:00Z"});
    assert_eq!(one(&original).event.timestamp, Some(at(&given)));
}

#[test]
fn a_batch_says_when_it_was_sent_for_all_its_items() {
    let body = json!({"sentAt": "2026-03-02T10:20:00Z", "batch": [with("timestamp", json!("2026-03-02T10:00:00Z"))]});
    let tracked = read(&body.to_string()).remove(0).expect("an event");
    assert_eq!((tracked.event.timestamp, tracked.corrected), (Some(at("2026-03-02T09:00:00Z")), true));
}

#[test]
fn a_time_that_cannot_be_is_dropped_and_marked() {
    let kept = |moment: Value| {
        let event = one(&with("timestamp", moment)).event;
        (event.timestamp.is_some(), event.details.map(|details| details["cut"].clone()))
    };
    let marked = (false, Some(json!(["timestamp"])));
    assert_eq!(kept(json!("2026-03-02T10:20:00Z")), (true, None));
    assert_eq!(kept(json!("2026-03-02T10:20:00.000001Z")), marked);
    assert_eq!(kept(json!("1969-12-31T23:59:59Z")), marked);
    assert_eq!(kept(json!(1_772_443_200)), marked);
    assert_eq!(kept(Value::Null), (false, None));
}

#[test]
fn what_an_event_cannot_hold_is_cut_and_marked() {
    let mut item = with("messageId", json!("m".repeat(ID_MAX_CHARS + 1)));
    item["event"] = json!("e".repeat(TYPE_MAX_CHARS + 1));
    item["userId"] = json!("u".repeat(IDENTITY_MAX_CHARS + 1));
    item["context"] = json!({"ip": "here", "userAgent": "a\nb", "traits": {"name": "n".repeat(NAME_MAX_CHARS + 1)}});
    item["properties"] = json!({"large": "x".repeat(JSON_MAX_BYTES), "small": 1, "odd": 1_u64 << 60});
    let event = one(&item).event;
    assert_eq!((event.id.len(), event.r#type.len()), (ID_MAX_CHARS, TYPE_MAX_CHARS));
    assert_eq!(
        event.details.map(Value::Object),
        Some(json!({"small": 1, "odd": null, "cut": ["details.odd", "actor.id", "actor.name", "details.large", "id",
            "type", "context.ip", "context.userAgent"]}))
    );
    let no_object = one(&with("properties", json!([1]))).event;
    assert_eq!(no_object.details.map(Value::Object), Some(json!({"cut": ["details"]})));
}

#[test]
fn the_catalogue_spells_and_refuses() {
    assert_eq!(one(&with("event", json!("warehouses DISABLED"))).event.r#type, "Warehouse Disabled");
    let own = document::EventType {
        name: "Invoice Sent".to_owned(),
        area: "Billing".to_owned(),
        aliases: Vec::new(),
        schema: Some(json!({"required": ["sum"], "additionalProperties": false, "properties": {"sum": {}}})),
    };
    let strict = document::Catalogue { mode: document::CatalogueMode::Strict, event_types: vec![own] };
    let catalogue = Catalogue::of(&strict).expect("valid");
    let good = json!({"event": "invoice sent", "userId": "u", "properties": {"sum": 1}, "timestamp": "never"});
    let body = json!({"batch": [{"event": "Other", "userId": "u"}, identify(), good]});
    let decoded = read_by(&catalogue, &body.to_string());
    let field = |index: usize| decoded[index].as_ref().expect_err("refused")[0].field.clone();
    assert_eq!((field(0), field(1)), ("type".to_owned(), "details".to_owned()));
    // The mark is ours and breaks no schema.
    assert!(decoded[2].as_ref().expect("an event").event.details.as_ref().expect("marked").contains_key("cut"));
}

fn audited() -> Value {
    json!({"type": "track", "event": "Audit", "userId": "usr_7Yq2", "messageId": "api-1",
        "timestamp": "2026-03-02T09:14:05.120Z",
        "properties": {"type": "Warehouse Disabled", "workspace_id": "ws_acme",
            "details": {"resource_id": "whs_31", "resource_type": "warehouse", "subject": "users/usr_7Yq2",
                "target": "Production", "warehouse_id": "whs_31"}}})
}

#[test]
fn what_segments_own_audit_forwarding_sends_is_understood() {
    let expected = Event {
        timestamp: Some(at("2026-03-02T09:14:05.12Z")),
        actor: Some(Actor { r#type: ActorType::User, id: "usr_7Yq2".to_owned(), name: None, email: None }),
        resource: full().resource,
        details: json!({"subject": "users/usr_7Yq2", "warehouse_id": "whs_31", "workspace_id": "ws_acme"})
            .as_object()
            .cloned(),
        ..event("api-1")
    };
    assert_eq!(one(&audited()), Tracked { event: expected, corrected: false, passed: Vec::new() });
}

#[test]
fn the_subject_of_an_audit_event_is_believed_before_its_user_id() {
    let actor = |user: &str, subject: &str| {
        let mut item = audited();
        item["userId"] = json!(user);
        item["properties"]["details"]["subject"] = json!(subject);
        let actor = one(&item).event.actor.expect("somebody");
        (actor.r#type, actor.id)
    };
    assert_eq!(actor(SYSTEM, "users/usr_1"), (ActorType::User, "usr_1".to_owned()));
    assert_eq!(actor(SYSTEM, ""), (ActorType::System, SYSTEM.to_owned()));
    assert_eq!(actor("tok_1", "tokens/tok_1"), (ActorType::AccessToken, "tok_1".to_owned()));
    assert_eq!(actor("usr_1", ""), (ActorType::User, "usr_1".to_owned()));
}

#[test]
fn an_audit_event_without_a_resource_has_none() {
    let mut item = audited();
    item["properties"]["details"] = json!({"resource_id": "", "resource_type": "", "target": "", "action": "read"});
    let event = one(&item).event;
    assert_eq!(event.resource, None);
    assert_eq!(event.details.map(Value::Object), Some(json!({"action": "read", "workspace_id": "ws_acme"})));
}

#[test]
fn an_event_that_went_through_segments_own_shape_has_its_details_as_text() {
    let own = json!({"reason": "by mistake", "count": 3, "nested": {"n": 1}, "target": "own", "none": null});
    let stored = stored(Event { details: own.as_object().cloned(), ..full() });
    let arrived = sent(Format::SegmentAudit, &stored).event;
    let texts = json!({"reason": "by mistake", "count": "3", "nested": "{\"n\":1}", "target": "own", "none": ""});
    let expected = Event { details: texts.as_object().cloned(), ..as_it_was(&stored) };
    assert_eq!(arrived, expected);
}

#[test]
fn an_event_whose_person_was_erased_has_nobody_in_segments_own_shape_either() {
    let erased = stored(Event { actor: None, ..event("evt_1") });
    assert_eq!(sent(Format::SegmentAudit, &erased).event.actor, None);
}

#[test]
fn the_system_keeps_its_name_in_segments_own_shape() {
    let system = |id: &str| Actor { r#type: ActorType::System, id: id.to_owned(), name: None, email: None };
    for id in [SYSTEM, "scheduler"] {
        let stored = stored(Event { actor: Some(system(id)), ..event("evt_1") });
        assert_eq!(sent(Format::SegmentAudit, &stored).event.actor, Some(system(id)));
    }
}

#[test]
fn an_event_named_audit_is_still_one_of_format_named() {
    let audit = stored(Event { r#type: AUDIT.to_owned(), ..full() });
    assert_eq!(forwarded(&audit), as_it_was(&audit));
}

#[test]
fn what_was_cut_in_segments_own_shape_is_marked_too() {
    let large = json!({"t": "x".repeat(ITEM_MAX_BYTES)});
    let without_details =
        sent(Format::SegmentAudit, &stored(Event { details: large.as_object().cloned(), ..full() })).event;
    assert_eq!(without_details.details.map(Value::Object), Some(json!({"cut": ["details"]})));
    assert_eq!(without_details.changes, full().changes);
}

#[test]
fn changes_that_are_no_changes_are_cut() {
    let with = |changes: &str| {
        let mut item: Value = serde_json::from_slice(&item(Format::SegmentAudit, &stored(full()))).expect("JSON");
        item["properties"]["details"][audit::CHANGES] = json!(changes);
        one(&item).event
    };
    let whole = with(r#"[{"field":"enabled","before":true,"after":false}]"#);
    assert_eq!((whole.changes, whole.details.expect("own").contains_key("cut")), (full().changes, false));
    for odd in ["{", "{}", "[1]", r#"[{"field":"a","after":9007199254740993}]"#, r#"[{"field":"a","field":"b"}]"#] {
        let event = with(odd);
        assert_eq!((event.changes.len(), &event.details.expect("marked")["cut"]), (0, &json!(["changes"])), "{odd}");
    }
}

#[test]
fn the_trails_that_an_item_of_any_sender_passed_are_read() {
    let passed = |item: &Value| one(item).passed;
    let listed = json!({"audittrail": {"passed": [LOG]}});
    assert_eq!(passed(&with("context", listed.clone())), [LOG]);
    let mut own = audited();
    own["context"] = listed;
    assert_eq!(passed(&own), [LOG]);
    assert_eq!(passed(&with("context", json!({"audittrail": {"passed": [LOG, "x"]}}))), Vec::<Uuid>::new());
}
