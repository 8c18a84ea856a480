//! Writing to the Kubernetes API: server-side apply, and only when the live object lacks something.
//!
//! | module | what |
//! |---|---|
//! | [`difference`] | does the live object lack anything of the desired one? (pure) |
//! | [`quantity`] | are two Kubernetes quantities the same amount? (pure) |
//! | [`write`] | apply, create once, delete |
//! | [`status`] | write a status |

pub mod difference;
pub mod quantity;
pub mod status;
pub mod write;
