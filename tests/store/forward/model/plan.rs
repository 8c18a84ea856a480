//! What may happen in a case, and how the next thing is chosen.

use crate::fixture::event;
use audittrail_collector::event::Event;
use audittrail_crds::filter::{EventFilter, Selector};
use audittrail_source::script::Step;
use rand::RngExt;
use rand::rngs::SmallRng;
use serde_json::json;
use std::time::Duration;

/// Types of events, by kind.
pub const KINDS: [&str; 3] = ["Warehouse Disabled", "Permission Check", "Source Created"];

/// Most bytes that the details of an event are filled with: some are larger than a source may take.
const DETAILS_MAX_BYTES: usize = 20_000;

/// What a source answers that takes nothing.
pub const REFUSAL: Step = Step::Status { code: 400, retry_after: None };

/// A filter, as something that can be judged without the code that is tested.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Choice {
    Everything,
    Only(usize),
    Without(usize),
}

impl Choice {
    pub fn any(random: &mut SmallRng) -> Self {
        let kind = random.random_range(0..KINDS.len());
        [Self::Everything, Self::Only(kind), Self::Without(kind)][random.random_range(0..3)]
    }

    pub fn takes(self, kind: usize) -> bool {
        match self {
            Self::Everything => true,
            Self::Only(only) => kind == only,
            Self::Without(without) => kind != without,
        }
    }

    pub fn filter(self) -> EventFilter {
        let selector = |kind: usize| vec![Selector { r#type: vec![KINDS[kind].to_owned()], ..Selector::default() }];
        match self {
            Self::Everything => EventFilter::default(),
            Self::Only(kind) => EventFilter { include: selector(kind), ..EventFilter::default() },
            Self::Without(kind) => EventFilter { exclude: selector(kind), ..EventFilter::default() },
        }
    }
}

/// What happens next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    Append,
    Script,
    Toggle,
    Filter,
    Format,
    Delivery,
    Touch,
    RemoveAndMakeAgain,
    Kill,
    Stop,
    Replay,
    HealAndReplay,
    TakeNothing,
    TakeSmallBodies,
    Behave,
    Wait,
}

/// Each action with its weight.
const ACTIONS: [(Action, u32); 16] = [
    (Action::Append, 30),
    (Action::Script, 12),
    (Action::Toggle, 5),
    (Action::Filter, 6),
    (Action::Format, 4),
    (Action::Delivery, 4),
    (Action::Touch, 3),
    (Action::RemoveAndMakeAgain, 2),
    (Action::Kill, 4),
    (Action::Stop, 3),
    (Action::Replay, 3),
    (Action::HealAndReplay, 4),
    (Action::TakeNothing, 3),
    (Action::TakeSmallBodies, 2),
    (Action::Behave, 6),
    (Action::Wait, 20),
];

pub fn action(random: &mut SmallRng) -> Action {
    let mut place = random.random_range(0..ACTIONS.iter().map(|(_, weight)| weight).sum());
    for (action, weight) in ACTIONS {
        if place < weight {
            return action;
        }
        place -= weight;
    }
    unreachable!("the place is below the sum of the weights")
}

/// A step of a script. Those that take long are rare.
pub fn step(random: &mut SmallRng) -> Step {
    let status = |code| Step::Status { code, retry_after: None };
    match random.random_range(0..40) {
        0..4 => status(500),
        4..6 => status(503),
        6..8 => Step::Status { code: 429, retry_after: Some(1) },
        8..10 => status(429),
        10..14 => status(400),
        14..16 => status(422),
        16..18 => status(413),
        18 => status(401),
        19 => status(404),
        20 => Step::Redirect("http://127.0.0.1:9/".to_owned()),
        21 => Step::Loop,
        22..25 => Step::Reset,
        25..28 => Step::Half,
        28..32 => Step::StoreThenDrop,
        32 => Step::StoreThenHang,
        33 => Step::Hang,
        34 => Step::Drip(Duration::from_millis(10)),
        35..37 => Step::OkFalse,
        _ => Step::Behave,
    }
}

/// The event of a number, of a kind. Few are large.
pub fn model_event(random: &mut SmallRng, number: usize, kind: usize) -> Event {
    let size = if random.random_bool(0.1) { random.random_range(0..DETAILS_MAX_BYTES) } else { 10 };
    let details = json!({"text": "x".repeat(size)}).as_object().cloned();
    Event { r#type: KINDS[kind].to_owned(), details, ..event(number) }
}
