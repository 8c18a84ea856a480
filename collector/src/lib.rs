//! The collector: accepts audit events, keeps them in Postgres as a log, answers for them and
//! forwards them. `docs/architecture.md` walks one event through these modules.

pub mod event;
pub mod query;
pub mod store;
