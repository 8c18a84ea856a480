//! What can be asked for by its value: the fields that postings are kept of.

use crate::event::{ActorType, Outcome};
use crate::query::filter::Filter;

/// A field of an event whose values are looked up.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Field {
    Type,
    ActorType,
    Actor,
    ResourceType,
    Resource,
    Outcome,
    SubmittedBy,
}

impl Field {
    /// What stands for it in the table `posting`. Never given to another field.
    pub fn number(self) -> i16 {
        match self {
            Self::Type => 1,
            Self::ActorType => 2,
            Self::Actor => 3,
            Self::ResourceType => 4,
            Self::Resource => 5,
            Self::Outcome => 6,
            Self::SubmittedBy => 7,
        }
    }

    /// Its column in the table `event`.
    pub fn column(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::ActorType => "actor_type",
            Self::Actor => "actor_id",
            Self::ResourceType => "resource_type",
            Self::Resource => "resource_id",
            Self::Outcome => "outcome",
            Self::SubmittedBy => "submitted_by_name",
        }
    }
}

/// Values of one field, any of which an event must have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Group {
    pub field: Field,
    pub values: Vec<String>,
}

/// What `filter` asks for by value. An event must meet every group.
pub(super) fn groups(filter: &Filter) -> Vec<Group> {
    let of = |field, values: &[String]| Group { field, values: values.to_vec() };
    let all = [
        of(Field::Type, &filter.spellings),
        of(Field::Type, &filter.area_types),
        of(Field::Actor, &filter.actors),
        Group { field: Field::ActorType, values: names(&filter.actor_types, ActorType::as_str) },
        of(Field::Resource, &filter.resources),
        of(Field::ResourceType, &filter.resource_types),
        Group { field: Field::Outcome, values: names(&filter.outcomes, Outcome::as_str) },
        of(Field::SubmittedBy, &filter.submitted_by),
    ];
    all.into_iter().filter(|group| !group.values.is_empty()).collect()
}

fn names<T: Copy>(values: &[T], name: fn(T) -> &'static str) -> Vec<String> {
    values.iter().map(|value| name(*value).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_asked_for_is_a_group() {
        assert_eq!(groups(&Filter::default()), []);
        let filter = Filter {
            spellings: vec!["a".to_owned()],
            area_types: vec!["b".to_owned(), "c".to_owned()],
            outcomes: vec![Outcome::Denied],
            ..Filter::default()
        };
        let found: Vec<(&str, usize)> =
            groups(&filter).iter().map(|group| (group.field.column(), group.values.len())).collect();
        assert_eq!(found, [("type", 1), ("type", 2), ("outcome", 1)]);
    }
}
