//! `q`: words that all occur in an event, anywhere in its names, ids, e-mail addresses, changes and details, without regard to
//! case.

use super::parameters::Parameters;
use crate::event::{StoredEvent, json};
use serde::Serialize;

/// Words of one question, at most: each is looked for in every event that is read.
pub const WORDS_MAX: usize = 10;

/// Words in lower case. None asks for everything.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Words(Vec<String>);

impl Words {
    /// Of a text: white space separates them.
    pub fn of(text: &str) -> Self {
        Self(text.split_whitespace().map(str::to_lowercase).collect())
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

    /// Whether all of them occur. The database looks at the same texts, in `store/read.rs`; JSON is searched as it is
    /// written, so that names of members count too.
    pub fn occur_in(&self, stored: &StoredEvent) -> bool {
        if self.0.is_empty() {
            return true;
        }
        let text = text(stored).to_lowercase();
        self.0.iter().all(|word| text.contains(word.as_str()))
    }
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
}
