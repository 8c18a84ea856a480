//! Cuts what an event cannot hold, and remembers where, for inputs that are never refused for their content.

use super::fields::is_invisible;
use super::limits::{ID_MAX_CHARS, JSON_MAX_BYTES, JSON_MAX_LEVELS, JSON_MAX_MEMBERS};
use crate::event::Event;
use crate::event::json::Extent;
use serde_json::{Map, Value, json};

/// Member of `details` that lists what was cut.
pub const MARK: &str = "cut";

/// The same beside an event's own member of that name.
pub const MARK_BESIDE: &str = "audittrail.cut";

/// Places listed; more are not told one by one.
pub const PLACES_MAX: usize = 20;

/// Length of a place, in bytes. Quoted in JSON it may double.
const PLACE_MAX_BYTES: usize = 128;

/// Room for the mark in `details`, in bytes: every place doubled by escapes, its quotes and comma, and the names.
const MARK_MAX_BYTES: usize = (PLACES_MAX + 1) * (2 * PLACE_MAX_BYTES + 3) + 32;

/// Members that the mark adds.
const MARK_MEMBERS: usize = 1;

/// What was cut of one event.
#[derive(Debug, Default)]
pub struct Cut {
    places: Vec<String>,
    more: bool,
}

impl Cut {
    /// Notes that something is missing at `place`, a path below the event.
    pub fn note(&mut self, place: &str) {
        let mut end = place.len().min(PLACE_MAX_BYTES);
        while !place.is_char_boundary(end) {
            end -= 1;
        }
        let place: String = place[..end].chars().map(printable).collect();
        if self.places.contains(&place) {
            return;
        }
        if self.places.len() < PLACES_MAX {
            self.places.push(place);
        } else {
            self.more = true;
        }
    }

    /// At most `max_chars` characters, control characters shown as U+FFFD.
    pub fn text(&mut self, place: &str, text: &str, max_chars: usize) -> String {
        let kept: String = text.chars().take(max_chars).map(printable).collect();
        if kept != text {
            self.note(place);
        }
        kept
    }

    /// An id: what cannot be seen in it is shown as U+FFFD, and white space at its ends is gone. None when nothing is left.
    pub fn id(&mut self, text: &str) -> Option<String> {
        let visible = |char| if is_invisible(char) { char::REPLACEMENT_CHARACTER } else { printable(char) };
        let cut: String = text.trim().chars().take(ID_MAX_CHARS).map(visible).collect();
        // Where it was cut, white space may now be at the end.
        let kept = cut.trim_end();
        if kept != text {
            self.note("id");
        }
        Some(kept.to_owned()).filter(|kept| !kept.is_empty())
    }

    /// [`Self::text`] of a text that may be absent.
    pub fn optional(&mut self, place: &str, text: Option<&str>, max_chars: usize) -> Option<String> {
        text.map(|text| self.text(place, text, max_chars))
    }

    /// Takes out of `details` what is nested too deeply, and then the largest members until the rest, and the mark, have
    /// room.
    pub fn fit(&mut self, details: &mut Map<String, Value>) {
        self.flatten(details, "details", JSON_MAX_LEVELS - 1);
        if Extent::of_object(details).members + MARK_MEMBERS > JSON_MAX_MEMBERS {
            self.shrink(details, "details", JSON_MAX_MEMBERS - MARK_MEMBERS, &MEMBERS);
        }
        if Extent::of_object(details).bytes + self.mark_bytes() > JSON_MAX_BYTES {
            self.shrink(details, "details", JSON_MAX_BYTES - MARK_MAX_BYTES, &BYTES);
        }
    }

    /// Writes what was cut into `details`, under [`MARK`].
    pub fn mark(self, details: &mut Map<String, Value>) {
        if self.places.is_empty() {
            return;
        }
        let name = if details.contains_key(MARK) { MARK_BESIDE } else { MARK };
        details.insert(name.to_owned(), self.listed());
    }

    /// Writes what was cut into the details of `event`, which get there when there are none.
    pub fn mark_event(self, event: &mut Event) {
        if !self.places.is_empty() {
            self.mark(event.details.get_or_insert_default());
        }
    }

    fn listed(&self) -> Value {
        let more = self.more.then_some("…");
        json!(self.places.iter().map(String::as_str).chain(more).collect::<Vec<_>>())
    }

    fn mark_bytes(&self) -> usize {
        if self.places.is_empty() { 0 } else { Extent::of(&self.listed()).bytes + MARK_BESIDE.len() + "\"\":,".len() }
    }

    /// Keeps `levels` more of objects and arrays.
    fn flatten(&mut self, object: &mut Map<String, Value>, path: &str, levels: usize) {
        let deep: Vec<String> = object
            .iter_mut()
            .filter(|(_, value)| Extent::of(value).levels > levels)
            .filter_map(|(name, value)| match value {
                Value::Object(inner) if levels > 0 => {
                    self.flatten(inner, &format!("{path}.{name}"), levels - 1);
                    None
                }
                _ => Some(name.clone()),
            })
            .collect();
        self.remove(object, path, deep);
    }

    fn remove(&mut self, object: &mut Map<String, Value>, path: &str, names: Vec<String>) {
        for name in names {
            object.remove(&name);
            self.note(&format!("{path}.{name}"));
        }
    }

    /// Keeps the smallest members whole; of the first that is too large for what is left, what has room.
    fn shrink(&mut self, object: &mut Map<String, Value>, path: &str, max: usize, measure: &Measure) {
        let mut sizes: Vec<(usize, String)> =
            object.iter().map(|(name, value)| ((measure.name)(name) + (measure.value)(value), name.clone())).collect();
        sizes.sort_unstable();
        let mut left = max.saturating_sub(measure.frame);
        let mut gone = Vec::new();
        for (size, name) in sizes {
            if size <= left {
                left -= size;
                continue;
            }
            let of_name = (measure.name)(&name);
            match object.get_mut(&name) {
                Some(Value::Object(inner)) if left >= of_name + measure.worth => {
                    self.shrink(inner, &format!("{path}.{name}"), left - of_name, measure);
                    left = 0;
                }
                _ => gone.push(name),
            }
        }
        self.remove(object, path, gone);
    }
}

/// How large something is.
struct Measure {
    /// An empty object.
    frame: usize,
    /// What a member takes beside its value.
    name: fn(&str) -> usize,
    value: fn(&Value) -> usize,
    /// Room in which it is worth to keep a part of an object.
    worth: usize,
}

/// Length of the canonical JSON: quotes, colon and comma are with the name.
const BYTES: Measure = Measure {
    frame: "{}".len(),
    name: |name| Extent::of(&json!(name)).bytes + ":,".len(),
    value: |value| Extent::of(value).bytes,
    worth: 1_024,
};

/// Members of all objects.
const MEMBERS: Measure = Measure { frame: 0, name: |_| 1, value: |value| Extent::of(value).members, worth: 32 };

fn printable(char: char) -> char {
    if char.is_control() { char::REPLACEMENT_CHARACTER } else { char }
}

#[cfg(test)]
mod tests {
    use super::super::fields::id_fault;
    use super::*;
    use proptest::prelude::*;

    fn object(value: Value) -> Map<String, Value> {
        let Value::Object(object) = value else { panic!("an object") };
        object
    }

    fn cut(mut details: Map<String, Value>) -> Map<String, Value> {
        let mut cut = Cut::default();
        cut.fit(&mut details);
        cut.mark(&mut details);
        details
    }

    fn of_size(bytes: usize) -> Map<String, Value> {
        let frame = json!({"small": 1, "large": ""}).to_string().len();
        object(json!({"small": 1, "large": "x".repeat(bytes - frame)}))
    }

    #[test]
    fn details_are_kept_up_to_their_size() {
        assert_eq!(cut(of_size(JSON_MAX_BYTES)), of_size(JSON_MAX_BYTES));
        assert_eq!(cut(of_size(JSON_MAX_BYTES + 1)), object(json!({"small": 1, "cut": ["details.large"]})));
    }

    #[test]
    fn details_are_kept_up_to_their_nesting() {
        let nested = |levels: usize| (1..levels).fold(json!({}), |inner, _| json!({ "a": inner, "b": 1 }));
        assert_eq!(cut(object(nested(JSON_MAX_LEVELS))), object(nested(JSON_MAX_LEVELS)));
        let kept = cut(object(nested(JSON_MAX_LEVELS + 1)));
        assert_eq!(kept["cut"], json!([format!("details{}", ".a".repeat(JSON_MAX_LEVELS))]));
        assert_eq!(Extent::of_object(&kept).levels, JSON_MAX_LEVELS);
        let in_array = (1..JSON_MAX_LEVELS).fold(json!([]), |inner, _| json!([inner]));
        assert_eq!(cut(object(json!({"a": in_array, "b": 1}))), object(json!({"b": 1, "cut": ["details.a"]})));
    }

    #[test]
    fn details_are_kept_up_to_their_members() {
        let flat = |count: usize| -> Map<String, Value> { (0..count).map(|n| (n.to_string(), json!(n))).collect() };
        let most = JSON_MAX_MEMBERS - MARK_MEMBERS;
        assert_eq!(cut(flat(most)), flat(most));
        let kept = cut(flat(most + 100));
        assert_eq!((kept.len(), kept["cut"].as_array().map(Vec::len)), (JSON_MAX_MEMBERS, Some(PLACES_MAX + 1)));
        let nested = cut(object(json!({"small": 1, "large": flat(JSON_MAX_MEMBERS)})));
        assert_eq!((&nested["small"], Extent::of_object(&nested).members), (&json!(1), JSON_MAX_MEMBERS));
    }

    #[test]
    fn only_what_is_large_is_cut_however_deep_it_is() {
        let large = "x".repeat(JSON_MAX_BYTES);
        let details = json!({"verb": "create", "object": {"metadata": {"name": "a"}, "data": {"b": "c", "d": large}}});
        assert_eq!(
            Value::Object(cut(object(details))),
            json!({"verb": "create", "object": {"metadata": {"name": "a"}, "data": {"b": "c"}},
                "cut": ["details.object.data.d"]})
        );
    }

    #[test]
    fn whatever_is_cut_has_room_with_its_mark() {
        let name = |number: usize| format!("{number:03}{}", "\"".repeat(300));
        let members = |bytes: usize| -> Map<String, Value> {
            (0..200).map(|number| (name(number), json!("x".repeat(bytes)))).collect()
        };
        for details in [members(300), members(3_000), object(json!({"a": members(500), "b": {"c": members(700)}}))] {
            let kept = cut(details);
            let bytes = Extent::of_object(&kept).bytes;
            assert!(bytes <= JSON_MAX_BYTES && bytes > JSON_MAX_BYTES / 2, "{bytes}");
            assert_eq!(kept["cut"].as_array().map(Vec::len), Some(PLACES_MAX + 1));
        }
    }

    #[test]
    fn text_is_kept_up_to_its_length_and_without_control_characters() {
        let mut cut = Cut::default();
        assert_eq!(cut.text("actor.id", "ééé", 3), "ééé");
        assert!(cut.places.is_empty());
        assert_eq!(cut.text("actor.id", "éééé", 3), "ééé");
        assert_eq!(cut.text("actor.name", "a\nb", 3), "a\u{fffd}b");
        assert_eq!(cut.places, ["actor.id", "actor.name"]);
    }

    #[test]
    fn an_id_is_visible_from_end_to_end() {
        let id = |text: &str| Cut::default().id(text);
        assert_eq!(id("a b/é").as_deref(), Some("a b/é"));
        assert_eq!(id(" a\u{200b}\nb\u{a0}").as_deref(), Some("a\u{fffd}\u{fffd}b"));
        assert_eq!(id(&"a".repeat(ID_MAX_CHARS)), Some("a".repeat(ID_MAX_CHARS)));
        assert_eq!(id(&("a".repeat(ID_MAX_CHARS - 1) + " b")), Some("a".repeat(ID_MAX_CHARS - 1)));
        assert_eq!((id(" "), id("")), (None, None));
        let mut cut = Cut::default();
        cut.id(" a");
        assert_eq!(cut.places, ["id"]);
    }

    proptest! {
        #[test]
        fn whatever_is_kept_of_an_id_is_a_valid_one(text in any::<String>()) {
            prop_assert!(Cut::default().id(&text).is_none_or(|id| id_fault(&id, ID_MAX_CHARS).is_none()));
        }
    }

    #[test]
    fn the_mark_stands_beside_a_member_of_its_name() {
        let mut cut = Cut::default();
        cut.note("changes");
        let mut details = object(json!({"cut": "of diamond"}));
        cut.mark(&mut details);
        assert_eq!(Value::Object(details), json!({"cut": "of diamond", "audittrail.cut": ["changes"]}));
    }

    #[test]
    fn places_are_listed_up_to_their_number() {
        let listed = |count: usize| {
            let mut cut = Cut::default();
            (0..count).for_each(|number| cut.note(&number.to_string()));
            cut.listed().as_array().map(Vec::len)
        };
        assert_eq!((listed(PLACES_MAX), listed(PLACES_MAX + 1), listed(100)), (Some(20), Some(21), Some(21)));
    }
}
