//! `GET /metrics`, in Prometheus' text format 0.0.4. What is a state, and not a count, is read when it is asked for.

use super::{
    CONNECTIONS_MAX, CONNECTIONS_NOW, DATABASE_UP, EPOCH, FORWARDED, FORWARDING_FILTERED, FORWARDING_LAG_EVENTS,
    FORWARDING_LAG_SECONDS, FORWARDING_PARKED, FORWARDING_PARKED_MAX, FORWARDING_RETRYING, FORWARDINGS,
    FORWARDINGS_NOW, LAST_SEQUENCE, QUEUE_BYTES, QUEUE_REQUESTS, SEGMENTS, SEGMENTS_NOW, STREAMS, forwarding_label,
    install, process,
};
use crate::access::{self, Verb};
use crate::ingest::room::ROOM_MAX_BYTES;
use crate::openapi;
use crate::problem::Problem;
use crate::server::App;
use crate::status;
use crate::store::census::Census;
use ::metrics::gauge;
use audittrail_crds::report::Forwarding;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use jiff::Timestamp;
use std::time::Duration;
use tokio::time::timeout;

/// Media type of the text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How long the database may take. A scrape is given up after 10 s, and must not be lost with the database.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(2);

/// The metrics of this replica. Needs `get` on the non-resource URL `/metrics`, or an owner's token.
#[utoipa::path(
    get, path = "/metrics", tag = openapi::STATE,
    summary = "Metrics of this replica",
    responses(
        (status = 200, description = "In Prometheus' text format 0.0.4.", content_type = "text/plain", body = String),
        openapi::answers::Asking
    )
)]
pub async fn get_metrics(State(app): State<App>, headers: HeaderMap) -> Result<impl IntoResponse, Problem> {
    access::authorize(&app, &headers, Verb::Metrics).await?;
    process::measure();
    measure_pool(&app);
    measure_queue(&app);
    STREAMS.gauge().set(u32::try_from(app.tail.open()).unwrap_or(u32::MAX));
    let answered = matches!(timeout(DATABASE_TIMEOUT, measure_log(&app)).await, Ok(Ok(())));
    DATABASE_UP.gauge().set(f64::from(answered));
    Ok(([(header::CONTENT_TYPE, TEXT_FORMAT)], install().render()))
}

fn measure_pool(app: &App) {
    let pool = &app.store.pool;
    let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
    let set = |state, count: u32| gauge!(CONNECTIONS_NOW.name, CONNECTIONS_NOW.with(state)).set(count);
    set("idle", idle);
    set("in_use", pool.size().saturating_sub(idle));
    CONNECTIONS_MAX.gauge().set(pool.options().get_max_connections());
}

fn measure_queue(app: &App) {
    QUEUE_REQUESTS.gauge().set(u32::try_from(app.writer.waiting()).unwrap_or(u32::MAX));
    let held = ROOM_MAX_BYTES.saturating_sub(app.room.free_bytes());
    QUEUE_BYTES.gauge().set(u32::try_from(held).unwrap_or(u32::MAX));
}

/// Reads what all replicas share. A log that is not open has nothing to tell.
async fn measure_log(app: &App) -> Result<(), sqlx::Error> {
    let head = app.store.head().await?;
    LAST_SEQUENCE.gauge().set(number(head.next_sequence - 1));
    EPOCH.gauge().set(number(head.epoch));
    measure_segments(app.store.census().await?);
    let facts = app.store.forwarding_facts().await?;
    measure_forwardings(&status::forwardings(&app.document(), facts), Timestamp::now());
    Ok(())
}

fn measure_segments(Census { ahead, open, closed, indexed, dropping }: Census) {
    for (state, count) in SEGMENTS.into_iter().zip([ahead, open, closed, indexed, dropping]) {
        gauge!(SEGMENTS_NOW.name, SEGMENTS_NOW.with(state)).set(number(count));
    }
}

/// By state and by the largest, since names would make labels without a bound.
fn measure_forwardings(forwardings: &[Forwarding], now: Timestamp) {
    for state in FORWARDINGS {
        let count = forwardings.iter().filter(|one| forwarding_label(one.state) == state).count();
        gauge!(FORWARDINGS_NOW.name, FORWARDINGS_NOW.with(state)).set(u32::try_from(count).unwrap_or(u32::MAX));
    }
    let largest = |of: &dyn Fn(&Forwarding) -> i64| number(forwardings.iter().map(of).max().unwrap_or_default());
    let all = |of: &dyn Fn(&Forwarding) -> i64| number(forwardings.iter().map(of).sum());
    FORWARDING_LAG_EVENTS.gauge().set(largest(&|one| one.lag_events));
    FORWARDING_LAG_SECONDS.gauge().set(largest(&|one| one.lag_seconds));
    FORWARDED.gauge().set(all(&|one| one.delivered));
    FORWARDING_FILTERED.gauge().set(all(&|one| one.filtered));
    FORWARDING_PARKED.gauge().set(all(&|one| one.parked));
    FORWARDING_PARKED_MAX.gauge().set(largest(&|one| one.parked));
    FORWARDING_RETRYING.gauge().set(largest(&|one| retrying_seconds(one, now)));
}

/// Since when it fails is written with the database's clock, which may be ahead of ours.
fn retrying_seconds(forwarding: &Forwarding, now: Timestamp) -> i64 {
    forwarding.retrying_since.as_ref().map_or(0, |since| now.duration_since(since.0).as_secs().max(0))
}

/// Prometheus counts in floats.
#[expect(clippy::cast_precision_loss, reason = "past 2^53 events, which no log reaches")]
fn number(count: i64) -> f64 {
    count as f64
}
