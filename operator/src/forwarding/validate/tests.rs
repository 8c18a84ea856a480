//! One test for each validation error.

use super::*;
use crate::testing::{config_map, forwarding_inputs, now, secret};
use serde_json::json;

fn refusal(inputs: &Inputs) -> (Reason, String) {
    let invalid = validate(inputs).expect_err("refused");
    (invalid.reason(), invalid.to_string())
}

fn with_key(key: &str) -> Inputs {
    Inputs { write_key: Some(secret("source", &[("writeKey", key)])), ..forwarding_inputs(&json!({"region": "US"})) }
}

fn with_authorities(authorities: Option<ConfigMap>) -> Inputs {
    let source = json!({"region": "US", "caConfigMapRef": {"name": "authorities"}});
    Inputs { authorities, ..forwarding_inputs(&source) }
}

#[test]
fn a_missing_trail_is_named() {
    let (reason, message) = refusal(&Inputs { trail_exists: false, ..with_key("k") });
    assert_eq!(reason, Reason::TrailMissing);
    assert!(message.starts_with("AuditTrail acme does not exist in this namespace"), "{message}");
}

#[test]
fn a_missing_secret_is_named() {
    let (reason, message) = refusal(&Inputs { write_key: None, ..with_key("k") });
    assert_eq!(reason, Reason::SecretMissing);
    assert_eq!(message, "Secret source does not exist in this namespace: create it with the key writeKey");
}

#[test]
fn a_secret_without_the_key_is_invalid() {
    let inputs = Inputs { write_key: Some(secret("source", &[])), ..with_key("k") };
    assert_eq!(refusal(&inputs), (Reason::SecretInvalid, "Secret source: key writeKey is not there".to_owned()));
}

#[test]
fn another_key_of_the_secret_may_be_named() {
    let source = json!({"region": "US", "writeKeySecretRef": {"name": "source", "key": "segment"}});
    let write_key = Some(secret("source", &[("segment", "named")]));
    let valid = validate(&Inputs { write_key, ..forwarding_inputs(&source) }).expect("valid");
    assert_eq!(valid.write_key.reveal(), "named");
}

#[test]
fn a_write_key_is_printable_and_ends_at_1000_characters() {
    assert!(validate(&with_key(&"k".repeat(WRITE_KEY_MAX_CHARS))).is_ok());
    assert_eq!(refusal(&with_key(&"k".repeat(WRITE_KEY_MAX_CHARS + 1))).0, Reason::SecretInvalid);
    for key in ["", "a b", "a\n"] {
        assert_eq!(refusal(&with_key(key)).0, Reason::SecretInvalid, "{key:?}");
    }
}

#[test]
fn a_missing_config_map_is_named() {
    let (reason, message) = refusal(&with_authorities(None));
    assert_eq!(reason, Reason::ConfigMapMissing);
    assert_eq!(message, "ConfigMap authorities does not exist in this namespace: create it with the key ca.crt");
}

#[test]
fn a_config_map_without_the_key_or_certificates_is_invalid() {
    for map in [config_map("other", "x"), config_map("ca.crt", "nonsense"), config_map("ca.crt", "")] {
        assert_eq!(refusal(&with_authorities(Some(map))).0, Reason::ConfigMapInvalid);
    }
}

#[test]
fn certificates_are_taken_as_they_are() {
    let key = rcgen::KeyPair::generate().expect("a key");
    let made = crate::pki::Authority::new("source", &key, now()).expect("an authority").certificate;
    let valid = validate(&with_authorities(Some(config_map("ca.crt", &made)))).expect("valid");
    assert_eq!(valid.authorities, Some(made));
}
