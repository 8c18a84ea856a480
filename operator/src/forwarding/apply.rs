//! Stage apply: has the trail's configuration document this entry? The trail's reconcile, which
//! the same changes wake, writes it; here is only looked. Pure.

use crate::board::Facts;
use audittrail_crds::document::Forwarding;

/// Where an entry is on its way to the collectors.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Placement {
    /// The document does not have it yet, or has an older one.
    Pending,
    /// The document has it.
    Placed {
        /// The document's generation in which the entry changed last.
        generation: i64,
        /// The base URL of the source.
        endpoint: String,
    },
}

/// Looks for `entry` (with generation 0) in the document that the trail's reconcile applied last.
pub fn placement(entry: &Forwarding, facts: Option<&Facts>) -> Placement {
    let document = facts.and_then(|facts| facts.applied.as_ref()).map(|applied| &applied.document);
    let placed = document.into_iter().flat_map(|document| &document.forwardings).find(|placed| {
        let mut content = (*placed).clone();
        content.generation = 0;
        content == *entry
    });
    placed.map_or(Placement::Pending, |placed| Placement::Placed {
        generation: placed.generation,
        endpoint: placed.endpoint.clone(),
    })
}
