//! From bytes to valid events. Every limit is checked here, once; what comes after cannot fail for
//! what an event contains.
//!
//! | module | what |
//! |---|---|
//! | [`http`] | the endpoints |
//! | [`media`] | which format a request has, by its headers |
//! | [`body`] | reads a body: bounded in size, time and memory; gzip and zstd |
//! | [`room`] | room for bodies in flight: memory is bounded |
//! | [`edge`] | what readers need beside bytes: clock, catalogue, ids |
//! | [`gather`] | gathers events while a body is read |
//! | [`fields`] | reads the members of a JSON object and notes what is wrong with each |
//! | [`limits`] | every limit, in one table |
//! | [`native`] | native events: one, a batch, or one a line |
//! | [`cloudevents`] | CloudEvents 1.0 |
//! | [`kubernetes`] | `POST /v1/kubernetes`: audit events of an API server |
//! | [`segment`] | `POST /v1/track`, `/v1/batch`: Segment's Tracking API; its items are [`crate::segment`] |
//! | [`tame`], [`items`], [`cut`] | for those two: what is odd is cut, nothing is refused for it |

pub mod body;
pub mod cloudevents;
pub mod cut;
pub mod edge;
pub mod fields;
pub mod gather;
pub mod http;
pub mod items;
pub mod kubernetes;
pub mod limits;
pub mod media;
pub mod native;
pub mod room;
pub mod segment;
pub mod tame;

pub use edge::Edge;

#[cfg(test)]
mod properties;
