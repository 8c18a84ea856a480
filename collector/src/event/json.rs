//! JSON which has exactly one meaning, so that its canonical form (RFC 8785) is total.
//!
//! Refused, with its place: a key that stands twice in one object, U+0000 (Postgres cannot keep it), and integers past
//! 2^53 (an IEEE 754 double cannot tell them apart). Lone surrogates are no text at all and end the reading.

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::borrow::Cow;
use std::fmt;

/// Integers up to here are exact in a double (RFC 8785, appendix D).
const INTEGER_MAX: u64 = 1 << 53;

/// Breaches noted of one value, at most. Nobody corrects more at once.
const BREACHES_MAX: usize = 16;

/// Characters of a key that a breach's path repeats, at most.
const PATH_KEY_MAX_CHARS: usize = 64;

/// What the first member of an object takes, in bytes: a node of the map has room for eleven.
const FIRST_MEMBER_BYTES: usize = 640;

/// What each further member takes, in bytes: a node is half full at worst.
const MEMBER_BYTES: usize = 128;

/// What an item of an array takes, in bytes: an array is half full at worst.
const ITEM_BYTES: usize = 64;

/// What a text takes beside its bytes: the allocator's share.
const TEXT_BYTES: usize = 16;

/// Reads one JSON value and nothing after it.
pub fn parse(bytes: &[u8]) -> serde_json::Result<Value> {
    let mut reading = Reading::default();
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Strict(&mut reading).deserialize(&mut deserializer)?;
    deserializer.end()?;
    match reading.breaches.first() {
        None => Ok(value),
        Some(breach) => Err(serde_json::Error::custom(format_args!("{} {}", breach.path, breach.rule))),
    }
}

/// A rule that a value breaks, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Breach {
    /// Path to the value, such as `details.list[3].a`.
    pub path: String,
    /// The rule, as what to do about it.
    pub rule: &'static str,
}

/// What was seen while values were read.
#[derive(Debug)]
pub struct Reading {
    /// The first breaches of what cannot be kept.
    pub breaches: Vec<Breach>,
    /// Memory that the values take, in bytes, counted generously.
    pub weight_bytes: usize,
    /// Past this weight values are only checked for their syntax, and that is a breach.
    weight_max_bytes: usize,
}

impl Default for Reading {
    fn default() -> Self {
        Self::up_to(usize::MAX)
    }
}

impl Reading {
    /// A reading that keeps at most `weight_max_bytes`.
    pub fn up_to(weight_max_bytes: usize) -> Self {
        Self { breaches: Vec::new(), weight_bytes: 0, weight_max_bytes }
    }

    fn breach(&mut self, rule: &'static str) {
        if self.breaches.len() < BREACHES_MAX {
            self.breaches.push(Breach { path: String::new(), rule });
        }
    }

    /// Puts `step` in front of the paths of the breaches from number `from` on.
    pub fn within(&mut self, from: usize, step: impl FnOnce() -> String) {
        if self.breaches.len() == from {
            return;
        }
        let step = step();
        for breach in &mut self.breaches[from..] {
            let dot = if breach.path.is_empty() || breach.path.starts_with('[') { "" } else { "." };
            breach.path = format!("{step}{dot}{}", breach.path);
        }
    }

    /// Adds to the weight. False once there is too much, of which the first is a breach.
    fn add(&mut self, bytes: usize) -> bool {
        let before = self.weight_bytes <= self.weight_max_bytes;
        self.weight_bytes = self.weight_bytes.saturating_add(bytes);
        let after = self.weight_bytes <= self.weight_max_bytes;
        if before && !after {
            self.breach("holds more values than an event may");
        }
        after
    }

    fn text(&mut self, text: Cow<'_, str>) -> Value {
        if text.contains('\0') {
            self.breach("must not contain U+0000");
            return Value::Null;
        }
        if self.add(TEXT_BYTES + text.len()) { Value::String(text.into_owned()) } else { Value::Null }
    }

    fn integer_too_large(&mut self) -> Value {
        self.breach("must not be an integer past 2^53, which is not exact in JSON: send a string instead");
        Value::Null
    }
}

/// Reads a value. What cannot be kept is noted, and `null` stands in its place.
pub struct Strict<'r>(pub &'r mut Reading);

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(if value > INTEGER_MAX { self.0.integer_too_large() } else { value.into() })
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(if value.unsigned_abs() > INTEGER_MAX { self.0.integer_too_large() } else { value.into() })
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        #[expect(clippy::cast_precision_loss, reason = "2^53 is exact in a double")]
        if value.fract() == 0.0 && value.abs() > INTEGER_MAX as f64 {
            return Ok(self.0.integer_too_large());
        }
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(self.0.text(Cow::Borrowed(value)))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(self.0.text(Cow::Owned(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        loop {
            let breaches = self.0.breaches.len();
            let Some(item) = items.next_element_seed(Strict(self.0))? else { break };
            let kept = self.0.add(ITEM_BYTES);
            self.0.within(breaches, || format!("[{}]", array.len()));
            if kept {
                array.push(item);
            } else {
                while items.next_element::<IgnoredAny>()?.is_some() {}
                break;
            }
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = self.members();
        while let Some(key) = members.next_key()? {
            object.next(key, &mut members)?;
        }
        Ok(Value::Object(object.end()))
    }
}

impl<'r> Strict<'r> {
    /// An object, to be read member by member.
    pub fn members(self) -> Members<'r> {
        Members { object: Map::new(), reading: self.0 }
    }
}

/// An object that is being read.
pub struct Members<'r> {
    object: Map<String, Value>,
    reading: &'r mut Reading,
}

impl Members<'_> {
    /// Reads the value of the member whose key is next.
    pub fn next<'de, A: MapAccess<'de>>(&mut self, key: String, members: &mut A) -> Result<(), A::Error> {
        let breaches = self.reading.breaches.len();
        let name = |key: &str| key.chars().take(PATH_KEY_MAX_CHARS).collect();
        let node_bytes = if self.object.is_empty() { FIRST_MEMBER_BYTES } else { MEMBER_BYTES };
        let fits = self.reading.add(node_bytes + key.len());
        if key.contains('\0') {
            self.reading.breach("must not have U+0000 in its name");
        } else if self.object.contains_key(&key) {
            self.reading.breach("must not stand twice in one object");
        } else if fits {
            let value = members.next_value_seed(Strict(self.reading))?;
            self.reading.within(breaches, || name(&key));
            self.object.insert(key, value);
            return Ok(());
        }
        self.reading.within(breaches, || name(&key));
        members.next_value::<IgnoredAny>().map(drop)
    }

    /// What was read.
    pub fn end(self) -> Map<String, Value> {
        self.object
    }
}

/// What an object itself takes, in bytes, without its keys and values.
pub fn object_bytes(members: &Map<String, Value>) -> usize {
    match members.len() {
        0 => 0,
        count => FIRST_MEMBER_BYTES + (count - 1) * MEMBER_BYTES,
    }
}

/// The extent of a value.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Extent {
    /// Length of the canonical form, in bytes.
    pub bytes: usize,
    /// Levels of objects and arrays: 0 for text, 1 for an object without any inside.
    pub levels: usize,
    /// Members of all objects, on all levels.
    pub members: usize,
}

impl Extent {
    /// Measures a value.
    pub fn of(value: &Value) -> Self {
        match value {
            Value::Null | Value::Bool(true) => Self::leaf(4),
            Value::Bool(false) => Self::leaf(5),
            Value::Number(number) => Self::leaf(number_bytes(number)),
            Value::String(text) => Self::leaf(text_bytes(text)),
            Value::Array(items) => {
                items.iter().fold(Self::container(items.len()), |all, item| all.with(Self::of(item)))
            }
            Value::Object(members) => Self::of_object(members),
        }
    }

    /// Measures an object.
    pub fn of_object(members: &Map<String, Value>) -> Self {
        let empty = Self { members: members.len(), ..Self::container(members.len()) };
        members.iter().fold(empty, |all, (key, value)| {
            let value = Self::of(value);
            all.with(Self { bytes: value.bytes + text_bytes(key) + ":".len(), ..value })
        })
    }

    fn leaf(bytes: usize) -> Self {
        Self { bytes, levels: 0, members: 0 }
    }

    /// Brackets and commas.
    fn container(items: usize) -> Self {
        Self { bytes: "[]".len() + items.saturating_sub(1), levels: 1, members: 0 }
    }

    /// This container with one more thing in it.
    fn with(self, inner: Self) -> Self {
        Self {
            bytes: self.bytes + inner.bytes,
            levels: self.levels.max(inner.levels + 1),
            members: self.members + inner.members,
        }
    }
}

fn text_bytes(text: &str) -> usize {
    let escapes = |byte: u8| match byte {
        b'"' | b'\\' | 0x08 | b'\t' | b'\n' | 0x0c | b'\r' => 1,
        0..=0x1f => 5,
        _ => 0,
    };
    text.len() + "\"\"".len() + text.bytes().map(escapes).sum::<usize>()
}

fn number_bytes(number: &Number) -> usize {
    match number.as_i64() {
        Some(integer) => {
            let digits = integer.unsigned_abs().checked_ilog10().map_or(1, |log| log as usize + 1);
            digits + usize::from(integer < 0)
        }
        None => canonical_number(number).len(),
    }
}

/// Text in canonical form (RFC 8785). Total for what [`parse`] returns and for plain data types.
pub fn canonical(value: &impl serde::Serialize) -> Vec<u8> {
    let value = serde_json::to_value(value).expect("events hold only finite numbers and string keys");
    let mut text = Vec::with_capacity(128);
    write_canonical(&value, &mut text);
    text
}

fn write_canonical(value: &Value, text: &mut Vec<u8>) {
    match value {
        Value::Null => text.extend_from_slice(b"null"),
        Value::Bool(true) => text.extend_from_slice(b"true"),
        Value::Bool(false) => text.extend_from_slice(b"false"),
        Value::Number(number) => write_number(number, text),
        Value::String(string) => write_text(string, text),
        Value::Array(items) => {
            text.push(b'[');
            for (place, item) in items.iter().enumerate() {
                if place > 0 {
                    text.push(b',');
                }
                write_canonical(item, text);
            }
            text.push(b']');
        }
        Value::Object(members) => write_object(members, text),
    }
}

fn write_object(members: &Map<String, Value>, text: &mut Vec<u8>) {
    let mut members: Vec<(&String, &Value)> = members.iter().collect();
    // RFC 8785, section 3.2.3: by UTF-16 code units. Among ASCII that is the order of bytes.
    members.sort_by(|(one, _), (other, _)| {
        if one.is_ascii() && other.is_ascii() { one.cmp(other) } else { one.encode_utf16().cmp(other.encode_utf16()) }
    });
    text.push(b'{');
    for (place, (key, value)) in members.into_iter().enumerate() {
        if place > 0 {
            text.push(b',');
        }
        write_text(key, text);
        text.push(b':');
        write_canonical(value, text);
    }
    text.push(b'}');
}

/// RFC 8785, section 3.2.2.2: what serde_json escapes, and how, is what has to be.
fn write_text(string: &str, text: &mut Vec<u8>) {
    serde_json::to_writer(text, string).expect("memory takes what is written");
}

/// RFC 8785, section 3.2.2.3: integers that a double holds exactly are their digits.
fn write_number(number: &Number, text: &mut Vec<u8>) {
    match number.as_i64() {
        Some(integer) if integer.unsigned_abs() <= INTEGER_MAX => {
            serde_json::to_writer(text, &integer).expect("memory takes what is written");
        }
        _ => text.extend_from_slice(&canonical_number(number)),
    }
}

fn canonical_number(number: &Number) -> Vec<u8> {
    serde_json_canonicalizer::to_vec(number).expect("a number of JSON is finite")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn error(text: &str) -> String {
        parse(text.as_bytes()).expect_err("refused").to_string()
    }

    #[test]
    fn what_it_reads_is_what_serde_json_reads() {
        let text = r#"{"a":[1,-2,3.5,true,null,"é"],"b":{"c":{}}}"#;
        assert_eq!(parse(text.as_bytes()).expect("valid"), serde_json::from_str::<Value>(text).expect("valid"));
    }

    #[test]
    fn a_key_that_stands_twice_is_named() {
        assert_eq!(error(r#"{"a":[{"b":1,"b":1}]}"#), "a[0].b must not stand twice in one object");
    }

    #[test]
    fn nul_is_refused_in_text_and_keys() {
        assert!(error(r#"["\u0000"]"#).contains("U+0000"));
        assert!(error(r#"{"\u0000":1}"#).contains("U+0000"));
    }

    #[test]
    fn lone_surrogates_are_refused() {
        error(r#"["\ud800"]"#);
        error(r#"["\udc00"]"#);
    }

    #[test]
    fn integers_are_accepted_up_to_2_to_the_53rd() {
        for accepted in ["9007199254740992", "-9007199254740992", "9007199254740992.0", "0.5"] {
            parse(accepted.as_bytes()).expect(accepted);
        }
        for refused in ["9007199254740993", "-9007199254740993", "1e16", "123456789012345678901234567890"] {
            assert!(error(refused).contains("2^53"), "{refused}");
        }
    }

    #[test]
    fn nothing_may_follow_the_value() {
        error("{} {}");
    }

    #[test]
    fn canonical_form_sorts_keys() {
        let value = parse(br#"{"b":1.0,"a":"x"}"#).expect("valid");
        assert_eq!(canonical(&value), br#"{"a":"x","b":1}"#);
    }

    /// Values as JSON can have them: keys and text with what is escaped, sorted by UTF-16, or neither.
    fn value() -> impl Strategy<Value = Value> {
        let text = "[a-c\\\\\"\n\u{1}é\u{e000}\u{1f600}\u{ffff}]{0,4}";
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-(1_i64 << 53)..=1 << 53).prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            (-1e3..1e3).prop_map(Value::from),
            text.prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 64, 8, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::btree_map(text, inner, 0..8).prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn levels(value: &Value) -> usize {
        match value {
            Value::Array(items) => 1 + items.iter().map(levels).max().unwrap_or(0),
            Value::Object(members) => 1 + members.values().map(levels).max().unwrap_or(0),
            _ => 0,
        }
    }

    proptest! {
        #[test]
        fn the_canonical_form_is_that_of_the_reference_and_its_length_is_known_beforehand(value in value()) {
            let reference = serde_json_canonicalizer::to_vec(&value).expect("finite");
            prop_assert_eq!(String::from_utf8(canonical(&value)), String::from_utf8(reference.clone()));
            prop_assert_eq!(Extent::of(&value).bytes, reference.len());
            prop_assert_eq!(Extent::of(&value).levels, levels(&value));
        }

        #[test]
        fn what_is_read_strictly_is_what_was_written(value in value()) {
            let text = serde_json::to_vec(&value).expect("JSON");
            if let Ok(read) = parse(&text) {
                prop_assert_eq!(canonical(&read), canonical(&value));
            }
        }
    }

    #[test]
    fn members_are_counted_on_all_levels() {
        let value = parse(br#"{"a":[{"b":1,"c":{}}],"d":{"e":0}}"#).expect("valid");
        assert_eq!(Extent::of(&value).members, 5);
    }

    #[test]
    fn past_its_weight_a_value_is_read_no_further() {
        let text = format!("[{}1]", "[],".repeat(1_000));
        let read = |bytes| {
            let mut reading = Reading::up_to(bytes);
            let value = Strict(&mut reading).deserialize(&mut serde_json::Deserializer::from_str(&text)).expect("JSON");
            (value.as_array().map_or(0, Vec::len), reading.breaches.len())
        };
        assert_eq!(read(1_001 * ITEM_BYTES), (1_001, 0));
        let (kept, breaches) = read(1_001 * ITEM_BYTES - 1);
        assert!(kept < 1_001 && breaches == 1, "{kept} {breaches}");
    }

    /// The weight must not be less than what is really taken, as far as that can be told without an allocator.
    #[test]
    fn the_weight_covers_what_the_parts_take() {
        let text = serde_json::to_vec(&vec![serde_json::json!({"key": "value"}); 100]).expect("JSON");
        let mut reading = Reading::default();
        Strict(&mut reading).deserialize(&mut serde_json::Deserializer::from_slice(&text)).expect("JSON");
        let node = 11 * (size_of::<String>() + size_of::<Value>());
        assert!(reading.weight_bytes >= 100 * (node + size_of::<Value>() + "keyvalue".len()));
    }
}
