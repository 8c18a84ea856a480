use super::*;
use crate::ingest::room::{NoRoom, Room};
use crate::problem::FieldError;
use audittrail_crds::catalogue::Catalogue;
use serde_json::json;

const NOW: &str = "2026-03-02T09:14:05Z";

type Parse = fn(&[u8], &Edge<'_>, &Held) -> Result<Vec<Event>, Refusal>;

fn reading(body: &[u8], parse: Parse) -> Result<Vec<Event>, Vec<FieldError>> {
    let catalogue = Catalogue::default();
    let edge = Edge { now: NOW.parse().expect("valid"), catalogue: &catalogue, new_id: || "made".to_owned() };
    parse(body, &edge, &Room::default().enter()).map_err(|refusal| match refusal {
        Refusal::Invalid(errors) => errors,
        Refusal::NoRoom(no_room) => panic!("{no_room}"),
    })
}

fn read(body: &Value) -> Result<Vec<Event>, Vec<FieldError>> {
    reading(&serde_json::to_vec(body).expect("JSON"), parse)
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

/// The smallest event with the member at `path` set to `value`; objects on the way are made whole.
fn at(path: &str, value: Value) -> Value {
    let (outer, inner) = path.split_once('.').expect("a path of two");
    let mut object = match outer {
        "context" => json!({}),
        _ => json!({"type": "user", "id": "a"}),
    };
    object[inner] = value;
    with(outer, object)
}

#[test]
fn text_is_accepted_at_its_limit_and_refused_one_past_it() {
    let long = |chars| Value::String("ä".repeat(chars));
    for (field, max_chars) in [("id", ID_MAX_CHARS), ("type", TYPE_MAX_CHARS)] {
        read(&with(field, long(max_chars))).expect(field);
        assert_eq!(fault(&with(field, long(max_chars + 1))).field, field);
        assert_eq!(fault(&with(field, long(0))).field, field);
    }
    for (field, max_chars) in [
        ("actor.id", IDENTITY_MAX_CHARS),
        ("actor.name", NAME_MAX_CHARS),
        ("actor.email", EMAIL_MAX_CHARS),
        ("resource.type", IDENTITY_MAX_CHARS),
        ("resource.id", IDENTITY_MAX_CHARS),
        ("resource.name", NAME_MAX_CHARS),
        ("context.userAgent", USER_AGENT_MAX_CHARS),
        ("context.requestId", REQUEST_ID_MAX_CHARS),
    ] {
        read(&at(field, long(max_chars))).expect(field);
        assert_eq!(fault(&at(field, long(max_chars + 1))).field, field);
        assert_eq!(fault(&at(field, long(0))).field, field);
    }
    let change = |chars| with("changes", json!([{"field": long(chars)}]));
    read(&change(CHANGE_FIELD_MAX_CHARS)).expect("valid");
    assert_eq!(fault(&change(CHANGE_FIELD_MAX_CHARS + 1)).field, "changes[0].field");
}

#[test]
fn an_id_neither_begins_nor_ends_with_white_space() {
    read(&with("id", json!("two words"))).expect("valid");
    assert!(fault(&with("id", json!(" a"))).rule.contains("white space"));
}

#[test]
fn control_characters_are_refused() {
    assert!(fault(&with("id", json!("a\nb"))).rule.contains("control"));
}

#[test]
fn timestamps_need_an_offset_and_are_cut_to_microseconds() {
    assert_eq!(fault(&with("timestamp", json!("2026-03-02T09:14:05"))).field, "timestamp");
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
fn a_timestamp_is_at_most_an_hour_ahead() {
    read(&with("timestamp", json!("2026-03-02T10:14:05Z"))).expect("valid");
    let fault = fault(&with("timestamp", json!("2026-03-02T10:14:05.000001Z")));
    assert_eq!((&*fault.field, &*fault.rule), ("timestamp", "must be at most 1h ahead of the collector's clock"));
}

#[test]
fn the_earliest_timestamp_is_accepted_and_nothing_before_it() {
    read(&with("timestamp", json!(TIMESTAMP_MIN))).expect("valid");
    assert!(fault(&with("timestamp", json!("1969-12-31T23:59:59.999999Z"))).rule.contains("before"));
}

#[test]
fn an_event_has_up_to_five_hundred_changes() {
    let changes = |count| with("changes", json!(vec![json!({"field": "a"}); count]));
    assert_eq!(read(&changes(CHANGES_MAX)).expect("valid")[0].changes.len(), CHANGES_MAX);
    assert_eq!(fault(&changes(CHANGES_MAX + 1)).field, "changes");
}

/// Each rule for free JSON: a value at the bound and one past it, for `details`.
fn at_and_past_the_bounds() -> [(Value, Value); 3] {
    let bytes = |bytes: usize| json!({"a": "x".repeat(bytes - r#"{"a":""}"#.len())});
    let levels = |levels: usize| json!({"a": (2..levels).fold(json!({}), |inner, _| json!([inner]))});
    let members = |members: usize| Value::Object((0..members).map(|number| (number.to_string(), json!(0))).collect());
    [
        (bytes(JSON_MAX_BYTES), bytes(JSON_MAX_BYTES + 1)),
        (levels(JSON_MAX_LEVELS), levels(JSON_MAX_LEVELS + 1)),
        (members(JSON_MAX_MEMBERS), members(JSON_MAX_MEMBERS + 1)),
    ]
}

#[test]
fn details_are_accepted_at_each_limit_and_refused_one_past_it() {
    for (at, past) in at_and_past_the_bounds() {
        read(&with("details", at)).expect("valid");
        assert_eq!(fault(&with("details", past)).field, "details");
    }
    assert_eq!(fault(&with("details", json!([]))).field, "details");
}

#[test]
fn changes_are_accepted_at_each_limit_and_refused_one_past_it() {
    let change = |after: &Value| json!([{"field": "a", "after": after}]);
    let text = |bytes: usize| json!("x".repeat(bytes - r#"[{"after":"","field":"a"}]"#.len()));
    let levels = |levels: usize| (2..levels).fold(json!(0), |inner, _| json!([inner]));
    let members = |members: usize| Value::Object((2..members).map(|number| (number.to_string(), json!(0))).collect());
    for (at, past) in [
        (text(JSON_MAX_BYTES), text(JSON_MAX_BYTES + 1)),
        (levels(JSON_MAX_LEVELS), levels(JSON_MAX_LEVELS + 1)),
        (members(JSON_MAX_MEMBERS), members(JSON_MAX_MEMBERS + 1)),
    ] {
        read(&with("changes", change(&at))).expect("valid");
        assert_eq!(fault(&with("changes", change(&past))).field, "changes");
    }
}

#[test]
fn what_cannot_be_kept_names_its_event_and_place() {
    let body = br#"{"events": [
        {"type": "A", "actor": {"type": "user", "id": "a"}, "details": {"list": [1, 9007199254740993]}},
        {"type": "A\u0000", "actor": {"type": "user", "id": "a"}},
        {"type": "A", "actor": {"type": "user", "id": "a", "id": "b"}}
    ]}"#;
    let faults: Vec<(Option<usize>, String)> =
        reading(body, parse).expect_err("refused").into_iter().map(|fault| (fault.index, fault.field)).collect();
    let expected = [(0, "details.list[1]"), (1, "type"), (2, "actor.id")];
    assert_eq!(faults, expected.map(|(index, field)| (Some(index), field.to_owned())));
}

#[test]
fn a_lone_surrogate_is_not_text() {
    let body = br#"{"type": "\ud800", "actor": {"type": "user", "id": "a"}}"#;
    assert!(reading(body, parse).expect_err("refused")[0].rule.contains("not JSON"));
}

#[test]
fn events_must_be_an_array_and_stand_alone() {
    assert_eq!(fault(&json!({"events": {}})).field, "events");
    assert_eq!(fault(&json!({"events": [smallest()], "typo": 1})).field, "typo");
    assert!(reading(b"[]", parse).expect_err("refused")[0].rule.contains("an event, or an object"));
    let twice = br#"{"events": [{"type": "A", "actor": {"type": "user", "id": "a"}}], "events": []}"#;
    assert_eq!(reading(twice, parse).expect_err("refused")[0].field, "events");
}

#[test]
fn only_utf_8_without_a_mark_is_read() {
    let rule = |body: &[u8]| reading(body, parse).expect_err("refused").remove(0).rule;
    assert_eq!(rule(b"{\"a\": \"\xff\"}"), "is not UTF-8 from byte 7 on");
    assert!(rule("\u{feff}{}".as_bytes()).contains("byte order mark"));
    let utf_16: Vec<u8> = "\u{feff}{}".encode_utf16().flat_map(u16::to_be_bytes).collect();
    assert!(rule(&utf_16).contains("not UTF-8"));
}

#[test]
fn a_body_that_is_not_json_says_why() {
    for body in ["{", "", "{} {}", r#"{"type": 1} x"#, r#"{"events": [{"type": 1}, x]}"#] {
        let errors = reading(body.as_bytes(), parse).expect_err("refused");
        let last = errors.last().expect("a fault");
        assert!(last.rule.contains("not JSON"), "{body} {errors:?}");
    }
}

fn line() -> String {
    smallest().to_string()
}

#[test]
fn each_line_is_an_event_and_empty_lines_do_not_count() {
    let body = format!("\n{}\r\n  \t\n{}", line(), line());
    assert_eq!(reading(body.as_bytes(), parse_lines).expect("valid").len(), 2);
}

#[test]
fn faults_of_lines_carry_the_place_among_those_that_count() {
    let body = format!("{}\n\n{{\"type\": 1}}\n{{\n{}\n\"x\" 1\n", line(), line());
    let errors = reading(body.as_bytes(), parse_lines).expect_err("refused");
    let places: Vec<(usize, &str)> =
        errors.iter().map(|error| (error.index.expect("an index"), error.field.as_str())).collect();
    assert_eq!(places, [(1, "type"), (1, "actor"), (2, ""), (4, "")]);
}

#[test]
fn lines_are_one_to_five_thousand() {
    let lines = |count| vec![line(); count].join("\n");
    assert_eq!(reading(lines(BATCH_MAX_EVENTS).as_bytes(), parse_lines).expect("valid").len(), BATCH_MAX_EVENTS);
    for count in [0, BATCH_MAX_EVENTS + 1] {
        let errors = reading(lines(count).as_bytes(), parse_lines).expect_err("refused");
        assert_eq!((errors.len(), errors[0].index), (1, None));
    }
}

/// Small text may become large in memory: 7 bytes make an object of 640.
#[test]
fn an_event_of_too_many_values_is_not_read_to_its_end() {
    let details = format!("{{\"a\":[{}0]}}", r#"{"":0},"#.repeat(100_000));
    let body = format!(r#"{{"type": "A", "actor": {{"type": "user", "id": "a"}}, "details": {details}}}"#);
    let errors = reading(body.as_bytes(), parse).expect_err("refused");
    assert!(errors.iter().any(|error| error.rule.contains("more values")), "{errors:?}");
}

#[test]
fn events_take_room_and_are_refused_where_there_is_none() {
    let catalogue = Catalogue::default();
    let edge = Edge { now: NOW.parse().expect("valid"), catalogue: &catalogue, new_id: || "made".to_owned() };
    let body = serde_json::to_vec(&json!({"events": vec![smallest(); 100]})).expect("JSON");
    let room = Room::of(1024 * 1024);
    let held = room.enter();
    parse(&body, &edge, &held).expect("room");
    assert!(held.bytes() >= 100 * size_of::<Event>());
    assert_eq!(parse(&body, &edge, &Room::of(1024).enter()), Err(Refusal::NoRoom(NoRoom::Others)));
    assert_eq!(parse_lines(line().as_bytes(), &edge, &Room::of(0).enter()), Err(Refusal::NoRoom(NoRoom::Others)));
}

/// What room is reckoned with: an event of 300 bytes of JSON with free details.
#[test]
fn an_event_of_300_bytes_takes_less_than_seven_times_as_much_room() {
    let event = json!({
        "id": "018f2c1e-0000-7000-8000-000000000001", "timestamp": "2026-03-02T09:14:05.120Z", "type": "Warehouse Disabled",
        "actor": {"type": "user", "id": "usr_bo_17", "email": "bo@acme.example"},
        "resource": {"type": "warehouse", "id": "whs_31", "name": "Production"},
        "context": {"ip": "198.51.100.23"}, "details": {"reason": "cost", "ticket": 1742},
    });
    let body = serde_json::to_vec(&json!({"events": vec![&event; 500]})).expect("JSON");
    let catalogue = Catalogue::default();
    let edge = Edge { now: NOW.parse().expect("valid"), catalogue: &catalogue, new_id: || "made".to_owned() };
    let held = Room::default().enter();
    parse(&body, &edge, &held).expect("valid");
    let (event, taken) = (body.len() / 500, held.bytes() / 500);
    assert!((290..=340).contains(&event), "{event}");
    assert!((4 * event..=7 * event).contains(&taken), "{taken} of {event}");
    println!("{taken} bytes of room for {event} of JSON");
}
