//! What a query asks for. One type for list, exports, tail, counts and forwarding.

use super::parameters::Parameters;
use super::words::Words;
use crate::event::{ActorType, Outcome, StoredEvent};
use audittrail_crds::catalogue::Catalogue;
use audittrail_crds::filter::{self, Selector};
use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use serde::Serialize;

/// OR within a field, AND across them; an empty field matches everything. Values are compared exactly.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Filter {
    /// `type`: names of events, as they were asked for.
    pub types: Vec<String>,
    /// The same, and how the catalogue spells them: events may be older than the catalogue. No part of what was asked.
    #[serde(skip)]
    pub spellings: Vec<String>,
    /// `area`: product areas of the catalogue.
    pub areas: Vec<String>,
    /// The catalogue's types of `areas`. No part of what was asked.
    #[serde(skip)]
    pub area_types: Vec<String>,
    /// `actor`: identities of actors.
    pub actors: Vec<String>,
    /// `actorType`: kinds of actors.
    pub actor_types: Vec<ActorType>,
    /// `resource`: identities of resources.
    pub resources: Vec<String>,
    /// `resourceType`: kinds of resources.
    pub resource_types: Vec<String>,
    /// `outcome`: how it ended.
    pub outcomes: Vec<Outcome>,
    /// `submittedBy`: names of write keys, service accounts and people who wrote the events.
    pub submitted_by: Vec<String>,
    /// `from`: happened at this moment or later, in whole microseconds.
    pub from: Option<Timestamp>,
    /// `to`: happened before this moment, in whole microseconds.
    pub to: Option<Timestamp>,
    /// `q`: words that all occur in the event.
    pub words: Words,
}

/// Which end of the log comes first.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub enum Order {
    /// Newest first.
    #[default]
    Desc,
    /// Oldest first.
    Asc,
}

impl Filter {
    /// Takes what belongs to the filter out of the parameters. An area must be one of the catalogue's.
    pub fn take(parameters: &mut Parameters, catalogue: &Catalogue) -> Self {
        let filter = Self {
            types: parameters.texts("type"),
            areas: areas(parameters, catalogue),
            actors: parameters.texts("actor"),
            actor_types: parameters.named("actorType", ActorType::parse, ActorType::NAMES),
            resources: parameters.texts("resource"),
            resource_types: parameters.texts("resourceType"),
            outcomes: parameters.named("outcome", Outcome::parse, Outcome::NAMES),
            submitted_by: parameters.texts("submittedBy"),
            from: parameters.moment("from"),
            to: parameters.moment("to"),
            words: Words::take(parameters),
            ..Self::default()
        }
        .spelt(catalogue);
        if filter.from.zip(filter.to).is_some_and(|(from, to)| from >= to) {
            parameters.refuse("to", "must be later than from");
        }
        filter.in_whole_microseconds()
    }

    /// Asks for the same with `from` and `to` in whole microseconds, as moments of events are: rounded up, both tell the same of
    /// them. So it makes no difference that Postgres keeps nothing finer of a moment, and this process does.
    #[must_use]
    pub fn in_whole_microseconds(self) -> Self {
        let up = TimestampRound::new().smallest(Unit::Microsecond).mode(RoundMode::Ceil);
        let whole = |moment: Timestamp| moment.round(up).expect("the latest of MOMENTS is whole");
        Self { from: self.from.map(whole), to: self.to.map(whole), ..self }
    }

    /// What a forwarding's selector asks for. Error: the rule that its `area` breaks, which must be one of the catalogue's.
    pub fn of_selector(selector: &Selector, catalogue: &Catalogue) -> Result<Self, String> {
        if selector.area.iter().any(|area| !is_area(area, catalogue)) {
            return Err(area_rule(catalogue));
        }
        let asked = Self {
            types: selector.r#type.clone(),
            areas: selector.area.clone(),
            actors: selector.actor.clone(),
            actor_types: selector.actor_type.iter().map(|of| actor_type(*of)).collect(),
            resources: selector.resource.clone(),
            resource_types: selector.resource_type.clone(),
            outcomes: selector.outcome.iter().map(|of| outcome(*of)).collect(),
            submitted_by: selector.submitted_by.clone(),
            ..Self::default()
        };
        Ok(asked.spelt(catalogue))
    }

    /// With the catalogue's spellings of its types, and the types of its areas.
    fn spelt(self, catalogue: &Catalogue) -> Self {
        Self {
            spellings: spellings(&self.types, catalogue),
            area_types: self.areas.iter().flat_map(|area| catalogue.types_of(area)).map(str::to_owned).collect(),
            ..self
        }
    }

    /// Whether it asks for this event. The database decides in the same way (`store/read.rs`).
    pub fn matches(&self, stored: &StoredEvent) -> bool {
        let event = &stored.event;
        let (actor, resource) = (event.actor.as_ref(), event.resource.as_ref());
        any(&self.spellings, Some(&event.r#type))
            && any(&self.area_types, Some(&event.r#type))
            && any(&self.actors, actor.map(|actor| &actor.id))
            && any(&self.actor_types, actor.map(|actor| &actor.r#type))
            && any(&self.resources, resource.map(|resource| &resource.id))
            && any(&self.resource_types, resource.map(|resource| &resource.r#type))
            && any(&self.outcomes, event.outcome.as_ref())
            && any(&self.submitted_by, Some(&stored.submitted_by.name))
            && self.from.is_none_or(|from| from <= stored.timestamp)
            && self.to.is_none_or(|to| stored.timestamp < to)
            && self.words.occur_in(stored)
    }
}

/// Whether a value is one of those asked for; nothing asked is everything.
fn any<T: PartialEq>(asked: &[T], value: Option<&T>) -> bool {
    asked.is_empty() || value.is_some_and(|value| asked.contains(value))
}

fn spellings(types: &[String], catalogue: &Catalogue) -> Vec<String> {
    let spelt = types.iter().filter_map(|given| catalogue.spelling(given).ok());
    let mut spellings: Vec<String> = types.iter().cloned().chain(spelt).collect();
    spellings.sort_unstable();
    spellings.dedup();
    spellings
}

fn areas(parameters: &mut Parameters, catalogue: &Catalogue) -> Vec<String> {
    let asked = parameters.texts("area");
    if asked.iter().any(|area| !is_area(area, catalogue)) {
        parameters.refuse("area", area_rule(catalogue));
    }
    asked
}

fn is_area(name: &str, catalogue: &Catalogue) -> bool {
    catalogue.types_of(name).next().is_some()
}

fn area_rule(catalogue: &Catalogue) -> String {
    format!("must be one of {}", catalogue.areas().join(", "))
}

fn actor_type(of: filter::ActorType) -> ActorType {
    match of {
        filter::ActorType::User => ActorType::User,
        filter::ActorType::AccessToken => ActorType::AccessToken,
        filter::ActorType::System => ActorType::System,
    }
}

fn outcome(of: filter::Outcome) -> Outcome {
    match of {
        filter::Outcome::Success => Outcome::Success,
        filter::Outcome::Failure => Outcome::Failure,
        filter::Outcome::Denied => Outcome::Denied,
    }
}

impl Order {
    /// Its name in `order`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Desc => "desc",
            Self::Asc => "asc",
        }
    }

    /// Takes `order` out of the parameters.
    pub fn take(parameters: &mut Parameters) -> Self {
        let parse = |name: &str| match name {
            "desc" => Some(Self::Desc),
            "asc" => Some(Self::Asc),
            _ => None,
        };
        parameters.named_once("order", parse, &["desc", "asc"]).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Resource;
    use crate::problem::Problem;
    use crate::query::tests::stored;

    fn parse(query: &[(&str, &str)]) -> Result<(Filter, Order), Problem> {
        let mut parameters =
            Parameters::new(query.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect());
        let filter = Filter::take(&mut parameters, &Catalogue::default());
        let order = Order::take(&mut parameters);
        parameters.finish().map(|()| (filter, order))
    }

    fn refusal(query: &[(&str, &str)]) -> String {
        parse(query).expect_err("refused").detail().to_owned()
    }

    #[test]
    fn nothing_asked_is_everything_newest_first() {
        assert_eq!(parse(&[]).expect("valid"), (Filter::default(), Order::Desc));
    }

    #[test]
    fn every_parameter_has_its_field() {
        let (filter, order) = parse(&[
            ("type", "Warehouse Disabled"),
            ("area", "warehouses"),
            ("actor", "usr_1"),
            ("actorType", "user"),
            ("resource", "wh_1"),
            ("resourceType", "warehouse"),
            ("outcome", "denied"),
            ("submittedBy", "team-a/app"),
            ("from", "2026-03-02T09:00:00+02:00"),
            ("to", "2026-03-03T00:00:00Z"),
            ("q", "jane  Main"),
            ("order", "asc"),
        ])
        .expect("valid");
        assert_eq!(
            filter,
            Filter {
                types: vec!["Warehouse Disabled".to_owned()],
                spellings: vec!["Warehouse Disabled".to_owned()],
                areas: vec!["warehouses".to_owned()],
                area_types: Catalogue::default().types_of("Warehouses").map(str::to_owned).collect(),
                actors: vec!["usr_1".to_owned()],
                actor_types: vec![ActorType::User],
                resources: vec!["wh_1".to_owned()],
                resource_types: vec!["warehouse".to_owned()],
                outcomes: vec![Outcome::Denied],
                submitted_by: vec!["team-a/app".to_owned()],
                from: Some("2026-03-02T07:00:00Z".parse().expect("valid")),
                to: Some("2026-03-03T00:00:00Z".parse().expect("valid")),
                words: Words::of("jane main"),
            }
        );
        assert_eq!(order, Order::Asc);
    }

    #[test]
    fn a_repeated_parameter_is_a_set() {
        let one = parse(&[("type", "b"), ("type", "a"), ("type", "b")]).expect("valid");
        let other = parse(&[("type", "a"), ("type", "b")]).expect("valid");
        assert_eq!(one, other);
        assert_eq!(one.0.types, ["a", "b"]);
    }

    #[test]
    fn a_type_is_asked_for_as_given_and_in_the_spelling_of_the_catalogue() {
        let (filter, _) = parse(&[("type", "space DELETED"), ("type", "Unheard Of")]).expect("valid");
        assert_eq!(filter.spellings, ["Space Deleted", "Unheard Of", "space DELETED"]);
        assert_eq!(filter.types, ["Unheard Of", "space DELETED"]);
    }

    #[test]
    fn an_area_asks_for_its_types_and_an_unknown_one_is_told_the_known_ones() {
        let (filter, _) = parse(&[("area", "computed TRAITS")]).expect("valid");
        assert_eq!(filter.area_types.len(), 6);
        assert!(filter.area_types.contains(&"Computed Trait Created".to_owned()));
        let refusal = refusal(&[("area", "Warehouses"), ("area", "Nowhere")]);
        assert!(refusal.starts_with("area must be one of Sources, Functions, Warehouses, "), "{refusal}");
    }

    #[test]
    fn every_field_decides_whether_an_event_matches() {
        let mut stored = stored(7);
        stored.event.resource = Some(Resource { r#type: "warehouse".to_owned(), id: "wh_1".to_owned(), name: None });
        stored.event.outcome = Some(Outcome::Success);
        let matches = |query: &[(&str, &str)]| {
            let (filter, _) = parse(query).expect("valid");
            filter.matches(&stored)
        };
        assert!(matches(&[]));
        for (name, right, wrong) in [
            ("type", "warehouse disabled", "Warehouse Enabled"),
            ("area", "Warehouses", "Sources"),
            ("actor", "usr_1", "usr_2"),
            ("actorType", "user", "system"),
            ("resource", "wh_1", "wh_2"),
            ("resourceType", "warehouse", "source"),
            ("outcome", "success", "denied"),
            ("submittedBy", "acme-write-key/writeKey", "other"),
            ("from", "2026-03-02T09:14:05Z", "2026-03-02T09:14:05.000001Z"),
            ("to", "2026-03-02T09:14:05.000001Z", "2026-03-02T09:14:05Z"),
            ("q", "EVT_7", "evt_8"),
        ] {
            assert!(matches(&[(name, right)]), "{name}={right}");
            assert!(!matches(&[(name, wrong)]), "{name}={wrong}");
        }
        assert!(matches(&[("actor", "usr_2"), ("actor", "usr_1")]));
        stored.event.actor = None;
        assert!(!{
            let (filter, _) = parse(&[("actor", "usr_1")]).expect("valid");
            filter.matches(&stored)
        });
    }

    #[test]
    fn an_unknown_name_is_told_the_known_ones() {
        assert_eq!(refusal(&[("outcome", "ok")]), "outcome must be one of success, failure, denied");
        assert_eq!(refusal(&[("order", "newest")]), "order must be one of desc, asc");
    }

    #[test]
    fn a_part_of_a_microsecond_is_rounded_up() {
        let whole = |moment: &str| {
            let (filter, _) = parse(&[("from", moment)]).expect("valid");
            let (to, _) = parse(&[("to", moment)]).expect("valid");
            assert_eq!(filter.from, to.to);
            filter.from.expect("given").to_string()
        };
        assert_eq!(whole("2026-03-02T09:14:05.000001Z"), "2026-03-02T09:14:05.000001Z");
        assert_eq!(whole("2026-03-02T09:14:05.000001001Z"), "2026-03-02T09:14:05.000002Z");
        assert_eq!(whole("1960-03-02T09:14:05.999999999Z"), "1960-03-02T09:14:06Z");
        let (within_one, _) =
            parse(&[("from", "2026-03-02T09:14:05.0000001Z"), ("to", "2026-03-02T09:14:05.0000002Z")])
                .expect("nothing can match, and nothing is wrong");
        assert_eq!(within_one.from, within_one.to);
    }

    #[test]
    fn a_time_range_that_holds_nothing_is_refused() {
        let moment = "2026-03-02T09:00:00Z";
        assert_eq!(refusal(&[("from", moment), ("to", moment)]), "to must be later than from");
    }
}
