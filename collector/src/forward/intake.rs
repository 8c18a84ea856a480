//! What comes after the cursor, ready to be sent: read, selected, encoded and gathered while the batch before is in flight.
//!
//! Near the head events come from the feed, which all forwardings and live tails of the replica share; further back they are
//! read from the log, row by row. One body's worth and an item are gathered here at most, one batch waits, one is in flight.

use super::batch::{Batch, Gathered};
use super::encode::Bounds;
use super::lease::Stop;
use super::selection::Selection;
use crate::event::StoredEvent;
use crate::query::filter::Order;
use crate::store::Store;
use crate::tail::feed::{Encoding, Entry, Listener, Log, Near};
use sqlx::FromRow;
use sqlx::postgres::PgRow;
use std::ops::{ControlFlow, RangeInclusive};
use std::sync::Arc;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep_until};

/// Forwardings of a replica that read the log at once: the pool has to have connections left for everything else.
pub const FAR_READS_MAX: usize = 2;

/// Batches that wait, beside the one in flight.
pub const BATCHES_WAITING: usize = 1;

/// Rows that one statement asks for at first. Those past a full body come in vain, so later there are as many as will about fit,
/// by what the last ones took.
const READ_FIRST_EVENTS: usize = 256;

/// Rows that one statement asks for, at least and at most.
const READ_EVENTS: RangeInclusive<usize> = 8..=2_500;

/// Reads for one forwarding, for as long as it has the lease.
#[derive(Debug)]
pub struct Intake {
    /// The log.
    pub store: Store,
    /// The feed.
    pub listener: Listener,
    /// Turns of reads of the log.
    pub far_reads: Arc<Semaphore>,
    /// Which events.
    pub selection: Arc<Selection>,
    /// What they look like.
    pub encoding: Encoding,
    /// Most of one body.
    pub bounds: Bounds,
    /// The log that is followed.
    pub log: Log,
}

/// How far an intake is.
struct Reading {
    intake: Intake,
    /// The sequence that comes next.
    next: i64,
    gathered: Gathered,
    /// Rows that the last read of the log took, and what came of them.
    last: Option<(usize, Bounds)>,
}

impl Intake {
    /// Hands over batches of what comes from `next` on, `epoch` being that of the event before. Ends only with a reason
    /// to give the lease up.
    pub async fn run(self, next: i64, epoch: i64, batches: mpsc::Sender<Batch>) -> Stop {
        let gathered = Gathered::new(next, epoch);
        let mut reading = Reading { intake: self, next, gathered, last: None };
        loop {
            if let Err(stop) = reading.step(&batches).await {
                return stop;
            }
        }
    }
}

impl Reading {
    /// Hands a batch over when it is full or due, and takes more in while there is room.
    async fn step(&mut self, batches: &mpsc::Sender<Batch>) -> Result<(), Stop> {
        let full = self.gathered.is_full(self.intake.bounds);
        let due = self.gathered.due();
        tokio::select! {
            near = self.intake.listener.after(self.intake.log, self.next), if !full => return self.take_in(near).await,
            slot = slot(batches, due.filter(|_| !full)), if due.is_some() => match slot {
                Some(slot) => slot.send(self.gathered.take(self.intake.bounds, Instant::now())),
                // Whoever took the batches is gone, and so is this with the next look.
                None => return Err(Stop::Lost),
            },
        }
        Ok(())
    }

    async fn take_in(&mut self, near: Near) -> Result<(), Stop> {
        match near {
            Near::Restored => return Err(Stop::Lost),
            Near::Events(entries, end) => self.take_near(&entries, end),
            Near::Behind(until) => self.take_far(until).await?,
        }
        fail::fail_point!("forward::read");
        Ok(())
    }

    /// Events of the feed, as many as there is room for.
    fn take_near(&mut self, entries: &[Arc<Entry>], end: i64) {
        let now = Instant::now();
        for entry in entries {
            let event = &entry.event;
            let item = self.intake.selection.takes(event).then(|| entry.item(&self.intake.encoding));
            self.gathered.look(event.sequence, event.epoch, item, now);
            self.next = event.sequence + 1;
            if self.gathered.is_full(self.intake.bounds) {
                return;
            }
        }
        self.next = end;
        self.gathered.reach(end, now);
    }

    /// Events of the log before `until`, as many as there is room for. Each is let go of as soon as it is encoded.
    async fn take_far(&mut self, until: i64) -> Result<(), Stop> {
        let Self { intake, gathered, .. } = self;
        let before = gathered.size();
        let room = Bounds { items: intake.bounds.items - before.items, bytes: intake.bounds.bytes - before.bytes };
        let limit = self.last.map_or(READ_FIRST_EVENTS, |(rows, came)| rows_for(room, rows, came));
        let _turn = intake.far_reads.acquire().await.expect("turns are never closed");
        let (mut taken, mut restored) = (0, false);
        let mut take = |row: &PgRow| {
            let event = StoredEvent::from_row(row)?;
            restored |= event.epoch > intake.log.epoch;
            let item = intake.selection.takes(&event).then(|| intake.encoding.item(&event));
            gathered.look(event.sequence, event.epoch, item, Instant::now());
            taken += 1;
            let full = gathered.is_full(intake.bounds);
            Ok(if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        };
        let mut walk = intake.store.walk(Arc::default(), self.next..until, Order::Asc);
        walk.each(limit, &mut take).await?;
        if restored {
            return Err(Stop::Lost);
        }
        self.next = if walk.left().is_empty() { until } else { walk.left().start };
        gathered.reach(self.next, Instant::now());
        let after = gathered.size();
        if taken > 0 {
            let came = Bounds { items: after.items - before.items, bytes: after.bytes - before.bytes };
            self.last = Some((taken, came));
        }
        Ok(())
    }
}

/// How many rows will about fill this room, when so many brought so much last: a few more, since a second read costs more
/// than they do.
fn rows_for(room: Bounds, rows: usize, came: Bounds) -> usize {
    let by_bytes = rows * room.bytes / came.bytes.max(1);
    let by_items = rows * room.items / came.items.max(1);
    let fitting = by_bytes.min(by_items);
    (fitting + fitting / 16 + 1).clamp(*READ_EVENTS.start(), *READ_EVENTS.end())
}

/// Waits for a moment, where there is one, and for room for a batch. None when nobody takes batches any more.
async fn slot(batches: &mpsc::Sender<Batch>, due: Option<Instant>) -> Option<mpsc::Permit<'_, Batch>> {
    if let Some(due) = due {
        sleep_until(due).await;
    }
    batches.reserve().await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Bounds = Bounds { items: 2_500, bytes: 475_000 };

    #[test]
    fn as_many_rows_are_read_as_will_about_fit() {
        let rows = |came| rows_for(ROOM, 100, came);
        assert_eq!(rows(Bounds { items: 100, bytes: 70_000 }), 678 + 42 + 1);
        assert_eq!(rows(Bounds { items: 100, bytes: 3_200_000 }), 15);
        assert_eq!(rows(Bounds { items: 50, bytes: 35_000 }), 1_357 + 84 + 1, "the filter leaves half of them out");
    }

    #[test]
    fn a_read_is_neither_tiny_nor_endless() {
        let nothing = Bounds { items: 0, bytes: 0 };
        assert_eq!(rows_for(ROOM, 100, nothing), 2_500);
        assert_eq!(rows_for(ROOM, 0, nothing), 8);
        assert_eq!(rows_for(Bounds { items: 1, bytes: 10 }, 100, Bounds { items: 100, bytes: 70_000 }), 8);
    }
}
