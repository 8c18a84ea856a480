//! Where the forwarder is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// Every failpoint of the engine.
pub const FAILPOINTS: [&str; 13] = [
    "forward::leased",
    "forward::read",
    "forward::before-send",
    "forward::after-send",
    "forward::before-move",
    "forward::after-move",
    "forward::before-park",
    "forward::after-park",
    "forward::before-unpark",
    "forward::after-unpark",
    "forward::before-replay-done",
    "forward::after-replay-done",
    "forward::before-release",
];

/// Those on the way of an event that is parked and taken back.
pub const PARKING: [&str; 4] =
    ["forward::before-park", "forward::after-park", "forward::before-unpark", "forward::after-unpark"];
/// Those of a replay.
pub const REPLAY: [&str; 2] = ["forward::before-replay-done", "forward::after-replay-done"];
/// That of a stop.
pub const RELEASE: [&str; 1] = ["forward::before-release"];

/// How often each failpoint killed, in all histories.
#[derive(Debug, Default)]
pub struct Killed(Mutex<BTreeMap<&'static str, u32>>);

impl Killed {
    pub fn at(&self, failpoint: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(failpoint).or_default() += 1;
    }

    pub fn times(&self, failpoint: &str) -> u32 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(failpoint).copied().unwrap_or_default()
    }

    /// Where nothing was killed: a failpoint that is not there any more, or has another name.
    pub fn spared(&self) -> Vec<&'static str> {
        FAILPOINTS.into_iter().filter(|failpoint| self.times(failpoint) == 0).collect()
    }
}

#[test]
fn every_failpoint_of_the_forwarder_is_aimed_at() {
    let sources =
        std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../collector/src/forward")).expect("a directory");
    let files = sources.map(|entry| entry.expect("readable").path()).filter(|path| path.is_file());
    let text: String = files.map(|path| std::fs::read_to_string(path).expect("text")).collect();
    let set: BTreeSet<&str> = text.split("fail_point!(\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(set, BTreeSet::from(FAILPOINTS));
}
