//! Stage build: a forwarding's entry in the trail's configuration document. Pure, and cannot fail.

use super::validate::Valid;
use audittrail_crds::AuditForwarding;
use audittrail_crds::document::{Forwarding, Sensitive, StartFrom};
use audittrail_crds::forwarding::{self, HttpApi, Position};
use kube::ResourceExt;

/// The entry, with generation 0: the document gives it one.
pub fn entry(valid: &Valid) -> Forwarding {
    Forwarding {
        enabled: valid.forwarding.spec.enabled,
        incomplete: false,
        write_key: valid.write_key.clone(),
        ca: valid.authorities.clone(),
        ..incomplete(&valid.forwarding)
    }
}

/// The entry of a forwarding that names what is not there: nothing is sent. It has its cursor from the moment of its creation,
/// and what it has not delivered is kept.
pub fn incomplete(forwarding: &AuditForwarding) -> Forwarding {
    let spec = &forwarding.spec;
    Forwarding {
        name: forwarding.name_any(),
        generation: 0,
        enabled: false,
        incomplete: spec.enabled,
        endpoint: endpoint(&spec.source.http_api),
        write_key: Sensitive::new(""),
        ca: None,
        start_from: spec.start_from.as_ref().map_or(StartFrom::Now, start),
        filter: spec.filter.clone().unwrap_or_default(),
        format: spec.format,
        delivery: spec.delivery.unwrap_or_default(),
    }
}

/// The base URL, without a slash at its end: the collector appends a path.
fn endpoint(source: &HttpApi) -> String {
    let named = source.endpoint.as_deref().or_else(|| source.region.map(forwarding::Region::endpoint));
    // Admission saw to it that one of the two is there.
    named.unwrap_or_default().trim_end_matches('/').to_owned()
}

/// Admission saw to it that exactly one member is set.
fn start(from: &forwarding::StartFrom) -> StartFrom {
    match (&from.position, &from.time, from.sequence) {
        (_, Some(time), _) => StartFrom::Time(time.clone()),
        (_, _, Some(sequence)) => StartFrom::Sequence(sequence),
        (Some(Position::Beginning), _, _) => StartFrom::Beginning,
        (Some(Position::Now) | None, _, _) => StartFrom::Now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forwarding::validate::validate;
    use crate::testing::{forwarding, forwarding_inputs};
    use audittrail_crds::document::Format;
    use serde_json::json;

    fn entry_of(source: &serde_json::Value) -> Forwarding {
        entry(&validate(&forwarding_inputs(source)).expect("valid"))
    }

    #[test]
    fn a_region_is_segments_own_endpoint() {
        assert_eq!(entry_of(&json!({"region": "US"})).endpoint, "https://api.segment.io");
        assert_eq!(entry_of(&json!({"region": "EU"})).endpoint, "https://events.eu1.segmentapis.com");
    }

    #[test]
    fn an_endpoint_loses_its_last_slash() {
        assert_eq!(
            entry_of(&json!({"endpoint": "https://source.example/base/"})).endpoint,
            "https://source.example/base"
        );
    }

    #[test]
    fn each_place_to_start_from_has_its_word() {
        for (from, expected) in [
            (json!(null), StartFrom::Now),
            (json!({"position": "Now"}), StartFrom::Now),
            (json!({"position": "Beginning"}), StartFrom::Beginning),
            (json!({"sequence": 7}), StartFrom::Sequence(7)),
        ] {
            let mut inputs = forwarding_inputs(&json!({"region": "US"}));
            inputs.forwarding.spec.start_from = serde_json::from_value(from).expect("a place");
            assert_eq!(entry(&validate(&inputs).expect("valid")).start_from, expected);
        }
    }

    #[test]
    fn what_is_sent_and_how_is_taken_as_it_stands() {
        let mut inputs = forwarding_inputs(&json!({"region": "US"}));
        let plain = entry(&validate(&inputs).expect("valid"));
        assert_eq!(plain, Forwarding::new("to-source", "https://api.segment.io", plain.write_key.clone()));
        let filter = json!({
            "include": [{"area": ["Users"], "outcome": ["denied"]}],
            "exclude": [{"type": ["Permission Check"], "actorType": ["system"]}],
        });
        let delivery =
            json!({"maxBatchEvents": 10, "maxBatchBytes": 50_000, "maxEventsPerSecond": 5, "compression": "Gzip"});
        let spec = &mut inputs.forwarding.spec;
        spec.filter = Some(serde_json::from_value(filter.clone()).expect("a filter"));
        spec.delivery = Some(serde_json::from_value(delivery.clone()).expect("a delivery"));
        spec.format = Format::SegmentAudit;
        let entry = serde_json::to_value(entry(&validate(&inputs).expect("valid"))).expect("JSON");
        assert_eq!((&entry["filter"], &entry["delivery"]), (&filter, &delivery));
        assert_eq!(entry["format"], "SegmentAudit");
    }

    #[test]
    fn the_toggle_is_on_unless_it_is_said_otherwise() {
        assert!(entry_of(&json!({"region": "US"})).enabled);
        assert!(forwarding(&json!({"region": "US"})).spec.enabled);
    }
}
