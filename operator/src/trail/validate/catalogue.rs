//! Whether collectors can use a catalogue. They refuse a document whose catalogue they cannot, so nothing bad may get into
//! one. The rules are those of `collector/src/catalogue`; `tests/unit/catalogue.rs` shows that both say the same. Pure.

use audittrail_crds::document::{Catalogue, EventType};
use jsonschema::{Draft, PatternOptions};
use serde_json::Value;
use std::collections::HashMap;

/// The built-in types: area, name, aliases separated by `|`; one header line; no name where an area has none.
const BUILT_IN: &str = include_str!("../../../../collector/src/catalogue/built_in.tsv");

/// JSON text of one schema, in bytes: larger ones describe more than an audit event.
const SCHEMA_MAX_BYTES: usize = 32 * 1024;

/// The only dialect of JSON Schema.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Longest reason that is taken from the compiler of schemas, in characters: it may quote the schema.
const REASON_MAX_CHARS: usize = 256;

/// What is wrong with a type of the catalogue.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the event type {name:?} {what}")]
pub struct Fault {
    /// Name of the type.
    name: String,
    /// What is wrong, in words.
    what: String,
}

/// What a name stands for.
#[derive(Clone, Copy)]
struct Known<'a> {
    name: &'a str,
    area: &'a str,
    /// Whether the workspace named it itself.
    own: bool,
}

/// Checks what admission cannot: names and aliases, which differ by more than upper and lower case, also from the built-in
/// ones; and schemas, which are compiled. Numbers and lengths are in the custom resource definition.
pub fn check(catalogue: &Catalogue) -> Result<(), Fault> {
    let mut known = built_in();
    // All names first: an alias must not take one that comes later.
    for own in &catalogue.event_types {
        name(&mut known, own).map_err(|what| fault(own, what))?;
    }
    for own in &catalogue.event_types {
        aliases(&mut known, own).and_then(|()| schema(own.schema.as_ref())).map_err(|what| fault(own, what))?;
    }
    Ok(())
}

fn fault(own: &EventType, what: String) -> Fault {
    Fault { name: own.name.clone(), what }
}

/// Built-in types by name or alias, in lower case.
fn built_in() -> HashMap<String, Known<'static>> {
    let cells = BUILT_IN.lines().skip(1).filter_map(|line| {
        let mut cells = line.split('\t');
        Some((cells.next()?, cells.next()?, cells.next()?))
    });
    let mut known = HashMap::new();
    for (area, name, aliases) in cells.filter(|(_, name, _)| !name.is_empty()) {
        for spelling in std::iter::once(name).chain(aliases.split('|').filter(|alias| !alias.is_empty())) {
            known.insert(spelling.to_lowercase(), Known { name, area, own: false });
        }
    }
    known
}

/// An own type may say more about a built-in one of the same name and area.
fn name<'a>(known: &mut HashMap<String, Known<'a>>, own: &'a EventType) -> Result<(), String> {
    let key = own.name.to_lowercase();
    let name = match known.get(&key) {
        None => own.name.as_str(),
        Some(Known { own: true, .. }) => {
            return Err("is there twice: upper and lower case make no difference".to_owned());
        }
        Some(built_in) if built_in.name.to_lowercase() != key => return Err(stands_for(&own.name, built_in)),
        Some(built_in) if built_in.area.to_lowercase() != own.area.to_lowercase() => {
            return Err(format!(
                "is built in and belongs to the area {:?}: name that area, or choose another name",
                built_in.area
            ));
        }
        Some(built_in) => built_in.name,
    };
    known.insert(key, Known { name, area: &own.area, own: true });
    Ok(())
}

fn aliases<'a>(known: &mut HashMap<String, Known<'a>>, own: &'a EventType) -> Result<(), String> {
    let this = known[&own.name.to_lowercase()];
    for alias in &own.aliases {
        let taken_by = *known.entry(alias.to_lowercase()).or_insert(this);
        if taken_by.name != this.name {
            return Err(stands_for(alias, &taken_by));
        }
    }
    Ok(())
}

fn stands_for(text: &str, other: &Known<'_>) -> String {
    format!("cannot be: {text:?} already stands for {:?}", other.name)
}

/// Nothing is fetched, and patterns are those of the `regex` crate, which cannot be made slow.
fn schema(schema: Option<&Value>) -> Result<(), String> {
    let Some(schema) = schema else { return Ok(()) };
    let bytes = schema.to_string().len();
    if bytes > SCHEMA_MAX_BYTES {
        return Err(format!("has a schema of {bytes} bytes, and may have {SCHEMA_MAX_BYTES}"));
    }
    let dialect = schema.get("$schema").map(|dialect| dialect.as_str().unwrap_or_default());
    if dialect.is_some_and(|dialect| dialect.trim_end_matches('#') != DIALECT) {
        return Err(format!("has a schema whose $schema names another dialect: only {DIALECT} is known"));
    }
    let options =
        jsonschema::options().with_draft(Draft::Draft202012).offline().with_pattern_options(PatternOptions::regex());
    options.build(schema).map(drop).map_err(|error| {
        let reason: String = error.to_string().chars().take(REASON_MAX_CHARS).collect();
        format!("has a schema that cannot be used: {reason}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn own(name: &str, area: &str, aliases: &[&str]) -> EventType {
        let aliases = aliases.iter().map(|alias| (*alias).to_owned()).collect();
        EventType { name: name.to_owned(), area: area.to_owned(), aliases, schema: None }
    }

    fn with_schema(schema: Value) -> EventType {
        EventType { schema: Some(schema), ..own("Invoice Sent", "Billing", &[]) }
    }

    fn checked(event_types: Vec<EventType>) -> Result<(), String> {
        check(&Catalogue { event_types, ..Catalogue::default() }).map_err(|fault| fault.to_string())
    }

    fn refusal(event_types: Vec<EventType>) -> String {
        checked(event_types).expect_err("refused")
    }

    #[test]
    fn own_types_with_names_of_their_own_are_fine() {
        let types =
            vec![own("Invoice Sent", "Billing", &["Bill Sent", "invoice sent"]), own("Door Opened", "Doors", &[])];
        assert_eq!(checked(types), Ok(()));
    }

    #[test]
    fn the_same_name_twice_is_named_whatever_its_case() {
        let refusal = refusal(vec![own("Über", "X", &[]), own("üBER", "X", &[])]);
        assert_eq!(refusal, r#"the event type "üBER" is there twice: upper and lower case make no difference"#);
    }

    #[test]
    fn an_alias_that_stands_for_another_type_is_named() {
        let two = vec![own("A", "X", &["b"]), own("B", "X", &[])];
        assert_eq!(refusal(two), r#"the event type "A" cannot be: "b" already stands for "B""#);
        let same = vec![own("A", "X", &["c"]), own("B", "X", &["C"])];
        assert_eq!(refusal(same), r#"the event type "B" cannot be: "C" already stands for "A""#);
    }

    #[test]
    fn a_built_in_type_may_be_added_to_and_not_taken() {
        assert_eq!(checked(vec![own("space deleted", "spaces", &["Space Removed"])]), Ok(()));
        assert!(refusal(vec![own("Space Deleted", "Billing", &[])]).contains(r#"belongs to the area "Spaces""#));
        assert!(refusal(vec![own("A", "X", &["space deleted"])]).contains(r#"stands for "Space Deleted""#));
        assert!(
            refusal(vec![own("Warehouses Created", "Warehouses", &[])]).contains(r#"stands for "Warehouse Created""#)
        );
    }

    #[test]
    fn a_schema_that_cannot_be_compiled_is_named_with_the_reason() {
        for (schema, reason) in [
            (json!({"type": "text"}), "\"text\""),
            (json!({"$ref": "https://schemas.example/invoice.json"}), "schemas.example"),
            (json!({"$ref": "#/$defs/missing"}), "missing"),
            (json!({"properties": {"id": {"pattern": "(?=a)b"}}}), "(?=a)b"),
            (json!({"$schema": "http://json-schema.org/draft-07/schema#"}), "another dialect"),
        ] {
            let refusal = refusal(vec![with_schema(schema)]);
            assert!(refusal.starts_with(r#"the event type "Invoice Sent" has a schema"#), "{refusal}");
            assert!(refusal.contains(reason), "{reason} is not in {refusal}");
        }
        assert_eq!(checked(vec![with_schema(json!({"required": ["sum"], "$schema": DIALECT}))]), Ok(()));
    }

    #[test]
    fn a_schema_ends_at_32_kib() {
        let of_size =
            |bytes: usize| with_schema(json!({"title": "x".repeat(bytes - json!({"title": ""}).to_string().len())}));
        assert_eq!(checked(vec![of_size(SCHEMA_MAX_BYTES)]), Ok(()));
        assert!(refusal(vec![of_size(SCHEMA_MAX_BYTES + 1)]).contains("32769 bytes"));
    }
}
