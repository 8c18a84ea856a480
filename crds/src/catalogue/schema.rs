//! JSON Schemas (draft 2020-12) of `details`. `format` is an annotation, as that draft has it.

use jsonschema::paths::LocationSegment;
use jsonschema::{Draft, PatternOptions, ValidationError, Validator};
use serde_json::{Map, Value};

/// JSON text of one schema, in bytes: larger ones describe more than an audit event.
pub const SCHEMA_MAX_BYTES: usize = 32 * 1024;

/// Faults listed for one event.
pub const FAULTS_MAX: usize = 10;

/// Path or rule in an answer, in characters: both may repeat what the client sent.
const TEXT_MAX_CHARS: usize = 256;

const DRAFT_2020_12: &str = "https://json-schema.org/draft/2020-12/schema";

/// A schema that `details` must meet.
#[derive(Debug)]
pub struct Schema(Validator);

/// Why a schema cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SchemaError {
    /// More than [`SCHEMA_MAX_BYTES`].
    #[error("has {0} bytes, and may have {SCHEMA_MAX_BYTES}")]
    TooLarge(usize),
    /// Another dialect.
    #[error("names another dialect in $schema: only {DRAFT_2020_12} is known")]
    Dialect,
    /// Not a valid schema, or one that refers to what is not in it.
    #[error("cannot be compiled: {0}")]
    Invalid(String),
}

impl Schema {
    /// Compiles a schema. Nothing is fetched: a reference out of the schema is an error. Patterns are those of the
    /// `regex` crate, which cannot be made slow.
    pub fn compile(schema: &Value) -> Result<Self, SchemaError> {
        let size = schema.to_string().len();
        if size > SCHEMA_MAX_BYTES {
            return Err(SchemaError::TooLarge(size));
        }
        let dialect = schema.get("$schema").map(|dialect| dialect.as_str().unwrap_or_default());
        if dialect.is_some_and(|dialect| dialect.trim_end_matches('#') != DRAFT_2020_12) {
            return Err(SchemaError::Dialect);
        }
        let options = jsonschema::options()
            .with_draft(Draft::Draft202012)
            .offline()
            .with_pattern_options(PatternOptions::regex());
        options.build(schema).map(Self).map_err(|error| SchemaError::Invalid(cut(&error.to_string())))
    }

    /// What is wrong: paths below the event, and rules. At most [`FAULTS_MAX`].
    pub fn faults(&self, details: Option<&Map<String, Value>>) -> Vec<(String, String)> {
        let details = Value::Object(details.cloned().unwrap_or_default());
        let faults = self.0.iter_errors(&details).take(FAULTS_MAX);
        faults.map(|error| (path(&error), cut(&format!("must meet the type's schema: {}", error.masked())))).collect()
    }
}

/// `details.lines[0].sum`.
fn path(error: &ValidationError<'_>) -> String {
    let steps = error.instance_path().into_iter().map(|segment| match segment {
        LocationSegment::Property(name) => format!(".{name}"),
        LocationSegment::Index(index) => format!("[{index}]"),
    });
    cut(&steps.fold("details".to_owned(), |path, step| path + &step))
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_MAX_CHARS).collect()
}
