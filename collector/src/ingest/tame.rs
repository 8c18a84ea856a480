//! Makes JSON readable that our reader would stop at, for inputs which are cut instead of refused.
//!
//! A batch of an API server or of an SDK holds events of many; one odd value in one of them must not cost the others.
//! Whoever may send a patch to an API server could otherwise have the whole list refused that records it.

use super::room::{Held, NoRoom};
use std::borrow::Cow;

/// Levels of objects and arrays that are kept, counted from the body: the reader stops at 128.
pub const LEVELS_MAX: usize = 100;

/// What stands for a value that was taken out: the reader notes its place, as integers past 2^53 are not exact. It is short,
/// so that nothing grows much.
const TAKEN_OUT: &str = "1e16";

/// How much larger text may get: `[]` takes two bytes and a comma, what stands for it four.
const GROWTH: usize = 2;

/// How much larger bytes that are no UTF-8 may get: each becomes U+FFFD, of three bytes.
const UTF_8_GROWTH: usize = 3;

/// What stands for half a surrogate pair in text.
const REPLACEMENT: &str = "\\ufffd";

/// The same JSON, in which halves of surrogate pairs and bytes that are no UTF-8 are U+FFFD, and numbers past the range of
/// a double and values nested too deeply are integers that our reader takes out. What is no JSON stays none. A copy
/// takes `room`.
pub fn tame<'a>(body: &'a [u8], room: &Held) -> Result<Cow<'a, str>, NoRoom> {
    if std::str::from_utf8(body).is_err() {
        room.grow(UTF_8_GROWTH * body.len())?;
    }
    let text = String::from_utf8_lossy(body);
    let tamed = Taming::new(&text, room).run()?;
    Ok(tamed.map_or(text, Cow::Owned))
}

struct Taming<'a> {
    text: &'a str,
    room: &'a Held,
    bytes: &'a [u8],
    at: usize,
    levels: usize,
    /// What is ready, once something differs.
    tamed: Option<String>,
    /// Up to where `tamed` has the text.
    copied: usize,
    no_room: Option<NoRoom>,
}

impl<'a> Taming<'a> {
    fn new(text: &'a str, room: &'a Held) -> Self {
        Self { text, room, bytes: text.as_bytes(), at: 0, levels: 0, tamed: None, copied: 0, no_room: None }
    }

    /// The text as it has to be; none when it is so already.
    fn run(mut self) -> Result<Option<String>, NoRoom> {
        while let Some(byte) = self.bytes.get(self.at) {
            match byte {
                b'"' => self.string(),
                b'[' | b'{' => self.open(),
                b']' | b'}' => {
                    self.levels = self.levels.saturating_sub(1);
                    self.at += 1;
                }
                b'-' | b'0'..=b'9' => self.number(),
                _ => self.at += 1,
            }
        }
        match self.no_room {
            Some(no_room) => Err(no_room),
            None => Ok(self.tamed.map(|tamed| tamed + &self.text[self.copied..])),
        }
    }

    /// Puts `with` in the place of what stands from `from` up to here.
    fn replace(&mut self, from: usize, with: &str) {
        if self.tamed.is_none()
            && let Err(no_room) = self.room.grow(GROWTH * self.text.len())
        {
            self.no_room = Some(no_room);
            self.at = self.bytes.len();
            return;
        }
        let tamed = self.tamed.get_or_insert_default();
        tamed.push_str(&self.text[self.copied..from]);
        tamed.push_str(with);
        self.copied = self.at;
    }

    fn string(&mut self) {
        self.at += 1;
        while let Some(byte) = self.bytes.get(self.at) {
            match byte {
                b'"' => {
                    self.at += 1;
                    return;
                }
                b'\\' => self.escape(),
                _ => self.at += 1,
            }
        }
    }

    fn escape(&mut self) {
        let from = self.at;
        match self.unit(from) {
            Some(0xd800..=0xdbff) if matches!(self.unit(from + 6), Some(0xdc00..=0xdfff)) => self.at = from + 12,
            Some(0xd800..=0xdfff) => {
                self.at = from + 6;
                self.replace(from, REPLACEMENT);
            }
            Some(_) => self.at = from + 6,
            // Whatever it is, a quote after a backslash does not end the text. A backslash stands before one
            // character, which may have many bytes: the next step looks at what is no quote.
            None if matches!(self.bytes.get(from + 1), Some(b'"' | b'\\')) => self.at = from + 2,
            None => self.at = from + 1,
        }
    }

    /// The UTF-16 code unit of an escape like `\ud83d`.
    fn unit(&self, at: usize) -> Option<u16> {
        let digits = self.text.get(at..at + 6)?.strip_prefix("\\u")?;
        digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u16::from_str_radix(digits, 16).ok())?
    }

    fn number(&mut self) {
        let from = self.at;
        let in_number = |byte: &u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
        self.at += self.bytes[from..].iter().take_while(|byte| in_number(byte)).count();
        if self.text[from..self.at].parse::<f64>().is_ok_and(f64::is_infinite) {
            self.replace(from, TAKEN_OUT);
        }
    }

    fn open(&mut self) {
        if self.levels < LEVELS_MAX {
            self.levels += 1;
            self.at += 1;
            return;
        }
        let from = self.at;
        if let Some(end) = self.end_of_container() {
            self.at = end;
            self.replace(from, TAKEN_OUT);
        } else {
            // The text breaks off: the reader will say so.
            self.at = self.bytes.len();
        }
    }

    /// Where the object or array ends that begins here.
    fn end_of_container(&self) -> Option<usize> {
        let mut levels = 0_usize;
        let mut in_text = false;
        let mut escaped = false;
        for (place, byte) in self.bytes.iter().enumerate().skip(self.at) {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_text => escaped = true,
                b'"' => in_text = !in_text,
                b'[' | b'{' if !in_text => levels += 1,
                b']' | b'}' if !in_text => {
                    levels -= 1;
                    if levels == 0 {
                        return Some(place + 1);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::room::Room;
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    fn tamed(body: &str) -> String {
        tame(body.as_bytes(), &Room::default().enter()).expect("room").into_owned()
    }

    #[test]
    fn ordinary_json_stays_as_it_is_and_is_not_copied() {
        let body = r#"{"a":[1,-2.5e3,true,null,"\"\\ud800 \ud83d\ude00 é"],"b":{}}"#;
        let none = Room::of(0).enter();
        assert!(matches!(tame(body.as_bytes(), &none), Ok(Cow::Borrowed(same)) if same == body));
    }

    #[test]
    fn halves_of_surrogate_pairs_are_replaced() {
        assert_eq!(tamed(r#""a\ud800b""#), r#""a\ufffdb""#);
        assert_eq!(tamed(r#""\udc00\ud83d\ude00""#), r#""\ufffd\ud83d\ude00""#);
        assert_eq!(tamed(r#""\ud83d\ud83d\ude00""#), r#""\ufffd\ud83d\ude00""#);
    }

    #[test]
    fn bytes_that_are_no_utf_8_are_replaced() {
        assert_eq!(tame(b"\"a\xffb\"", &Room::default().enter()).expect("room"), "\"a\u{fffd}b\"");
    }

    #[test]
    fn a_copy_takes_room() {
        let none = Room::of(0).enter();
        assert_eq!(tame(b"\"\xff\"", &none), Err(NoRoom::Others));
        assert_eq!(tame(b"[1e999,1e999]", &none), Err(NoRoom::Others));
    }

    #[test]
    fn numbers_past_the_range_of_a_double_are_taken_out() {
        assert_eq!(tamed("[1e308,1e309,-1E400]"), format!("[1e308,{TAKEN_OUT},{TAKEN_OUT}]"));
        let digits = "9".repeat(310);
        assert_eq!(tamed(&digits), TAKEN_OUT);
    }

    #[test]
    fn values_are_kept_up_to_their_nesting() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert_eq!(tamed(&nested(LEVELS_MAX)), nested(LEVELS_MAX));
        let kept = format!("{}{TAKEN_OUT}{}", "[".repeat(LEVELS_MAX), "]".repeat(LEVELS_MAX));
        assert_eq!(tamed(&nested(LEVELS_MAX + 1)), kept);
        assert_eq!(tamed(&nested(50_000)), kept);
        // Brackets in text are text.
        let inside = format!("{}{{\"]\\\"\":1}}{}", "[".repeat(LEVELS_MAX), "]".repeat(LEVELS_MAX));
        assert_eq!(tamed(&inside), kept);
    }

    #[test]
    fn what_is_no_json_stays_none() {
        for body in ["{", "\"\\", "\"\\u", "\"\\ud80", "\"\\é\"", "1e", "[1e999", &"[".repeat(50_000)] {
            assert!(serde_json::from_str::<Value>(&tamed(body)).is_err(), "{body}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_come_back_as_text(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let text = tame(&body, &Room::default().enter()).expect("room");
            prop_assert!(text.len() <= UTF_8_GROWTH * body.len());
        }

        #[test]
        fn what_the_reader_takes_is_not_changed(body in r#"[\[\]{}":,0-9eE\-\\udcf ]{0,40}"#) {
            if serde_json::from_str::<Value>(&body).is_ok() {
                prop_assert_eq!(tamed(&body), body);
            }
        }
    }
}
