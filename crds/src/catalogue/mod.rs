//! Which types of events there are: the built-in ones, and the workspace's own.
//!
//! | module | what |
//! |---|---|
//! | [`built_in`] | the table of the built-in types |
//! | [`schema`] | JSON Schemas of `details` |

pub mod built_in;
pub mod schema;

use crate::document::{self, CatalogueMode, EventType};
use schema::{Schema, SchemaError};
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::Arc;

/// Own types of a workspace. The document has room for about 900 bytes of each.
pub const OWN_TYPES_MAX: usize = 1_000;

/// Aliases of one own type: names of the past, of which nothing has many.
pub const ALIASES_MAX: usize = 20;

/// Name, alias or area, in characters; so many may the `type` of an event have.
pub const NAME_MAX_CHARS: usize = 128;

/// The types of events of a trail. Names are matched without regard to case.
#[derive(Clone, Debug)]
pub struct Catalogue {
    mode: CatalogueMode,
    types: Vec<Type>,
    /// Place in `types`, by name or alias in lower case.
    places: HashMap<String, usize>,
}

/// A type of events.
#[derive(Clone, Debug)]
struct Type {
    name: String,
    area: String,
    schema: Option<Arc<Schema>>,
    /// Whether the workspace said something about it.
    own: bool,
}

/// Why the document's catalogue cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CatalogueError {
    /// More than [`OWN_TYPES_MAX`].
    #[error("the catalogue has {0} types of its own, and may have {OWN_TYPES_MAX}")]
    TooManyTypes(usize),
    /// More than [`ALIASES_MAX`].
    #[error("the type {0:?} has {1} aliases, and may have {ALIASES_MAX}")]
    TooManyAliases(String, usize),
    /// A name, an alias or an area is empty, too long, or has control characters.
    #[error(
        "the type {name:?}: its {what} must have 1 to {NAME_MAX_CHARS} characters, none of them a control character"
    )]
    BadName {
        /// Name of the type, cut.
        name: String,
        /// Which of its texts.
        what: &'static str,
    },
    /// The name stands twice.
    #[error("the type {0:?} is there twice (upper and lower case make no difference)")]
    Twice(String),
    /// A built-in type with another area.
    #[error("the type {name:?} is built in and belongs to the area {area:?}: name that area, or choose another name")]
    OtherArea {
        /// Name of the type.
        name: String,
        /// Its area.
        area: String,
    },
    /// The name or an alias means another type already.
    #[error("the type {name:?}: {text:?} already stands for {other:?}")]
    Taken {
        /// Name of the type.
        name: String,
        /// Its name or alias.
        text: String,
        /// What it stands for.
        other: String,
    },
    /// The schema cannot be used.
    #[error("the type {name:?}: its schema {error}")]
    Schema {
        /// Name of the type.
        name: String,
        /// Why.
        error: SchemaError,
    },
}

impl Default for Catalogue {
    /// The built-in types, open.
    fn default() -> Self {
        let mut catalogue = Self { mode: CatalogueMode::Open, types: Vec::new(), places: HashMap::new() };
        for row in built_in::rows() {
            let place = catalogue.push(row.name, row.area);
            for name in std::iter::once(row.name).chain(row.aliases()) {
                catalogue.places.insert(name.to_lowercase(), place);
            }
        }
        catalogue
    }
}

impl Catalogue {
    /// The built-in catalogue with the workspace's own types. An own type may have the name and area of a built-in one, to
    /// add a schema and aliases.
    pub fn of(document: &document::Catalogue) -> Result<Self, CatalogueError> {
        if document.event_types.len() > OWN_TYPES_MAX {
            return Err(CatalogueError::TooManyTypes(document.event_types.len()));
        }
        let mut catalogue = Self { mode: document.mode, ..Self::default() };
        // All names first: an alias must not take one that comes later.
        let places: Vec<usize> =
            document.event_types.iter().map(|own| catalogue.add_name(own)).collect::<Result<_, _>>()?;
        for (own, place) in document.event_types.iter().zip(places) {
            catalogue.add_aliases(own, place)?;
            catalogue.types[place].schema = schema_of(own)?;
        }
        Ok(catalogue)
    }

    /// The catalogue's spelling of a type; in a strict catalogue, the rule that an unknown one breaks.
    pub fn spelling(&self, given: &str) -> Result<String, String> {
        match (self.find(given), self.mode) {
            (Some(found), _) => Ok(found.name.clone()),
            (None, CatalogueMode::Open) => Ok(given.to_owned()),
            (None, CatalogueMode::Strict) => {
                Err("must be a type of the trail's catalogue, which is Strict: add it to spec.catalogue".to_owned())
            }
        }
    }

    /// What is wrong with the `details` of an event of this type: path below the event, and rule. Absent details are
    /// an empty object.
    pub fn details_faults(&self, spelling: &str, details: Option<&Map<String, Value>>) -> Vec<(String, String)> {
        self.find(spelling)
            .and_then(|found| found.schema.as_ref())
            .map_or_else(Vec::new, |schema| schema.faults(details))
    }

    /// Names of the types of an area, whose case makes no difference. None: there is no such area.
    pub fn types_of(&self, area: &str) -> impl Iterator<Item = &str> {
        let area = area.to_lowercase();
        self.types.iter().filter(move |of| of.area.to_lowercase() == area).map(|of| of.name.as_str())
    }

    /// Every type with its area, those of an area together, areas in the order in which they first come.
    pub fn by_area(&self) -> Vec<(&str, Vec<&str>)> {
        let mut areas: Vec<(&str, Vec<&str>)> = Vec::new();
        for one in &self.types {
            match areas.iter_mut().find(|(area, _)| area.to_lowercase() == one.area.to_lowercase()) {
                Some((_, names)) => names.push(&one.name),
                None => areas.push((&one.area, vec![&one.name])),
            }
        }
        areas
    }

    /// The areas, in the order in which they first come.
    pub fn areas(&self) -> Vec<&str> {
        self.by_area().into_iter().map(|(area, _)| area).collect()
    }

    fn find(&self, name: &str) -> Option<&Type> {
        self.places.get(&name.to_lowercase()).map(|place| &self.types[*place])
    }

    fn push(&mut self, name: &str, area: &str) -> usize {
        self.types.push(Type { name: name.to_owned(), area: area.to_owned(), schema: None, own: false });
        self.types.len() - 1
    }

    /// Place of an own type: a new one, or that of the built-in type it adds to.
    fn add_name(&mut self, own: &EventType) -> Result<usize, CatalogueError> {
        check_text(own, "name", &own.name)?;
        check_text(own, "area", &own.area)?;
        let key = own.name.to_lowercase();
        let place = match self.places.get(&key) {
            None => {
                let place = self.push(&own.name, &own.area);
                self.places.insert(key, place);
                place
            }
            Some(place) => {
                may_add_to(&self.types[*place], own)?;
                *place
            }
        };
        self.types[place].own = true;
        Ok(place)
    }

    fn add_aliases(&mut self, own: &EventType, place: usize) -> Result<(), CatalogueError> {
        if own.aliases.len() > ALIASES_MAX {
            return Err(CatalogueError::TooManyAliases(own.name.clone(), own.aliases.len()));
        }
        for alias in &own.aliases {
            check_text(own, "alias", alias)?;
            let taken_by = *self.places.entry(alias.to_lowercase()).or_insert(place);
            if taken_by != place {
                return Err(taken(own, alias, &self.types[taken_by]));
            }
        }
        Ok(())
    }
}

/// Whether `own` may say more about `known`, which its name stands for.
fn may_add_to(known: &Type, own: &EventType) -> Result<(), CatalogueError> {
    if known.own {
        Err(CatalogueError::Twice(own.name.clone()))
    } else if known.name.to_lowercase() != own.name.to_lowercase() {
        Err(taken(own, &own.name, known))
    } else if known.area.to_lowercase() != own.area.to_lowercase() {
        Err(CatalogueError::OtherArea { name: known.name.clone(), area: known.area.clone() })
    } else {
        Ok(())
    }
}

fn taken(own: &EventType, text: &str, other: &Type) -> CatalogueError {
    CatalogueError::Taken { name: own.name.clone(), text: text.to_owned(), other: other.name.clone() }
}

fn schema_of(own: &EventType) -> Result<Option<Arc<Schema>>, CatalogueError> {
    let compiled = own.schema.as_ref().map(Schema::compile).transpose();
    compiled
        .map(|schema| schema.map(Arc::new))
        .map_err(|error| CatalogueError::Schema { name: own.name.clone(), error })
}

fn check_text(own: &EventType, what: &'static str, text: &str) -> Result<(), CatalogueError> {
    let chars = text.chars().count();
    if (1..=NAME_MAX_CHARS).contains(&chars) && !text.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(CatalogueError::BadName { name: own.name.chars().take(NAME_MAX_CHARS).collect(), what })
    }
}

#[cfg(test)]
mod tests;
