//! Reads the members of a JSON object one by one, and notes what is wrong with each, so that a
//! client learns of all its mistakes at once.

use crate::problem::FieldError;
use serde_json::{Map, Value};

/// What is wrong with the events of a request, so far.
#[derive(Debug, Default)]
pub struct Faults {
    /// One for each thing that is wrong.
    pub errors: Vec<FieldError>,
    /// Index of the event being read; none where the request is not a batch.
    pub index: Option<usize>,
}

impl Faults {
    /// Notes that `field` breaks `rule`.
    pub fn note(&mut self, field: impl Into<String>, rule: impl Into<String>) {
        self.errors.push(FieldError { index: self.index, field: field.into(), rule: rule.into() });
    }
}

/// The members of an object that have not been read yet.
pub struct Fields<'a> {
    members: Map<String, Value>,
    path: String,
    faults: &'a mut Faults,
}

impl<'a> Fields<'a> {
    /// Reads `value`, which stands at `path` (empty for the event itself). Not an object is a fault.
    pub fn of(value: Value, path: &str, faults: &'a mut Faults) -> Option<Self> {
        let path = path.to_owned();
        let Value::Object(members) = value else {
            faults.note(path, "must be an object");
            return None;
        };
        Some(Self { members, path, faults })
    }

    /// Path of a member, as errors name it.
    pub fn path(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Notes that the member `name` breaks `rule`.
    pub fn fault(&mut self, name: &str, rule: impl Into<String>) {
        self.faults.note(self.path(name), rule);
    }

    /// Where faults are noted, for objects inside this one.
    pub fn faults(&mut self) -> &mut Faults {
        self.faults
    }

    /// Any value; `null` counts as absent.
    pub fn any(&mut self, name: &str) -> Option<Value> {
        self.members.remove(name).filter(|value| !value.is_null())
    }

    /// Text of 1 to `max_chars` characters, none of them a control character.
    pub fn text(&mut self, name: &str, max_chars: usize) -> Option<String> {
        let value = self.any(name)?;
        let Value::String(text) = value else {
            self.fault(name, "must be a string");
            return None;
        };
        match text_fault(&text, max_chars) {
            None => Some(text),
            Some(rule) => {
                self.fault(name, rule);
                None
            }
        }
    }

    /// Like [`Self::text`], and absence is a fault.
    pub fn required_text(&mut self, name: &str, max_chars: usize) -> Option<String> {
        if self.is_absent(name) {
            self.fault(name, "is required");
        }
        self.text(name, max_chars)
    }

    /// One of the names of an enum.
    pub fn name<T>(&mut self, name: &str, names: &[&str], parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let value = self.any(name)?;
        let parsed = value.as_str().and_then(parse);
        if parsed.is_none() {
            self.fault(name, format!("must be one of {}", names.join(", ")));
        }
        parsed
    }

    /// Whether the member is absent or `null`.
    pub fn is_absent(&self, name: &str) -> bool {
        self.members.get(name).is_none_or(Value::is_null)
    }

    /// Whatever was not read is a fault: a misspelt field must not vanish.
    pub fn end(self, known: &str) {
        for name in self.members.keys() {
            let path = if self.path.is_empty() { name.clone() } else { format!("{}.{name}", self.path) };
            self.faults.note(path, format!("is not a field here; known are {known}"));
        }
    }
}

fn text_fault(text: &str, max_chars: usize) -> Option<String> {
    if text.is_empty() {
        Some("must not be empty".to_owned())
    } else if text.chars().count() > max_chars {
        Some(format!("must be at most {max_chars} characters"))
    } else if text.chars().any(char::is_control) {
        Some("must not contain control characters".to_owned())
    } else {
        None
    }
}
