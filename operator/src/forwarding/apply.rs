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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::Applied;
    use crate::forwarding::{build, validate::validate};
    use crate::testing::{facts, forwarding_inputs};
    use audittrail_crds::document::{Delivery, Format, Sensitive};
    use audittrail_crds::filter::{EventFilter, Selector};
    use serde_json::json;
    use std::sync::Arc;

    fn entry() -> Forwarding {
        build::entry(&validate(&forwarding_inputs(&json!({"region": "US"}))).expect("valid"))
    }

    fn facts_with(entries: Vec<Forwarding>) -> Facts {
        let mut facts = facts();
        let applied = facts.applied.as_deref().expect("applied").clone();
        let document = audittrail_crds::document::Document { forwardings: entries, ..applied.document };
        facts.applied = Some(Arc::new(Applied { document, ..applied }));
        facts
    }

    #[test]
    fn an_entry_that_the_document_has_is_placed_with_its_generation() {
        let facts = facts_with(vec![Forwarding { generation: 7, ..entry() }]);
        let expected = Placement::Placed { generation: 7, endpoint: "https://api.segment.io".to_owned() };
        assert_eq!(placement(&entry(), Some(&facts)), expected);
    }

    #[test]
    fn an_entry_that_is_absent_or_older_is_pending() {
        assert_eq!(placement(&entry(), None), Placement::Pending);
        assert_eq!(placement(&entry(), Some(&facts_with(vec![]))), Placement::Pending);
        let mut older = vec![Forwarding { enabled: false, ..entry() }];
        older.push(Forwarding { write_key: Sensitive::new("previous"), ..entry() });
        older.push(Forwarding { format: Format::SegmentAudit, ..entry() });
        older.push(Forwarding {
            delivery: Delivery { max_events_per_second: Some(1), ..Delivery::default() },
            ..entry()
        });
        let exclude = vec![Selector { area: vec!["Users".to_owned()], ..Selector::default() }];
        older.push(Forwarding { filter: EventFilter { exclude, ..EventFilter::default() }, ..entry() });
        for one in older {
            let facts = facts_with(vec![Forwarding { generation: 7, ..one }]);
            assert_eq!(placement(&entry(), Some(&facts)), Placement::Pending);
        }
    }
}
