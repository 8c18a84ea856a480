//! What stands in the way of a source, and the names that follow from a forwarding.

use super::*;
use crate::testing::{forwarding, forwarding_inputs, secret as plain_secret};
use audittrail_crds::AuditForwardingStatus;
use audittrail_crds::condition::Reason;
use audittrail_crds::forwarding::CreatedSource;
use serde_json::json;

/// The forwarding `to-source`, which asks for a source of its own.
pub(super) fn asking(policy: &str) -> AuditForwarding {
    let create = json!({"tokenSecretRef": {"name": "token"}, "deletionPolicy": policy});
    let mut forwarding = forwarding(&json!({"region": "US", "create": create}));
    forwarding.spec.source.http_api.write_key_secret_ref = None;
    forwarding.metadata.uid = Some("3f9cde0a-8a55-4b0c-9f53-0d0c4e2ab001".to_owned());
    forwarding
}

fn asked(secret: Option<Secret>, trouble: Option<Trouble>) -> Inputs {
    Inputs { forwarding: asking("Retain"), write_key: secret, trouble, ..forwarding_inputs(&json!({"region": "US"})) }
}

fn ours() -> Secret {
    secret::build(&asking("Retain"), &Sensitive::new("key"))
}

fn said(inputs: &Inputs) -> Option<Reason> {
    trouble(inputs).map(|trouble| trouble.reason())
}

#[test]
fn a_forwarding_that_names_its_key_has_no_such_trouble() {
    assert_eq!(trouble(&forwarding_inputs(&json!({"region": "US"}))), None);
}

#[test]
fn until_the_key_is_kept_the_source_is_not_created() {
    assert_eq!(said(&asked(None, None)), Some(Reason::SourceNotCreated));
    let without_key = Secret { data: None, ..ours() };
    assert_eq!(said(&asked(Some(without_key), None)), Some(Reason::SourceNotCreated));
    assert_eq!(said(&asked(Some(ours()), None)), None);
}

#[test]
fn a_refusal_is_said_in_the_words_of_the_api() {
    let refused = answer::Failure::Token { words: "it answered 401: no such token".to_owned() };
    let inputs = asked(None, Some(Trouble::of(&refused, "token")));
    assert_eq!(said(&inputs), Some(Reason::TokenRefused));
    let words = trouble(&inputs).expect("trouble").to_string();
    assert!(words.contains("Secret token") && words.ends_with("it answered 401: no such token"), "{words}");
}

#[test]
fn a_secret_of_somebody_else_is_named() {
    let foreign = plain_secret("to-source-source", &[("writeKey", "foreign")]);
    assert_eq!(said(&asked(Some(foreign), None)), Some(Reason::ApplyFailed));
    let mut leaving = ours();
    leaving.metadata.owner_references.as_mut().expect("owners")[0].uid = "earlier".to_owned();
    assert_eq!(said(&asked(Some(leaving), None)), Some(Reason::SourceNotCreated));
}

#[test]
fn a_source_that_is_switched_off_is_said_so_while_its_key_is_kept() {
    let off = Trouble::SwitchedOff { slug: "s".to_owned(), id: "i".to_owned() };
    assert_eq!(said(&asked(Some(ours()), Some(off))), Some(Reason::SourceSwitchedOff));
}

#[test]
fn the_slug_follows_from_the_uid_and_a_status_of_another_uid_is_nobodys() {
    let mut forwarding = asking("Delete");
    assert_eq!(slug(&forwarding), "audittrail-3f9cde0a-8a55-4b0c-9f53-0d0c4e2ab001");
    let created_source = Some(CreatedSource { id: "i".to_owned(), slug: slug(&forwarding) });
    forwarding.status = Some(AuditForwardingStatus { created_source, ..AuditForwardingStatus::default() });
    assert_eq!(known(&forwarding), Some("i"));
    forwarding.metadata.uid = Some("another".to_owned());
    assert_eq!(known(&forwarding), None);
}

#[test]
fn a_token_is_printable_and_ends_at_4096_characters() {
    let reference = KeyReference { name: "token".to_owned(), key: None };
    let of = |text: &str| token(Some(&plain_secret("token", &[("token", text)])), &reference);
    assert!(of(&"t".repeat(TOKEN_MAX_CHARS)).is_ok());
    for text in [&"t".repeat(TOKEN_MAX_CHARS + 1), "", "a b", "a\n"] {
        assert!(of(text).is_err());
    }
    assert_eq!(
        token(None, &reference).expect_err("missing").to_string(),
        "Secret token does not exist in this namespace: create it with the key token"
    );
}
