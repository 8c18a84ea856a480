use super::*;
use serde_json::json;

fn own(name: &str, area: &str) -> EventType {
    EventType { name: name.to_owned(), area: area.to_owned(), aliases: Vec::new(), schema: None }
}

fn with_aliases(own: EventType, aliases: &[&str]) -> EventType {
    EventType { aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(), ..own }
}

fn with_schema(schema: Value) -> EventType {
    EventType { schema: Some(schema), ..own("Invoice Sent", "Billing") }
}

fn compile(event_types: Vec<EventType>) -> Result<Catalogue, String> {
    of(CatalogueMode::Open, event_types)
}

fn of(mode: CatalogueMode, event_types: Vec<EventType>) -> Result<Catalogue, String> {
    Catalogue::of(&document::Catalogue { mode, event_types }).map_err(|error| error.to_string())
}

fn refusal(event_types: Vec<EventType>) -> String {
    compile(event_types).expect_err("refused")
}

fn faults(schema: Value, details: &Value) -> Vec<(String, String)> {
    let catalogue = compile(vec![with_schema(schema)]).expect("valid");
    catalogue.details_faults("Invoice Sent", details.as_object())
}

#[test]
fn built_in_types_have_one_spelling_whatever_the_case_and_the_age_of_the_name() {
    let catalogue = Catalogue::default();
    for (given, spelling) in [
        ("warehouse disabled", "Warehouse Disabled"),
        ("Source Connected to Tracking Plan", "Source Connected To Tracking Plan"),
        ("Warehouses Created", "Warehouse Created"),
        ("Integrations Modified", "Integration Modified"),
        ("destination filters created", "Destination Filter Created"),
        ("Personas Warehouse Source Deleted", "Engage Warehouse Source Deleted"),
        ("kubernetes api called", "Kubernetes API Called"),
    ] {
        assert_eq!(catalogue.spelling(given).as_deref(), Ok(spelling), "{given}");
    }
}

#[test]
fn an_unknown_type_is_welcome_when_open_and_breaks_a_rule_when_strict() {
    assert_eq!(Catalogue::default().spelling("Journey Published").as_deref(), Ok("Journey Published"));
    let strict = of(CatalogueMode::Strict, vec![own("Invoice Sent", "Billing")]).expect("valid");
    assert!(strict.spelling("Journey Published").expect_err("refused").contains("Strict"));
    assert_eq!(strict.spelling("INVOICE SENT").as_deref(), Ok("Invoice Sent"));
    assert_eq!(strict.spelling("space created").as_deref(), Ok("Space Created"));
}

#[test]
fn own_types_are_known_by_their_aliases() {
    let catalogue = compile(vec![with_aliases(own("Rechnung Über", "Billing"), &["Invoice Sent"])]).expect("valid");
    assert_eq!(catalogue.spelling("invoice sent").as_deref(), Ok("Rechnung Über"));
    assert_eq!(catalogue.spelling("rechnung ÜBER").as_deref(), Ok("Rechnung Über"));
}

#[test]
fn an_own_type_may_add_a_schema_and_aliases_to_a_built_in_one_of_the_same_area() {
    let added = EventType { schema: Some(json!({"required": ["reason"]})), ..own("space deleted", "spaces") };
    let catalogue = compile(vec![with_aliases(added, &["Space Removed"])]).expect("valid");
    assert_eq!(catalogue.spelling("Space removed").as_deref(), Ok("Space Deleted"));
    assert_eq!(catalogue.details_faults("Space Deleted", None).len(), 1);
}

#[test]
fn nothing_is_shadowed() {
    assert!(refusal(vec![own("Space Deleted", "Billing")]).contains(r#"belongs to the area "Spaces""#));
    assert!(refusal(vec![own("Warehouses Created", "Warehouses")]).contains(r#"stands for "Warehouse Created""#));
    assert!(refusal(vec![own("A", "X"), own("a", "X")]).contains("twice"));
    assert!(refusal(vec![with_aliases(own("A", "X"), &["space deleted"])]).contains(r#"stands for "Space Deleted""#));
    assert!(refusal(vec![with_aliases(own("A", "X"), &["b"]), own("B", "X")]).contains(r#"stands for "B""#));
    let same = vec![with_aliases(own("A", "X"), &["c"]), with_aliases(own("B", "X"), &["C"])];
    assert_eq!(refusal(same), r#"the type "B": "C" already stands for "A""#);
}

#[test]
fn texts_are_accepted_up_to_their_length() {
    let text = |chars| "é".repeat(chars);
    let at = with_aliases(own(&text(NAME_MAX_CHARS), &text(NAME_MAX_CHARS)), &[&"a".repeat(NAME_MAX_CHARS)]);
    compile(vec![at]).expect("at the bound");
    for (bad, what) in [
        (own(&text(NAME_MAX_CHARS + 1), "X"), "its name"),
        (own("", "X"), "its name"),
        (own("a\nb", "X"), "its name"),
        (own("A", &text(NAME_MAX_CHARS + 1)), "its area"),
        (with_aliases(own("A", "X"), &[&text(NAME_MAX_CHARS + 1)]), "its alias"),
    ] {
        let refusal = refusal(vec![bad]);
        assert!(refusal.contains(what), "{refusal}");
    }
}

#[test]
fn own_types_and_aliases_are_accepted_up_to_their_number() {
    let types = |count: usize| (0..count).map(|number| own(&format!("Own {number}"), "X")).collect::<Vec<_>>();
    compile(types(OWN_TYPES_MAX)).expect("at the bound");
    assert!(refusal(types(OWN_TYPES_MAX + 1)).contains("1001 types"));
    let aliased = |count: usize| {
        let aliases = (0..count).map(|number| format!("Alias {number}")).collect();
        vec![EventType { aliases, ..own("A", "X") }]
    };
    compile(aliased(ALIASES_MAX)).expect("at the bound");
    assert!(refusal(aliased(ALIASES_MAX + 1)).contains("21 aliases"));
}

#[test]
fn details_are_checked_and_absent_ones_are_an_empty_object() {
    let schema = json!({"required": ["sum"], "properties": {
        "sum": {"type": "integer"}, "lines": {"items": {"properties": {"text": {"maxLength": 2}}}}}});
    assert_eq!(faults(schema.clone(), &json!({"sum": 1})), []);
    assert_eq!(
        faults(schema.clone(), &Value::Null),
        [("details".to_owned(), r#"must meet the type's schema: "sum" is a required property"#.to_owned())]
    );
    let paths: Vec<String> = faults(schema, &json!({"sum": "1", "lines": [{}, {"text": "long"}]}))
        .into_iter()
        .map(|(path, _)| path)
        .collect();
    assert_eq!(paths, ["details.lines[1].text", "details.sum"]);
}

#[test]
fn only_events_of_the_type_are_checked() {
    let catalogue = compile(vec![with_schema(json!(false))]).expect("valid");
    assert_eq!(catalogue.details_faults("Space Created", None), []);
    assert_eq!(catalogue.details_faults("Unheard Of", None), []);
    assert_eq!(catalogue.details_faults("Invoice Sent", None).len(), 1);
}

#[test]
fn an_event_gets_a_bounded_number_of_faults_of_bounded_length() {
    let details: Map<String, Value> =
        (0..100).map(|number| (format!("{number}{}", "x".repeat(999)), json!(1))).collect();
    let faults = faults(json!({"additionalProperties": {"type": "string"}}), &Value::Object(details));
    assert_eq!(faults.len(), schema::FAULTS_MAX);
    assert!(faults.iter().all(|(path, rule)| path.len() <= 256 && rule.len() <= 256), "{faults:?}");
}

#[test]
fn schemas_are_accepted_up_to_their_size() {
    let of_size = |bytes: usize| {
        let frame = json!({"title": ""}).to_string().len();
        vec![with_schema(json!({"title": "x".repeat(bytes - frame)}))]
    };
    compile(of_size(schema::SCHEMA_MAX_BYTES)).expect("at the bound");
    assert!(refusal(of_size(schema::SCHEMA_MAX_BYTES + 1)).contains("32769 bytes"));
}

#[test]
fn a_bad_schema_is_refused_with_its_type_and_the_reason() {
    for (schema, reason) in [
        (json!({"type": "text"}), "cannot be compiled"),
        (json!("text"), "cannot be compiled"),
        (json!({"$ref": "https://schemas.example/invoice.json"}), "cannot be compiled"),
        (json!({"$ref": "file:///etc/hostname"}), "cannot be compiled"),
        (json!({"$ref": "#/$defs/missing"}), "cannot be compiled"),
        (json!({"pattern": "(?=a)b"}), "cannot be compiled"),
        (json!({"$schema": "http://json-schema.org/draft-07/schema#"}), "another dialect"),
        (json!({"$schema": 7}), "another dialect"),
    ] {
        let refusal = refusal(vec![with_schema(schema.clone())]);
        assert!(refusal.starts_with(r#"the type "Invoice Sent": its schema"#) && refusal.contains(reason), "{refusal}");
    }
}

#[test]
fn a_schema_may_refer_to_itself() {
    let tree = json!({"$ref": "#/$defs/node", "$defs": {"node": {"properties": {"child": {"$ref": "#/$defs/node"}},
        "additionalProperties": {"type": "string"}}}});
    assert_eq!(faults(tree.clone(), &json!({"child": {"child": {"name": "leaf"}}})), []);
    assert_eq!(faults(tree, &json!({"child": {"child": {"name": 1}}}))[0].0, "details.child.child.name");
}

#[test]
fn a_schema_that_only_refers_to_itself_does_no_harm() {
    for schema in [
        json!({"$ref": "#"}),
        json!({"allOf": [{"$ref": "#"}]}),
        json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
    ] {
        if let Ok(catalogue) = compile(vec![with_schema(schema)]) {
            catalogue.details_faults("Invoice Sent", None);
        }
    }
}
