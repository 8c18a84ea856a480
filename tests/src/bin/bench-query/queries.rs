//! The collector's answers, and how long they take.

use crate::cases::{Case, Question};
use crate::http::Connection;
use audittrail_tests::bench::times::Times;
use serde::Deserialize;
use std::fmt;

/// Which end of the log comes first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Order {
    /// Newest first.
    Desc,
    /// Oldest first.
    Asc,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Desc => "desc",
            Self::Asc => "asc",
        })
    }
}

/// Events of a page.
pub const PAGE_EVENTS: usize = 100;

/// What is read of a page.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Page {
    events: Vec<Listed>,
    /// Goes on.
    pub next_cursor: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Listed {
    sequence: i64,
}

/// A case as it was measured in one order.
#[derive(Debug)]
pub struct Measured {
    /// The case.
    pub case: Case,
    /// The order.
    pub order: Order,
    /// Sequences of the events that were answered to each question.
    pub answers: Vec<Vec<i64>>,
    /// First pages, each of which is recorded in the trail before it is answered.
    pub first: Times,
    /// The same pages but for their first event, by cursor: those are not recorded. Empty where no question has two events.
    pub by_cursor: Times,
    /// First pages while events are written.
    pub while_written: Times,
    /// The best hand-written query.
    pub by_hand: Times,
    /// The same after a COMMIT of one row, as first pages are recorded.
    pub by_hand_recorded: Times,
}

/// The path of a page.
pub fn path(order: Order, limit: usize, question: &Question) -> String {
    format!("/v1/events?order={order}&limit={limit}{}", question.query)
}

/// Reads a page, whose time nobody wants.
pub fn page(connection: &mut Connection, path: &str) -> Page {
    serde_json::from_slice(connection.get(path).0).expect("a page of events")
}

/// Asks all of the case's questions, then measures first pages and pages by cursor, the questions in turn.
pub fn measure(connection: &mut Connection, case: Case, order: Order, runs: usize) -> Measured {
    let (mut answers, mut cursors) = (Vec::new(), Vec::new());
    for question in &case.questions {
        let path = path(order, PAGE_EVENTS, question);
        let answer = page(connection, &path);
        answers.push(answer.events.iter().map(|event| event.sequence).collect());
        let first = page(connection, &crate::queries::path(order, 1, question));
        cursors.extend(first.next_cursor.map(|cursor| format!("{path}&cursor={cursor}")));
    }
    let first = first_pages(connection, &case, order, runs);
    let by_cursor = times(connection, &cursors, runs);
    let (while_written, by_hand, by_hand_recorded) = Default::default();
    Measured { case, order, answers, first, by_cursor, while_written, by_hand, by_hand_recorded }
}

/// First pages, the questions in turn.
pub fn first_pages(connection: &mut Connection, case: &Case, order: Order, runs: usize) -> Times {
    let paths: Vec<String> = case.questions.iter().map(|question| path(order, PAGE_EVENTS, question)).collect();
    times(connection, &paths, runs)
}

fn times(connection: &mut Connection, paths: &[String], runs: usize) -> Times {
    let runs = if paths.is_empty() { 0 } else { runs };
    Times::of(paths.iter().cycle().take(runs).map(|path| connection.get(path).1).collect())
}
