//! The newest part of the log in memory: one reader of the log a replica, for all that follow it: live tails and forwardings.
//!
//! It reads only while somebody listens. Events of other replicas count too, so it looks at the head again and again instead of
//! waiting for this process' own writer. Whoever is behind what is kept here reads the log himself.

use crate::event::StoredEvent;
use crate::forward::encode::{self, Item};
use crate::query::filter::Order;
use crate::segment::encode::ITEM_MAX_BYTES;
use crate::store::Store;
use crate::store::replica::Head;
use audittrail_crds::document::Format;
use axum::body::Bytes;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::sleep;
use uuid::Uuid;

/// Pause between two looks at the head. Events are visible within 100 ms; a look is one row of one page.
const POLL_EVERY: Duration = Duration::from_millis(25);

/// Pause after the database did not answer.
const RETRY_EVERY: Duration = Duration::from_millis(250);

/// Events read at once, at most.
const READ_MAX_EVENTS: usize = 500;

/// Memory of the events that are kept, in bytes: some seconds of a thousand small events a second.
pub const RECENT_MAX_BYTES: usize = 16 * 1024 * 1024;

/// What an event takes beside its texts, in bytes.
const EVENT_OVERHEAD_BYTES: usize = 512;

/// Events given to one listener at once, at most.
const GIVEN_MAX_EVENTS: usize = 256;

/// An event, its JSON, and what forwardings send of it, each written once for all.
#[derive(Debug)]
pub struct Entry {
    /// The event.
    pub event: StoredEvent,
    /// Its JSON.
    pub json: Bytes,
    named: OnceLock<(Encoding, Item)>,
    segment_audit: OnceLock<(Encoding, Item)>,
}

/// What an item depends on beside its event.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Encoding {
    /// Identity of the log.
    pub log_id: Uuid,
    /// Name of the workspace.
    pub workspace: Arc<str>,
    /// What an event looks like.
    pub format: Format,
}

/// Which log, and in which epoch: what follows one does not go on with another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Log {
    /// Identity of the log.
    pub id: Uuid,
    /// Its epoch.
    pub epoch: i64,
}

/// What a listener gets.
#[derive(Debug)]
pub enum Near {
    /// The next events, and the sequence after them.
    Events(Vec<Arc<Entry>>, i64),
    /// The events before this sequence are not kept any more: they have to be read from the log.
    Behind(i64),
    /// The log is another, or was rewound.
    Restored,
}

/// Handle to the feed. Clones share it.
#[derive(Clone, Debug)]
pub struct Feed(Arc<Shared>);

/// One who follows the log.
#[derive(Debug)]
pub struct Listener {
    feed: Feed,
    changes: watch::Receiver<()>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    recent: Mutex<Recent>,
    changes: watch::Sender<()>,
    wanted: Notify,
}

/// The events of a range of sequences which ends at the head.
#[derive(Debug, Default)]
struct Recent {
    /// None while nobody listens.
    log: Option<Log>,
    first: i64,
    end: i64,
    entries: VecDeque<Arc<Entry>>,
    bytes: usize,
}

/// Whether there is more to read at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum More {
    Yes,
    No,
}

impl Log {
    /// The log with this head.
    pub fn of(head: &Head) -> Self {
        Self { id: head.log_id, epoch: head.epoch }
    }
}

impl Entry {
    fn new(event: StoredEvent) -> Self {
        let json = serde_json::to_vec(&event).expect("a stored event has only string keys").into();
        Self { event, json, named: OnceLock::new(), segment_audit: OnceLock::new() }
    }

    /// What a forwarding sends of the event. Whoever asks first for a format encodes it; a trail has one log and one
    /// workspace, so all who ask for a format want the same.
    pub fn item(&self, encoding: &Encoding) -> Item {
        let cell = match encoding.format {
            Format::Named => &self.named,
            Format::SegmentAudit => &self.segment_audit,
        };
        let (of, item) = cell.get_or_init(|| (encoding.clone(), encoding.item(&self.event)));
        if of == encoding { item.clone() } else { encoding.item(&self.event) }
    }

    /// The event itself holds about as much text as its JSON, and so does an item of either format as far as it may.
    fn bytes(&self) -> usize {
        EVENT_OVERHEAD_BYTES + 2 * self.json.len() + 2 * self.json.len().min(ITEM_MAX_BYTES)
    }
}

impl Encoding {
    /// Encodes an event.
    pub fn item(&self, event: &StoredEvent) -> Item {
        encode::item(self.log_id, &self.workspace, self.format, event)
    }
}

impl Feed {
    /// Of this log. [`Feed::run`] reads it.
    pub fn new(store: Store) -> Self {
        let changes = watch::Sender::new(());
        Self(Arc::new(Shared { store, recent: Mutex::default(), changes, wanted: Notify::new() }))
    }

    /// Follows the log from now on.
    pub fn listen(&self) -> Listener {
        let changes = self.0.changes.subscribe();
        self.0.wanted.notify_one();
        Listener { feed: self.clone(), changes }
    }

    /// Reads while somebody listens. Never ends.
    pub async fn run(self) {
        let mut failing = false;
        loop {
            if self.0.changes.receiver_count() == 0 {
                *self.recent() = Recent::default();
                self.0.wanted.notified().await;
            }
            let looked = self.look().await;
            if let Err(error) = &looked
                && !failing
            {
                tracing::warn!(%error, "the newest events cannot be read; trying again");
            }
            failing = looked.is_err();
            match looked {
                Ok(More::Yes) => {}
                Ok(More::No) => sleep(POLL_EVERY).await,
                Err(_) => sleep(RETRY_EVERY).await,
            }
        }
    }

    /// Reads what is new.
    async fn look(&self) -> Result<More, sqlx::Error> {
        let store = &self.0.store;
        let head = store.head().await?;
        let Some(new) = self.recent().new_of(&head) else {
            self.0.changes.send_replace(());
            return Ok(More::No);
        };
        if new.is_empty() {
            return Ok(More::No);
        }
        let mut walk = store.walk(Arc::default(), new.clone(), Order::Asc);
        let events: Vec<StoredEvent> = walk.next(READ_MAX_EVENTS).await?;
        let end = if walk.left().is_empty() { new.end } else { walk.left().start };
        let entries: Vec<_> = events.into_iter().map(|event| Arc::new(Entry::new(event))).collect();
        self.recent().add(entries, end);
        self.0.changes.send_replace(());
        Ok(if end < new.end { More::Yes } else { More::No })
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        // Nothing that panics runs under the lock.
        self.0.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener {
    /// Waits for what comes in `log` from the sequence `next` on.
    pub async fn after(&mut self, log: Log, next: i64) -> Near {
        loop {
            self.changes.mark_unchanged();
            if let Some(near) = self.feed.recent().after(log, next) {
                return near;
            }
            // The other end lives in the feed, of which this is a handle.
            let _ = self.changes.changed().await;
        }
    }
}

impl Recent {
    /// The sequences that the head has and this has not; none when it begins anew with this head. A head that went
    /// back in its epoch has nothing new: the epoch is raised within seconds.
    fn new_of(&mut self, head: &Head) -> Option<std::ops::Range<i64>> {
        let log = Log::of(head);
        if self.log == Some(log) {
            return Some(self.end..head.next_sequence.max(self.end));
        }
        let (first, end) = (head.next_sequence, head.next_sequence);
        *self = Self { log: Some(log), first, end, ..Self::default() };
        None
    }

    /// Adds what was read up to before `end`, and lets go of the oldest past the bound.
    fn add(&mut self, entries: Vec<Arc<Entry>>, end: i64) {
        self.end = end;
        self.bytes += entries.iter().map(|entry| entry.bytes()).sum::<usize>();
        self.entries.extend(entries);
        while self.bytes > RECENT_MAX_BYTES {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.bytes();
            self.first = oldest.event.sequence + 1;
        }
    }

    /// What there is from `next` on; none when there is nothing yet.
    fn after(&self, log: Log, next: i64) -> Option<Near> {
        let ours = self.log?;
        if ours.id == log.id && ours.epoch < log.epoch {
            // Whoever asks has read the head later than this.
            return None;
        }
        if ours != log {
            return Some(Near::Restored);
        }
        if next < self.first {
            return Some(Near::Behind(self.first));
        }
        if next >= self.end {
            return None;
        }
        let from = self.entries.partition_point(|entry| entry.event.sequence < next);
        let given: Vec<_> = self.entries.range(from..).take(GIVEN_MAX_EVENTS).cloned().collect();
        let all = from + given.len() == self.entries.len();
        let end = given.last().filter(|_| !all).map_or(self.end, |last| last.event.sequence + 1);
        Some(Near::Events(given, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::tests::stored;

    fn head(epoch: i64, next_sequence: i64) -> Head {
        Head { log_id: Uuid::nil(), epoch, next_sequence }
    }

    fn log(epoch: i64) -> Log {
        Log { id: Uuid::nil(), epoch }
    }

    fn entries(sequences: std::ops::Range<i64>) -> Vec<Arc<Entry>> {
        sequences.map(|sequence| Arc::new(Entry::new(stored(sequence)))).collect()
    }

    /// A feed that began at 10 and has read up to before `end`.
    fn recent(end: i64) -> Recent {
        let mut recent = Recent::default();
        assert_eq!(recent.new_of(&head(1, 10)), None);
        recent.add(entries(10..end), end);
        recent
    }

    fn given(near: Option<Near>) -> (Vec<i64>, i64) {
        match near {
            Some(Near::Events(entries, end)) => (entries.iter().map(|entry| entry.event.sequence).collect(), end),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_listener_gets_what_comes_after_its_place() {
        let recent = recent(13);
        assert_eq!(given(recent.after(log(1), 10)), (vec![10, 11, 12], 13));
        assert_eq!(given(recent.after(log(1), 12)), (vec![12], 13));
        assert!(recent.after(log(1), 13).is_none());
        assert!(recent.after(log(1), 14).is_none(), "a place that was read after the feed's last look");
    }

    #[test]
    fn whoever_is_behind_reads_up_to_what_is_kept() {
        assert!(matches!(recent(13).after(log(1), 9), Some(Near::Behind(10))));
    }

    #[test]
    fn much_is_given_in_parts_without_a_gap() {
        let recent = recent(10 + 300);
        let (first, end) = given(recent.after(log(1), 10));
        assert_eq!((first.len(), end), (GIVEN_MAX_EVENTS, 266));
        let (second, end) = given(recent.after(log(1), end));
        assert_eq!((second[0], second.len(), end), (266, 44, 310));
    }

    #[test]
    fn memory_is_bounded_by_letting_go_of_the_oldest() {
        let mut recent = recent(10);
        let each = Entry::new(stored(10)).bytes();
        let count = i64::try_from(RECENT_MAX_BYTES / each).expect("small");
        for sequence in 10..10 + 2 * count {
            recent.add(entries(sequence..sequence + 1), sequence + 1);
            assert!(recent.bytes <= RECENT_MAX_BYTES);
        }
        assert!(recent.first > 10 && recent.entries.len() > 1);
        assert_eq!(recent.first, recent.entries[0].event.sequence);
        assert_eq!(recent.bytes, recent.entries.iter().map(|entry| entry.bytes()).sum::<usize>());
    }

    #[test]
    fn another_epoch_ends_what_followed_the_one_before() {
        let mut recent = recent(13);
        assert_eq!(recent.new_of(&head(2, 12)), None);
        assert!(matches!(recent.after(log(1), 13), Some(Near::Restored)));
        assert!(recent.after(log(2), 12).is_none());
        let other = Log { id: Uuid::from_u128(1), epoch: 2 };
        assert!(matches!(recent.after(other, 12), Some(Near::Restored)));
    }

    #[test]
    fn whoever_has_seen_a_newer_epoch_waits_for_the_feed_to_see_it() {
        assert!(recent(13).after(log(2), 12).is_none());
    }

    #[test]
    fn a_head_that_went_back_has_nothing_new() {
        let mut recent = recent(13);
        assert_eq!(recent.new_of(&head(1, 12)), Some(13..13));
        assert_eq!(recent.new_of(&head(1, 15)), Some(13..15));
    }

    #[test]
    fn an_item_is_encoded_once_for_each_format_and_anew_for_another_workspace() {
        let entry = Entry::new(stored(7));
        let named = Encoding { log_id: Uuid::nil(), workspace: "Acme".into(), format: Format::Named };
        let (first, second) = (entry.item(&named), entry.item(&named));
        assert_eq!(first.json.as_ptr(), second.json.as_ptr());
        let audit = Encoding { format: Format::SegmentAudit, ..named.clone() };
        assert_ne!(entry.item(&audit).json, first.json);
        let other = Encoding { workspace: "Other".into(), ..audit.clone() };
        assert_eq!(entry.item(&other), other.item(&stored(7)));
        assert_ne!(entry.item(&other), entry.item(&audit));
    }

    #[test]
    fn nothing_is_given_before_the_first_look() {
        assert!(Recent::default().after(log(1), 0).is_none());
    }
}
