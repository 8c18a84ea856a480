//! What Prometheus sees: every metric with its name, its text and its labels, in one table, and one function for
//! each thing that happens.
//!
//! A label's value is one of a closed list, or a route of ours; nothing that a client sent ever becomes one. Names follow
//! Prometheus' "Metric and label naming". There is one registry a process, as `/metrics` speaks of the process.

pub mod endpoint;
mod process;

use ::metrics::{
    Counter, Gauge, Histogram, Label, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use audittrail_crds::report::State;
use axum::http::{Method, StatusCode};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use std::sync::OnceLock;
use std::time::Duration;
use tokio::time::sleep;

/// Upper bounds for durations, in seconds: a commit on a local disk takes one millisecond or some, and after 15 s its
/// requests are answered 503.
const SECONDS_BUCKETS: [f64; 13] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0];

/// Upper bounds for the requests and events of a group; the writer's own limits lie below the last.
const SIZE_BUCKETS: [f64; 9] = [1.0, 2.0, 5.0, 10.0, 50.0, 100.0, 500.0, 1_000.0, 10_000.0];

/// How often samples of histograms are put into their buckets. Until then each is kept by itself, so this bounds memory.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// Kinds of metrics (Prometheus, "Metric types").
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Only grows; starts at 0 with the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts of samples by size.
    Histogram,
}

/// A metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, unit included.
    pub name: &'static str,
    /// What kind it is.
    pub kind: Kind,
    /// Its label where it has one with a closed list of values.
    label: Option<(&'static str, &'static [&'static str])>,
    /// Other labels, whose values are closed as well: routes, methods, statuses.
    pub more_labels: &'static [&'static str],
    /// What it tells.
    pub text: &'static str,
}

impl Metric {
    /// Names of its labels.
    pub fn labels(&self) -> Vec<&'static str> {
        self.label.iter().map(|(name, _)| *name).chain(self.more_labels.iter().copied()).collect()
    }

    fn counter(&self) -> Counter {
        counter!(self.name)
    }

    fn gauge(&self) -> Gauge {
        gauge!(self.name)
    }

    fn histogram(&self) -> Histogram {
        histogram!(self.name)
    }

    /// The label with this value, which must be of the list.
    fn with(&self, value: &'static str) -> Vec<Label> {
        self.label.iter().map(|(name, _)| Label::from_static_parts(name, value)).collect()
    }

    fn describe(&self) {
        match self.kind {
            Kind::Counter => describe_counter!(self.name, self.text),
            Kind::Gauge => describe_gauge!(self.name, self.text),
            Kind::Histogram => describe_histogram!(self.name, self.text),
        }
    }

    /// Makes it appear with 0, so that a rate over its first increase is right. Those whose values only a request
    /// makes appear with that.
    fn begin(&self) {
        if !self.more_labels.is_empty() {
            return;
        }
        let values: Vec<Vec<Label>> = match self.label {
            Some((_, values)) => values.iter().map(|value| self.with(value)).collect(),
            None => vec![Vec::new()],
        };
        for labels in values {
            match self.kind {
                Kind::Counter => counter!(self.name, labels).increment(0),
                Kind::Gauge => gauge!(self.name, labels).set(0.0),
                Kind::Histogram => drop(histogram!(self.name, labels)),
            }
        }
    }
}

/// Declares the metrics, and the list of all.
macro_rules! metrics {
    ($($id:ident = $kind:ident $name:literal $([$label:literal: $values:expr])? $({$($more:literal),+})? $text:literal;)+) => {
        $(const $id: Metric = Metric {
            name: $name,
            kind: Kind::$kind,
            label: metrics!(@label $($label, $values)?),
            more_labels: &[$($($more),+)?],
            text: $text,
        };)+
        /// All metrics, in the order of the documentation.
        pub const ALL: &[Metric] = &[$($id),+];
    };
    (@label) => { None };
    (@label $label:literal, $values:expr) => { Some(($label, &$values)) };
}

const INPUTS: [&str; 5] = ["native", "cloudevents", "kubernetes", "segment", "view"];
const REASONS: [&str; 12] = [
    "invalid",
    "unauthenticated",
    "forbidden",
    "not_found",
    "method_not_allowed",
    "conflict",
    "too_large",
    "unsupported_media_type",
    "too_many_requests",
    "internal",
    "unavailable",
    "other",
];
const CALLS: [&str; 6] = ["identify", "page", "screen", "group", "alias", "other"];
const CONNECTIONS: [&str; 2] = ["idle", "in_use"];
const SEGMENTS: [&str; 5] = ["ahead", "open", "closed", "indexed", "dropping"];
const FORWARDINGS: [&str; 9] = [
    "disabled",
    "pending",
    "accepting",
    "retrying",
    "key_refused",
    "endpoint_refused",
    "event_refused",
    "loop",
    "filter_invalid",
];

metrics! {
    ACCEPTED = Counter "audittrail_events_accepted_total" ["input": INPUTS]
        "Events stored and acknowledged.";
    DUPLICATES = Counter "audittrail_events_duplicate_total" ["input": INPUTS]
        "Events that were stored already, and acknowledged again.";
    REFUSED = Counter "audittrail_ingest_refused_total" ["reason": REASONS]
        "Requests to write that were refused, by the type of problem.";
    NOT_STORED = Counter "audittrail_segment_calls_not_stored_total" ["type": CALLS]
        "Calls of Segment's API other than track: answered, and not stored.";
    COMMIT_SECONDS = Histogram "audittrail_commit_duration_seconds"
        "From taking up a group of requests to its COMMIT, tries again included.";
    GROUP_REQUESTS = Histogram "audittrail_commit_group_requests"
        "Requests that shared a COMMIT.";
    GROUP_EVENTS = Histogram "audittrail_commit_group_events"
        "Events that shared a COMMIT, duplicates included.";
    COMMIT_RETRIES = Counter "audittrail_commit_retries_total"
        "Times that a group was tried again, because the database did not take it.";
    COMMIT_FAILURES = Counter "audittrail_commit_failures_total"
        "Groups given up: their requests were answered 503.";
    QUEUE_REQUESTS = Gauge "audittrail_queue_requests"
        "Requests that wait for their group.";
    QUEUE_BYTES = Gauge "audittrail_queue_bytes"
        "Memory held by the bodies and events of requests in flight.";
    STREAMS = Gauge "audittrail_live_tails"
        "Live tails that are open.";
    DATABASE_UP = Gauge "audittrail_database_up"
        "1 when the database answered this scrape, else 0; the gauges of the log and of forwardings are then as they were.";
    CONNECTIONS_NOW = Gauge "audittrail_database_connections" ["state": CONNECTIONS]
        "Connections of this replica's pool.";
    CONNECTIONS_MAX = Gauge "audittrail_database_connections_max"
        "Connections that the pool may open.";
    LAST_SEQUENCE = Gauge "audittrail_last_sequence"
        "Sequence of the newest event; -1 when there is none. The same on each replica.";
    EPOCH = Gauge "audittrail_epoch"
        "Epoch of the log: raised when the database was restored or rewound. The same on each replica.";
    SEGMENTS_NOW = Gauge "audittrail_segments" ["state": SEGMENTS]
        "Segments of the log: made ahead, being filled, full, full with all indexes, on the way out. The same on each replica.";
    FORWARDINGS_NOW = Gauge "audittrail_forwardings" ["state": FORWARDINGS]
        "Forwardings by how delivery stands. The same on each replica.";
    FORWARDING_LAG_EVENTS = Gauge "audittrail_forwarding_lag_events_max"
        "Events stored and not yet delivered, of the forwarding that is behind most. The same on each replica.";
    FORWARDING_LAG_SECONDS = Gauge "audittrail_forwarding_lag_seconds_max"
        "Age of the oldest event not yet delivered, of the forwarding that is behind most. The same on each replica.";
    FORWARDED = Gauge "audittrail_forwarded_events"
        "Events that sources accepted since each forwarding began. The same on each replica.";
    FORWARDING_FILTERED = Gauge "audittrail_forwarding_filtered_events"
        "Events that filters left out since each forwarding began. The same on each replica.";
    FORWARDING_PARKED = Gauge "audittrail_forwarding_parked_events"
        "Events that sources refused for good, of all forwardings. The same on each replica.";
    FORWARDING_PARKED_MAX = Gauge "audittrail_forwarding_parked_events_max"
        "The same of the forwarding that has most: with 10,000 it waits. The same on each replica.";
    FORWARDING_RETRYING = Gauge "audittrail_forwarding_retrying_seconds_max"
        "How long every attempt has failed, of the forwarding whose source fails longest. The same on each replica.";
    HTTP_REQUESTS = Counter "audittrail_http_requests_total" {"method", "route", "status"}
        "Requests answered.";
    HTTP_SECONDS = Histogram "audittrail_http_request_duration_seconds" {"method", "route"}
        "From a request's headers to those of its answer.";
    BUILD = Gauge "audittrail_build_info" {"version"}
        "1, with the collector's version.";
    PROCESS_MEMORY = Gauge "process_resident_memory_bytes"
        "Resident memory.";
    PROCESS_FILES = Gauge "process_open_fds"
        "Open file descriptors.";
    PROCESS_CPU = Counter "process_cpu_seconds_total"
        "Processor time used in user and system mode, in whole seconds.";
    PROCESS_START = Gauge "process_start_time_seconds"
        "When the process started, in seconds since 1970.";
}

/// The form in which events came in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Input {
    /// Our own JSON, NDJSON included.
    Native,
    /// CloudEvents, in whichever mode.
    CloudEvents,
    /// Audit events of a Kubernetes API server.
    Kubernetes,
    /// Calls of Segment's Tracking API.
    Segment,
    /// None: the collector records who looked.
    View,
}

impl Input {
    fn label(self) -> &'static str {
        INPUTS[self as usize]
    }
}

/// A kind of call in Segment's API that is not stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Call {
    /// `identify`.
    Identify,
    /// `page`.
    Page,
    /// `screen`.
    Screen,
    /// `group`.
    Group,
    /// `alias`.
    Alias,
    /// Any other.
    Other,
}

impl Call {
    /// The kind that a client names, or [`Call::Other`].
    pub fn named(name: &str) -> Self {
        match name {
            "identify" => Self::Identify,
            "page" => Self::Page,
            "screen" => Self::Screen,
            "group" => Self::Group,
            "alias" => Self::Alias,
            _ => Self::Other,
        }
    }
}

/// Makes the registry of this process, with all metrics in it, and gives what renders it. The second call gives
/// the same.
pub fn install() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let suffix = |text: &str| Matcher::Suffix(text.to_owned());
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(suffix("_seconds"), &SECONDS_BUCKETS)
            .and_then(|builder| builder.set_buckets_for_metric(suffix("_requests"), &SIZE_BUCKETS))
            .and_then(|builder| builder.set_buckets_for_metric(suffix("_events"), &SIZE_BUCKETS))
            .expect("there are buckets")
            .build_recorder();
        let handle = recorder.handle();
        // Only a program that has a recorder of its own can be in the way; it then has our metrics there.
        let _installed = ::metrics::set_global_recorder(recorder);
        for metric in ALL {
            metric.describe();
            metric.begin();
        }
        gauge!(BUILD.name, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        process::started(&PROCESS_START.gauge());
        handle
    })
}

/// Keeps the memory of histograms bounded. Never ends.
pub async fn keep() {
    loop {
        sleep(UPKEEP_EVERY).await;
        install().run_upkeep();
    }
}

/// A request with events was acknowledged.
pub fn acknowledged(input: Input, accepted: usize, duplicates: usize) {
    counter!(ACCEPTED.name, ACCEPTED.with(input.label())).increment(accepted as u64);
    counter!(DUPLICATES.name, DUPLICATES.with(input.label())).increment(duplicates as u64);
}

/// A call of Segment's API was answered and not stored.
pub fn call_not_stored(call: Call) {
    counter!(NOT_STORED.name, NOT_STORED.with(CALLS[call as usize])).increment(1);
}

/// A request to write was refused with this status. No more than its kind is told.
pub fn refused(status: StatusCode) {
    counter!(REFUSED.name, REFUSED.with(reason(status))).increment(1);
}

/// A group was committed, this long after it was taken up.
pub fn group_committed(taken: Duration, requests: usize, events: usize) {
    COMMIT_SECONDS.histogram().record(taken);
    // A group is far smaller than what a float cannot count.
    #[expect(clippy::cast_precision_loss, reason = "a group has some ten thousand events at most")]
    for (metric, count) in [(GROUP_REQUESTS, requests as f64), (GROUP_EVENTS, events as f64)] {
        metric.histogram().record(count);
    }
}

/// A group is tried again.
pub fn group_retried() {
    COMMIT_RETRIES.counter().increment(1);
}

/// A group was given up.
pub fn group_failed() {
    COMMIT_FAILURES.counter().increment(1);
}

/// A request was answered. `route` is a route of ours, and never a path.
pub fn answered(method: &Method, route: &str, status: StatusCode, taken: Duration) {
    let method = method_label(method);
    let labels = [("method", method.to_owned()), ("route", route.to_owned())];
    histogram!(HTTP_SECONDS.name, &labels).record(taken);
    let [method, route] = labels;
    counter!(HTTP_REQUESTS.name, &[method, route, ("status", status.as_u16().to_string())]).increment(1);
}

/// Methods that are routed somewhere; a client may send any word at all.
pub fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        // The word of OpenTelemetry's conventions.
        _ => "_OTHER",
    }
}

fn reason(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 | 422 => "invalid",
        401 => "unauthenticated",
        403 => "forbidden",
        404 => "not_found",
        405 => "method_not_allowed",
        409 => "conflict",
        413 => "too_large",
        415 => "unsupported_media_type",
        429 => "too_many_requests",
        500 => "internal",
        503 => "unavailable",
        _ => "other",
    }
}

fn forwarding_label(state: State) -> &'static str {
    match state {
        State::Disabled => "disabled",
        State::Pending => "pending",
        State::Accepting => "accepting",
        State::Retrying => "retrying",
        State::KeyRefused => "key_refused",
        State::EndpointRefused => "endpoint_refused",
        State::EventRefused => "event_refused",
        State::Loop => "loop",
        State::FilterInvalid => "filter_invalid",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_name_is_there_once_and_ends_with_its_unit() {
        let names: BTreeSet<&str> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len());
        for Metric { name, kind, .. } in ALL {
            assert!(name.starts_with("audittrail_") || name.starts_with("process_"), "{name}");
            assert_eq!(*kind == Kind::Counter, name.ends_with("_total"), "{name}");
        }
    }

    /// Dashboards and alerts of others rest on these.
    #[test]
    fn names_and_labels_stay() {
        let line = |metric: &Metric| {
            let closed = metric.label.iter().map(|(name, values)| format!("{name}={}", values.join("|")));
            let labels = closed.chain(metric.more_labels.iter().map(|label| (*label).to_owned()));
            format!("{}{{{}}}", metric.name, labels.collect::<Vec<_>>().join(","))
        };
        insta::assert_snapshot!(ALL.iter().map(line).collect::<Vec<_>>().join("\n"));
    }

    #[test]
    fn every_metric_is_documented_with_its_labels() {
        let page = include_str!("../../../docs/operations.md");
        for metric in ALL {
            let labels: Vec<String> = metric.labels().iter().map(|label| format!("`{label}`")).collect();
            let kind = format!("{:?}", metric.kind).to_lowercase();
            let row = format!("| `{}` | {kind} | {} | {} |", metric.name, labels.join(", "), metric.text);
            assert!(page.contains(&row), "docs/operations.md lacks\n{row}");
        }
    }

    #[test]
    fn labels_are_of_their_lists() {
        let inputs = [Input::Native, Input::CloudEvents, Input::Kubernetes, Input::Segment, Input::View];
        assert_eq!(inputs.map(Input::label), INPUTS);
        let named = CALLS.map(|name| CALLS[Call::named(name) as usize]);
        assert_eq!(named, CALLS);
        assert_eq!(Call::named("Robert'); DROP TABLE"), Call::Other);
        for code in 100..1000 {
            let status = StatusCode::from_u16(code).expect("three digits");
            assert!(REASONS.contains(&reason(status)));
        }
        assert_eq!(method_label(&Method::from_bytes(b"MARKER").expect("a token")), "_OTHER");
    }

    #[test]
    fn every_state_of_a_forwarding_has_its_label() {
        use State::{
            Accepting, Disabled, EndpointRefused, EventRefused, FilterInvalid, KeyRefused, Loop, Pending, Retrying,
        };
        let states =
            [Disabled, Pending, Accepting, Retrying, KeyRefused, EndpointRefused, EventRefused, Loop, FilterInvalid];
        assert_eq!(states.map(forwarding_label), FORWARDINGS);
    }
}
