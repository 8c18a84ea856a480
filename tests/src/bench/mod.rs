//! What the benchmarks share: the collector's release build as a process, events to load it with, and the table of results.
//!
//! | module | what |
//! |---|---|
//! | [`collector`] | the process, and what it takes |
//! | [`events`] | events as they are sent |
//! | [`client`] | sends them |
//! | [`processor`] | processor time |
//! | [`times`] | how long requests took |
//! | [`table`] | the table, and the page it is written into |

pub mod client;
pub mod collector;
pub mod events;
pub mod processor;
pub mod table;
pub mod times;

/// Settings of the server beside Postgres' defaults, for baselines and collector alike.
pub const POSTGRES_SETTINGS: &[(&str, &str)] = &[("max_wal_size", "4GB"), ("shared_buffers", "512MB")];
