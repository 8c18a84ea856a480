//! The configuration document, and the rule by which its generation grows.

use super::super::material::Material;
use super::super::validate::{Storage, Valid};
use crate::board::Facts;
use crate::names::{Names, POSTGRES_PORT, POSTGRES_USER};
use crate::settings::Settings;
use audittrail_crds::AuditTrailStatus;
use audittrail_crds::document::{Access, ClusterAccess, Database, Document, Ingest, Sensitive, Tls, Trail, VERSION};
use jiff::Timestamp;
use std::fmt::Write as _;

/// Builds the document that follows the present one.
pub fn build(valid: &Valid, material: &Material, settings: &Settings, now: Timestamp) -> Document {
    stamp(draft(valid, material, settings), valid.document.as_ref(), valid.known_generation, now)
}

/// The highest generation that is known to have been given, whatever has become of the document: by this process, by what
/// collectors report, and by the status, which outlives both. 0 where none is.
pub fn known_generation(status: &AuditTrailStatus, facts: &Facts) -> i64 {
    let applied = facts.applied.iter().map(|applied| applied.document.generation);
    let report = facts.observation.iter().flatten();
    let reported =
        report.flat_map(|report| report.replicas.iter().map(|replica| replica.generation).chain([report.generation]));
    applied.chain(reported).chain(status.configuration_generation).max().unwrap_or_default()
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
/// that is higher than any before. Collectors refuse a lower one, and would go on with an old toggle. So a document that was
/// deleted, damaged or put back to an older one does not take the generation along: `known` is a lower bound, and so is the
/// time in seconds where nothing is known. An entry keeps the generation of the document in which it changed last.
fn stamp(mut draft: Document, present: Option<&Document>, known: i64, now: Timestamp) -> Document {
    let present = present.filter(|present| present.generation >= known);
    if let Some(present) = present.filter(|present| without_generations(present) == draft) {
        return present.clone();
    }
    let highest = present.map_or(known, |present| present.generation);
    draft.generation = now.as_second().max(highest.saturating_add(1));
    for entry in &mut draft.forwardings {
        let same = present.iter().flat_map(|present| &present.forwardings).find(|other| {
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
    use crate::board::Applied;
    use crate::testing::{facts, report};
    use audittrail_crds::document::{Catalogue, Delivery, Format, Forwarding};
    use audittrail_crds::filter::{EventFilter, Selector};
    use audittrail_crds::report::Report;
    use std::sync::Arc;

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
        let first = stamp(document(vec![entry("a", true)]), None, 0, at(1000));
        assert_eq!((first.generation, first.forwardings[0].generation), (1000, 1000));
    }

    #[test]
    fn a_document_that_is_gone_does_not_take_its_generation_along() {
        let again = stamp(document(vec![entry("a", false)]), None, 2000, at(1000));
        assert_eq!((again.generation, again.forwardings[0].generation), (2001, 2001));
    }

    #[test]
    fn a_document_older_than_what_is_known_is_not_gone_back_to() {
        let older = stamp(document(vec![entry("a", true), entry("b", true)]), None, 0, at(1000));
        for (known, expected) in [(1000, [1000, 1000, 1000]), (1001, [1002, 1002, 1002])] {
            let next = stamp(document(vec![entry("a", true), entry("b", true)]), Some(&older), known, at(10));
            assert_eq!([next.generation, next.forwardings[0].generation, next.forwardings[1].generation], expected);
        }
    }

    #[test]
    fn the_highest_generation_is_known_from_the_process_the_collectors_and_the_status() {
        let nothing = AuditTrailStatus::default();
        assert_eq!(known_generation(&nothing, &Facts::default()), 0);
        assert_eq!(known_generation(&nothing, &facts()), 100);
        let with_report = |change: fn(&mut Report)| {
            let mut report = report();
            change(&mut report);
            known_generation(&AuditTrailStatus::default(), &Facts { observation: Some(Ok(report)), ..facts() })
        };
        assert_eq!(with_report(|report| report.generation = 101), 101);
        assert_eq!(with_report(|report| report.replicas[0].generation = 102), 102);
        let status = AuditTrailStatus { configuration_generation: Some(103), ..nothing };
        assert_eq!(known_generation(&status, &facts()), 103);
        let applied = document(vec![]);
        let applied = Applied {
            document: Document { generation: 104, ..applied },
            ..(*facts().applied.expect("applied")).clone()
        };
        assert_eq!(known_generation(&status, &Facts { applied: Some(Arc::new(applied)), ..facts() }), 104);
    }

    #[test]
    fn the_same_content_keeps_its_generation() {
        let first = stamp(document(vec![entry("a", true)]), None, 0, at(1000));
        assert_eq!(stamp(document(vec![entry("a", true)]), Some(&first), 0, at(2000)), first);
    }

    #[test]
    fn a_change_within_the_same_second_still_grows() {
        let first = stamp(document(vec![]), None, 0, at(1000));
        let second = stamp(document(vec![entry("a", true)]), Some(&first), 0, at(1000));
        assert_eq!(second.generation, 1001);
    }

    #[test]
    fn a_clock_that_went_back_does_not_take_the_generation_along() {
        let first = stamp(document(vec![]), None, 0, at(1000));
        assert_eq!(stamp(document(vec![entry("a", true)]), Some(&first), 0, at(10)).generation, 1001);
    }

    #[test]
    fn an_entry_that_did_not_change_keeps_its_generation() {
        let first = stamp(document(vec![entry("a", true), entry("b", true)]), None, 0, at(1000));
        let second = stamp(document(vec![entry("a", true), entry("b", false)]), Some(&first), 0, at(2000));
        let generations: Vec<i64> = second.forwardings.iter().map(|entry| entry.generation).collect();
        assert_eq!(generations, [1000, 2000]);
    }

    #[test]
    fn a_filter_a_format_and_a_delivery_are_changes_of_their_entry_only() {
        let (a, b) = (entry("a", true), entry("b", true));
        let exclude = vec![Selector { area: vec!["Users".to_owned()], ..Selector::default() }];
        let first = stamp(document(vec![a.clone(), b.clone()]), None, 0, at(1000));
        for changed in [
            Forwarding { filter: EventFilter { exclude, ..EventFilter::default() }, ..b.clone() },
            Forwarding { format: Format::SegmentAudit, ..b.clone() },
            Forwarding { delivery: Delivery { max_batch_events: Some(1), ..Delivery::default() }, ..b },
        ] {
            let second = stamp(document(vec![a.clone(), changed]), Some(&first), 0, at(2000));
            let generations: Vec<i64> = second.forwardings.iter().map(|entry| entry.generation).collect();
            assert_eq!(generations, [1000, 2000]);
        }
    }

    #[test]
    fn removing_an_entry_is_a_change() {
        let first = stamp(document(vec![entry("a", true)]), None, 0, at(1000));
        assert_eq!(stamp(document(vec![]), Some(&first), 0, at(2000)).generation, 2000);
    }

    #[test]
    fn a_password_of_any_characters_fits_the_uri() {
        assert_eq!(percent_encoded("aZ9/:@ é"), "aZ9%2F%3A%40%20%C3%A9");
    }
}
