//! Forwarding on a real Postgres, to a source that misbehaves by script.

mod delivery;
mod fence;
mod fixture;
mod start_from;
