//! Stage build: a forwarding's entry in the trail's configuration document. Pure, and cannot fail.

use super::validate::Valid;
use audittrail_crds::document::{Forwarding, StartFrom};
use audittrail_crds::forwarding::{self, HttpApi, Position};
use kube::ResourceExt;

/// The entry, with generation 0: the document gives it one.
pub fn entry(valid: &Valid) -> Forwarding {
    let spec = &valid.forwarding.spec;
    Forwarding {
        name: valid.forwarding.name_any(),
        generation: 0,
        enabled: spec.enabled,
        endpoint: endpoint(&spec.source.http_api),
        write_key: valid.write_key.clone(),
        ca: valid.authorities.clone(),
        start_from: spec.start_from.as_ref().map_or(StartFrom::Now, start),
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
