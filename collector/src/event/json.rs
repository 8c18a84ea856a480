//! JSON which has exactly one meaning, so that its canonical form (RFC 8785) is total.
//!
//! Refused, with the reason: a key that stands twice in one object, U+0000 (Postgres cannot keep
//! it), lone surrogates, and integers past 2^53 (an IEEE 754 double cannot tell them apart).

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// Integers up to here are exact in a double (RFC 8785, appendix D).
const INTEGER_MAX: u64 = 1 << 53;

/// Reads one JSON value and nothing after it.
pub fn parse(bytes: &[u8]) -> serde_json::Result<Value> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = Strict.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

/// Text in canonical form (RFC 8785). Total for what [`parse`] returns and for plain data types.
pub fn canonical(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json_canonicalizer::to_vec(value).expect("events hold only finite numbers and string keys")
}

struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
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
        if value > INTEGER_MAX { Err(integer_too_large()) } else { Ok(value.into()) }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        if value.unsigned_abs() > INTEGER_MAX { Err(integer_too_large()) } else { Ok(value.into()) }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        #[expect(clippy::cast_precision_loss, reason = "2^53 is exact in a double")]
        if value.fract() == 0.0 && value.abs() > INTEGER_MAX as f64 {
            return Err(integer_too_large());
        }
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.visit_string(value.to_owned())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        without_nul(value).map(Value::String)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(Strict)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            let key = without_nul(key)?;
            if object.contains_key(&key) {
                return Err(A::Error::custom(format_args!("the key {key:?} stands twice in one object")));
            }
            let value = members.next_value_seed(Strict)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

fn without_nul<E: Error>(text: String) -> Result<String, E> {
    if text.contains('\0') { Err(E::custom("text must not contain U+0000")) } else { Ok(text) }
}

fn integer_too_large<E: Error>() -> E {
    E::custom("integers past 2^53 are not exact in JSON: send a string instead")
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert!(error(r#"{"a":{"b":1,"b":1}}"#).contains("\"b\" stands twice"));
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
}
