//! What is sent at once: how events are gathered into batches, and how large a body may be. Pure.

use super::encode::{self, Bounds, ENVELOPE_BYTES, Item};
use std::time::Duration;
use tokio::time::Instant;

/// How long the oldest event that is ready waits for more: a request and a commit for each event would cost more than all else.
pub const LINGER: Duration = Duration::from_millis(100);

/// How often the cursor moves while the filter leaves everything out.
const FILTERED_EVERY: Duration = Duration::from_secs(1);

/// After each accepted batch a body may be larger again, by this part, as far as the forwarding allows it.
const GROWTH_ONE_IN: usize = 64;

/// A part of the log, ready to be sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Batch {
    /// Its events, as far as the filter takes them.
    pub items: Vec<Item>,
    /// Sequence of the first event that was looked at. What is missing before it was dropped by retention.
    first: i64,
    /// The sequence after the last event that was looked at.
    end: i64,
    /// Epoch of the last event that was looked at.
    pub epoch: i64,
}

/// Events on their way into a batch.
#[derive(Debug)]
pub struct Gathered {
    items: Vec<Item>,
    bytes: usize,
    /// Sequence of the first event that was looked at.
    first: Option<i64>,
    end: i64,
    epoch: i64,
    /// Since when anything is here.
    since: Option<Instant>,
    /// Since when an item is here.
    item_since: Option<Instant>,
}

/// How large a body may be, by what the source says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BodyLimit {
    most: Bounds,
    bytes: usize,
}

impl Batch {
    /// The sequence up to which the log is done with when the first so many items are: what the filter left out behind them
    /// is done with too.
    pub fn end_of(&self, items: usize) -> i64 {
        self.items.get(items).map_or(self.end, |next| next.sequence)
    }

    /// How many events the filter left out of the sequences from `cursor` to before `end`, of which `items` were not.
    pub fn filtered(&self, cursor: i64, end: i64, items: usize) -> i64 {
        end - cursor.max(self.first) - i64::try_from(items).unwrap_or(i64::MAX)
    }
}

impl Gathered {
    /// Nothing, after a cursor.
    pub fn new(next_sequence: i64, epoch: i64) -> Self {
        Self { items: Vec::new(), bytes: 0, first: None, end: next_sequence, epoch, since: None, item_since: None }
    }

    /// An event of the log was looked at; it comes without an item when the filter leaves it out.
    pub fn look(&mut self, sequence: i64, epoch: i64, item: Option<Item>, now: Instant) {
        self.first.get_or_insert(sequence);
        self.since.get_or_insert(now);
        (self.end, self.epoch) = (sequence + 1, epoch);
        if let Some(item) = item {
            self.item_since.get_or_insert(now);
            self.bytes += item.json.len() + 1;
            self.items.push(item);
        }
    }

    /// There is nothing more before `end`.
    pub fn reach(&mut self, end: i64, now: Instant) {
        if end > self.end {
            self.first.get_or_insert(end);
            self.since.get_or_insert(now);
            self.end = end;
        }
    }

    /// Whether there is enough for one body. Past it there is one item at most.
    pub fn is_full(&self, bounds: Bounds) -> bool {
        self.items.len() >= bounds.items || self.bytes >= bounds.bytes
    }

    /// Items and bytes that are here.
    pub fn size(&self) -> Bounds {
        Bounds { items: self.items.len(), bytes: self.bytes }
    }

    /// When what is here goes out although more would fit; none when there is nothing.
    pub fn due(&self) -> Option<Instant> {
        let filtered = self.since.map(|since| since + FILTERED_EVERY);
        self.item_since.map(|since| since + LINGER).or(filtered)
    }

    /// Takes one body's worth out.
    pub fn take(&mut self, bounds: Bounds, now: Instant) -> Batch {
        let rest = self.items.split_off(encode::fitting(&self.items, bounds));
        let items = std::mem::replace(&mut self.items, rest);
        let first = self.first.unwrap_or(self.end);
        let end = self.items.first().map_or(self.end, |next| next.sequence);
        let epoch = self.items.first().and(items.last()).map_or(self.epoch, |last| last.epoch);
        self.bytes = self.items.iter().map(|item| item.json.len() + 1).sum();
        let left = (!self.items.is_empty()).then_some(now);
        (self.since, self.item_since) = (left, left);
        self.first = left.map(|_| end);
        Batch { items, first, end, epoch }
    }
}

impl BodyLimit {
    /// As large as the forwarding allows.
    pub fn new(most: Bounds) -> Self {
        Self { most, bytes: most.bytes }
    }

    /// Sizes of the parts in which these items fit.
    pub fn parts(&self, mut items: &[Item]) -> Vec<usize> {
        let bounds = Bounds { bytes: self.bytes, ..self.most };
        let mut sizes = Vec::new();
        while !items.is_empty() {
            let size = encode::fitting(items, bounds);
            sizes.push(size);
            items = &items[size..];
        }
        sizes
    }

    /// The source found a body with these items too large: half of them may pass.
    pub fn refused(&mut self, items: &[Item]) {
        let bytes: usize = items.iter().map(|item| item.json.len() + 1).sum();
        self.bytes = self.bytes.min(ENVELOPE_BYTES + bytes / 2);
    }

    /// The source accepted a body: perhaps the next may be larger.
    pub fn accepted(&mut self) {
        self.bytes = self.most.bytes.min(self.bytes + self.bytes / GROWTH_ONE_IN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { items: 3, bytes: 100_000 };

    fn item(sequence: i64, bytes: usize) -> Item {
        Item { sequence, epoch: 1, json: vec![b'x'; bytes].into() }
    }

    /// Looks at these sequences, of which the filter takes those that `taken` has.
    fn gathered(sequences: std::ops::Range<i64>, taken: &[i64]) -> (Gathered, Instant) {
        let now = Instant::now();
        let mut gathered = Gathered::new(sequences.start, 0);
        for sequence in sequences {
            gathered.look(sequence, 1, taken.contains(&sequence).then(|| item(sequence, 10)), now);
        }
        (gathered, now)
    }

    fn sequences(batch: &Batch) -> Vec<i64> {
        batch.items.iter().map(|item| item.sequence).collect()
    }

    #[test]
    fn a_batch_is_due_when_its_oldest_event_has_waited_and_one_of_nothing_after_a_second() {
        let (mut of_events, now) = gathered(10..13, &[11]);
        assert_eq!(of_events.due(), Some(now + LINGER));
        of_events.look(13, 1, Some(item(13, 10)), now + LINGER);
        assert_eq!(of_events.due(), Some(now + LINGER), "later ones do not put it off");
        let (of_nothing, now) = gathered(10..13, &[]);
        assert_eq!(of_nothing.due(), Some(now + FILTERED_EVERY));
        assert_eq!(Gathered::new(10, 0).due(), None);
    }

    #[test]
    fn it_is_full_with_as_many_events_or_bytes_as_a_body_has() {
        assert!(!gathered(0..2, &[0, 1]).0.is_full(BOUNDS));
        assert!(gathered(0..3, &[0, 1, 2]).0.is_full(BOUNDS));
        let (mut of_bytes, now) = gathered(0..0, &[]);
        of_bytes.look(0, 1, Some(item(0, BOUNDS.bytes - 2)), now);
        assert!(!of_bytes.is_full(BOUNDS));
        of_bytes.look(1, 1, Some(item(1, 0)), now);
        assert!(of_bytes.is_full(BOUNDS));
    }

    #[test]
    fn what_does_not_fit_is_in_the_next_batch_and_every_event_in_one_of_them() {
        let (mut gathered, now) = gathered(10..20, &[11, 13, 14, 17]);
        let first = gathered.take(BOUNDS, now);
        assert_eq!((sequences(&first), first.end), (vec![11, 13, 14], 17));
        let second = gathered.take(BOUNDS, now);
        assert_eq!((sequences(&second), second.first, second.end), (vec![17], 17, 20));
        assert_eq!(first.filtered(10, first.end, 3) + second.filtered(17, second.end, 1), 6);
        assert_eq!(gathered.due(), None);
    }

    #[test]
    fn a_part_is_done_with_up_to_the_next_item() {
        let (mut gathered, now) = gathered(10..20, &[11, 13, 16]);
        let batch = gathered.take(BOUNDS, now);
        assert_eq!((batch.end_of(1), batch.end_of(2), batch.end_of(3)), (13, 16, 20));
        assert_eq!(batch.filtered(10, 13, 1), 2);
        assert_eq!(batch.filtered(13, 16, 1), 2);
        assert_eq!(batch.filtered(16, 20, 1), 3);
    }

    #[test]
    fn what_retention_dropped_was_not_left_out_by_the_filter() {
        let (mut gathered, now) = gathered(100..102, &[101]);
        let batch = gathered.take(BOUNDS, now);
        assert_eq!(batch.filtered(7, batch.end_of(1), 1), 1);
        let mut nothing = Gathered::new(7, 0);
        nothing.reach(100, now);
        let batch = nothing.take(BOUNDS, now);
        assert_eq!((batch.end_of(0), batch.filtered(7, 100, 0)), (100, 0));
    }

    #[test]
    fn a_body_that_was_too_large_is_halved_and_grows_again_in_steps() {
        let items: Vec<Item> = (0..4).map(|sequence| item(sequence, 20_000)).collect();
        let most = Bounds { items: 10, bytes: 100_000 };
        let mut limit = BodyLimit::new(most);
        assert_eq!(limit.parts(&items), [4]);
        limit.refused(&items);
        assert_eq!(limit.parts(&items), [2, 2]);
        limit.refused(&items[..2]);
        assert_eq!(limit.parts(&items), [1, 1, 1, 1]);
        limit.refused(&items);
        assert_eq!(limit.parts(&items), [1, 1, 1, 1], "no refusal makes it larger");
        for _ in 0..1_000 {
            limit.accepted();
        }
        assert_eq!(limit, BodyLimit::new(most));
    }
}
