//! The protocol as it stands in HTTP: requests become a [`Call`], what a stream says becomes an
//! answer.
//!
//! Both platforms use this and add sockets: the embedded host reads a request's head with
//! [`Call::parse`], its body, asks the stream and answers with what [`answer`] makes of the reply;
//! a Durable Object does the same with the request that the edge hands it. Every answer leaves
//! through [`Settings::add_common_headers`], so that none is without the headers that browsers
//! need.

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
mod rfc3339;
mod settings;
pub mod sse;

pub use cors::Origins;
pub use cursor::Cursor;
pub use etag::IfNoneMatch;
pub use gzip::{page_in_gzip, takes_gzip};
pub use invalid::InvalidRequest;
pub use listing::{Listed, Listing, listed};
pub use poll::Poll;
pub use registry::registry_refusal;
pub use request::{Call, Get, Live, headers_of, is_reserved, name_of};
pub(crate) use request::{Query, forked_from};
pub use settings::{Admitted, InvalidSettings, Settings, TellTimes};

/// Where streams live: their name follows.
pub const STREAMS_PATH: &str = "/v1/stream/";
