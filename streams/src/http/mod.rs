//! Streams over HTTP: request parsing and response rendering.
//!
//! Both platforms use this and add sockets. The embedded host parses a request's head with
//! [`StreamRequest::parse`], reads its body, calls the stream and renders the reply with
//! [`answer`]. A Durable Object does the same with a request that the edge forwards. Every response
//! passes [`StreamSettings::add_common_headers`], which adds the headers that browsers need.

pub mod answer;
mod cors;
mod cursor;
mod etag;
mod gzip;
mod headers;
mod invalid;
mod listing;
mod poll;
mod registry;
mod request;
mod settings;
pub mod sse;

pub use cors::CorsOrigins;
pub use cursor::LiveCursor;
pub use etag::IfNoneMatch;
pub use gzip::{page_in_gzip, takes_gzip};
pub use invalid::InvalidRequest;
pub use listing::{ListRequest, ListedStream, listed};
pub use poll::Poll;
pub use registry::registry_refusal;
pub use request::{Get, LiveMode, StreamRequest, headers_of, is_reserved, name_of};
pub(crate) use request::{Query, forked_from};
pub use settings::{Admitted, InvalidSettings, StreamSettings, TimingAudience};

/// Base path of streams, which a stream's name follows.
pub const STREAMS_PATH: &str = "/v1/stream/";
