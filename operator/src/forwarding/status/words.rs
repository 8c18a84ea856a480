//! What the messages of a forwarding's conditions say: what is wrong, what waits, what to do. Pure.

use audittrail_crds::AuditForwarding;
use audittrail_crds::forwarding::{Region, WRITE_KEY};
use audittrail_crds::report::Forwarding;
use kube::ResourceExt;

/// The source accepts, since when, and what cannot be known.
pub fn accepts(endpoint: &str, since: &str, entry: &Forwarding) -> String {
    let segment = [Region::Us, Region::Eu].iter().any(|region| region.endpoint() == endpoint);
    // Segment, "HTTP Tracking API", errors: 200 for all but malformed requests.
    let caveat = if segment {
        " Segment answers 200 to a wrong key too, so it cannot confirm the key: see the source's debugger."
    } else {
        ""
    };
    let parked = match entry.parked {
        ..=0 => String::new(),
        count => format!(" It refused {} for good: see the condition EventsParked.", events(count)),
    };
    format!("The source accepts since {since}.{caveat}{parked}")
}

/// It is tried again: since when, what waits meanwhile, and why.
pub fn unavailable(entry: &Forwarding) -> String {
    let since = entry.retrying_since.as_ref().map(|since| format!(" since {}", since.0)).unwrap_or_default();
    format!(
        "the source is not available{since}, and is tried again for as long as it takes; {}. {}",
        waiting(entry),
        said(entry)
    )
}

/// The key is refused.
pub fn refuses_key(forwarding: &AuditForwarding, entry: &Forwarding) -> String {
    let secret = forwarding.write_key_secret();
    let (name, key) = (&secret.name, secret.key_or(WRITE_KEY));
    let advice = if forwarding.spec.source.http_api.create.is_some() {
        format!(
            "the source was made for this forwarding, and its key is in the Secret {name}: see whether it is still there and enabled"
        )
    } else {
        format!("put the right one into the Secret {name}, key {key}")
    };
    format!("the source refuses the write key: {advice}. Nothing is skipped: {}. {}", waiting(entry), said(entry))
}

/// The endpoint answers as no HTTP API source does.
pub fn refuses_request(entry: &Forwarding) -> String {
    format!(
        "the endpoint does not answer as an HTTP API source: correct source.httpApi. Nothing is skipped: {}. {}",
        waiting(entry),
        said(entry)
    )
}

/// It waits rather than park a whole trail.
pub fn refuses_events(forwarding: &AuditForwarding, entry: &Forwarding) -> String {
    format!(
        "the source refused three events in a row, or no more can be parked ({} parked): forwarding waits there, and none is skipped. \
         Check source.httpApi and format; leave such events out with filter.exclude; send parked ones again with {}. {}. {}",
        entry.parked,
        replay(&forwarding.name_any()),
        capitalized(&waiting(entry)),
        said(entry)
    )
}

/// The events would go in a circle.
pub fn looped(entry: &Forwarding) -> String {
    format!(
        "the source is a trail that these events came from, and it refuses them: point source.httpApi elsewhere, or leave out with \
         filter.exclude what that trail's own forwarding wrote (submittedBy). {}. {}",
        capitalized(&waiting(entry)),
        said(entry)
    )
}

/// The filter names something that there is not.
pub fn filter_invalid(entry: &Forwarding) -> String {
    format!("spec.filter cannot be used: {}", entry.last_error.as_deref().unwrap_or("no more is known"))
}

/// Copies are kept aside: how many, and how to see them and send them again.
pub fn parked(name: &str, count: i64) -> String {
    format!(
        "the source refused {} for good; copies are kept, and the rest goes on. GET /v1/forwardings/{name}/parked of the collector \
         lists them with the source's words, {} sends them again",
        events(count),
        replay(name)
    )
}

fn replay(name: &str) -> String {
    format!("POST /v1/forwardings/{name}/replay")
}

/// What has yet to be delivered.
fn waiting(entry: &Forwarding) -> String {
    match entry.lag_events {
        ..=0 => "no event waits".to_owned(),
        1 => format!("1 event waits, for {} s", entry.lag_seconds),
        count => format!("{count} events wait, the oldest for {} s", entry.lag_seconds),
    }
}

/// The source's words, and its status code where these do not have it already.
fn said(entry: &Forwarding) -> String {
    let words = entry.last_error.as_deref().unwrap_or("no more is known");
    match entry.last_error_code.map(|code| code.to_string()) {
        Some(code) if !words.contains(&code) => format!("Last error: {code}: {words}"),
        _ => format!("Last error: {words}"),
    }
}

fn events(count: i64) -> String {
    if count == 1 { "1 event".to_owned() } else { format!("{count} events") }
}

fn capitalized(sentence: &str) -> String {
    let mut letters = sentence.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
