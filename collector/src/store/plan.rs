//! What appending a group means, decided without a database: which events are new, which are
//! there already, which requests collide with other content.

use crate::event::leaf::{self, Commitments, Salts};
use crate::event::{Event, IdentityDay, StoredEvent, SubmittedBy, SubmitterKind, utc_day};
use jiff::ToSpan;
use jiff::civil::Date;
use std::collections::HashMap;
use uuid::Uuid;

/// For how many days an id without a time of its own is known.
const RECEIVED_IDENTITY_DAYS: i32 = 7;

/// What one client asks to append, as a whole or not at all.
#[derive(Clone, Debug)]
pub struct Request {
    /// The events, each with salts drawn once: after a COMMIT of unknown outcome they tell whether
    /// a row that is found is this very request's.
    pub events: Vec<(Event, Salts)>,
    /// Who wrote them.
    pub submitted_by: SubmittedBy,
}

/// What became of a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// All its events are in the log, durably.
    Stored(Receipt),
    /// Nothing was stored: the ids of the events at these indices are taken by other content.
    Conflict(Vec<usize>),
}

/// The answer to a stored request.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// Events stored by this request.
    pub accepted: usize,
    /// Events that were there already.
    pub duplicates: usize,
    /// Highest sequence among the events of the request.
    pub last_sequence: Option<i64>,
}

impl Receipt {
    /// This receipt and `other`'s in one.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            accepted: self.accepted + other.accepted,
            duplicates: self.duplicates + other.duplicates,
            last_sequence: self.last_sequence.max(other.last_sequence),
        }
    }
}

/// The head row, locked until the transaction ends.
#[derive(Clone, Copy, Debug, sqlx::FromRow)]
pub(super) struct LockedHead {
    pub log_id: Uuid,
    pub epoch: i64,
    pub next_sequence: i64,
    pub received_at: jiff_sqlx::Timestamp,
}

/// A row that stands under an id already.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct Found {
    pub day: jiff_sqlx::Date,
    pub id: String,
    pub sequence: i64,
    pub epoch: i64,
    pub received_at: jiff_sqlx::Timestamp,
    pub personal_salt: Option<Vec<u8>>,
    pub body_salt: Option<Vec<u8>>,
    pub leaf_hash: Vec<u8>,
    pub submitted_by_kind: String,
    pub submitted_by_name: String,
}

/// A row to insert.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// Identity day: the id is kept under it.
    pub day: Date,
    pub stored: StoredEvent,
    pub salts: Salts,
    pub commitments: Commitments,
}

/// What to do.
#[derive(Debug)]
pub(super) struct Plan {
    pub rows: Vec<Row>,
    pub outcomes: Vec<Outcome>,
    /// Where the head goes.
    pub next_sequence: i64,
}

type Key = (Date, String);

/// How an event stands to the log.
enum Standing {
    New,
    /// In the log, at this sequence. `own` when this very request put it there in a try before.
    There {
        sequence: i64,
        own: bool,
    },
    Taken,
}

/// Every (day, id) under which an event of the group may stand already.
pub(super) fn lookup_keys(group: &[Request], head: &LockedHead) -> Vec<Key> {
    let today = utc_day(head.received_at.to_jiff());
    let events = group.iter().flat_map(|request| &request.events);
    events.flat_map(|(event, _)| days(event, today).map(|day| (day, event.id.clone()))).collect()
}

/// The identity day of an event, and for one without a time of its own the days before.
fn days(event: &Event, today: Date) -> impl Iterator<Item = Date> {
    let (newest, count) = match event.identity_day() {
        IdentityDay::Own(day) => (day, 0),
        IdentityDay::Received => (today, RECEIVED_IDENTITY_DAYS),
    };
    (0..=count).map(move |back| newest.saturating_sub(back.days()))
}

impl Plan {
    /// Decides request by request, in order.
    pub fn of(group: &[Request], head: &LockedHead, found: Vec<Found>) -> Self {
        let mut planner = Planner {
            head,
            today: utc_day(head.received_at.to_jiff()),
            found: found.into_iter().map(|row| ((row.day.to_jiff(), row.id.clone()), row)).collect(),
            planned: HashMap::new(),
            rows: Vec::new(),
        };
        let outcomes = group.iter().map(|request| planner.decide(request)).collect();
        let next_sequence = planner.next_sequence();
        Self { rows: planner.rows, outcomes, next_sequence }
    }
}

struct Planner<'a> {
    head: &'a LockedHead,
    today: Date,
    found: HashMap<Key, Found>,
    /// Index into `rows` of what this group adds.
    planned: HashMap<Key, usize>,
    rows: Vec<Row>,
}

impl Planner<'_> {
    /// Adds the new events of a request, or takes all of them back when one is in conflict.
    fn decide(&mut self, request: &Request) -> Outcome {
        let rows_before = self.rows.len();
        let mut receipt = Receipt::default();
        let mut conflicts = Vec::new();
        for (index, (event, salts)) in request.events.iter().enumerate() {
            let sequence = match self.standing(event, salts) {
                Standing::New => {
                    receipt.accepted += 1;
                    self.add(event, *salts, &request.submitted_by)
                }
                Standing::There { sequence, own } => {
                    *(if own { &mut receipt.accepted } else { &mut receipt.duplicates }) += 1;
                    sequence
                }
                Standing::Taken => {
                    conflicts.push(index);
                    continue;
                }
            };
            receipt.last_sequence = receipt.last_sequence.max(Some(sequence));
        }
        if conflicts.is_empty() {
            return Outcome::Stored(receipt);
        }
        self.rows.truncate(rows_before);
        self.planned.retain(|_, index| *index < rows_before);
        Outcome::Conflict(conflicts)
    }

    fn standing(&self, event: &Event, salts: &Salts) -> Standing {
        for day in days(event, self.today) {
            let key = (day, event.id.clone());
            if let Some(index) = self.planned.get(&key) {
                let stored = &self.rows[*index].stored;
                return if stored.holds(event) {
                    Standing::There { sequence: stored.sequence, own: false }
                } else {
                    Standing::Taken
                };
            }
            if let Some(found) = self.found.get(&key) {
                return found.standing(self.head.log_id, event, salts);
            }
        }
        Standing::New
    }

    fn add(&mut self, event: &Event, salts: Salts, submitted_by: &SubmittedBy) -> i64 {
        let sequence = self.next_sequence();
        let received_at = self.head.received_at.to_jiff();
        let stored = StoredEvent {
            sequence,
            epoch: self.head.epoch,
            received_at,
            timestamp: event.timestamp.unwrap_or(received_at),
            submitted_by: submitted_by.clone(),
            event: Event { timestamp: None, ..event.clone() },
        };
        let day = match event.identity_day() {
            IdentityDay::Own(day) => day,
            IdentityDay::Received => self.today,
        };
        let commitments = leaf::commit(self.head.log_id, &stored, &salts);
        self.planned.insert((day, event.id.clone()), self.rows.len());
        self.rows.push(Row { day, stored, salts, commitments });
        sequence
    }

    fn next_sequence(&self) -> i64 {
        self.head.next_sequence + i64::try_from(self.rows.len()).expect("a group is bounded")
    }
}

impl Found {
    /// Whether `event` is the event of this row: its leaf under the row's salts must be the row's
    /// leaf. A row whose personal fields were erased cannot be compared and counts as the same.
    fn standing(&self, log_id: Uuid, event: &Event, salts: &Salts) -> Standing {
        let there = |own| Standing::There { sequence: self.sequence, own };
        let (Some(personal), Some(body), Some(kind)) = (
            self.personal_salt.as_deref().and_then(|salt| salt.try_into().ok()),
            self.body_salt.as_deref().and_then(|salt| salt.try_into().ok()),
            SubmitterKind::parse(&self.submitted_by_kind),
        ) else {
            return there(false);
        };
        let received_at = self.received_at.to_jiff();
        let as_stored = StoredEvent {
            sequence: self.sequence,
            epoch: self.epoch,
            received_at,
            timestamp: event.timestamp.unwrap_or(received_at),
            submitted_by: SubmittedBy { kind, name: self.submitted_by_name.clone() },
            event: event.clone(),
        };
        let row_salts = Salts { personal, body };
        if leaf::commit(log_id, &as_stored, &row_salts).leaf[..] == self.leaf_hash[..] {
            there(row_salts == *salts)
        } else {
            Standing::Taken
        }
    }
}
