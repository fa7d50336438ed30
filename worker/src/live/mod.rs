//! Open pages on Cloudflare.
//!
//! The edge ([`edge`]) recognises event requests, and hands the request as
//! it is to the site's space. That answers readers of Durable Streams itself, and sockets so that
//! it can sleep while they stay open ([`object`]).

pub(crate) mod edge;
pub(crate) mod object;
