//! Segment's Public API, as far as it is about the audit trail: `GET /audit-events`. Its SDKs work with the base URL of a
//! collector. Sources: the model and the API of `@segment/public-api-sdk-typescript`, and the pages Audit Trail, Pagination
//! and Rate Limits of Segment's reference.
//!
//! | module | what |
//! |---|---|
//! | [`audit_events`] | the endpoint: parameters, and a page |
//! | [`event`] | an event in Segment's shape. Pure |
//! | [`bookmark`] | where a page stands in its query, and which pages lie beside it. Pure |
//! | [`media`] | in which media type is answered. Pure |
//! | [`budget`] | how often one caller may ask. Pure |
//! | [`refused`] | errors in Segment's shape |

pub mod audit_events;
pub mod bookmark;
pub mod budget;
pub mod event;
pub mod media;
pub mod refused;
