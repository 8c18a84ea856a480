//! From bytes to valid events. Every limit is checked here, once; what comes after cannot fail for
//! what an event contains.
//!
//! | module | what |
//! |---|---|
//! | [`limits`] | every limit of an event, in one table |
//! | [`fields`] | reads the members of a JSON object and notes what is wrong with each |
//! | [`native`] | `POST /v1/events` |
//! | [`kubernetes`] | `POST /v1/kubernetes`: audit events of an API server |
//! | [`http`] | the two endpoints |

pub mod fields;
pub mod http;
pub mod kubernetes;
pub mod limits;
pub mod native;
