//! What a query asks for. One type for list and CSV, and later for tail, counts and forwarding.

use super::parameters::Parameters;
use crate::catalogue::Catalogue;
use crate::event::{ActorType, Outcome};
use jiff::Timestamp;
use serde::Serialize;

/// OR within a field, AND across them; an empty field matches everything. Values are compared exactly.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Filter {
    /// `type`: names of events.
    pub types: Vec<String>,
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
    /// `from`: happened at this moment or later.
    pub from: Option<Timestamp>,
    /// `to`: happened before this moment.
    pub to: Option<Timestamp>,
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
    /// Takes what belongs to the filter out of the parameters.
    pub fn take(parameters: &mut Parameters) -> Self {
        let filter = Self {
            types: parameters.texts("type"),
            actors: parameters.texts("actor"),
            actor_types: parameters.named("actorType", ActorType::parse, ActorType::NAMES),
            resources: parameters.texts("resource"),
            resource_types: parameters.texts("resourceType"),
            outcomes: parameters.named("outcome", Outcome::parse, Outcome::NAMES),
            submitted_by: parameters.texts("submittedBy"),
            from: parameters.moment("from"),
            to: parameters.moment("to"),
        };
        if filter.from.zip(filter.to).is_some_and(|(from, to)| from >= to) {
            parameters.refuse("to", "must be later than from");
        }
        filter
    }

    /// Asks for types in the catalogue's spelling too. As given they stay: events may be older than the catalogue.
    pub fn spell(&mut self, catalogue: &Catalogue) {
        let spelt: Vec<String> = self.types.iter().filter_map(|given| catalogue.spelling(given).ok()).collect();
        self.types.extend(spelt);
        self.types.sort_unstable();
        self.types.dedup();
    }
}

impl Order {
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
    use crate::problem::Problem;

    fn parse(query: &[(&str, &str)]) -> Result<(Filter, Order), Problem> {
        let mut parameters =
            Parameters::new(query.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect());
        let filter = Filter::take(&mut parameters);
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
            ("actor", "usr_1"),
            ("actorType", "user"),
            ("resource", "wh_1"),
            ("resourceType", "warehouse"),
            ("outcome", "denied"),
            ("submittedBy", "team-a/app"),
            ("from", "2026-03-02T09:00:00+02:00"),
            ("to", "2026-03-03T00:00:00Z"),
            ("order", "asc"),
        ])
        .expect("valid");
        assert_eq!(
            filter,
            Filter {
                types: vec!["Warehouse Disabled".to_owned()],
                actors: vec!["usr_1".to_owned()],
                actor_types: vec![ActorType::User],
                resources: vec!["wh_1".to_owned()],
                resource_types: vec!["warehouse".to_owned()],
                outcomes: vec![Outcome::Denied],
                submitted_by: vec!["team-a/app".to_owned()],
                from: Some("2026-03-02T07:00:00Z".parse().expect("valid")),
                to: Some("2026-03-03T00:00:00Z".parse().expect("valid")),
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
        let (mut filter, _) = parse(&[("type", "space DELETED"), ("type", "Unheard Of")]).expect("valid");
        filter.spell(&Catalogue::default());
        assert_eq!(filter.types, ["Space Deleted", "Unheard Of", "space DELETED"]);
    }

    #[test]
    fn an_unknown_name_is_told_the_known_ones() {
        assert_eq!(refusal(&[("outcome", "ok")]), "outcome must be one of success, failure, denied");
        assert_eq!(refusal(&[("order", "newest")]), "order must be one of desc, asc");
    }

    #[test]
    fn a_time_range_that_holds_nothing_is_refused() {
        let moment = "2026-03-02T09:00:00Z";
        assert_eq!(refusal(&[("from", moment), ("to", moment)]), "to must be later than from");
    }
}
