//! What the tests of this repository share: fixtures for the real parts they run against.

pub mod bench;
pub mod clients;
pub mod cluster;
pub mod control_plane;
pub mod filled;
pub mod issuer;
pub mod jwt;
pub mod people;
pub mod postgres;
pub mod proxy;
pub mod served;
pub mod sse;
pub mod streaming;
