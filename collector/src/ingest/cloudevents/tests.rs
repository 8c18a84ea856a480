use super::*;
use crate::ingest::room::Room;
use crate::problem::FieldError;
use audittrail_crds::catalogue::Catalogue;
use axum::http::{HeaderName, HeaderValue};
use serde_json::json;

fn reading(read: impl FnOnce(&Edge<'_>, &Held) -> Result<Vec<Event>, Refusal>) -> Result<Vec<Event>, Vec<FieldError>> {
    let catalogue = Catalogue::default();
    let now = "2026-03-02T09:14:05Z".parse().expect("valid");
    let edge = Edge { now, catalogue: &catalogue, new_id: || "made".to_owned() };
    read(&edge, &Room::default().enter()).map_err(|refusal| match refusal {
        Refusal::Invalid(errors) => errors,
        Refusal::NoRoom(no_room) => panic!("{no_room}"),
    })
}

fn structured(body: &Value) -> Result<Vec<Event>, Vec<FieldError>> {
    let body = serde_json::to_vec(body).expect("JSON");
    reading(|edge, room| parse(&body, edge, room))
}

fn batched(body: &str) -> Result<Vec<Event>, Vec<FieldError>> {
    reading(|edge, room| parse_batch(body.as_bytes(), edge, room))
}

fn binary(headers: &[(&'static str, &str)], body: &[u8]) -> Result<Vec<Event>, Vec<FieldError>> {
    let mut all = HeaderMap::new();
    let required = [("ce-specversion", "1.0"), ("ce-id", "a-1"), ("ce-source", "/shop"), ("ce-type", "Order Placed")];
    for (name, value) in required.iter().chain(headers) {
        all.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).expect("a value"));
    }
    reading(|edge, room| parse_binary(&all, body, edge, room))
}

fn smallest() -> Value {
    json!({"specversion": "1.0", "id": "a-1", "source": "/shop", "type": "Order Placed"})
}

fn with(name: &str, value: Value) -> Value {
    let mut event = smallest();
    event[name] = value;
    event
}

fn one(body: &Value) -> Value {
    let events = structured(body).expect("valid");
    assert_eq!(events.len(), 1);
    serde_json::to_value(&events[0]).expect("JSON")
}

fn fields(errors: Result<Vec<Event>, Vec<FieldError>>) -> Vec<String> {
    errors.expect_err("refused").into_iter().map(|error| error.field).collect()
}

#[test]
fn the_smallest_event_is_of_the_system_that_is_its_source() {
    let expected = json!({"id": "/shop a-1", "type": "Order Placed", "actor": {"type": "system", "id": "/shop"}});
    assert_eq!(one(&smallest()), expected);
}

#[test]
fn each_attribute_has_its_place() {
    let event = json!({
        "specversion": "1.0", "id": "a-1", "source": "https://shop.example/eu", "type": "Order Placed",
        "time": "2026-03-02T09:14:05.12Z", "subject": "order/7", "datacontenttype": "application/json",
        "dataschema": "https://shop.example/order.json", "authtype": "service_account", "authid": "svc-7",
        "traceparent": "00-1-2-01", "sampledrate": 3, "absent": null, "data": {"total": 5},
    });
    let expected = json!({
        "id": "https://shop.example/eu a-1", "type": "Order Placed", "timestamp": "2026-03-02T09:14:05.12Z",
        "actor": {"type": "accessToken", "id": "svc-7"},
        "resource": {"type": "https://shop.example/eu", "id": "order/7"},
        "details": {
            "total": 5,
            "cloudEvent": {
                "dataschema": "https://shop.example/order.json", "authtype": "service_account",
                "traceparent": "00-1-2-01", "sampledrate": 3,
            },
        },
    });
    assert_eq!(one(&event), expected);
}

#[test]
fn data_of_native_members_is_read_as_such() {
    let data = json!({
        "actor": {"type": "user", "id": "usr_1"}, "resource": {"type": "order", "id": "7"}, "outcome": "denied",
        "context": {"ip": "192.0.2.1"}, "changes": [{"field": "a", "after": 1}], "details": {"why": "late"},
    });
    let mut event = with("data", data.clone());
    event["authid"] = "somebody else".into();
    event["subject"] = "order/7".into();
    let mut expected = data;
    expected["id"] = "/shop a-1".into();
    expected["type"] = "Order Placed".into();
    expected["details"]["cloudEvent"] = json!({"authid": "somebody else", "subject": "order/7"});
    assert_eq!(one(&event), expected);
}

#[test]
fn one_other_member_makes_data_plain_details() {
    let data = json!({"actor": "Ada", "total": 5});
    let event = one(&with("data", data.clone()));
    assert_eq!(event["details"], data);
    assert_eq!(event["actor"]["type"], "system");
    assert_eq!(one(&with("data", json!({})))["details"], json!({}));
}

#[test]
fn data_that_is_no_object_is_a_member_of_details() {
    for data in [json!("text"), json!([1, 2]), json!(7), json!(true)] {
        assert_eq!(one(&with("data", data.clone()))["details"], json!({"data": data}));
    }
    assert_eq!(one(&with("data_base64", json!("AAE=")))["details"], json!({"dataBase64": "AAE="}));
    assert_eq!(one(&with("data", Value::Null)).get("details"), None);
}

#[test]
fn each_kind_of_principal_is_a_kind_of_actor() {
    let actor = |authtype: &str| {
        let mut event = with("authid", json!("a"));
        event["authtype"] = authtype.into();
        one(&event)["actor"]["type"].clone()
    };
    for (authtype, expected) in [
        ("user", "user"),
        ("app_user", "user"),
        ("unauthenticated", "user"),
        ("unknown", "user"),
        ("service_account", "accessToken"),
        ("api_key", "accessToken"),
        ("system", "system"),
    ] {
        assert_eq!(actor(authtype), expected, "{authtype}");
    }
    assert_eq!(one(&with("authid", json!("a")))["actor"], json!({"type": "user", "id": "a"}));
    assert_eq!(one(&with("authtype", json!("user")))["details"]["cloudEvent"]["authtype"], "user");
    assert_eq!(fields(structured(&with("authtype", json!("robot")))), ["authtype"]);
    assert_eq!(fields(structured(&with("authid", json!("")))), ["authid"]);
}

#[test]
fn no_two_pairs_of_source_and_id_make_one_identity() {
    let id = |source: &str, id: &str| {
        let mut event = with("id", json!(id));
        event["source"] = source.into();
        one(&event)["id"].as_str().expect("text").to_owned()
    };
    assert_ne!(id("a", "b c"), id("a/b", "c"));
    assert_eq!(id("a", "b c"), "a b c");
    assert_eq!(fields(structured(&with("source", json!("a b")))), ["source"]);
    let longest = "x".repeat(ID_MAX_CHARS - 2);
    assert_eq!(id("a", &longest), format!("a {longest}"));
    let mut event = with("id", json!(format!("{longest}y")));
    event["source"] = "a".into();
    let hashed = one(&event);
    assert!(hashed["id"].as_str().expect("text").starts_with("sha256:"), "{hashed}");
    assert_eq!(hashed["details"]["cloudEvent"], json!({"id": format!("{longest}y"), "source": "a"}));
}

#[test]
fn source_and_subject_are_accepted_at_their_limit_and_refused_one_past_it() {
    let long = |chars| Value::String("ä".repeat(chars));
    for (name, max_chars) in [("source", CE_SOURCE_MAX_CHARS), ("subject", IDENTITY_MAX_CHARS), ("id", ID_MAX_CHARS)] {
        structured(&with(name, long(max_chars))).expect(name);
        assert_eq!(fields(structured(&with(name, long(max_chars + 1)))), [name]);
    }
}

#[test]
fn every_fault_is_listed() {
    let event = json!({
        "specversion": "0.3", "id": "", "source": 1, "time": "yesterday", "Subject": "x", "ext": {"a": 1},
        "data": {"actor": {"type": "robot", "id": "a"}},
    });
    let mut found = fields(structured(&event));
    found.sort();
    let expected = ["Subject", "data.actor.type", "ext", "id", "source", "specversion", "time", "type"];
    assert_eq!(found, expected);
    assert_eq!(fields(structured(&json!({}))), ["specversion", "id", "source", "type"]);
    let mut both = with("data", json!(1));
    both["data_base64"] = "AAE=".into();
    assert_eq!(fields(structured(&both)), ["data_base64"]);
    assert_eq!(fields(structured(&with("data_base64", json!("not base64")))), ["data_base64"]);
    let mut taken = with("data", json!({"cloudEvent": 1}));
    structured(&taken).expect("nothing else wants the name");
    taken["extension"] = "x".into();
    assert_eq!(fields(structured(&taken)), ["data.cloudEvent"]);
}

#[test]
fn data_has_the_limits_of_details() {
    let text = |bytes: usize| with("data", json!({"a": "x".repeat(bytes - r#"{"a":""}"#.len())}));
    let bytes = crate::ingest::limits::JSON_MAX_BYTES;
    structured(&text(bytes)).expect("valid");
    assert_eq!(fields(structured(&text(bytes + 1))), ["data"]);
}

#[test]
fn a_batch_is_refused_whole_with_each_index_and_may_be_empty() {
    assert_eq!(batched("[]").expect("valid"), []);
    assert_eq!(batched(&json!([smallest(), with("id", json!("a-2"))]).to_string()).expect("valid").len(), 2);
    let errors = batched(&json!([smallest(), {}, with("id", json!(1))]).to_string()).expect_err("refused");
    let indices: Vec<_> = errors.iter().map(|error| error.index.expect("an index")).collect();
    assert_eq!(indices, [1, 1, 1, 1, 2]);
    batched(&smallest().to_string()).expect_err("no array");
}

#[test]
fn binary_mode_takes_attributes_from_headers_and_data_from_the_body() {
    let json =
        binary(&[("content-type", "application/json; charset=utf-8"), ("ce-subject", "order/7")], br#"{"total": 5}"#);
    let event = &json.expect("valid")[0];
    assert_eq!(event.id, "/shop a-1");
    assert_eq!(event.resource.as_ref().expect("one").id, "order/7");
    assert_eq!(serde_json::to_value(&event.details).expect("JSON"), json!({"total": 5}));

    let details = |content_type: &str, body: &[u8]| {
        let headers: &[(&'static str, &str)] = &[("content-type", content_type)];
        let events = binary(if content_type.is_empty() { &[] } else { headers }, body).expect("valid");
        serde_json::to_value(&events[0].details).expect("JSON")
    };
    let kept = |content_type: &str| json!({"datacontenttype": content_type});
    assert_eq!(details("text/plain", b"hi"), json!({"data": "hi", "cloudEvent": kept("text/plain")}));
    assert_eq!(details("image/png", b"hi"), json!({"dataBase64": "aGk=", "cloudEvent": kept("image/png")}));
    assert_eq!(details("", b"hi"), json!({"dataBase64": "aGk="}));
    assert_eq!(details("", b""), Value::Null);
}

#[test]
fn header_values_are_unquoted_and_percent_decoded() {
    for (value, expected) in [
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ("\"a \\\"quoted\\\" one\"", "a \"quoted\" one"),
        ("100%", "100%"),
        ("%zz%4", "%zz%4"),
        ("a%25b", "a%b"),
    ] {
        let event = binary(&[("ce-subject", value)], b"").expect(value).remove(0);
        assert_eq!(event.resource.expect("a subject").id, expected);
    }
    assert_eq!(fields(binary(&[("ce-subject", "%ff")], b"")), ["subject"]);
    assert_eq!(fields(binary(&[("ce-subject", "%00")], b"")), ["subject"]);
}

#[test]
fn faults_of_binary_mode_name_the_attribute_or_the_data() {
    let json = ("content-type", "application/json");
    assert_eq!(fields(binary(&[json], b"{")), ["data"]);
    assert_eq!(fields(binary(&[json], br#"{"a": [9007199254740993]}"#)), ["data.a[0]"]);
    assert_eq!(fields(binary(&[("ce-time", "now")], b"")), ["time"]);
    assert_eq!(fields(binary(&[("ce-source", "/other")], b"")), ["source"]);
    assert_eq!(fields(binary(&[("ce-data", "x")], b"")), ["ce-data"]);
    assert_eq!(fields(binary(&[json, ("ce-datacontenttype", "x")], b"{}")), ["datacontenttype"]);
}
