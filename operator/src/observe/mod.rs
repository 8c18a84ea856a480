//! Polling collectors: Kubernetes is watched, collectors are asked.
//!
//! Each trail has a task of its own, so that a collector that hangs delays nobody else.

mod client;
mod news;

pub use news::{News, news};

use crate::board::{Applied, Entry, Facts};
use crate::context::Context;
use crate::names::{Key, Names};
use crate::trail::{continuity, status};
use audittrail_crds::report::{Report, State};
use client::Collector;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Between two polls of a trail that is ready. With [`SECOND_TRY_AFTER`] and a poll that runs into its
/// time limit, what breaks is seen within 10 s.
const EVERY: Duration = Duration::from_secs(5);

/// Between two polls of a trail that is not, or that has yet to try a source: a change takes
/// effect within 2 s and should be seen.
const EVERY_WHEN_EXPECTING: Duration = Duration::from_secs(1);

/// After a poll that failed, one more is tried before the trail is called silent: a connection
/// that met a pod on its way out is no outage.
const SECOND_TRY_AFTER: Duration = Duration::from_secs(1);

/// Counters alone wake forwardings this often.
const COUNTERS_EVERY: Duration = Duration::from_secs(10);

/// The outcome of a poll: what a collector reported, or why none did.
pub type Observation = Result<Report, Silence>;

/// No collector answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Silence {
    /// What happened, in words, without secrets.
    pub message: String,
}

/// Polls `trail` until it is forgotten. Every outcome goes to its entry of the board, into its
/// status, and where there is news to its forwardings.
pub async fn poll(context: Arc<Context>, trail: Key, entry: Arc<Entry>) {
    let gone = entry.gone.clone();
    // Cancelled between two steps as well as within: none leaves anything half done.
    let _ = gone.run_until_cancelled(rounds(&context, &trail, &entry)).await;
}

async fn rounds(context: &Context, trail: &Key, entry: &Entry) {
    let names = Names { namespace: trail.namespace.clone().unwrap_or_default(), trail: trail.name.clone() };
    let mut collector = Collector::new(&names);
    let mut told = Told::default();
    loop {
        if let Some(applied) = entry.facts().applied {
            let observation = observe(context, &mut collector, &applied).await;
            entry.learn(|facts| facts.observed(observation));
            // An error was logged, and the next poll tries again.
            status::settle(context, trail, entry).await.unwrap_or_else(|error| {
                tracing::warn!(trail = %trail, %error, "cannot write the status");
            });
            told.tell(context, trail, entry.facts()).await;
            if round_is_needed(entry).await {
                // Only a process that is stopping listens no more.
                let _ = context.rounds.send(trail.clone()).await;
            }
        }
        tokio::select! {
            () = entry.poke.notified() => {}
            () = tokio::time::sleep(pause(&entry.facts())) => {}
        }
    }
}

async fn round_is_needed(entry: &Entry) -> bool {
    let written = entry.written.lock().await;
    written.as_ref().is_some_and(|written| continuity::needs_a_round(&written.status, &entry.facts()))
}

async fn observe(context: &Context, collector: &mut Collector, applied: &Applied) -> Observation {
    if let Ok(report) = collector.ask(context, applied).await {
        return Ok(report);
    }
    tokio::time::sleep(SECOND_TRY_AFTER).await;
    collector.ask(context, applied).await.map_err(|error| Silence { message: error.to_string() })
}

fn pause(facts: &Facts) -> Duration {
    let ready = facts.ready.as_ref().is_some_and(|ready| ready.status == "True");
    let Some(Ok(report)) = &facts.observation else { return EVERY_WHEN_EXPECTING };
    let pending = report.forwardings.iter().any(|forwarding| forwarding.state == State::Pending);
    if ready && !pending { EVERY } else { EVERY_WHEN_EXPECTING }
}

/// What a trail's forwardings know already.
#[derive(Default)]
struct Told {
    facts: Facts,
    at: Option<Instant>,
}

impl Told {
    async fn tell(&mut self, context: &Context, trail: &Key, facts: Facts) {
        let due = match news(&self.facts, &facts) {
            News::None => false,
            News::Counters => self.at.is_none_or(|at| at.elapsed() >= COUNTERS_EVERY),
            News::Turn => true,
        };
        if due {
            // Only a process that is stopping listens no more.
            let _ = context.news.send(trail.clone()).await;
            *self = Self { facts, at: Some(Instant::now()) };
        }
    }
}
