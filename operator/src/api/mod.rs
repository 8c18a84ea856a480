//! The Kubernetes API: what comes from it, and server-side apply, only when the live object lacks something.
//!
//! | module | what |
//! |---|---|
//! | [`difference`] | does the live object lack anything of the desired one? (pure) |
//! | [`guarded`] | objects that may be unreadable (pure) |
//! | [`quantity`] | are two Kubernetes quantities the same amount? (pure) |
//! | [`write`] | apply, create once, delete |
//! | [`status`] | write a status |

pub mod difference;
pub mod guarded;
pub mod quantity;
pub mod status;
pub mod write;
