//! Parked events, sent again because somebody asked for it. The cursor stays where it is.
//!
//! They must not hold up the events that come, whatever the source makes of them: a probe tells whether it fails on them or
//! on everything. If on everything, they wait until it is well again; if on them, they stay parked.

use super::bisect::Parts;
use super::delivery::{Delivery, refusal};
use super::encode::Item;
use super::lease::Stop;
use super::send::Fault;
use super::verdict::Verdict;
use crate::store::parked::Place;

/// Parked events sent again between two batches, at most: some 13 MB of the largest.
const REPLAY_MAX_EVENTS: i64 = 100;

/// How often a source may fail on a lone event, and on nothing else, until that is its answer.
const TRIES_MAX: u32 = 3;

/// What the source made of events that were sent again.
enum Outcome {
    Accepted,
    /// It is they that it does not take.
    Refused(Fault),
    /// It takes nothing now.
    Unwell,
}

impl Delivery<'_> {
    /// Sends some of the events again that somebody asked for, in the order of the log. What the source refuses again stays
    /// parked, and says nothing about the events that come.
    pub(super) async fn replay(&mut self) -> Result<(), Stop> {
        let events = self.lease.keep(self.route.store.replays(self.route.name, REPLAY_MAX_EVENTS)).await??;
        if events.is_empty() {
            self.lease.replays_are_done();
        }
        let items: Vec<Item> = events.iter().map(|event| self.route.encoding.item(event)).collect();
        drop(events);
        let mut parts = Parts::of(self.body.parts(&items));
        while let Some(part) = parts.next() {
            let sent = &items[part.clone()];
            match self.offer(sent).await? {
                Outcome::Accepted => self.replayed(sent).await?,
                Outcome::Refused(fault) if sent.len() > 1 => {
                    if fault.verdict == Verdict::TooLarge {
                        self.body.refused(sent);
                    }
                    parts.halve(&part);
                }
                Outcome::Refused(fault) => {
                    fail::fail_point!("forward::before-replay-done");
                    self.lease.refuse_replay(refusal(&sent[0], &fault)).await?;
                    fail::fail_point!("forward::after-replay-done");
                }
                Outcome::Unwell => return Ok(()),
            }
        }
        Ok(())
    }

    async fn offer(&mut self, items: &[Item]) -> Result<Outcome, Stop> {
        let tries_max = if items.len() > 1 { 1 } else { TRIES_MAX };
        let mut tries = 0;
        loop {
            let Err(fault) = self.send(items).await? else { return Ok(Outcome::Accepted) };
            // A loop is one of these events: they may have come from where they are sent now.
            if matches!(fault.verdict, Verdict::TooLarge | Verdict::Refused | Verdict::Loop) {
                return Ok(Outcome::Refused(fault));
            }
            if let Verdict::Retry { .. } = fault.verdict {
                self.failed(&fault, tries).await?;
            }
            if !self.probe().await? {
                return Ok(Outcome::Unwell);
            }
            tries += 1;
            if tries == tries_max {
                return Ok(Outcome::Refused(fault));
            }
        }
    }

    async fn replayed(&mut self, items: &[Item]) -> Result<(), Stop> {
        let places: Vec<Place> = items.iter().map(Item::place).collect();
        fail::fail_point!("forward::before-replay-done");
        self.lease.finish_replay(&places).await?;
        fail::fail_point!("forward::after-replay-done");
        self.accepts();
        Ok(())
    }
}
