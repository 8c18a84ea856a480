//! The operator refuses the catalogues that a collector would refuse, and no others: one that got through would stop the
//! collectors from following the document.

use audittrail_collector::catalogue::Catalogue as Compiled;
use audittrail_crds::AuditTrail;
use audittrail_crds::document::{Catalogue, EventType};
use audittrail_operator::trail::validate::catalogue::check;
use audittrail_operator::trail::validate::document_catalogue;
use serde_json::{Value, json};

fn own(name: &str, area: &str, aliases: &[&str], schema: Option<Value>) -> EventType {
    let aliases = aliases.iter().map(|alias| (*alias).to_owned()).collect();
    EventType { name: name.to_owned(), area: area.to_owned(), aliases, schema }
}

fn plain(name: &str, area: &str) -> EventType {
    own(name, area, &[], None)
}

fn with_schema(schema: Value) -> EventType {
    own("Invoice Sent", "Billing", &[], Some(schema))
}

fn titled(bytes: usize) -> Value {
    json!({"title": "x".repeat(bytes - json!({"title": ""}).to_string().len())})
}

#[test]
fn the_example_can_be_used() {
    let text = include_str!("../../examples/catalogue.yaml");
    let trail: AuditTrail = serde_saphyr::from_str(text).expect("an AuditTrail");
    let catalogue = document_catalogue(&trail.spec.catalogue);
    assert!(catalogue.event_types.len() > 1);
    check(&catalogue).expect("the operator takes it");
    let compiled = Compiled::of(&catalogue).expect("collectors take it");
    let details = json!({"invoice": "INV-7", "amount": {"value": 12.5, "currency": "EUR"}});
    assert_eq!(compiled.details_faults("Invoice Sent", details.as_object()), []);
    assert_eq!(compiled.details_faults("Invoice Sent", json!({"invoice": "7"}).as_object()).len(), 2);
    assert_eq!(compiled.spelling("bill sent").as_deref(), Ok("Invoice Sent"));
}

#[test]
fn operator_and_collector_agree_on_every_catalogue() {
    let good = [
        vec![],
        vec![plain("Invoice Sent", "Billing"), plain("Door Opened", "Doors")],
        vec![own("Über", "X", &["ÜBER", "ueber"], None)],
        vec![own("space deleted", "spaces", &["Space Removed", "SPACE DELETED"], None)],
        vec![with_schema(json!({"required": ["sum"]}))],
        vec![with_schema(json!({"$schema": "https://json-schema.org/draft/2020-12/schema#"}))],
        vec![with_schema(
            json!({"$ref": "#/$defs/node", "$defs": {"node": {"properties": {"child": {"$ref": "#/$defs/node"}}}}}),
        )],
        vec![with_schema(titled(32 * 1024))],
    ];
    let bad = [
        vec![plain("A", "X"), plain("a", "X")],
        vec![own("A", "X", &["b"], None), plain("B", "X")],
        vec![own("A", "X", &["c"], None), own("B", "X", &["C"], None)],
        vec![plain("Space Deleted", "Billing")],
        vec![plain("Warehouses Created", "Warehouses")],
        vec![own("A", "X", &["space deleted"], None)],
        vec![with_schema(json!({"type": "text"}))],
        vec![with_schema(json!({"$ref": "https://schemas.example/invoice.json"}))],
        vec![with_schema(json!({"$ref": "file:///etc/hostname"}))],
        vec![with_schema(json!({"$ref": "#/$defs/missing"}))],
        vec![with_schema(json!({"pattern": "(?=a)b"}))],
        vec![with_schema(json!({"$schema": "http://json-schema.org/draft-07/schema#"}))],
        vec![with_schema(json!({"$schema": 7}))],
        vec![with_schema(titled(32 * 1024 + 1))],
    ];
    let all = good.into_iter().map(|types| (types, true)).chain(bad.into_iter().map(|types| (types, false)));
    for (event_types, usable) in all {
        let catalogue = Catalogue { event_types, ..Catalogue::default() };
        let shown = format!("{catalogue:.300?}");
        assert_eq!(check(&catalogue).is_ok(), usable, "the operator: {shown}");
        assert_eq!(Compiled::of(&catalogue).is_ok(), usable, "the collector: {shown}");
    }
}
