//! Reads a list item by item, so that no more than one is in memory as JSON, and keeps what can be kept of each.

use super::cut::PLACES_MAX;
use super::limits::EVENT_MAX_WEIGHT_BYTES;
use super::room::NoRoom;
use crate::event::json::{Breach, Reading, Strict, object_bytes};
use crate::event::{Change, Event};
use crate::problem::Problem;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// What a member takes beside its name and value, in bytes: a node of the map is half full at worst.
const MEMBER_BYTES: usize = 128;

/// An item as far as it can be kept.
#[derive(Debug, Default)]
pub struct Item {
    /// Its members.
    pub members: Map<String, Value>,
    /// Paths of what was taken out of them.
    pub taken_out: Vec<String>,
    /// Whether it was an object at all.
    pub is_object: bool,
}

impl Item {
    /// Notes what was taken out, as far as anybody is told.
    fn take_out(&mut self, path: String) {
        if self.taken_out.len() <= PLACES_MAX {
            self.taken_out.push(path);
        }
    }
}

/// Why a body could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ItemsError {
    /// It is not JSON, or not of this shape.
    #[error("{0}")]
    Unreadable(#[from] serde_json::Error),
    /// There is no room for what was made of the items.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
}

impl ItemsError {
    /// What the client is told, who was to send `what`.
    pub fn problem(self, what: &str) -> Problem {
        match self {
            Self::Unreadable(error) => Problem::unreadable(format!("the body is not {what}: {error}")),
            Self::NoRoom(no_room) => no_room.into(),
        }
    }
}

/// Calls `take` with each item of the list that is the member `list` of the body. Members of items named in `skip` are not
/// read. Tells whether there was such a list; a body that is no object, or a list that is none, is an error.
pub fn each(
    body: &str,
    list: &str,
    skip: &[&str],
    take: impl FnMut(Item) -> Result<(), NoRoom>,
) -> Result<bool, ItemsError> {
    let mut deserializer = serde_json::Deserializer::from_str(body);
    let mut envelope = Envelope { list, items: Items { skip, take, no_room: None }, found: false };
    let read = (&mut envelope).deserialize(&mut deserializer);
    match envelope.items.no_room {
        Some(no_room) => Err(no_room.into()),
        None => Ok(read.and_then(|()| deserializer.end()).map(|()| envelope.found)?),
    }
}

/// The body itself as an item, without the members named in `skip`.
pub fn whole(body: &str, skip: &[&str]) -> serde_json::Result<Item> {
    let mut deserializer = serde_json::Deserializer::from_str(body);
    let item = ItemSeed { skip }.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(item)
}

struct Envelope<'a, F> {
    list: &'a str,
    items: Items<'a, F>,
    found: bool,
}

impl<'de, F: FnMut(Item) -> Result<(), NoRoom>> DeserializeSeed<'de> for &mut Envelope<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, F: FnMut(Item) -> Result<(), NoRoom>> Visitor<'de> for &mut Envelope<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key::<String>()? {
            if name == self.list {
                self.found = true;
                members.next_value_seed(&mut self.items)?;
            } else {
                members.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

struct Items<'a, F> {
    skip: &'a [&'a str],
    take: F,
    /// Why the reading ended, if it was us who ended it.
    no_room: Option<NoRoom>,
}

impl<'de, F: FnMut(Item) -> Result<(), NoRoom>> DeserializeSeed<'de> for &mut Items<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, F: FnMut(Item) -> Result<(), NoRoom>> Visitor<'de> for &mut Items<'_, F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    /// An empty list of Go.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while let Some(item) = items.next_element_seed(ItemSeed { skip: self.skip })? {
            if let Err(no_room) = (self.take)(item) {
                self.no_room = Some(no_room);
                return Err(A::Error::custom(no_room));
            }
        }
        Ok(())
    }
}

struct ItemSeed<'a> {
    skip: &'a [&'a str],
}

impl<'de> DeserializeSeed<'de> for ItemSeed<'_> {
    type Value = Item;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Item, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ItemSeed<'_> {
    type Value = Item;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Item, E> {
        Ok(Item::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Item, E> {
        Ok(Item::default())
    }

    fn visit_i64<E>(self, _: i64) -> Result<Item, E> {
        Ok(Item::default())
    }

    fn visit_u64<E>(self, _: u64) -> Result<Item, E> {
        Ok(Item::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Item, E> {
        Ok(Item::default())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Item, E> {
        Ok(Item::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Item, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Item::default())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Item, A::Error> {
        let mut item = Item { is_object: true, ..Item::default() };
        let mut weight_left = EVENT_MAX_WEIGHT_BYTES;
        while let Some(name) = members.next_key::<String>()? {
            if self.skip.contains(&name.as_str()) {
                members.next_value::<IgnoredAny>()?;
                continue;
            }
            let of_member = MEMBER_BYTES + name.len();
            if item.members.contains_key(&name) || of_member > weight_left {
                members.next_value::<IgnoredAny>()?;
                item.take_out(name);
                continue;
            }
            let mut reading = Reading::up_to(weight_left - of_member);
            let value = members.next_value_seed(Strict(&mut reading))?;
            weight_left = weight_left.saturating_sub(of_member + reading.weight_bytes);
            reading.breaches.iter().for_each(|breach| item.take_out(path(&name, breach)));
            item.members.insert(name, value);
        }
        Ok(item)
    }
}

/// Memory that an event takes, in bytes, counted generously.
pub fn event_bytes(event: &Event) -> usize {
    let values = event.changes.iter().flat_map(|change| [&change.before, &change.after]).flatten();
    let changes: usize = values.map(|value| size_of::<Change>() + value_bytes(value)).sum();
    // Its texts mostly have some hundred bytes.
    size_of::<Event>() + 512 + changes + event.details.as_ref().map_or(0, members_bytes)
}

fn members_bytes(members: &Map<String, Value>) -> usize {
    object_bytes(members) + members.iter().map(|(name, value)| name.len() + value_bytes(value)).sum::<usize>()
}

fn value_bytes(value: &Value) -> usize {
    match value {
        Value::Object(members) => members_bytes(members),
        Value::Array(items) => items.iter().map(|item| 2 * size_of::<Value>() + value_bytes(item)).sum(),
        Value::String(text) => 16 + text.len(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

fn path(name: &str, breach: &Breach) -> String {
    match breach.path.as_str() {
        "" => name.to_owned(),
        inner if inner.starts_with('[') => format!("{name}{inner}"),
        inner => format!("{name}.{inner}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn items(body: &str, skip: &[&str]) -> Vec<Item> {
        let mut items = Vec::new();
        each(body, "items", skip, |item| {
            items.push(item);
            Ok(())
        })
        .expect("readable");
        items
    }

    #[test]
    fn an_item_keeps_what_can_be_kept_and_names_what_cannot() {
        let body =
            r#"{"kind":"List","items":[{"a":{"b":[1,9007199254740993],"c":1,"c":2},"d":"\u0000","a":3,"e":"f"}]}"#;
        let item = items(body, &[]).remove(0);
        assert_eq!(Value::Object(item.members), json!({"a": {"b": [1, null], "c": 1}, "d": null, "e": "f"}));
        assert_eq!(item.taken_out, ["a.b[1]", "a.c", "d", "a"]);
    }

    #[test]
    fn members_to_skip_are_not_read() {
        let item = items(r#"{"items":[{"a":{"b":9007199254740993},"c":1}]}"#, &["a"]).remove(0);
        assert_eq!((Value::Object(item.members), item.taken_out.len()), (json!({"c": 1}), 0));
    }

    #[test]
    fn an_item_takes_no_more_memory_than_an_event_may() {
        let members = |count: usize| {
            let members: Vec<String> = (0..count).map(|number| format!("\"{number:05}\":0")).collect();
            items(&format!(r#"{{"items":[{{{}}}]}}"#, members.join(",")), &[]).remove(0)
        };
        let most = EVENT_MAX_WEIGHT_BYTES / (MEMBER_BYTES + 5);
        assert_eq!((members(most).members.len(), members(most).taken_out.len()), (most, 0));
        let more = members(most + 100);
        assert_eq!((more.members.len(), more.taken_out.len()), (most, PLACES_MAX + 1));
    }

    #[test]
    fn items_that_are_no_objects_are_empty() {
        let items = items(r#"{"items":[null,true,-1,1,0.5,"a",["b"],{}]}"#, &[]);
        assert_eq!(
            items.iter().map(|item| item.is_object).collect::<Vec<_>>(),
            [[false; 7].as_slice(), &[true]].concat()
        );
    }

    #[test]
    fn a_list_may_be_absent_or_null_and_nothing_else() {
        let found = |body: &str| each(body, "items", &[], |_| unreachable!("no item")).expect("readable");
        assert_eq!((found("{}"), found(r#"{"items":null}"#), found(r#"{"items":[]}"#)), (false, true, true));
        for body in ["[]", r#"{"items":{}}"#, r#"{"items":[}"#, r#"{"items":[]} {}"#, ""] {
            each(body, "items", &[], |_| Ok(())).expect_err(body);
        }
    }
}
