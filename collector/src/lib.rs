//! The collector: accepts audit events, keeps them in Postgres as a log, answers for them and
//! forwards them. `docs/architecture.md` walks one event through these modules.

pub mod access;
pub mod catalogue;
pub mod database;
pub mod dev;
pub mod document;
pub mod event;
pub mod forward;
pub mod forwardings;
pub mod health;
pub mod ingest;
pub mod listener;
pub mod metrics;
pub mod openapi;
pub mod problem;
pub mod program;
pub mod public_api;
pub mod query;
pub mod request;
pub mod segment;
pub mod serve;
pub mod server;
pub mod settings;
pub mod status;
pub mod store;
pub mod tail;
pub mod telemetry;
