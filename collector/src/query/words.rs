//! `q`: words that all occur in an event, anywhere in its names, ids, e-mail addresses, changes and details, without regard to
//! case.
//!
//! What a letter is without its case, [`fold`] says and nothing else. A database says it otherwise, as its locale wants (none but ASCII's
//! letters have a case in the locale `C`), and so may the next one that the trail lives in. So Postgres is told all forms of each letter.

use super::parameters::Parameters;
use crate::event::{StoredEvent, json};
use serde::Serialize;
use std::fmt::Write as _;
use std::iter::once;
use std::sync::LazyLock;

/// Words of one question, at most: each is looked for in every event that is read.
pub const WORDS_MAX: usize = 10;

/// Words without their case. None asks for everything.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Words(Vec<String>);

impl Words {
    /// Of a text: white space separates them.
    pub fn of(text: &str) -> Self {
        Self(text.split_whitespace().map(folded).collect())
    }

    /// Takes `q` out of the parameters.
    pub fn take(parameters: &mut Parameters) -> Self {
        let words = Self::of(&parameters.once("q").unwrap_or_default());
        if words.0.len() > WORDS_MAX {
            parameters.refuse("q", format!("may have {WORDS_MAX} words at most"));
        }
        words
    }

    /// The words.
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }

    /// For each word a regular expression of Postgres (manual, section 9.7.3) that is met where the word occurs, whatever the locale is.
    pub fn expressions(&self) -> Vec<String> {
        self.0.iter().map(|word| expression(word)).collect()
    }

    /// Whether all of them occur. The database looks at the same texts, in `store/read.rs`; JSON is searched as it is
    /// written, so that names of members count too.
    pub fn occur_in(&self, stored: &StoredEvent) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let text = folded(&text(stored));
        self.0.iter().all(|word| text.contains(word.as_str()))
    }
}

/// A text without its case.
fn folded(text: &str) -> String {
    text.chars().map(fold).collect()
}

/// A letter without its case: one for one, so that a part of a word is a part of it without case too. `σ` is also what ends a Greek word.
/// ASCII's letters meet nothing but each other: the dotted `İ` (in lower case two characters) and the sign for kelvin are letters of
/// their own.
pub(super) fn fold(character: char) -> char {
    let mut lower = character.to_lowercase();
    match (lower.next(), lower.next()) {
        _ if character == 'ς' => 'σ',
        (Some(lower), None) if lower.is_ascii() == character.is_ascii() => lower,
        _ => character,
    }
}

/// The letters outside ASCII that [`fold`] changes, each with what it becomes.
static FOLDED: LazyLock<Vec<(char, char)>> = LazyLock::new(|| {
    let all = '\u{80}'..=char::MAX;
    all.map(|character| (character, fold(character))).filter(|(character, folded)| character != folded).collect()
});

/// A folded word as a regular expression: a letter is any of its forms, and everything else stands for itself.
fn expression(word: &str) -> String {
    let mut expression = String::new();
    for character in word.chars() {
        let forms = forms(character);
        if forms.chars().nth(1).is_some() {
            write!(expression, "[{forms}]").expect("memory takes what is written");
        } else {
            // Before what is no letter and no digit, a backslash takes any meaning away.
            expression.extend((character.is_ascii() && !character.is_ascii_alphanumeric()).then_some('\\'));
            expression.push(character);
        }
    }
    expression
}

/// Every character that [`fold`] makes this one of.
fn forms(folded: char) -> String {
    if folded.is_ascii() {
        let upper = folded.to_ascii_uppercase();
        return once(folded).chain((upper != folded).then_some(upper)).collect();
    }
    let others = FOLDED.iter().filter(|(_, becomes)| *becomes == folded).map(|(character, _)| *character);
    once(folded).chain(others).collect()
}

/// What is searched, line by line: a word has no line break, so that none is found across two members.
fn text(stored: &StoredEvent) -> String {
    let event = &stored.event;
    let (actor, resource) = (event.actor.as_ref(), event.resource.as_ref());
    let texts = [
        Some(event.id.as_str()),
        Some(event.r#type.as_str()),
        actor.map(|actor| actor.id.as_str()),
        actor.and_then(|actor| actor.name.as_deref()),
        actor.and_then(|actor| actor.email.as_deref()),
        resource.map(|resource| resource.id.as_str()),
        resource.and_then(|resource| resource.name.as_deref()),
        Some(stored.submitted_by.name.as_str()),
    ];
    let mut text = texts.into_iter().flatten().collect::<Vec<_>>().join("\n");
    if !event.changes.is_empty() {
        push_json(&mut text, &event.changes);
    }
    if let Some(details) = &event.details {
        push_json(&mut text, details);
    }
    text
}

fn push_json(text: &mut String, value: &impl Serialize) {
    text.push('\n');
    text.push_str(&String::from_utf8_lossy(&json::canonical(value)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Change, Resource};
    use crate::query::tests::stored;
    use serde_json::json;

    #[test]
    fn every_word_must_occur_somewhere() {
        let mut stored = stored(7);
        stored.event.resource =
            Some(Resource { r#type: "warehouse".to_owned(), id: "wh_1".to_owned(), name: Some("Größe".to_owned()) });
        stored.event.changes =
            vec![Change { field: "enabled".to_owned(), before: Some(json!("Xy")), after: Some(json!(false)) }];
        stored.event.details = json!({"Reason": "too costly"}).as_object().cloned();
        let occur = |text: &str| Words::of(text).occur_in(&stored);
        for text in [
            "",
            "EVT_7",
            "disabled",
            "usr_1",
            "wh_1 GRÖSSE".trim_end_matches("SSE"),
            "größe",
            "xy",
            "reason costly",
            "acme-write-key",
        ] {
            assert!(occur(text), "{text:?}");
        }
        for text in ["evt_8", "reason cheap", "disabledusr_1"] {
            assert!(!occur(text), "{text:?}");
        }
    }

    #[test]
    fn case_is_folded_letter_by_letter() {
        for (text, without) in [
            ("Jane", "jane"),
            ("ÉLODIE", "élodie"),
            ("ΓΙΏΡΓΟΣ", "γιώργοσ"),
            ("γιώργος", "γιώργοσ"),
            ("Größe ẞ", "größe ß"),
            ("ǅ", "ǆ"),
            ("İstanbul", "İstanbul"),
            ("ISTANBUL", "istanbul"),
            ("\u{212a}", "\u{212a}"),
            ("Ω\u{2126}", "ωω"),
        ] {
            assert_eq!(folded(text), without);
            assert_eq!(folded(without), without, "folding it again changes nothing");
        }
    }

    #[test]
    fn an_expression_has_every_form_of_each_letter_and_no_other_meaning() {
        for (text, expected) in [
            ("Élo", "[éÉ][lL][oO]"),
            ("Σ", "[σΣς]"),
            ("İ1", "İ1"),
            (r"(a|.*)\^]é", r"\([aA]\|\.\*\)\\\^\][éÉ]"),
            ("***日", r"\*\*\*日"),
        ] {
            assert_eq!(Words::of(text).expressions(), [expected]);
        }
    }

    #[test]
    fn every_form_of_a_letter_becomes_the_letter() {
        for folded in ['a', 'k', 'i', 'é', 'σ', 'å', 'ω', 'ß', 'ᲁ', '7', '%'] {
            assert!(forms(fold(folded)).chars().all(|form| fold(form) == fold(folded)), "{folded}");
        }
        assert_eq!((forms('k'), forms('å')), ("kK".to_owned(), "åÅ\u{212b}".to_owned()));
    }
}
