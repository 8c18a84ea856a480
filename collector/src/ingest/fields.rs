//! Reads the members of a JSON object one by one, and notes what is wrong with each, so that a
//! client learns of all its mistakes at once.

use crate::event::json::Breach;
use crate::problem::{ERRORS_MAX, FieldError};
use serde_json::{Map, Value};

/// Characters of a field's path that are repeated, at most: names that clients make up may be long.
const FIELD_MAX_CHARS: usize = 256;

/// What is wrong with the events of a request, so far.
#[derive(Debug, Default)]
pub struct Faults {
    /// One for each thing that is wrong: at least one for each bad event, and at most [`ERRORS_MAX`] for a batch within
    /// its limit.
    pub errors: Vec<FieldError>,
    /// Index of the event being read; none where the request is not a batch.
    pub index: Option<usize>,
    /// Paths of this event at which nothing could be kept: what is missed there is no fault of its own.
    unreadable: Vec<String>,
}

impl Faults {
    /// Goes on to the next event.
    pub fn at(&mut self, index: Option<usize>) {
        self.index = index;
        self.unreadable.clear();
    }

    /// Notes that `field` breaks `rule`.
    pub fn note(&mut self, field: impl Into<String>, rule: impl Into<String>) {
        let mut field = field.into();
        if self.unreadable.contains(&field) {
            return;
        }
        let first_of_event = self.errors.last().is_none_or(|last| last.index != self.index);
        if first_of_event || self.errors.len() < ERRORS_MAX / 2 {
            if let Some((end, _)) = field.char_indices().nth(FIELD_MAX_CHARS) {
                field.truncate(end);
            }
            self.errors.push(FieldError { index: self.index, field, rule: rule.into() });
        }
    }

    /// Notes what could not be kept, and stays silent about what is therefore missing.
    pub fn unreadable(&mut self, breaches: Vec<Breach>) {
        for Breach { path, rule } in breaches {
            self.note(path.clone(), rule);
            self.unreadable.push(path);
        }
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
        self.text_by(name, |text| text_fault(text, max_chars))
    }

    /// An id: like [`Self::text`], and nothing in it is invisible or stands in white space at its ends, so that two ids
    /// which look the same are the same.
    pub fn id(&mut self, name: &str, max_chars: usize) -> Option<String> {
        self.text_by(name, |text| id_fault(text, max_chars))
    }

    /// Text for which `fault` finds no rule that it breaks.
    pub fn text_by(&mut self, name: &str, fault: impl Fn(&str) -> Option<String>) -> Option<String> {
        let value = self.any(name)?;
        let Value::String(text) = value else {
            self.fault(name, "must be a string");
            return None;
        };
        match fault(&text) {
            None => Some(text),
            Some(rule) => {
                self.fault(name, rule);
                None
            }
        }
    }

    /// Like [`Self::text`], and absence is a fault.
    pub fn required_text(&mut self, name: &str, max_chars: usize) -> Option<String> {
        self.require(name);
        self.text(name, max_chars)
    }

    /// Notes it when the member is absent.
    pub fn require(&mut self, name: &str) {
        if self.is_absent(name) {
            self.fault(name, "is required");
        }
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

    /// Whatever was not read, unchecked, and where its faults are noted.
    pub fn rest(self) -> (Map<String, Value>, &'a mut Faults) {
        (self.members, self.faults)
    }

    /// Whatever was not read is a fault: a misspelt field must not vanish.
    pub fn end(self, known: &str) {
        for name in self.members.keys() {
            let path = if self.path.is_empty() { name.clone() } else { format!("{}.{name}", self.path) };
            self.faults.note(path, format!("is not a field here; known are {known}"));
        }
    }
}

/// The rule that text breaks which must have 1 to `max_chars` characters, none of them a control character.
pub fn text_fault(text: &str, max_chars: usize) -> Option<String> {
    if text.is_empty() {
        Some("must not be empty".to_owned())
    } else if text.len() > max_chars && text.chars().count() > max_chars {
        Some(format!("must be at most {max_chars} characters"))
    } else if text.chars().any(char::is_control) {
        Some("must not contain control characters".to_owned())
    } else {
        None
    }
}

/// The rule that an id breaks.
pub fn id_fault(text: &str, max_chars: usize) -> Option<String> {
    text_fault(text, max_chars).or_else(|| {
        if text.trim() != text {
            Some("must not begin or end with white space".to_owned())
        } else if text.chars().any(is_invisible) {
            Some("must not contain invisible characters".to_owned())
        } else {
            None
        }
    })
}

/// Characters that show nothing, or turn the direction of others (Unicode's default ignorable format characters, and
/// its line and paragraph separators). Joiners stay: some scripts need them.
pub(super) fn is_invisible(char: char) -> bool {
    matches!(char,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_visible_from_end_to_end() {
        for good in ["a", "a b", "é/ä", "نام‌ه", "7d3c/ResponseComplete"] {
            assert_eq!(id_fault(good, 256), None, "{good:?}");
        }
        for bad in ["", " a", "a ", "a\u{a0}", "a\u{200b}", "a\nb", "\u{feff}a", "a\u{202e}b", "a\u{2028}b"] {
            assert!(id_fault(bad, 256).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn every_bad_event_has_a_fault_however_many_there_are() {
        let mut faults = Faults::default();
        for index in 0..5_000 {
            faults.at(Some(index));
            for _ in 0..100 {
                faults.note("field", "rule");
            }
        }
        assert!(faults.errors.len() <= ERRORS_MAX);
        let indices: std::collections::BTreeSet<_> = faults.errors.iter().map(|error| error.index).collect();
        assert_eq!(indices.len(), 5_000);
    }

    #[test]
    fn long_names_of_fields_are_cut() {
        let mut faults = Faults::default();
        faults.note("ä".repeat(FIELD_MAX_CHARS + 1), "rule");
        assert_eq!(faults.errors[0].field.chars().count(), FIELD_MAX_CHARS);
    }
}
