//! Parked events, sent again because somebody asked for it. The cursor stays where it is.

use super::bisect::Parts;
use super::delivery::{Delivery, refusal};
use super::encode::Item;
use super::lease::Stop;
use super::verdict::Verdict;
use crate::store::parked::Place;

/// Parked events sent again between two batches, at most: some 13 MB of the largest.
const REPLAY_MAX_EVENTS: i64 = 100;

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
            match self.attempt(sent).await? {
                None => self.replayed(sent).await?,
                Some(fault) if sent.len() > 1 => {
                    if fault.verdict == Verdict::TooLarge {
                        self.body.refused(sent);
                    }
                    parts.halve(&part);
                }
                Some(fault) => {
                    fail::fail_point!("forward::before-replay-done");
                    self.lease.refuse_replay(refusal(&sent[0], &fault)).await?;
                    fail::fail_point!("forward::after-replay-done");
                }
            }
        }
        Ok(())
    }

    async fn replayed(&mut self, items: &[Item]) -> Result<(), Stop> {
        let places: Vec<Place> =
            items.iter().map(|item| Place { epoch: item.epoch, sequence: item.sequence }).collect();
        fail::fail_point!("forward::before-replay-done");
        self.lease.finish_replay(&places).await?;
        fail::fail_point!("forward::after-replay-done");
        self.accepts();
        Ok(())
    }
}
