//! What is remembered, and told to the collectors.

use super::*;
use crate::board::{Applied, Problem};
use crate::observe::Silence;
use crate::testing::{facts, names, now, pods, report};
use crate::trail::apply::Running;
use crate::trail::status::judge;
use audittrail_crds::condition::Reason;
use std::sync::Arc;

const ID: &str = "log";

fn remembered(epoch: i64, events: i64) -> AuditTrailStatus {
    AuditTrailStatus {
        trail_id: Some(ID.to_owned()),
        epoch: Some(epoch),
        events: Some(events),
        last_sequence: Some(events - 1),
        ..AuditTrailStatus::default()
    }
}

fn known(epoch: i64, next_sequence: i64) -> KnownLog {
    KnownLog { epoch, next_sequence }
}

fn log(id: &str, epoch: i64, next_sequence: i64) -> Log {
    Log { id: id.to_owned(), epoch, next_sequence, ..Log::default() }
}

fn reported(log: Log) -> Facts {
    let mut report = report();
    report.log = Some(log);
    Facts { observation: Some(Ok(report)), ..facts() }
}

fn silent(ready: i32) -> Facts {
    let running = Running { postgres: None, collector: pods(ready, 1) };
    let applied = Applied { running, ..(*facts().applied.expect("applied")).clone() };
    let observation = Some(Err(Silence { message: "refused".to_owned() }));
    Facts { applied: Some(Arc::new(applied)), observation, ..facts() }
}

fn having_applied(facts: Facts, known_log: Option<KnownLog>) -> Facts {
    let mut applied = (*facts.applied.clone().expect("applied")).clone();
    applied.document.known_log = known_log;
    Facts { applied: Some(Arc::new(applied)), ..facts }
}

#[test]
fn a_log_that_grows_or_stands_is_nothing_to_tell() {
    for next in [100, 101] {
        assert_eq!(known_log(&remembered(0, 100), None, &reported(log(ID, 0, next))), None);
    }
    assert_eq!(known_log(&AuditTrailStatus::default(), None, &reported(log(ID, 0, 0))), None);
}

#[test]
fn a_log_that_fell_behind_is_told_what_it_held() {
    assert_eq!(known_log(&remembered(0, 100), None, &reported(log(ID, 0, 99))), Some(known(0, 100)));
    // A restore of a copy from before the last restore: what it held in the later epoch counts.
    assert_eq!(known_log(&remembered(1, 50), None, &reported(log(ID, 0, 99))), Some(known(1, 50)));
    // An empty database in its place.
    assert_eq!(known_log(&remembered(0, 100), None, &reported(log("other", 0, 0))), Some(known(0, 100)));
}

#[test]
fn collectors_that_start_when_none_runs_know_before_they_are_asked() {
    assert_eq!(known_log(&remembered(0, 100), None, &silent(0)), Some(known(0, 100)));
    assert_eq!(known_log(&remembered(0, 100), Some(known(0, 40)), &silent(0)), Some(known(0, 100)));
    // One that runs and does not answer remembers by itself.
    assert_eq!(known_log(&remembered(0, 100), None, &silent(1)), None);
    assert_eq!(known_log(&AuditTrailStatus::default(), None, &silent(0)), None);
}

#[test]
fn the_document_goes_on_saying_it_until_the_epoch_is_raised() {
    let grown = reported(log(ID, 0, 200));
    assert_eq!(known_log(&remembered(0, 200), Some(known(0, 100)), &grown), Some(known(0, 100)));
    assert_eq!(known_log(&AuditTrailStatus::default(), Some(known(0, 100)), &grown), Some(known(0, 100)));
    let raised = reported(log(ID, 1, 91));
    assert_eq!(known_log(&remembered(1, 91), Some(known(0, 100)), &raised), None);
}

#[test]
fn before_the_first_poll_nothing_changes() {
    let unasked = Facts { observation: None, ..facts() };
    for present in [None, Some(known(0, 100))] {
        assert_eq!(known_log(&remembered(0, 100), present, &unasked), present);
    }
}

/// The order that matters: nothing forgets what the log held before the epoch says that it is gone.
#[test]
fn a_restore_is_remembered_told_once_and_then_over() {
    let mut status = remembered(0, 100);
    let rewound = reported(log(ID, 0, 90));
    for _ in 0..3 {
        status = judge(&names(), &status, &rewound, now());
        assert_eq!(Position::remembered(&status), Position::remembered(&remembered(0, 100)));
        assert!(needs_a_round(&status, &rewound));
    }
    // The round put it into the document; until the collectors have read it there is nothing more to do.
    let told = having_applied(rewound, Some(known(0, 100)));
    for _ in 0..3 {
        status = judge(&names(), &status, &told, now());
        assert!(!needs_a_round(&status, &told));
    }
    let raised = having_applied(reported(log(ID, 1, 93)), Some(known(0, 100)));
    status = judge(&names(), &status, &raised, now());
    assert_eq!((status.epoch, status.events, status.last_sequence), (Some(1), Some(93), Some(92)));
    assert!(needs_a_round(&status, &raised));
    let over = having_applied(raised, None);
    for _ in 0..3 {
        status = judge(&names(), &status, &over, now());
        assert!(!needs_a_round(&status, &over));
    }
}

#[test]
fn polls_that_find_a_log_growing_never_ask_for_a_round() {
    let mut status = AuditTrailStatus::default();
    for next in [0, 0, 5, 1000, 1000] {
        let facts = reported(log(ID, 0, next));
        status = judge(&names(), &status, &facts, now());
        assert!(!needs_a_round(&status, &facts));
    }
}

#[test]
fn a_round_that_failed_is_not_asked_for_again() {
    let problem = Problem { reason: Reason::ApplyFailed, message: String::new(), needs_help: false };
    let facts = Facts { problem: Some(problem), ..reported(log(ID, 0, 90)) };
    assert!(!needs_a_round(&remembered(0, 100), &facts));
    assert!(!needs_a_round(&remembered(0, 100), &Facts { applied: None, ..facts }));
}
