//! One test for each validation error, and the choices that are made on the way.

use super::*;
use crate::testing::{external, forwarding_inputs, inputs, managed, now, secret, trail_made_at, valid};
use rcgen::KeyPair;
use serde_json::{Value, json};

fn refusal(inputs: &Inputs) -> (Reason, String) {
    let invalid = validate(inputs).expect_err("refused");
    (invalid.reason(), invalid.to_string())
}

fn with_write_key(data: &[(&str, &str)]) -> Inputs {
    let mut spec = managed();
    spec["ingest"] = json!({"writeKeySecretRef": {"name": "key"}});
    let mut inputs = inputs(&spec);
    inputs.secrets.write_key = Some(secret("key", data));
    inputs
}

fn with_uri(uri: &str) -> Inputs {
    let mut inputs = inputs(&external());
    inputs.secrets.uri = Some(secret("database", &[("uri", uri)]));
    inputs
}

#[test]
fn a_new_trail_has_nothing_yet_and_is_valid() {
    let valid = valid(&managed());
    assert_eq!(valid.claim, "cluster-uid/ns/acme");
    assert!(valid.kept.authority.is_none() && valid.kept.write_keys.is_none() && valid.kept.password.is_none());
}

#[test]
fn an_older_trail_of_the_same_workspace_wins() {
    let mut inputs = inputs(&managed());
    inputs.siblings.push(trail_made_at("older", 999, &managed()));
    let (reason, message) = refusal(&inputs);
    assert_eq!(reason, Reason::WorkspaceNotUnique);
    assert!(message.starts_with("AuditTrail older of this namespace"), "{message}");
}

#[test]
fn a_younger_trail_and_another_workspace_are_no_obstacle() {
    let mut inputs = inputs(&managed());
    inputs.siblings.push(trail_made_at("younger", 1001, &managed()));
    inputs.siblings.push(trail_made_at("other", 1, &json!({"workspace": "Other", "storage": {"managed": {}}})));
    assert!(validate(&inputs).is_ok());
}

#[test]
fn the_uid_decides_between_trails_of_the_same_second() {
    let mut inputs = inputs(&managed());
    inputs.siblings.push(trail_made_at("aaaa", 1000, &managed()));
    assert_eq!(refusal(&inputs).0, Reason::WorkspaceNotUnique);
    inputs.siblings.pop();
    inputs.siblings.push(trail_made_at("zzzz", 1000, &managed()));
    assert!(validate(&inputs).is_ok());
}

#[test]
fn a_missing_database_secret_is_named_with_its_key() {
    let (reason, message) = refusal(&inputs(&external()));
    assert_eq!(reason, Reason::SecretMissing);
    assert_eq!(message, "Secret database does not exist in this namespace: create it with the key uri");
}

#[test]
fn a_database_uri_needs_its_scheme() {
    for uri in ["postgresql://a@b/c", "postgres://a@b/c"] {
        assert!(validate(&with_uri(uri)).is_ok(), "{uri}");
    }
    let (reason, message) = refusal(&with_uri("mysql://a@b/c"));
    assert_eq!(reason, Reason::SecretInvalid);
    assert!(message.contains("it must start with postgresql://"), "{message}");
}

#[test]
fn a_database_uri_may_name_several_hosts() {
    assert!(validate(&with_uri("postgresql://u:p@h1:5432,h2:5432/db?target_session_attrs=read-write")).is_ok());
}

#[test]
fn a_database_uri_with_a_line_break_is_refused() {
    assert!(refusal(&with_uri("postgresql://a@b/c\n")).1.contains("a line break"));
}

#[test]
fn a_database_uri_ends_at_4000_characters() {
    let uri = |length: usize| format!("postgresql://{}", "a".repeat(length - "postgresql://".len()));
    assert!(validate(&with_uri(&uri(URI_MAX_CHARS))).is_ok());
    assert!(refusal(&with_uri(&uri(URI_MAX_CHARS + 1))).1.contains("longer than a connection URI may be"));
}

#[test]
fn a_refusal_never_shows_the_value() {
    assert!(!format!("{:?}", refusal(&with_uri("hunter2"))).contains("hunter2"));
}

#[test]
fn a_missing_write_key_secret_is_named() {
    let mut inputs = with_write_key(&[]);
    inputs.secrets.write_key = None;
    let (reason, message) = refusal(&inputs);
    assert_eq!(reason, Reason::SecretMissing);
    assert!(message.starts_with("Secret key does not exist"), "{message}");
}

#[test]
fn a_write_key_has_16_to_200_printable_characters() {
    for (length, good) in [(15, false), (16, true), (200, true), (201, false)] {
        let key = "k".repeat(length);
        assert_eq!(validate(&with_write_key(&[("writeKey", &key)])).is_ok(), good, "{length}");
    }
    for key in ["0123456789abcde\n", "0123456789 abcdef", "0123456789abcdefä"] {
        assert_eq!(refusal(&with_write_key(&[("writeKey", key)])).0, Reason::SecretInvalid, "{key:?}");
    }
}

#[test]
fn a_write_key_that_is_absent_or_empty_is_refused() {
    assert!(refusal(&with_write_key(&[("other", "x")])).1.ends_with("key writeKey is not there"));
    assert!(refusal(&with_write_key(&[("writeKey", "")])).1.ends_with("key writeKey is empty"));
}

#[test]
fn the_previous_write_key_is_accepted_too() {
    let data = [("writeKey", "0123456789abcdef"), ("writeKeyPrevious", "fedcba9876543210")];
    let keys = validate(&with_write_key(&data)).expect("valid").kept.write_keys.expect("keys");
    let names: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
    assert_eq!(names, ["key/writeKey", "key/writeKeyPrevious"]);
    let empty = with_write_key(&[("writeKey", "0123456789abcdef"), ("writeKeyPrevious", "")]);
    assert_eq!(validate(&empty).expect("valid").kept.write_keys.expect("keys").len(), 1);
}

#[test]
fn a_previous_write_key_that_is_too_short_is_refused() {
    let data = [("writeKey", "0123456789abcdef"), ("writeKeyPrevious", "short")];
    assert!(refusal(&with_write_key(&data)).1.contains("key writeKeyPrevious must have 16 to 200 characters"));
}

#[test]
fn a_damaged_authority_is_not_replaced_behind_the_clients_backs() {
    let made = || Authority::new("acme", &KeyPair::generate().expect("a key"), now()).expect("an authority");
    let (one, two) = (made(), made());
    for (certificate, key) in [("nonsense", "nonsense"), (one.certificate.as_str(), two.key.reveal())] {
        let mut inputs = inputs(&managed());
        inputs.secrets.authority = Some(secret("acme-ca", &[("tls.crt", certificate), ("tls.key", key)]));
        let (reason, message) = refusal(&inputs);
        assert_eq!(reason, Reason::SecretInvalid);
        assert!(message.contains("Secret acme-ca") && message.contains("delete the Secret"), "{message}");
    }
}

#[test]
fn a_password_secret_without_a_password_is_refused() {
    let mut inputs = inputs(&managed());
    inputs.secrets.postgres = Some(secret("acme-postgres", &[("username", "audittrail")]));
    assert!(refusal(&inputs).1.contains("Secret acme-postgres: key password is not there"));
}

#[test]
fn a_damaged_document_or_leaf_is_as_good_as_none() {
    let mut inputs = inputs(&managed());
    inputs.secrets.document = Some(secret("acme-collector", &[("document.json", "{")]));
    inputs.secrets.postgres_tls = Some(secret("acme-postgres-tls", &[]));
    let valid = validate(&inputs).expect("valid");
    assert!(valid.document.is_none() && valid.kept.postgres_leaf.is_none());
}

#[test]
fn the_storage_class_is_that_of_the_stateful_set_once_it_is_there() {
    let class = |live: Option<Value>| {
        let mut spec = managed();
        spec["storage"]["managed"]["storageClassName"] = json!("wished");
        let mut inputs = inputs(&spec);
        inputs.stateful_set = live.map(|claim| {
            let claims = json!([{"spec": claim}]);
            let spec = json!({"selector": {}, "serviceName": "s", "template": {}, "volumeClaimTemplates": claims});
            serde_json::from_value(json!({"metadata": {}, "spec": spec})).expect("a StatefulSet")
        });
        match validate(&inputs).expect("valid").storage {
            Storage::Managed(database) => database.storage_class_name,
            Storage::External(_) => panic!("managed"),
        }
    };
    assert_eq!(class(None).as_deref(), Some("wished"));
    assert_eq!(class(Some(json!({"storageClassName": "taken"}))).as_deref(), Some("taken"));
    assert_eq!(class(Some(json!({}))), None);
}

fn with_retention(retention: &str) -> Option<i64> {
    let mut spec = managed();
    spec["retention"] = json!(retention);
    valid(&spec).retention_seconds
}

#[test]
fn retention_counts_hours_and_days() {
    assert_eq!(with_retention("1h"), Some(3_600));
    assert_eq!(with_retention("36h"), Some(129_600));
    assert_eq!(with_retention("90d"), Some(7_776_000));
    assert_eq!(with_retention("99999d"), Some(8_639_913_600));
    assert_eq!(valid(&managed()).retention_seconds, None);
}

#[test]
fn a_retention_that_admission_should_have_refused_deletes_nothing() {
    for bad in ["", "d", "0d", "-1d", "9223372036854775807d", "90", "90D", "90 d", "ä"] {
        assert_eq!(with_retention(bad), None, "{bad:?}");
    }
}

#[test]
fn a_catalogue_that_collectors_would_refuse_is_named() {
    let mut spec = managed();
    spec["catalogue"] = json!({"eventTypes": [{"name": "A", "area": "X", "schema": {"type": "text"}}]});
    let (reason, message) = refusal(&inputs(&spec));
    assert_eq!(reason, Reason::CatalogueInvalid);
    assert!(message.starts_with(r#"spec.catalogue: the type "A": its schema cannot be compiled: "#), "{message}");
}

#[test]
fn the_example_of_a_catalogue_means_what_it_says() {
    let trail: AuditTrail =
        serde_saphyr::from_str(include_str!("../../../../examples/catalogue.yaml")).expect("a trail");
    let catalogue = Catalogue::of(&document_catalogue(&trail.spec.catalogue)).expect("it can be used");
    let details = json!({"invoice": "INV-7", "amount": {"value": 12.5, "currency": "EUR"}});
    assert_eq!(catalogue.details_faults("Invoice Sent", details.as_object()), []);
    assert_eq!(catalogue.details_faults("Invoice Sent", json!({"invoice": "7"}).as_object()).len(), 2);
    assert_eq!(catalogue.spelling("bill sent").as_deref(), Ok("Invoice Sent"));
}

#[test]
fn what_the_log_held_is_taken_from_the_live_status() {
    let mut inputs = inputs(&managed());
    inputs.facts = crate::testing::facts();
    let status = audittrail_crds::AuditTrailStatus {
        epoch: Some(1),
        events: Some(6),
        ..audittrail_crds::AuditTrailStatus::default()
    };
    inputs.trail.status = Some(status.clone());
    assert_eq!(validate(&inputs).expect("valid").known_log, None, "the copy may be old");
    inputs.siblings[0].status = Some(status);
    let known = KnownLog { epoch: 1, next_sequence: 6 };
    assert_eq!(validate(&inputs).expect("valid").known_log, Some(known), "the log has five events");
}

#[test]
fn an_invalid_forwarding_sends_nothing_keeps_its_place_and_stops_no_other() {
    let mut inputs = inputs(&managed());
    let mut broken = forwarding_inputs(&json!({"region": "US"}));
    broken.write_key = None;
    let mut off = broken.clone();
    off.forwarding.spec.enabled = false;
    inputs.forwardings = vec![broken, off, forwarding_inputs(&json!({"region": "EU"}))];
    let entries = validate(&inputs).expect("valid").forwardings;
    let of = |entry: &document::Forwarding| (entry.enabled, entry.incomplete, entry.write_key.reveal().is_empty());
    assert_eq!(
        entries.iter().map(of).collect::<Vec<_>>(),
        [(false, true, true), (false, false, true), (true, false, false)]
    );
}

#[test]
fn a_document_ends_at_900_kib() {
    let mut document = crate::testing::document();
    let empty = super::super::build::document::render(&document).len();
    document.trail.workspace.push_str(&"a".repeat(DOCUMENT_MAX_BYTES - empty));
    assert!(fits(&document).is_ok());
    document.trail.workspace.push('a');
    assert_eq!(fits(&document).expect_err("too large").reason(), Reason::ConfigurationTooLarge);
}

#[test]
fn an_authority_that_is_there_is_kept() {
    let made = Authority::new("acme", &KeyPair::generate().expect("a key"), now()).expect("an authority");
    let mut inputs = inputs(&managed());
    let data = [("tls.crt", made.certificate.as_str()), ("tls.key", made.key.reveal())];
    inputs.secrets.authority = Some(secret("acme-ca", &data));
    assert_eq!(validate(&inputs).expect("valid").kept.authority, Some(made));
}
