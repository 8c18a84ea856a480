//! `prefix`: what a name begins with, without regard to case.

use crate::query::parameters::Parameters;
use crate::query::words::fold;

/// The beginning of a name, without its case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Prefix(String);

impl Prefix {
    /// Of a text.
    pub fn of(text: &str) -> Self {
        Self(text.chars().map(fold).collect())
    }

    /// Takes `prefix` out of the parameters.
    pub fn take(parameters: &mut Parameters) -> Option<Self> {
        parameters.once("prefix").map(|text| Self::of(&text))
    }

    /// Whether a text begins with it.
    pub fn begins(&self, text: &str) -> bool {
        let mut text = text.chars().map(fold);
        self.0.chars().all(|character| text.next() == Some(character))
    }

    /// What it begins with that is ASCII: the part that every database compares alike, whatever its locale is.
    pub fn ascii(&self) -> &str {
        let end = self.0.find(|character: char| !character.is_ascii()).unwrap_or(self.0.len());
        &self.0[..end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_makes_no_difference() {
        for (prefix, text) in [
            ("ja", "Jane"),
            ("JANE", "jane"),
            ("Größ", "GRÖßE"),
            ("ΟΔΟΣ", "οδοσα"),
            ("οδος", "ΟΔΟΣΑ"),
            ("İst", "İstanbul"),
            ("a_%\\", "A_%\\b"),
        ] {
            assert!(Prefix::of(prefix).begins(text), "{prefix} {text}");
        }
        for (prefix, text) in [("jane", "jan"), ("ane", "Jane"), ("a_", "ab"), ("ö", "o")] {
            assert!(!Prefix::of(prefix).begins(text), "{prefix} {text}");
        }
    }

    #[test]
    fn the_part_in_ascii_ends_where_another_letter_is() {
        for (prefix, ascii) in [("Jane", "jane"), ("Größe", "gr"), ("Ö", ""), ("İst", ""), ("a%_", "a%_")] {
            assert_eq!(Prefix::of(prefix).ascii(), ascii);
        }
    }
}
