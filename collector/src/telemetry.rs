//! Logs, and traces where an OTLP receiver is named.
//!
//! Traces follow OpenTelemetry: the standard environment variables, W3C Trace Context for what came before, its semantic
//! conventions for HTTP servers. Spans are made by hand, and only here: nothing that a handler logs can get into one, and
//! without a receiver there is nothing to pay for.

use crate::metrics::{self, method_label};
use axum::http::{HeaderMap, Method, StatusCode};
use opentelemetry::propagation::{Extractor, TextMapPropagator};
pub use opentelemetry::trace::SpanContext;
use opentelemetry::trace::{Link, Span, SpanKind, Status, TraceContextExt, TraceId, Tracer, TracerProvider};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, SpanData, SpanExporter};
use std::env::VarError;
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tracing_subscriber::EnvFilter;

/// How long the last spans may take when the collector stops. They are worth less than a prompt end.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Name of the service unless `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES` says otherwise.
const SERVICE_NAME: &str = "audittrail-collector";

/// Either switches traces on (OpenTelemetry, "OTLP Exporter Configuration").
const ENDPOINT_VARIABLES: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];

/// Requests that the span of a commit is linked to, at most. More tell nothing new.
const LINKS_MAX: usize = 32;

/// The tracer of this process, when there is a receiver.
static TRACER: OnceLock<SdkTracer> = OnceLock::new();

tokio::task_local! {
    /// The span of the request that this task answers.
    static REQUEST: SpanContext;
}

/// Why there are no traces although a receiver is named.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// A variable of OpenTelemetry's cannot be used.
    #[error("traces cannot be exported, see the variables OTEL_EXPORTER_OTLP_*: {0}")]
    Exporter(#[from] ExporterBuildError),
    /// The HTTP client cannot be made.
    #[error("traces cannot be exported: {0}")]
    Client(#[from] reqwest::Error),
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// One JSON object a line, for programs.
    Json,
    /// For a person at a terminal.
    Plain,
}

/// Starts logging to standard error, as `RUST_LOG` says, else from `info` up. The first call of a process counts.
pub fn start_logs(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    // Only a program that logs already can be in the way.
    let _first = match format {
        LogFormat::Json => builder.json().flatten_event(true).with_span_list(false).try_init(),
        LogFormat::Plain => builder.compact().with_target(false).with_ansi(io::stderr().is_terminal()).try_init(),
    };
}

/// What exports spans. Without a receiver there is nothing in it.
#[derive(Debug)]
pub struct Traces {
    provider: Option<SdkTracerProvider>,
}

impl Traces {
    /// Starts traces if a receiver is named. Spans wait in a queue of bounded length (`OTEL_BSP_*`) for a thread of their
    /// own; what does not fit, because the receiver is slow or dead, is dropped.
    pub fn start(runtime: Handle) -> Result<Self, TelemetryError> {
        if !wanted(|name| std::env::var(name)) {
            return Ok(Self { provider: None });
        }
        let exporter = opentelemetry_otlp::SpanExporter::builder().with_http().with_http_client(client()?).build()?;
        let exporter = OnRuntime { exporter: Arc::new(exporter), runtime, failing: AtomicBool::new(false) };
        let provider = SdkTracerProvider::builder().with_resource(resource()).with_batch_exporter(exporter).build();
        // The first provider of a process counts; a second one is never made by a program of ours.
        let _first = TRACER.set(provider.tracer(SERVICE_NAME));
        tracing::info!("traces are exported");
        Ok(Self { provider: Some(provider) })
    }

    /// Sends what is left, within [`FLUSH_TIMEOUT`].
    pub async fn stop(self) {
        let Some(provider) = self.provider else { return };
        let flushed = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(FLUSH_TIMEOUT));
        if let Ok(Err(error)) = flushed.await {
            tracing::warn!(%error, "the last spans were not exported");
        }
    }
}

/// Whether a receiver is named, and traces are not switched off.
fn wanted(variable: impl Fn(&str) -> Result<String, VarError>) -> bool {
    let is = |name, value: &str| variable(name).is_ok_and(|text| text.eq_ignore_ascii_case(value));
    let named = ENDPOINT_VARIABLES.iter().any(|name| variable(name).is_ok_and(|value| !value.is_empty()));
    named && !is("OTEL_SDK_DISABLED", "true") && !is("OTEL_TRACES_EXPORTER", "none")
}

/// Trusts the public authorities, as forwarding does: a receiver in the cluster is reached by HTTP. The exporter
/// bounds each request by `OTEL_EXPORTER_OTLP_TIMEOUT`.
fn client() -> Result<reqwest::Client, reqwest::Error> {
    let roots = webpki_root_certs::TLS_SERVER_ROOT_CERTS;
    let roots = roots.iter().filter_map(|der| reqwest::Certificate::from_der(der).ok());
    reqwest::Client::builder()
        .tls_certs_only(roots)
        .redirect(reqwest::redirect::Policy::none())
        .timeout(opentelemetry_otlp::OTEL_EXPORTER_OTLP_TIMEOUT_DEFAULT)
        .build()
}

fn resource() -> Resource {
    let given = Resource::builder().build();
    let unnamed = given.get(&"service.name".into()).is_none_or(|name| name.as_str().starts_with("unknown_service"));
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let builder = Resource::builder().with_attribute(version);
    if unnamed { builder.with_service_name(SERVICE_NAME).build() } else { builder.build() }
}

/// Exports from the processor's thread, which has no runtime, on ours.
#[derive(Debug)]
struct OnRuntime {
    exporter: Arc<opentelemetry_otlp::SpanExporter>,
    runtime: Handle,
    failing: AtomicBool,
}

impl SpanExporter for OnRuntime {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let exporter = Arc::clone(&self.exporter);
        let sent = self.runtime.spawn(async move { exporter.export(batch).await });
        let result = sent.await.unwrap_or_else(|error| Err(OTelSdkError::InternalFailure(error.to_string())));
        // One line when it begins and one when it ends, whatever the rate of spans is.
        match &result {
            Err(error) if !self.failing.swap(true, Ordering::Relaxed) => {
                tracing::warn!(%error, "spans cannot be exported and are dropped");
            }
            Ok(()) if self.failing.swap(false, Ordering::Relaxed) => tracing::info!("spans are exported again"),
            Ok(()) | Err(_) => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        if let Some(exporter) = Arc::get_mut(&mut self.exporter) {
            exporter.set_resource(resource);
        }
    }
}

/// The span of a request, from its headers to those of its answer.
#[derive(Debug)]
pub struct RequestSpan {
    span: opentelemetry_sdk::trace::Span,
}

impl RequestSpan {
    /// Begins a span below the one that `traceparent` names, if it does. None when nothing is traced.
    /// `route` is a route of ours, and never a path.
    pub fn begin(method: &Method, route: Option<&str>, headers: &HeaderMap) -> Option<Self> {
        let tracer = TRACER.get()?;
        let method = method_label(method);
        // "The span name SHOULD be {method} {target} if there is a low-cardinality target" (HTTP spans).
        let name = route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}"));
        let mut attributes = vec![KeyValue::new("http.request.method", method)];
        attributes.extend(route.map(|route| KeyValue::new("http.route", route.to_owned())));
        let span = tracer
            .span_builder(name)
            .with_kind(SpanKind::Server)
            .with_attributes(attributes)
            .start_with_context(tracer, &parent(headers));
        Some(Self { span })
    }

    /// Id of the trace, for the log.
    pub fn trace_id(&self) -> TraceId {
        self.span.span_context().trace_id()
    }

    /// Runs what answers the request: spans of other tasks can then be tied to it.
    pub async fn around<F: Future>(&self, answer: F) -> F::Output {
        REQUEST.scope(self.span.span_context().clone(), answer).await
    }

    /// Ends it with the answer's status.
    pub fn end(mut self, status: StatusCode) {
        self.span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status.as_u16())));
        // What the client did wrong is no error of the server's (HTTP spans, "Status").
        if status.is_server_error() {
            self.span.set_attribute(KeyValue::new("error.type", status.as_str().to_owned()));
            self.span.set_status(Status::error(""));
        }
        self.span.end();
    }
}

/// What came before. `tracestate` is left behind: it is the client's text, and ours to pass on to nobody.
fn parent(headers: &HeaderMap) -> Context {
    struct Traceparent<'a>(&'a HeaderMap);
    impl Extractor for Traceparent<'_> {
        fn get(&self, key: &str) -> Option<&str> {
            (key == "traceparent").then(|| self.0.get(key))?.and_then(|value| value.to_str().ok())
        }
        fn keys(&self) -> Vec<&str> {
            vec!["traceparent"]
        }
    }
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Traceparent(headers))
}

/// The span of the request that this task answers, if it is recorded.
pub fn current() -> Option<SpanContext> {
    REQUEST.try_with(Clone::clone).ok().filter(SpanContext::is_sampled)
}

/// The commit of a group: measured, and a span below the first of its requests that are traced, linked to the others.
#[derive(Debug)]
pub struct Commit {
    begun: Instant,
    requests: usize,
    events: usize,
    span: Option<opentelemetry_sdk::trace::Span>,
}

impl Commit {
    /// Begins now, with a group of this size. `traced` are the spans of its requests, see [`current`].
    pub fn begin(requests: usize, events: usize, traced: impl IntoIterator<Item = SpanContext>) -> Self {
        Self { begun: Instant::now(), requests, events, span: commit_span(traced) }
    }

    /// Ends now.
    pub fn end(self, outcome: Committed) {
        match outcome {
            Committed::Yes => metrics::group_committed(self.begun.elapsed(), self.requests, self.events),
            Committed::No => metrics::group_failed(),
        }
        let Some(mut span) = self.span else { return };
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        span.set_attribute(KeyValue::new("audittrail.group.requests", count(self.requests)));
        span.set_attribute(KeyValue::new("audittrail.group.events", count(self.events)));
        if outcome == Committed::No {
            span.set_status(Status::error(""));
        }
        span.end();
    }
}

fn commit_span(requests: impl IntoIterator<Item = SpanContext>) -> Option<opentelemetry_sdk::trace::Span> {
    let tracer = TRACER.get()?;
    let mut requests = requests.into_iter();
    let first = Context::new().with_remote_span_context(requests.next()?);
    let links = requests.take(LINKS_MAX).map(Link::with_context).collect();
    let system = KeyValue::new("db.system.name", "postgresql");
    let builder = tracer.span_builder("commit").with_kind(SpanKind::Client).with_attributes([system]).with_links(links);
    Some(builder.start_with_context(tracer, &first))
}

/// Whether a group was committed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Committed {
    /// It was.
    Yes,
    /// It was given up.
    No,
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    fn trace_of(traceparent: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", HeaderValue::from_str(traceparent).expect("valid"));
        headers.insert("tracestate", HeaderValue::from_static("vendor=marker"));
        let context = parent(&headers);
        assert_eq!(context.span().span_context().trace_state().header(), "");
        context.span().span_context().trace_id().to_string()
    }

    #[test]
    fn the_trace_goes_on_and_a_bad_header_begins_a_new_one() {
        assert_eq!(trace_of(&format!("00-{TRACE}-b7ad6b7169203331-01")), TRACE);
        let none = TraceId::INVALID.to_string();
        for bad in ["", "00", "00-zz-b7ad6b7169203331-01", &format!("00-{TRACE}-0000000000000000-01")] {
            assert_eq!(trace_of(bad), none, "{bad:?}");
        }
    }

    #[test]
    fn traces_are_off_unless_a_receiver_is_named() {
        let wanted = |variables: &[(&str, &str)]| {
            wanted(|name| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned()).ok_or(VarError::NotPresent)
            })
        };
        let named = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
        assert!(!wanted(&[]));
        assert!(!wanted(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")]));
        assert!(wanted(&[named]));
        assert!(wanted(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://collector:4318/v1/traces")]));
        assert!(!wanted(&[named, ("OTEL_SDK_DISABLED", "true")]));
        assert!(!wanted(&[named, ("OTEL_TRACES_EXPORTER", "none")]));
    }

    #[tokio::test]
    async fn outside_of_a_request_there_is_no_span() {
        assert!(current().is_none());
        assert!(commit_span(current()).is_none());
    }
}
