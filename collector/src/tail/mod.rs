//! `GET /v1/events/stream`: events as they are stored, as Server-Sent Events ([`docs/live-tail.md`](../../../docs/live-tail.md)).
//!
//! | module | what |
//! |---|---|
//! | [`feed`] | the newest events in memory: one reader of the log a replica |
//! | [`reader`] | what comes after a place, from the log or from the feed |
//! | [`stream`] | one stream, until it ends |
//! | [`sse`] | the bytes of `text/event-stream` |
//!
//! Memory is bounded by [`STREAMS_MAX`] streams with two chunks each ([`reader::CHUNK_BYTES`]), as much in the HTTP server's
//! buffer of a connection ([`crate::listener::HEAD_MAX_BYTES`] and a chunk), and [`feed::RECENT_MAX_BYTES`].

pub mod feed;
pub mod reader;
pub mod sse;
pub mod stream;

use crate::access::{self, Verb};
use crate::openapi;
use crate::problem::{Problem, RETRY_AFTER_SECONDS};
use crate::query::filter::Filter;
use crate::query::parameters::Parameters;
use crate::query::place::Place;
use crate::query::record::{self, How, View};
use crate::server::App;
use crate::store::Store;
use audittrail_crds::catalogue::Catalogue;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderName, header};
use axum::response::{IntoResponse, Response};
use feed::{Feed, Log};
use futures::{StreamExt, stream as futures_stream};
use reader::{Far, Reader};
use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use stream::{CHUNKS_WAITING, Outlet, PACE};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// Streams of one replica at once, at most: a workspace's owners with a page open, several times over.
pub const STREAMS_MAX: usize = 100;

/// After how long a client comes back when a stream breaks: what it is told first.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Where a client that reconnects names its place.
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// The same for clients that cannot set a header.
const AFTER: &str = "after";

/// Tells nginx and those who follow it not to collect the answer.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// What all streams of a replica share. Clones are cheap.
#[derive(Clone, Debug)]
pub struct Tail {
    feed: Feed,
    slots: Arc<Semaphore>,
    stopping: CancellationToken,
}

/// What a stream is asked with.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Asked {
    filter: Filter,
    /// The place to go on after, and where it was named.
    after: Option<(&'static str, Place)>,
}

/// Where a stream starts.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Start {
    log: Log,
    next: i64,
    /// What would come first, and was dropped by retention.
    dropped: Range<i64>,
}

impl Tail {
    /// Follows this log. [`Feed::run`] of its feed must run.
    pub fn new(store: Store) -> Self {
        let slots = Arc::new(Semaphore::new(STREAMS_MAX));
        Self { feed: Feed::new(store), slots, stopping: CancellationToken::new() }
    }

    /// The feed.
    pub fn feed(&self) -> Feed {
        self.feed.clone()
    }

    /// Streams that are open.
    pub fn open(&self) -> usize {
        STREAMS_MAX - self.slots.available_permits()
    }

    /// Ends all streams: they would keep the collector from stopping.
    pub fn stop(&self) {
        self.stopping.cancel();
    }

    async fn stopping(&self) {
        self.stopping.cancelled().await;
    }

    fn slot(&self) -> Result<OwnedSemaphorePermit, Problem> {
        Arc::clone(&self.slots).try_acquire_owned().map_err(|_| {
            let detail = format!("this replica has {STREAMS_MAX} live tails open, which is the most it may have");
            Problem::unavailable(RETRY_AFTER_SECONDS, detail)
        })
    }
}

impl Asked {
    fn parse(pairs: Vec<(String, String)>, headers: &HeaderMap, catalogue: &Catalogue) -> Result<Self, Problem> {
        let mut parameters = Parameters::new(pairs);
        let filter = Filter::take(&mut parameters, catalogue);
        let after = parameters.once(AFTER);
        parameters.finish()?;
        // Whoever reconnects sends the parameters of the first request again: the header is newer.
        let header = headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty());
        let named = match header {
            Some(value) => Some(("Last-Event-ID", value.to_str().unwrap_or_default().to_owned())),
            None => after.map(|text| (AFTER, text)),
        };
        let place = |(name, text): (&'static str, String)| {
            Place::parse(&text).map(|place| (name, place)).map_err(|error| error.of(name))
        };
        Ok(Self { filter, after: named.map(place).transpose()? })
    }
}

/// Events that match, as they are stored, from now on or from the place in `Last-Event-ID` (or `after`) on. Other parameters:
/// those of [`Filter`].
#[utoipa::path(
    get, path = "/v1/events/stream", tag = openapi::READING,
    summary = "Events as they are stored",
    description = "Server-Sent Events without an end: a `StoredEvent` each, whose `id` is its place. The event `dropped` tells the sequences that \
        retention dropped before they were read. Recorded in the trail as it begins.",
    params(
        openapi::parameters::FilterParameters, openapi::parameters::AfterParameter, openapi::parameters::LastEventId
    ),
    responses(
        (status = 200, description = "The stream.", content_type = "text/event-stream", body = String),
        openapi::answers::Reading
    )
)]
pub async fn stream_events(
    State(app): State<App>,
    headers: HeaderMap,
    Query(pairs): Query<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let identity = access::authorize(&app, &headers, Verb::Read).await?;
    let asked = Asked::parse(pairs, &headers, &app.catalogue())?;
    let slot = app.tail.slot()?;
    let resumed = match asked.after {
        Some((name, place)) => Some(resume(&app, name, place).await?),
        None => None,
    };
    let named: Vec<_> = asked.after.iter().map(|(_, place)| (AFTER, place.to_string())).collect();
    record::view(&app, &identity, &headers, View { how: How::Stream, filter: &asked.filter, asked: &named }).await?;
    let start = match resumed {
        Some(start) => start,
        None => now(&app).await?,
    };
    Ok(open(app, &headers, asked.filter, &start, slot))
}

/// Right after a place.
async fn resume(app: &App, name: &'static str, place: Place) -> Result<Start, Problem> {
    let store = app.store().await?;
    let _turn = app.read_turn().await?;
    let standing = store.standing(place.epoch, place.sequence).await?;
    let next = place.next(&standing).map_err(|error| error.of(name))?;
    let head = standing.head;
    let oldest = store.events_from(next, 1).await?.first().map_or(head.next_sequence, |event| event.sequence);
    Ok(Start { log: Log::of(&head), next: oldest, dropped: next..oldest })
}

/// At the head. Whoever opens a stream does not see in it that he did.
async fn now(app: &App) -> Result<Start, Problem> {
    let head = app.store().await?.head().await?;
    Ok(Start { log: Log::of(&head), next: head.next_sequence, dropped: 0..0 })
}

/// Begins the answer. The slot is free again when the stream has ended.
fn open(app: App, headers: &HeaderMap, filter: Filter, start: &Start, slot: OwnedSemaphorePermit) -> Response {
    let (sender, mut chunks) = mpsc::channel::<Bytes>(CHUNKS_WAITING);
    let place = Place::before(start.log.epoch, start.next);
    let outlet = Outlet::new(sender, place, PACE);
    let reader = Reader {
        store: app.store.clone(),
        reads: Arc::clone(&app.reads),
        listener: app.tail.feed.listen(),
        filter: Arc::new(filter),
        log: start.log,
        next: start.next,
        far: Far::default(),
    };
    let first = opening(start, place);
    let credential = credential(headers);
    let streaming = async move {
        let _slot = slot;
        stream::run(app, credential, reader, outlet).await;
    };
    tokio::spawn(streaming.in_current_span());
    let body = futures_stream::iter([first]).chain(futures_stream::poll_fn(move |context| chunks.poll_recv(context)));
    let headers =
        [(header::CONTENT_TYPE, sse::MEDIA_TYPE), (header::CACHE_CONTROL, "no-store"), (X_ACCEL_BUFFERING, "no")];
    (headers, Body::from_stream(body.map(Ok::<_, Infallible>))).into_response()
}

/// What a stream begins with.
fn opening(start: &Start, place: Option<Place>) -> Bytes {
    let opening = sse::opening(RETRY_AFTER, place);
    if start.dropped.is_empty() {
        return opening;
    }
    [opening, sse::dropped(&start.dropped, place)].concat().into()
}

/// The headers that are asked about again while the stream runs.
fn credential(headers: &HeaderMap) -> HeaderMap {
    let credentials = headers.get_all(header::AUTHORIZATION).iter();
    credentials.map(|value| (header::AUTHORIZATION, value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use uuid::Uuid;

    fn parse(query: &[(&str, &str)], last_event_id: Option<&str>) -> Result<Asked, String> {
        let pairs = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let header = last_event_id.map(|value| (LAST_EVENT_ID, HeaderValue::from_str(value).expect("valid")));
        let headers = header.into_iter().collect();
        Asked::parse(pairs, &headers, &Catalogue::default()).map_err(|problem| problem.detail().to_owned())
    }

    fn place(text: &str) -> Place {
        Place::parse(text).expect("a place")
    }

    #[test]
    fn the_header_is_newer_than_the_parameter() {
        let after = |query: &[(&str, &str)], header| parse(query, header).expect("valid").after;
        assert_eq!(after(&[], None), None);
        assert_eq!(after(&[("after", "0.1")], None), Some(("after", place("0.1"))));
        assert_eq!(after(&[("after", "0.1")], Some("0.7")), Some(("Last-Event-ID", place("0.7"))));
        // What a client sends that has no id yet (WHATWG HTML, section 9.2.4).
        assert_eq!(after(&[("after", "0.1")], Some("")), Some(("after", place("0.1"))));
    }

    #[test]
    fn a_place_that_cannot_be_read_is_refused_where_it_was_named() {
        let rule = "must be the epoch and the sequence of an event, such as 0.1234";
        assert_eq!(parse(&[("after", "17")], None), Err(format!("after {rule}")));
        assert_eq!(parse(&[], Some("17")), Err(format!("Last-Event-ID {rule}")));
    }

    #[test]
    fn parameters_of_pages_are_unknown_here() {
        for name in ["order", "limit", "cursor", "last-event-id"] {
            let refusal = parse(&[(name, "1")], None).expect_err("refused");
            assert!(refusal.starts_with(&format!("{name} is unknown here: known are type, ")), "{refusal}");
        }
    }

    #[test]
    fn what_was_dropped_is_told_first() {
        let log = Log { id: Uuid::nil(), epoch: 0 };
        let opened = |dropped: Range<i64>| {
            let start = Start { log, next: 10, dropped };
            opening(&start, Place::before(0, start.next))
        };
        assert_eq!(opened(10..10), "retry: 2000\nid: 0.9\n\n");
        let told =
            "retry: 2000\nid: 0.9\n\nevent: dropped\ndata: {\"firstSequence\":4,\"nextSequence\":10}\nid: 0.9\n\n";
        assert_eq!(opened(4..10), told);
    }

    #[test]
    fn nothing_but_the_credential_is_kept() {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer a"));
        headers.insert(header::COOKIE, HeaderValue::from_static("b"));
        let kept = credential(&headers);
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[header::AUTHORIZATION], "Bearer a");
    }
}
