//! What appending a group means, decided without a database: which events are new, which are
//! there already, which requests collide with other content.

use crate::event::leaf::{Hash, Place, Salts, Sealed};
use crate::event::{Event, IdentityDay, SubmittedBy, SubmitterKind, utc_day};
use jiff::civil::Date;
use jiff::{Timestamp, ToSpan};
use std::collections::HashMap;
use uuid::Uuid;

/// For how many days an id without a time of its own is known.
const RECEIVED_IDENTITY_DAYS: i32 = 7;

/// What one client asks to append, as a whole or not at all.
#[derive(Clone, Debug)]
pub struct Request {
    /// The events, each with salts drawn once: after a COMMIT of unknown outcome they tell whether
    /// a row that is found is this very request's.
    pub events: Vec<Sealed>,
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
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Receipt {
    /// Events stored by this request.
    pub accepted: usize,
    /// Events that were there already.
    pub duplicates: usize,
    /// Highest sequence among the events of the request.
    #[schema(required)]
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

/// Where the log stands while its head is locked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub log_id: Uuid,
    pub epoch: i64,
    pub next_sequence: i64,
    pub received_at: Timestamp,
}

/// A row that stands under an id already.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub day: Date,
    pub id: String,
    pub row: Stored,
}

/// What tells whether a row holds an event.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(super) struct Stored {
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
#[derive(Clone, Copy, Debug)]
pub(super) struct Row<'a> {
    /// Identity day: the id is kept under it.
    pub day: Date,
    pub sequence: i64,
    pub timestamp: Timestamp,
    pub sealed: &'a Sealed,
    pub submitted_by: &'a SubmittedBy,
    pub leaf_hash: Hash,
}

/// What to do.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub rows: Vec<Row<'a>>,
    pub outcomes: Vec<Outcome>,
    /// Where the head goes.
    pub next_sequence: i64,
}

type Key<'a> = (Date, &'a str);

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
pub(super) fn lookup_keys<'a>(group: &'a [Request], head: &Head) -> Vec<Key<'a>> {
    let today = utc_day(head.received_at);
    let events = group.iter().flat_map(|request| &request.events).map(|sealed| &sealed.event);
    events.flat_map(|event| days(event, today).map(|day| (day, &*event.id))).collect()
}

/// The identity day of an event, and for one without a time of its own the days before.
fn days(event: &Event, today: Date) -> impl Iterator<Item = Date> + use<> {
    let (newest, count) = match event.identity_day() {
        IdentityDay::Own(day) => (day, 0),
        IdentityDay::Received => (today, RECEIVED_IDENTITY_DAYS),
    };
    (0..=count).map(move |back| newest.saturating_sub(back.days()))
}

impl<'a> Plan<'a> {
    /// Decides request by request, in order.
    pub fn of(group: &'a [Request], head: &'a Head, found: &'a [Found]) -> Self {
        let mut planner = Planner {
            head,
            today: utc_day(head.received_at),
            found: found.iter().map(|found| ((found.day, &*found.id), &found.row)).collect(),
            planned: HashMap::new(),
            rows: Vec::new(),
        };
        let outcomes = group.iter().map(|request| planner.decide(request)).collect();
        let next_sequence = planner.next_sequence();
        Self { rows: planner.rows, outcomes, next_sequence }
    }
}

struct Planner<'a> {
    head: &'a Head,
    today: Date,
    found: HashMap<Key<'a>, &'a Stored>,
    /// Index into `rows` of what this group adds.
    planned: HashMap<Key<'a>, usize>,
    rows: Vec<Row<'a>>,
}

impl<'a> Planner<'a> {
    /// Adds the new events of a request, or takes all of them back when one is in conflict.
    fn decide(&mut self, request: &'a Request) -> Outcome {
        let rows_before = self.rows.len();
        let mut receipt = Receipt::default();
        let mut conflicts = Vec::new();
        for (index, sealed) in request.events.iter().enumerate() {
            let sequence = match self.standing(sealed) {
                Standing::New => {
                    receipt.accepted += 1;
                    self.add(sealed, &request.submitted_by)
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

    fn standing(&self, sealed: &Sealed) -> Standing {
        let event = &sealed.event;
        for day in days(event, self.today) {
            let key = (day, &*event.id);
            if let Some(index) = self.planned.get(&key) {
                let row = &self.rows[*index];
                let same = self.timestamp(event) == row.timestamp && event.is_but_for_timestamp(&row.sealed.event);
                return if same { Standing::There { sequence: row.sequence, own: false } } else { Standing::Taken };
            }
            if let Some(stored) = self.found.get(&key) {
                return stored.standing(self.head.log_id, sealed);
            }
        }
        Standing::New
    }

    fn add(&mut self, sealed: &'a Sealed, submitted_by: &'a SubmittedBy) -> i64 {
        let sequence = self.next_sequence();
        let Head { log_id: trail, epoch, received_at, .. } = *self.head;
        let day = match sealed.event.identity_day() {
            IdentityDay::Own(day) => day,
            IdentityDay::Received => self.today,
        };
        self.planned.insert((day, &sealed.event.id), self.rows.len());
        self.rows.push(Row {
            day,
            sequence,
            timestamp: self.timestamp(&sealed.event),
            sealed,
            submitted_by,
            leaf_hash: sealed.leaf_hash(&Place { trail, epoch, sequence, received_at }, submitted_by),
        });
        sequence
    }

    fn timestamp(&self, event: &Event) -> Timestamp {
        event.timestamp.unwrap_or(self.head.received_at)
    }

    fn next_sequence(&self) -> i64 {
        self.head.next_sequence + i64::try_from(self.rows.len()).expect("a group is bounded")
    }
}

impl Stored {
    /// Whether an event is the event of this row: its leaf under the row's salts must be the row's
    /// leaf. A row whose personal fields were erased cannot be compared and counts as the same.
    fn standing(&self, trail: Uuid, given: &Sealed) -> Standing {
        let there = |own| Standing::There { sequence: self.sequence, own };
        let (Some(personal), Some(body), Some(kind)) = (
            self.personal_salt.as_deref().and_then(|salt| salt.try_into().ok()),
            self.body_salt.as_deref().and_then(|salt| salt.try_into().ok()),
            SubmitterKind::parse(&self.submitted_by_kind),
        ) else {
            return there(false);
        };
        let row_salts = Salts { personal, body };
        let submitted_by = SubmittedBy { kind, name: self.submitted_by_name.clone() };
        let place =
            Place { trail, epoch: self.epoch, sequence: self.sequence, received_at: self.received_at.to_jiff() };
        if Sealed::new(given.event.clone(), row_salts).leaf_hash(&place, &submitted_by)[..] == self.leaf_hash[..] {
            there(row_salts == given.salts)
        } else {
            Standing::Taken
        }
    }
}
