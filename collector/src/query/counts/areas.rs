//! Types of events by product area, those that never happened too.

use super::prefix::Prefix;
use crate::store::counts::Tally;
use audittrail_crds::catalogue::Catalogue;
use serde::Serialize;
use utoipa::ToSchema;

/// Types by area.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub struct EventTypes {
    /// The areas of the catalogue in its order, and last what the catalogue does not have.
    pub areas: Vec<AreaCounts>,
    /// Whether there are more types which the catalogue does not have.
    pub more: bool,
}

/// An area with its types.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AreaCounts {
    /// Its name; null for types that the catalogue does not have.
    #[schema(required)]
    pub area: Option<String>,
    /// Its types in the order of the catalogue; of those that it does not have, the most frequent first.
    pub event_types: Vec<TypeCount>,
}

/// A type, and how many events it has.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
pub struct TypeCount {
    /// Its name.
    pub r#type: String,
    /// Its events.
    pub count: i64,
}

impl EventTypes {
    /// What the tally says of the types that begin with the prefix. At most `limit` types are told which the catalogue does
    /// not have.
    pub fn of(catalogue: &Catalogue, prefix: Option<&Prefix>, mut tally: Tally, limit: usize) -> Self {
        let mut areas: Vec<AreaCounts> = Vec::new();
        for (area, names) in catalogue.by_area() {
            let asked = names.into_iter().filter(|name| prefix.is_none_or(|prefix| prefix.begins(name)));
            let count = |name: &str| TypeCount { r#type: name.to_owned(), count: tally.take(name) };
            push(&mut areas, Some(area.to_owned()), asked.map(count).collect());
        }
        let (others, more) = tally.into_top(limit);
        push(&mut areas, None, others.into_iter().map(|(r#type, count)| TypeCount { r#type, count }).collect());
        Self { areas, more }
    }
}

/// An area without types is left out.
fn push(areas: &mut Vec<AreaCounts>, area: Option<String>, event_types: Vec<TypeCount>) {
    if !event_types.is_empty() {
        areas.push(AreaCounts { area, event_types });
    }
}
