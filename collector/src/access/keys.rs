//! Secrets of the document, compared in constant time: how long an answer takes tells nothing about
//! how much of a guess was right, nor which of the secrets it was.

use audittrail_crds::document::{OwnerToken, Sensitive, WriteKey};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Name of the write key that `secret` is.
pub fn write_key<'a>(keys: &'a [WriteKey], secret: &str) -> Option<&'a str> {
    find(keys.iter().map(|key| (key.name.as_str(), &key.key)), secret)
}

/// Name of the owner whose token `secret` is.
pub fn owner<'a>(tokens: &'a [OwnerToken], secret: &str) -> Option<&'a str> {
    find(tokens.iter().map(|token| (token.name.as_str(), &token.token)), secret)
}

/// Looks at every secret, also after it was found. Hashes are compared, which all have the same length.
fn find<'a>(secrets: impl Iterator<Item = (&'a str, &'a Sensitive)>, secret: &str) -> Option<&'a str> {
    let wanted = Sha256::digest(secret);
    let mut found = None;
    for (name, candidate) in secrets {
        let equal: bool = Sha256::digest(candidate.reveal()).as_slice().ct_eq(wanted.as_slice()).into();
        if equal && found.is_none() {
            found = Some(name);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> [WriteKey; 2] {
        ["one", "two"].map(|key| WriteKey { name: format!("name of {key}"), key: Sensitive::new(key) })
    }

    #[test]
    fn each_key_is_found() {
        assert_eq!(write_key(&keys(), "one"), Some("name of one"));
        assert_eq!(write_key(&keys(), "two"), Some("name of two"));
    }

    #[test]
    fn a_part_of_a_key_is_no_key() {
        for guess in ["", "on", "onex", "ONE"] {
            assert_eq!(write_key(&keys(), guess), None, "{guess}");
        }
    }
}
