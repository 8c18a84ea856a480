//! What the tests of this repository share: fixtures for the real parts they run against.

pub mod clients;
pub mod cluster;
pub mod control_plane;
pub mod postgres;
pub mod proxy;
pub mod served;
pub mod streaming;
