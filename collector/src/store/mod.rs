//! The log in Postgres. SQL stands here and nowhere else, one query a function.
//!
//! | module | what |
//! |---|---|
//! | [`connect`] | the pool, its session settings, migrations and the claim |
//! | [`append`] | the transaction that appends a group of requests to the log |
//! | [`writer`] | gathers requests into groups |
//! | [`segment`] | partitions of the log |
//! | [`read`] | events by filter, by sequence, by id |
//! | [`replica`] | heartbeats and the newest configuration |
//! | [`forwarding`] | cursors and leases |

pub mod append;
pub mod connect;
pub mod forwarding;
mod insert;
mod plan;
pub mod read;
pub mod replica;
pub mod segment;
pub mod writer;

pub use connect::Store;
pub use plan::{Outcome, Receipt, Request};
