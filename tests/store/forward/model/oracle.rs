//! What must hold, whatever happened: the forwarding's row beside what the source has.

use super::plan::Choice;
use crate::fixture::number;
use audittrail_source::received::{Message, Received, Refused};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

/// A forwarding's row and what it has parked, at one moment.
#[derive(Clone, Debug, Default, sqlx::FromRow)]
pub struct Row {
    pub next_sequence: i64,
    pub delivered: i64,
    pub filtered: i64,
    pub generation: i64,
    pub state: String,
    /// Sequences of what is parked, ascending.
    pub parked: Vec<i64>,
    /// Those of them which somebody asked to send again.
    pub asked: Vec<i64>,
}

/// Remembers what it takes to judge the next look. An event's number is its sequence.
#[derive(Debug)]
pub struct Oracle {
    log_id: Uuid,
    /// Kind of each event, by number.
    kinds: Vec<usize>,
    /// Filters that were in force since the last look, the newest last.
    in_force: Vec<Choice>,
    /// The cursor at the last look.
    next: usize,
    /// Of each event that the cursor passed: whether a filter which was in force then leaves it out.
    may_be_left_out: Vec<bool>,
    /// Of each event: whether a filter leaves it out which was in force before the cursor passed it.
    may_be_late: Vec<bool>,
    /// Messages that the order of arrival was checked of.
    arrived: BTreeMap<usize, String>,
    highest: Option<usize>,
    formats: BTreeSet<String>,
}

impl Oracle {
    pub fn new(log_id: Uuid) -> Self {
        Self {
            log_id,
            kinds: Vec::new(),
            in_force: vec![Choice::Everything],
            next: 0,
            may_be_left_out: Vec::new(),
            may_be_late: Vec::new(),
            arrived: BTreeMap::new(),
            highest: None,
            formats: BTreeSet::new(),
        }
    }

    /// How many events were appended.
    pub fn events(&self) -> usize {
        self.kinds.len()
    }

    pub fn appended(&mut self, kind: usize) {
        self.kinds.push(kind);
        self.may_be_late.push(false);
    }

    pub fn in_force(&mut self, filter: Choice) {
        self.in_force.push(filter);
    }

    pub fn in_format(&mut self, format: impl Into<String>) {
        self.formats.insert(format.into());
    }

    /// Checks everything. The row was read before `received`, so all that it tells of has arrived.
    pub fn look(&mut self, row: Option<&Row>, received: &Received) {
        for number in 0..self.kinds.len() {
            if number >= self.next || self.refused(number, received).is_some() {
                self.may_be_late[number] |= self.in_force.iter().any(|filter| !filter.takes(self.kinds[number]));
            }
        }
        self.arrivals(received);
        if let Some(row) = row {
            let sent: BTreeMap<usize, &Message> =
                received.messages().iter().map(|message| (number(message.event_id.as_deref()), message)).collect();
            self.parked(row, &sent, received);
            self.cursor(row, &sent, received);
        }
        self.in_force.drain(..self.in_force.len() - 1);
    }

    /// Equal ids and content however often an event comes, and in the order of the log when it comes first. Two kinds may come
    /// later. What the source itself refused before, as poison or alone in its request: it was parked and is replayed, or
    /// the source took the others of its request. And what a filter left out before the cursor passed it: of a batch without
    /// it nobody knows whether the source took it, where the answer was lost.
    fn arrivals(&mut self, received: &Received) {
        assert_eq!(received.counts().dropped, 0, "an item was not complete");
        for message in received.messages() {
            let id = message.event_id.as_deref();
            assert!(!message.content_changed, "{id:?} came with other content");
            assert!(!message.sent_at_repeated, "{id:?} came twice with the same sentAt");
            assert!(!message.format_changed || self.formats.len() > 1, "{id:?} came in a format that nobody asked for");
        }
        for message in &received.messages()[self.arrived.len()..] {
            let number = number(message.event_id.as_deref());
            assert_eq!(message.message_id, self.message_id(number), "the messageId of {number}");
            assert_eq!(self.arrived.insert(number, message.message_id.clone()), None, "{number} came as two messages");
            let refused_before =
                self.refused(number, received).is_some_and(|refused| refused.requests.0 < message.requests.0);
            if refused_before || (self.may_be_late[number] && self.highest > Some(number)) {
                continue;
            }
            assert!(self.highest < Some(number), "{number} came after {:?}", self.highest);
            self.highest = Some(number);
        }
    }

    /// What is parked was refused, and was not accepted after that.
    fn parked(&self, row: &Row, sent: &BTreeMap<usize, &Message>, received: &Received) {
        for sequence in &row.parked {
            let number = usize::try_from(*sequence).expect("a sequence");
            assert!(*sequence < row.next_sequence, "{number} is parked before the cursor passed it");
            let refused =
                self.refused(number, received).unwrap_or_else(|| panic!("{number} is parked, and was never refused"));
            if let Some(message) = sent.get(&number).filter(|_| !row.asked.contains(sequence)) {
                assert!(
                    message.requests.1 < refused.requests.1,
                    "{number} is parked, although the source took it after it had refused it"
                );
            }
        }
    }

    /// All that the cursor passed arrived, is parked, or was left out by a filter that was in force; and the row counts it.
    fn cursor(&mut self, row: &Row, sent: &BTreeMap<usize, &Message>, received: &Received) {
        let next = usize::try_from(row.next_sequence).expect("a sequence");
        assert!(next <= self.kinds.len(), "the cursor is at {next}, past the head");
        if next < self.next {
            assert!(self.refused(next, received).is_some(), "the cursor went back to {next}, which was not refused");
            self.may_be_left_out.truncate(next);
        }
        for number in 0..next {
            let left_out = self.in_force.iter().any(|filter| !filter.takes(self.kinds[number]));
            if number == self.may_be_left_out.len() {
                self.may_be_left_out.push(left_out);
            } else if self.refused(number, received).is_some() {
                // Between two looks, the cursor may have gone back to it and passed it again.
                self.may_be_left_out[number] |= left_out;
            }
        }
        self.next = next;
        let parked: BTreeSet<usize> =
            row.parked.iter().filter_map(|sequence| usize::try_from(*sequence).ok()).collect();
        let kept = |number: &usize| sent.contains_key(number) || parked.contains(number);
        let missing: Vec<usize> = (0..next).filter(|number| !kept(number)).collect();
        let lost: Vec<&usize> = missing.iter().filter(|number| !self.may_be_left_out[**number]).collect();
        assert!(lost.is_empty(), "the cursor is at {next}, and {lost:?} neither arrived nor are parked: {row:?}");
        self.counters(row, missing.len());
    }

    fn counters(&self, row: &Row, missing: usize) {
        let parked = i64::try_from(row.parked.len()).expect("few");
        assert_eq!(row.delivered + row.filtered + parked, row.next_sequence, "the counters: {row:?}");
        let most = self.may_be_left_out.iter().filter(|may| **may).count();
        let filtered = usize::try_from(row.filtered).expect("a count");
        assert!((missing..=most).contains(&filtered), "{filtered} filtered, not {missing} to {most}: {row:?}");
    }

    fn refused<'a>(&self, number: usize, received: &'a Received) -> Option<&'a Refused> {
        received.refused().get(&self.message_id(number))
    }

    /// What the project promises of it: made from the log and the event's id alone.
    fn message_id(&self, number: usize) -> String {
        Uuid::new_v5(&self.log_id, format!("evt_{number}").as_bytes()).to_string()
    }
}
