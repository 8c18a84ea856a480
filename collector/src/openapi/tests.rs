use super::*;
use crate::ingest::limits::{BATCH_MAX_EVENTS, CHANGES_MAX};
use crate::ingest::room::{Held, Room};
use crate::ingest::{Edge, cloudevents, native};
use audittrail_crds::catalogue::Catalogue;
use jsonschema::{Draft, Validator};
use std::collections::BTreeSet;

static DOCUMENT: LazyLock<Value> = LazyLock::new(document);

/// Each operation with its path and method.
fn operations() -> impl Iterator<Item = (&'static str, &'static str, &'static Value)> {
    let paths = DOCUMENT["paths"].as_object().expect("an object");
    paths.iter().flat_map(|(path, item)| {
        let methods = item.as_object().expect("an object");
        methods.iter().map(|(method, operation)| (path.as_str(), method.as_str(), operation))
    })
}

/// A validator of what this schema within the document describes.
fn validator(mut schema: Value) -> Validator {
    schema["components"] = DOCUMENT["components"].clone();
    let options = jsonschema::options().with_draft(Draft::Draft202012).should_validate_formats(true);
    options.build(&schema).unwrap_or_else(|error| panic!("{error}"))
}

/// Every value of the member `name`, on all levels.
fn members<'a>(value: &'a Value, name: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| members(item, name, found)),
        Value::Object(object) => {
            found.extend(object.get(name));
            object.values().for_each(|value| members(value, name, found));
        }
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let mut references = Vec::new();
    members(&DOCUMENT, "$ref", &mut references);
    assert!(references.len() > 100);
    for reference in references.iter().filter_map(|reference| reference.as_str()) {
        let pointer = reference.strip_prefix('#').expect("within the document");
        assert!(DOCUMENT.pointer(pointer).is_some(), "{reference}");
    }
}

#[test]
fn everything_in_components_is_used_and_every_schema_can_be_compiled() {
    let mut references = Vec::new();
    members(&DOCUMENT, "$ref", &mut references);
    let used: BTreeSet<&str> = references.iter().filter_map(|reference| reference.as_str()).collect();
    for kind in ["schemas", "responses", "headers"] {
        for name in DOCUMENT["components"][kind].as_object().expect("an object").keys() {
            let reference = format!("#/components/{kind}/{name}");
            // Lines and streams have no schema that would say what a line is: their descriptions name it.
            assert!(used.contains(reference.as_str()), "{reference} is not used");
            if kind == "schemas" {
                validator(json!({ "$ref": reference }));
            }
        }
    }
}

#[test]
fn every_operation_has_a_name_of_its_own_a_known_tag_words_and_an_answer() {
    let mut names = BTreeSet::new();
    for (path, method, operation) in operations() {
        let text = |name: &str| operation[name].as_str().unwrap_or_default().to_owned();
        assert!(names.insert(text("operationId")), "{method} {path}");
        assert!(!text("summary").is_empty(), "{method} {path}");
        let tags = operation["tags"].as_array().expect("tags");
        assert!(TAGS.iter().any(|(name, _)| tags == &[json!(name)]), "{method} {path}: {tags:?}");
        let answers = operation["responses"].as_object().expect("an object").iter();
        let good: Vec<&Value> =
            answers.filter(|(status, _)| status.starts_with('2')).map(|(_, answer)| answer).collect();
        assert!(matches!(good.as_slice(), [answer] if answer["content"].is_object()), "{method} {path}");
        assert_eq!(operation["requestBody"].is_object(), method == "post", "{method} {path}");
    }
}

#[test]
fn only_probes_answer_to_nobody() {
    for (path, method, operation) in operations() {
        let open = operation["security"] == json!([]);
        assert_eq!(open, ["/livez", "/readyz"].contains(&path), "{method} {path}");
        assert_eq!(operation["responses"].get("401").is_none(), open, "{method} {path}");
    }
}

#[test]
fn examples_are_valid() {
    let mut seen = 0;
    let mut check = |place: &str, schema: &Value, example: &Value| {
        seen += 1;
        assert!(validator(schema.clone()).is_valid(example), "{place}: {example}");
    };
    for (path, method, operation) in operations() {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            if let Some(example) = parameter.get("example") {
                check(&format!("{method} {path}: {}", parameter["name"]), &parameter["schema"], example);
            }
        }
        for (name, content) in operation["requestBody"]["content"].as_object().into_iter().flatten() {
            let many = content["examples"].as_object().into_iter().flatten().map(|(_, example)| &example["value"]);
            for example in content.get("example").into_iter().chain(many) {
                check(&format!("{method} {path}: {name}"), &content["schema"], example);
            }
        }
    }
    assert!(seen > 50, "{seen}");
}

#[test]
fn what_an_answer_may_lack_is_not_null_in_it() {
    let mut seen = 0;
    for (name, schema) in DOCUMENT["components"]["schemas"].as_object().expect("an object") {
        let of_requests = ["New", "Cloud", "Kubernetes"].iter().any(|prefix| name.starts_with(prefix));
        for (member, property) in schema["properties"].as_object().into_iter().flatten().filter(|_| !of_requests) {
            let nullable = property["type"].as_array().is_some_and(|types| types.contains(&json!("null")));
            let required = schema["required"].as_array().is_some_and(|required| required.contains(&json!(member)));
            assert!(!nullable || required, "{name}.{member}");
            seen += usize::from(nullable);
        }
    }
    assert!(seen > 3, "{seen}");
}

fn accepted(body: &[u8], parse: impl Fn(&[u8], &Edge<'_>, &Held) -> bool) -> bool {
    let catalogue = Catalogue::default();
    let now = "2026-03-02T09:14:05Z".parse().expect("valid");
    parse(body, &Edge { now, catalogue: &catalogue, new_id: || "made".to_owned() }, &Room::default().enter())
}

fn is_read(event: &Value) -> bool {
    accepted(event.to_string().as_bytes(), |body, edge, room| native::parse(body, edge, room).is_ok())
}

fn full_event() -> Value {
    json!({
        "id": "evt_1",
        "timestamp": "2026-03-02T09:14:05Z",
        "type": "Warehouse Disabled",
        "actor": {"type": "user", "id": "usr_1", "name": "Jane", "email": "jane@acme.example"},
        "resource": {"type": "warehouse", "id": "wh_1", "name": "Main"},
        "outcome": "success",
        "context": {"ip": "192.0.2.1", "userAgent": "curl/8.5.0", "requestId": "req_1"},
        "changes": [{"field": "enabled", "before": true, "after": false}],
        "details": {"reason": "cost"},
    })
}

/// Every member of the event and of the objects in it, but for free JSON.
const MEMBERS: [&str; 20] = [
    "/id",
    "/timestamp",
    "/type",
    "/actor",
    "/actor/type",
    "/actor/id",
    "/actor/name",
    "/actor/email",
    "/resource",
    "/resource/type",
    "/resource/id",
    "/resource/name",
    "/outcome",
    "/context",
    "/context/ip",
    "/context/userAgent",
    "/context/requestId",
    "/changes",
    "/changes/0/field",
    "/details",
];

/// The schema says what the reader does: for each member with each of these values, at and past each limit.
#[test]
fn the_schema_of_a_native_event_takes_what_its_reader_takes() {
    let schema = validator(json!({"$ref": "#/components/schemas/NewEvent"}));
    let lengths = [1, 128, 129, 256, 257, 320, 321, 512, 513, 1_024, 1_025];
    let change = json!({"field": "a"});
    let values = [
        json!(null),
        json!(""),
        json!("a"),
        json!(" a "),
        json!("a\nb"),
        json!("a\u{200b}"),
        json!("user"),
        json!("denied"),
        json!("2001:db8::1"),
        json!("2026-03-02T09:14:05.123456+02:00"),
        json!("2026-03-02"),
        json!(7),
        json!(true),
        json!([]),
        json!({}),
        json!({"type": "user"}),
        json!({"id": "a", "type": "system", "more": 1}),
        json!([{}]),
        json!([{"field": "a", "more": 1}]),
        json!(vec![change.clone(); CHANGES_MAX]),
        json!(vec![change; CHANGES_MAX + 1]),
    ]
    .into_iter()
    .chain(lengths.map(|length| json!("é".repeat(length))));
    let mut taken = 0;
    for value in values {
        for member in MEMBERS {
            let mut event = full_event();
            *event.pointer_mut(member).expect("is there") = value.clone();
            assert_eq!(schema.is_valid(&event), is_read(&event), "{member}: {value:.80}");
            taken += usize::from(is_read(&event));
        }
    }
    assert!(taken > 100, "{taken}");
}

#[test]
fn members_that_the_reader_does_not_know_are_not_in_the_schema() {
    let schema = validator(json!({"$ref": "#/components/schemas/NewEvent"}));
    for object in ["", "/actor", "/resource", "/context", "/changes/0"] {
        let mut event = full_event();
        event.pointer_mut(object).expect("is there")["more"] = json!(1);
        assert!(!schema.is_valid(&event) && !is_read(&event), "{object}");
    }
    let mut event = full_event();
    event["details"]["more"] = json!(1);
    assert!(schema.is_valid(&event) && is_read(&event));
}

#[test]
fn the_schema_of_a_batch_ends_where_its_reader_does() {
    let schema = validator(json!({"$ref": "#/components/schemas/NewEvents"}));
    let smallest = json!({"type": "a", "actor": {"type": "system", "id": "a"}});
    for (count, expected) in [(0, false), (1, true), (BATCH_MAX_EVENTS, true), (BATCH_MAX_EVENTS + 1, false)] {
        let batch = json!({"events": vec![smallest.clone(); count]});
        assert_eq!((schema.is_valid(&batch), is_read(&batch)), (expected, expected), "{count}");
    }
}

#[test]
fn the_schema_of_a_cloud_event_takes_what_its_reader_takes() {
    let schema = validator(json!({"$ref": "#/components/schemas/CloudEvent"}));
    let full = json!({
        "specversion": "1.0", "id": "1", "source": "/a", "type": "a", "time": "2026-03-02T09:14:05Z", "subject": "b",
        "datacontenttype": "application/json", "dataschema": "/s", "authid": "usr_1", "comexampleother": 1, "data": {"a": 1},
    });
    let values = [
        json!(null),
        json!(""),
        json!("a"),
        json!("1.0"),
        json!("a b"),
        json!(1),
        json!(1.5),
        json!(true),
        json!({}),
        json!([]),
    ];
    for value in values {
        // An actor's identity is text in an event without one in `data`, and any attribute beside one.
        for member in full.as_object().expect("an object").keys().filter(|name| *name != "authid") {
            let mut event = full.clone();
            event[member] = value.clone();
            let read =
                accepted(event.to_string().as_bytes(), |body, edge, room| cloudevents::parse(body, edge, room).is_ok());
            assert_eq!(schema.is_valid(&event), read, "{member}: {value}");
        }
    }
    for name in ["Upper", "under_score", "dash-ed"] {
        let mut event = full.clone();
        event[name] = json!("a");
        assert!(!schema.is_valid(&event), "{name}");
    }
}
