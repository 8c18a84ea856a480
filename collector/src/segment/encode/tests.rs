use super::*;
use crate::event::tests::event;
use crate::event::{Outcome, Resource};
use crate::ingest::limits;
use crate::segment::tests::{LOG, full, stored};
use serde_json::json;

const FORMATS: [Format; 2] = [Format::Named, Format::SegmentAudit];

fn value(item: &[u8]) -> Value {
    let mut value: Value = serde_json::from_slice(item).expect("valid JSON");
    value["context"]["library"]["version"] = json!("[version]");
    value
}

fn written(format: Format, event: Event) -> Bytes {
    item(LOG, "Acme", format, &stored(event))
}

fn named(event: Event) -> Value {
    value(&written(Format::Named, event))
}

fn audited(event: Event) -> Value {
    value(&written(Format::SegmentAudit, event))
}

fn text(length: usize) -> String {
    "x".repeat(length)
}

fn actor(r#type: ActorType, id: &str) -> Actor {
    Actor { r#type, id: id.to_owned(), name: None, email: None }
}

#[test]
fn a_full_event_becomes_a_named_track_call() {
    insta::assert_json_snapshot!(named(full()));
}

#[test]
fn a_full_event_becomes_a_track_call_as_segment_makes_it() {
    insta::assert_json_snapshot!(audited(full()));
}

#[test]
fn an_event_of_the_system_has_an_anonymous_id() {
    insta::assert_json_snapshot!(named(Event { actor: Some(actor(ActorType::System, "scheduler")), ..event("evt_1") }));
}

#[test]
fn an_event_of_the_system_has_segments_user_id_for_it() {
    insta::assert_json_snapshot!(audited(Event {
        actor: Some(actor(ActorType::System, "scheduler")),
        ..event("evt_1")
    }));
}

#[test]
fn an_event_without_an_actor_is_of_nobody() {
    let erased = || Event { actor: None, ..event("evt_1") };
    assert_eq!(named(erased())["anonymousId"], "__system__");
    assert!(named(erased()).get("userId").is_none());
    let audited = audited(erased());
    assert_eq!((&audited["userId"], &audited["properties"]["details"]["subject"]), (&json!("__system__"), &json!("")));
}

#[test]
fn an_access_token_is_a_user_whose_subject_is_a_token() {
    let of_token = || Event { actor: Some(actor(ActorType::AccessToken, "tok_1")), ..event("evt_1") };
    assert_eq!(named(of_token())["userId"], "tok_1");
    let audited = audited(of_token());
    let subject = &audited["properties"]["details"]["subject"];
    assert_eq!((&audited["userId"], subject), (&json!("tok_1"), &json!("tokens/tok_1")));
}

#[test]
fn the_message_id_depends_on_the_log_and_the_event_alone() {
    let id = |log, stored: &StoredEvent, format| value(&item(log, "Acme", format, stored))["messageId"].clone();
    let first = id(LOG, &stored(event("evt_1")), Format::Named);
    let moved = StoredEvent { sequence: 9, epoch: 4, passed: vec![Uuid::nil()], ..stored(event("evt_1")) };
    for format in FORMATS {
        assert_eq!(first, id(LOG, &moved, format));
        assert_ne!(first, id(LOG, &stored(event("evt_2")), format));
        assert_ne!(first, id(Uuid::nil(), &stored(event("evt_1")), format));
    }
}

#[test]
fn the_trails_that_an_event_passed_go_on_with_it_and_ours_is_the_last() {
    let before = vec![Uuid::from_u128(1), Uuid::from_u128(2)];
    let event = StoredEvent { passed: before.clone(), ..stored(event("evt_1")) };
    for format in FORMATS {
        let item = value(&item(LOG, "Acme", format, &event));
        assert_eq!(item["context"]["audittrail"], json!({"passed": [before[0], before[1], LOG]}));
    }
}

#[test]
fn an_item_is_cut_past_32000_bytes_and_not_before() {
    for format in FORMATS {
        let with =
            |length| written(format, Event { details: json!({"t": text(length)}).as_object().cloned(), ..full() });
        let rest = with(0).len();
        let at_the_bound = with(ITEM_MAX_BYTES - rest);
        assert_eq!(at_the_bound.len(), ITEM_MAX_BYTES);
        assert!(value(&at_the_bound)["properties"].get("truncated").is_none());
        let past_it = value(&with(ITEM_MAX_BYTES - rest + 1));
        assert_eq!(past_it["properties"]["truncated"], json!(["details"]));
        insta::assert_json_snapshot!(format!("cut_{format:?}"), past_it);
    }
}

#[test]
fn the_larger_of_details_and_changes_goes_first_and_the_other_stays_when_it_fits() {
    let event = || {
        let changes = vec![Change { field: "notes".to_owned(), before: None, after: Some(json!(text(40_000))) }];
        Event { changes, ..full() }
    };
    let properties = &named(event())["properties"];
    assert_eq!(properties["truncated"], json!(["changes"]));
    assert_eq!(properties["details"]["reason"], "by mistake");
    assert!(properties.get("changes").is_none());

    let properties = &audited(event())["properties"];
    assert_eq!(properties["truncated"], json!(["changes"]));
    assert_eq!(properties["details"]["reason"], "by mistake");
    assert!(properties["details"].get("changes").is_none());
}

#[test]
fn only_what_was_there_is_said_to_be_missing() {
    let details = json!({"t": text(40_000)}).as_object().cloned();
    let changes = vec![Change { field: "notes".to_owned(), before: None, after: Some(json!(text(33_000))) }];
    for format in FORMATS {
        let truncated = |event: Event| value(&written(format, event))["properties"]["truncated"].clone();
        let both = Event { details: details.clone(), changes: changes.clone(), ..event("evt_1") };
        assert_eq!(truncated(both), json!(["details", "changes"]));
        assert_eq!(truncated(Event { changes: changes.clone(), ..event("evt_1") }), json!(["changes"]));
    }
}

#[test]
fn the_largest_event_that_ingest_accepts_fits() {
    // A control character takes six bytes in JSON; no other takes more.
    let text = |chars| "\u{1}".repeat(chars);
    let largest = |r#type| Event {
        id: text(limits::ID_MAX_CHARS),
        timestamp: None,
        r#type: text(limits::TYPE_MAX_CHARS),
        actor: Some(Actor {
            r#type,
            id: text(limits::IDENTITY_MAX_CHARS),
            name: Some(text(limits::NAME_MAX_CHARS)),
            email: Some(text(limits::EMAIL_MAX_CHARS)),
        }),
        resource: Some(Resource {
            r#type: text(limits::IDENTITY_MAX_CHARS),
            id: text(limits::IDENTITY_MAX_CHARS),
            name: Some(text(limits::NAME_MAX_CHARS)),
        }),
        outcome: Some(Outcome::Success),
        context: Some(Context {
            ip: Some("2001:db8::1".to_owned()),
            user_agent: Some(text(limits::USER_AGENT_MAX_CHARS)),
            request_id: Some(text(limits::REQUEST_ID_MAX_CHARS)),
        }),
        changes: vec![Change {
            field: "f".to_owned(),
            before: None,
            after: Some(json!(text(limits::JSON_MAX_BYTES / 6))),
        }],
        details: json!({"t": text(limits::JSON_MAX_BYTES / 6)}).as_object().cloned(),
    };
    for (format, r#type) in FORMATS
        .into_iter()
        .flat_map(|format| [ActorType::User, ActorType::AccessToken, ActorType::System].map(|it| (format, it)))
    {
        let passed = vec![Uuid::max(); crate::segment::passed::PASSED_MAX];
        let event = StoredEvent { passed, ..stored(largest(r#type)) };
        let item = item(LOG, &text(WORKSPACE_MAX_CHARS + 1), format, &event);
        assert!(item.len() <= ITEM_MAX_BYTES, "{format:?} {}", item.len());
    }
}

#[test]
fn a_workspace_is_named_up_to_its_longest_name() {
    let workspace = |chars| {
        let item = item(LOG, &"é".repeat(chars), Format::SegmentAudit, &stored(event("evt_1")));
        value(&item)["properties"]["workspace_id"].as_str().map(|name| name.chars().count())
    };
    assert_eq!((workspace(100), workspace(101)), (Some(100), Some(100)));
}
