//! Live pages on Cloudflare.
//!
//! The edge ([`edge`]) recognises event requests and hands them to the site's space. The space
//! answers readers of Durable Streams itself, and sockets so that it can hibernate while they stay
//! open ([`object`]).

pub(crate) mod edge;
pub(crate) mod object;
