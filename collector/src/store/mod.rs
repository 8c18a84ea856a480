//! The log in Postgres. SQL stands here and nowhere else, one query a function.
//!
//! | module | what |
//! |---|---|
//! | [`connect`] | the pool, its session settings, migrations and the claim |
//! | [`uri`] | the connection URI, its hosts |
//! | [`hosts`] | which host is the primary, which connections are good |
//! | [`append`] | the transaction that appends a group of requests to the log |
//! | [`writer`] | gathers requests into groups |
//! | [`segment`] | partitions of the log |
//! | [`keeper`] | makes segments ahead, indexes and drops them |
//! | [`terms`] | the filter index of a segment |
//! | [`retention`] | drops the oldest part of the log |
//! | [`epoch`] | notices that the database was restored |
//! | [`read`] | events by filter, by sequence, by id |
//! | [`census`] | how many segments there are, for the metrics |
//! | [`replica`] | heartbeats and the newest configuration |
//! | [`forwarding`] | cursors and leases |

pub mod append;
pub mod census;
pub mod connect;
pub mod epoch;
pub mod forwarding;
mod hosts;
mod insert;
pub mod keeper;
mod plan;
pub mod read;
pub mod replica;
mod retention;
pub mod segment;
mod terms;
pub mod uri;
pub mod writer;

pub use connect::Store;
pub use plan::{Outcome, Receipt, Request};
