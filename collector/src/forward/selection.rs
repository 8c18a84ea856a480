//! Which events a forwarding sends (pure): a selector of its filter is a query of the query API, and decides as that does.

use crate::event::StoredEvent;
use crate::query::filter::Filter;
use audittrail_crds::catalogue::Catalogue;
use audittrail_crds::filter::{EventFilter, Selector};

/// Decides whether an event is sent.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Selection {
    include: Vec<Filter>,
    exclude: Vec<Filter>,
}

impl Selection {
    /// Of a forwarding's filter, with the types and areas of `catalogue`: it is made anew when either changes. Error: the
    /// member that cannot be used, and the rule that it breaks.
    pub fn of(filter: &EventFilter, catalogue: &Catalogue) -> Result<Self, String> {
        Ok(Self {
            include: filters("filter.include", &filter.include, catalogue)?,
            exclude: filters("filter.exclude", &filter.exclude, catalogue)?,
        })
    }

    /// Whether the event is sent: any of `include` asks for it, or there is none, and none of `exclude` does.
    pub fn takes(&self, event: &StoredEvent) -> bool {
        let asked_for = |filter: &Filter| filter.matches(event);
        (self.include.is_empty() || self.include.iter().any(asked_for)) && !self.exclude.iter().any(asked_for)
    }
}

fn filters(list: &str, selectors: &[Selector], catalogue: &Catalogue) -> Result<Vec<Filter>, String> {
    let filter = |(place, selector): (usize, &Selector)| {
        // A query that asks for nothing in particular asks for everything. In a filter that is a mistake, or a member that
        // only a newer version knows: sent or left out for ever, on a guess.
        if *selector == Selector::default() {
            return Err(format!(
                "{list}[{place}] must name at least one of type, area, actor, actorType, resource, resourceType, outcome \
                 and submittedBy"
            ));
        }
        Filter::of_selector(selector, catalogue).map_err(|rule| format!("{list}[{place}].area {rule}"))
    };
    selectors.iter().enumerate().map(filter).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Actor, ActorType, Outcome, Resource};
    use crate::query::tests::stored;
    use audittrail_crds::document;
    use proptest::prelude::*;
    use proptest::sample::{select, subsequence};
    use serde_json::json;

    /// What the naive reading knows of the catalogue: alias or odd spelling, spelling, area.
    const TYPES: [(&str, &str, &str); 3] = [
        ("warehouse DISABLED", "Warehouse Disabled", "Warehouses"),
        ("permission check", "Permission Check", "Users"),
        ("Door Opened", "Door Unlocked", "Doors"),
    ];

    fn catalogue() -> Catalogue {
        let own = json!({"eventTypes": [{"name": "Door Unlocked", "area": "Doors", "aliases": ["Door Opened"]}]});
        let document: document::Catalogue = serde_json::from_value(own).expect("a catalogue");
        Catalogue::of(&document).expect("valid")
    }

    fn parse(filter: serde_json::Value) -> EventFilter {
        serde_json::from_value(filter).expect("a filter")
    }

    fn selection(filter: serde_json::Value) -> Selection {
        Selection::of(&parse(filter), &catalogue()).expect("valid")
    }

    fn refusal(filter: serde_json::Value) -> String {
        Selection::of(&parse(filter), &catalogue()).expect_err("refused")
    }

    fn event() -> StoredEvent {
        let mut stored = stored(7);
        stored.event.resource = Some(Resource { r#type: "warehouse".to_owned(), id: "wh_1".to_owned(), name: None });
        stored.event.outcome = Some(Outcome::Success);
        stored
    }

    #[test]
    fn every_event_is_sent_when_nothing_is_said() {
        assert!(selection(json!({})).takes(&event()));
        assert!(selection(json!({"include": [], "exclude": []})).takes(&event()));
    }

    #[test]
    fn every_member_decides() {
        for (name, right, wrong) in [
            ("type", "warehouse DISABLED", "Warehouse Enabled"),
            ("area", "warehouses", "Sources"),
            ("actor", "usr_1", "usr_2"),
            ("actorType", "user", "system"),
            ("resource", "wh_1", "wh_2"),
            ("resourceType", "warehouse", "source"),
            ("outcome", "success", "denied"),
            ("submittedBy", "acme-write-key/writeKey", "other"),
        ] {
            let takes = |list: &str, values: &[&str]| selection(json!({list: [{name: values}]})).takes(&event());
            assert!(takes("include", &[right]), "{name}={right}");
            assert!(takes("include", &[wrong, right]), "{name}={wrong} or {right}");
            assert!(!takes("include", &[wrong]), "{name}={wrong}");
            assert!(!takes("exclude", &[right]), "not {name}={right}");
            assert!(takes("exclude", &[wrong]), "not {name}={wrong}");
        }
    }

    #[test]
    fn a_selector_wants_all_of_its_members_and_a_list_any_of_its_selectors() {
        let (right, wrong) = (json!({"actor": ["usr_1"]}), json!({"actor": ["usr_2"]}));
        let half = json!({"actor": ["usr_1"], "outcome": ["denied"]});
        let takes = |filter| selection(filter).takes(&event());
        assert!(takes(json!({"include": [wrong, right]})));
        assert!(!takes(json!({"include": [wrong, half]})));
        assert!(takes(json!({"exclude": [wrong, half]})));
        assert!(!takes(json!({"exclude": [wrong, right]})));
        assert!(!takes(json!({"include": [right], "exclude": [right]})));
        assert!(takes(json!({"include": [right], "exclude": [half]})));
    }

    #[test]
    fn a_type_is_meant_in_any_spelling_and_as_it_was_stored_before_the_catalogue_knew_it() {
        let takes = |of: &str, stored_as: &str| {
            let mut stored = event();
            stored.event.r#type = stored_as.to_owned();
            selection(json!({"include": [{"type": [of]}]})).takes(&stored)
        };
        assert!(takes("Door Opened", "Door Unlocked"));
        assert!(takes("Door Opened", "Door Opened"));
        assert!(!takes("Door Unlocked", "Door Opened"));
        assert!(takes("Unheard Of", "Unheard Of"));
    }

    #[test]
    fn an_unknown_area_names_its_member_and_the_known_areas() {
        let refused = refusal(json!({"include": [{"area": ["Nowhere"]}]}));
        assert!(refused.starts_with("filter.include[0].area must be one of Sources, Functions, "), "{refused}");
        assert!(refused.ends_with(", Doors"), "{refused}");
        let known = json!({"area": ["Users"]});
        let refused = refusal(json!({"include": [known], "exclude": [known, {"area": ["Users", "Doorz"]}]}));
        assert!(refused.starts_with("filter.exclude[1].area must be one of "), "{refused}");
    }

    #[test]
    fn a_selector_that_names_nothing_is_refused() {
        for list in ["include", "exclude"] {
            let refused = refusal(json!({list: [{"actor": ["usr_1"]}, {"actorName": ["of a newer version"]}]}));
            assert!(
                refused.starts_with(&format!("filter.{list}[1] must name at least one of type, area, ")),
                "{refused}"
            );
        }
    }

    /// The sentence of the documentation, word by word.
    fn naive(filter: &EventFilter, stored: &StoredEvent) -> bool {
        let event = &stored.event;
        let meets = |values: &[String], value: Option<&String>| {
            values.is_empty() || values.iter().any(|one| Some(one) == value)
        };
        let of_type = |selector: &Selector| {
            let is = |given: &String| {
                let spelling = TYPES.iter().find(|(odd, spelling, _)| given == odd || given == spelling);
                *given == event.r#type || spelling.is_some_and(|(_, spelling, _)| *spelling == event.r#type)
            };
            selector.r#type.is_empty() || selector.r#type.iter().any(is)
        };
        let of_area = |selector: &Selector| {
            let is = |given: &String| TYPES.iter().any(|(_, name, area)| *name == event.r#type && area == given);
            selector.area.is_empty() || selector.area.iter().any(is)
        };
        let name = |value: serde_json::Value| value.as_str().map(str::to_owned);
        let names = |values: serde_json::Value| serde_json::from_value::<Vec<String>>(values).expect("names");
        let selects = |selector: &Selector| {
            let actor_types = names(json!(selector.actor_type));
            let outcomes = names(json!(selector.outcome));
            of_type(selector)
                && of_area(selector)
                && meets(&selector.actor, event.actor.as_ref().map(|actor| &actor.id))
                && meets(&actor_types, event.actor.as_ref().and_then(|actor| name(json!(actor.r#type))).as_ref())
                && meets(&selector.resource, event.resource.as_ref().map(|resource| &resource.id))
                && meets(&selector.resource_type, event.resource.as_ref().map(|resource| &resource.r#type))
                && meets(&outcomes, event.outcome.and_then(|outcome| name(json!(outcome))).as_ref())
                && meets(&selector.submitted_by, Some(&stored.submitted_by.name))
        };
        (filter.include.is_empty() || filter.include.iter().any(selects)) && !filter.exclude.iter().any(selects)
    }

    /// Few values, so that selectors and events often meet.
    fn some(values: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
        prop_oneof![2 => Just(Vec::new()), 1 => subsequence(values, 1..=values.len())]
    }

    fn selectors() -> impl Strategy<Value = serde_json::Value> {
        let members = (
            some(&["warehouse DISABLED", "Permission Check", "Door Opened"]),
            some(&["Warehouses", "Doors"]),
            some(&["usr_1", "usr_2"]),
            some(&["user", "accessToken", "system"]),
            some(&["wh_1"]),
            some(&["warehouse", "door"]),
            some(&["success", "failure", "denied"]),
            some(&["acme-write-key/writeKey", "other"]),
        );
        let selector = members.prop_filter_map("names nothing", |(r#type, area, actor, kind, id, of, outcome, by)| {
            let selector = json!({"type": r#type, "area": area, "actor": actor, "actorType": kind, "resource": id,
                                  "resourceType": of, "outcome": outcome, "submittedBy": by});
            let named = selector.as_object().expect("an object").values().any(|values| values != &json!([]));
            named.then_some(selector)
        });
        proptest::collection::vec(selector, 0..3).prop_map(serde_json::Value::from)
    }

    fn events() -> impl Strategy<Value = StoredEvent> {
        let actors = proptest::option::of((select(&["usr_1", "usr_2"][..]), select(ActorType::NAMES)));
        let resources = proptest::option::of((select(&["wh_1", "wh_2"][..]), select(&["warehouse", "door"][..])));
        let outcomes = proptest::option::of(select(Outcome::NAMES));
        let types = select(&["Warehouse Disabled", "Permission Check", "Door Unlocked", "Door Opened"][..]);
        (types, actors, resources, outcomes).prop_map(|(r#type, actor, resource, outcome)| {
            let mut stored = stored(7);
            stored.event.r#type = r#type.to_owned();
            stored.event.actor = actor.map(|(id, r#type)| Actor {
                r#type: ActorType::parse(r#type).expect("a name"),
                id: id.to_owned(),
                name: None,
                email: None,
            });
            stored.event.resource =
                resource.map(|(id, r#type)| Resource { r#type: r#type.to_owned(), id: id.to_owned(), name: None });
            stored.event.outcome = outcome.and_then(Outcome::parse);
            stored
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn a_selection_decides_as_its_description_reads(
            include in selectors(),
            exclude in selectors(),
            stored in events(),
        ) {
            let filter = parse(json!({"include": include, "exclude": exclude}));
            let selection = Selection::of(&filter, &catalogue()).expect("valid");
            prop_assert_eq!(selection.takes(&stored), naive(&filter, &stored));
        }
    }
}
