//! Forwarding on a real Postgres, to a source that misbehaves by script.

mod delivery;
mod fence;
mod fixture;
mod model;
mod parking;
mod start_from;
mod two_replicas;
