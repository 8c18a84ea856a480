//! The configuration document, and the rule by which its generation grows.

use super::super::material::Material;
use super::super::validate::{Storage, Valid};
use crate::names::{Names, POSTGRES_PORT, POSTGRES_USER};
use crate::settings::Settings;
use audittrail_crds::document::{Access, ClusterAccess, Database, Document, Ingest, Sensitive, Tls, Trail, VERSION};
use jiff::Timestamp;
use std::fmt::Write as _;

/// Builds the document that follows the present one.
pub fn build(valid: &Valid, material: &Material, settings: &Settings, now: Timestamp) -> Document {
    stamp(draft(valid, material, settings), valid.document.as_ref(), now)
}

/// The document's text.
pub fn render(document: &Document) -> String {
    // Plain data with text keys: it always becomes JSON.
    serde_json::to_string(document).unwrap_or_default()
}

/// Everything but the generations, which are 0.
fn draft(valid: &Valid, material: &Material, settings: &Settings) -> Document {
    let names = &valid.names;
    Document {
        version: VERSION,
        generation: 0,
        trail: Trail {
            namespace: names.namespace.clone(),
            name: names.trail.clone(),
            workspace: valid.trail.spec.workspace.clone(),
            claim: valid.claim.clone(),
        },
        database: database(valid, material),
        access: Access::Kubernetes(ClusterAccess {
            audience: names.collector_host(),
            api_server_tokens: valid.trail.spec.access.api_server_tokens,
            operator: Some(format!("{}/{}", settings.namespace, settings.service_account)),
        }),
        ingest: Ingest {
            write_keys: material.write_keys.clone(),
            kubernetes_objects: valid.trail.spec.ingest.kubernetes.objects,
        },
        catalogue: valid.catalogue.clone(),
        retention_seconds: valid.retention_seconds,
        known_log: valid.known_log,
        tls: Some(Tls {
            certificate: material.collector_leaf.certificate.clone(),
            key: material.collector_leaf.key.clone(),
        }),
        allowed_source_networks: settings.allowed_source_networks.iter().map(ToString::to_string).collect(),
        forwardings: valid.forwardings.clone(),
    }
}

fn database(valid: &Valid, material: &Material) -> Database {
    match &valid.storage {
        Storage::External(uri) => Database { uri: uri.clone(), ca: None },
        Storage::Managed(_) => Database {
            uri: managed_uri(&valid.names, material.postgres_password.as_ref()),
            ca: Some(material.authority.certificate.clone()),
        },
    }
}

fn managed_uri(names: &Names, password: Option<&Sensitive>) -> Sensitive {
    let password = percent_encoded(password.map_or("", Sensitive::reveal));
    let host = names.postgres_host();
    Sensitive::new(format!(
        "postgresql://{POSTGRES_USER}:{password}@{host}:{POSTGRES_PORT}/{POSTGRES_USER}?sslmode=verify-full"
    ))
}

/// Ours are letters and digits; a password from elsewhere may be anything (RFC 3986, section 2.1).
fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
        encoded
    })
}

/// Gives `draft` its generations: the present document's where nothing changed; otherwise one
/// that is higher than any before. The time in seconds is a lower bound, so that the generation
/// grows even when the document was deleted in between. An entry keeps the generation of the
/// document in which it changed last.
fn stamp(mut draft: Document, present: Option<&Document>, now: Timestamp) -> Document {
    let Some(present) = present else {
        draft.generation = now.as_second();
        for entry in &mut draft.forwardings {
            entry.generation = draft.generation;
        }
        return draft;
    };
    if without_generations(present) == draft {
        return present.clone();
    }
    draft.generation = now.as_second().max(present.generation + 1);
    for entry in &mut draft.forwardings {
        let same = present.forwardings.iter().find(|other| {
            let mut other = (*other).clone();
            other.generation = 0;
            other == *entry
        });
        entry.generation = same.map_or(draft.generation, |same| same.generation);
    }
    draft
}

fn without_generations(document: &Document) -> Document {
    let mut document = document.clone();
    document.generation = 0;
    for entry in &mut document.forwardings {
        entry.generation = 0;
    }
    document
}

#[cfg(test)]
mod tests {
    use super::*;
    use audittrail_crds::document::{Catalogue, Delivery, Format, Forwarding};
    use audittrail_crds::filter::{EventFilter, Selector};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    fn entry(name: &str, enabled: bool) -> Forwarding {
        Forwarding { enabled, ..Forwarding::new(name, "https://source.example", Sensitive::new("k")) }
    }

    fn document(forwardings: Vec<Forwarding>) -> Document {
        Document {
            version: VERSION,
            generation: 0,
            trail: Trail {
                namespace: "ns".to_owned(),
                name: "acme".to_owned(),
                workspace: "Acme".to_owned(),
                claim: "c".to_owned(),
            },
            database: Database { uri: Sensitive::new("postgresql://x"), ca: None },
            access: Access::Kubernetes(ClusterAccess::default()),
            ingest: Ingest::default(),
            catalogue: Catalogue::default(),
            retention_seconds: None,
            known_log: None,
            tls: None,
            allowed_source_networks: Vec::new(),
            forwardings,
        }
    }

    #[test]
    fn the_first_generation_is_the_time() {
        let first = stamp(document(vec![entry("a", true)]), None, at(1000));
        assert_eq!((first.generation, first.forwardings[0].generation), (1000, 1000));
    }

    #[test]
    fn the_same_content_keeps_its_generation() {
        let first = stamp(document(vec![entry("a", true)]), None, at(1000));
        assert_eq!(stamp(document(vec![entry("a", true)]), Some(&first), at(2000)), first);
    }

    #[test]
    fn a_change_within_the_same_second_still_grows() {
        let first = stamp(document(vec![]), None, at(1000));
        let second = stamp(document(vec![entry("a", true)]), Some(&first), at(1000));
        assert_eq!(second.generation, 1001);
    }

    #[test]
    fn a_clock_that_went_back_does_not_take_the_generation_along() {
        let first = stamp(document(vec![]), None, at(1000));
        assert_eq!(stamp(document(vec![entry("a", true)]), Some(&first), at(10)).generation, 1001);
    }

    #[test]
    fn an_entry_that_did_not_change_keeps_its_generation() {
        let first = stamp(document(vec![entry("a", true), entry("b", true)]), None, at(1000));
        let second = stamp(document(vec![entry("a", true), entry("b", false)]), Some(&first), at(2000));
        let generations: Vec<i64> = second.forwardings.iter().map(|entry| entry.generation).collect();
        assert_eq!(generations, [1000, 2000]);
    }

    #[test]
    fn a_filter_a_format_and_a_delivery_are_changes_of_their_entry_only() {
        let (a, b) = (entry("a", true), entry("b", true));
        let exclude = vec![Selector { area: vec!["Users".to_owned()], ..Selector::default() }];
        let first = stamp(document(vec![a.clone(), b.clone()]), None, at(1000));
        for changed in [
            Forwarding { filter: EventFilter { exclude, ..EventFilter::default() }, ..b.clone() },
            Forwarding { format: Format::SegmentAudit, ..b.clone() },
            Forwarding { delivery: Delivery { max_batch_events: Some(1), ..Delivery::default() }, ..b },
        ] {
            let second = stamp(document(vec![a.clone(), changed]), Some(&first), at(2000));
            let generations: Vec<i64> = second.forwardings.iter().map(|entry| entry.generation).collect();
            assert_eq!(generations, [1000, 2000]);
        }
    }

    #[test]
    fn removing_an_entry_is_a_change() {
        let first = stamp(document(vec![entry("a", true)]), None, at(1000));
        assert_eq!(stamp(document(vec![]), Some(&first), at(2000)).generation, 2000);
    }

    #[test]
    fn a_password_of_any_characters_fits_the_uri() {
        assert_eq!(percent_encoded("aZ9/:@ é"), "aZ9%2F%3A%40%20%C3%A9");
    }
}
