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
//! | [`block`] | what filters ask, written down block by block |
//! | [`term`] | what can be asked for by its value |
//! | [`retention`] | drops the oldest part of the log |
//! | [`epoch`] | notices that the database was restored |
//! | [`read`] | an event from its row, and what a filter is in SQL |
//! | [`known`] | what is written down, as far as a filter asks |
//! | [`walk`] | events by filter, page by page |
//! | [`by_id`] | one event |
//! | [`counts`] | how many events each type, actor and resource has |
//! | [`cursor_key`] | what cursors of the query API are authenticated with |
//! | [`place`] | whether a place that a client holds is still there |
//! | [`census`] | how many segments there are, for the metrics |
//! | [`replica`] | heartbeats and the newest configuration |
//! | [`forwarding`] | cursors and leases |
//! | [`start_from`] | where a cursor starts |
//! | [`parking`] | events that a source refused, and their replays |
//! | [`parked`] | events that a source refused for good |

pub mod append;
pub mod block;
mod by_id;
pub mod census;
pub mod connect;
pub mod counts;
mod cursor_key;
pub mod epoch;
pub mod forwarding;
mod hosts;
mod insert;
pub mod keeper;
mod known;
pub mod parked;
pub mod parking;
pub mod place;
mod plan;
pub mod read;
pub mod replica;
mod retention;
pub mod segment;
mod start_from;
mod term;
pub mod uri;
pub mod walk;
pub mod writer;

pub use connect::Store;
pub use plan::{Outcome, Receipt, Request};
