//! What travels: requests and replies of the publish API, and how their bytes are laid out.
//!
//! A publish request is an [`Envelope`]: a JSON head that people can read in a log, followed by
//! binary sections. Replies are JSON. Errors are `application/problem+json` (RFC 9457).

mod begin;
mod deploys;
mod envelope;
mod incident;
mod order;
mod problem;
mod ranges;

pub use begin::{BeginHead, BeginReply, CommitTerms, Offered, PartHead, State};
pub use deploys::{
    DeployKind, DeployMeta, DeployView, DeploysReply, DiffReply, DiffRow, RollbackHead,
    RollbackReply, Summary, UnaliasReply,
};
pub use envelope::{Envelope, EnvelopeError, Section, SectionKind};
pub use incident::{Audience, ERROR_BODY_BYTES_MAX, Incident, identify, incident_id};
pub use order::Order;
pub use problem::Problem;
pub use ranges::Ranges;

/// The version of the publish API, sent in every head.
pub const VERSION: u8 = 1;

/// The media type of an [`Envelope`].
pub const ENVELOPE_MEDIA: &str = "application/vnd.pmx.publish";

/// The media type of errors.
pub const PROBLEM_MEDIA: &str = "application/problem+json";
