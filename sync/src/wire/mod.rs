//! Wire types: requests and replies of the publish API, and their byte layout.
//!
//! A publish request is an [`Envelope`]: a JSON head, which people can read in a log, and then
//! binary sections. Replies are JSON. Errors are `application/problem+json` (RFC 9457).

mod backup;
mod backup_view;
mod begin;
mod deploys;
mod domains;
mod envelope;
mod expiry;
mod json_publish;
mod lifecycle;
mod max_delete;
mod order;
mod ranges;
mod spaces;
mod verify;

pub use backup::RestoredDeploy;
pub use backup_view::BackupView;
pub use begin::{
    ArrivedParts, BeginHead, BeginReply, CommitPreconditions, PartHead, PublishState, Replace,
};
pub use deploys::{
    DeployContent, DeployKind, DeployMeta, DeployView, DeploysReply, DiffReply, DiffRow, HoldView,
    PreviewView, PreviewsReply, ResumeHead, ResumeReply, RollbackHead, RollbackReply, Summary,
    UnaliasReply,
};
pub use domains::{
    AddDomainHead, DomainRecord, DomainState, DomainView, DomainsReply, RemoveDomainReply,
};
pub use envelope::{Envelope, EnvelopeError, Section, SectionKind};
pub use expiry::{ExpiryText, PreviewExpiry};
pub use json_publish::{
    DeployId, JsonBegun, JsonCommitted, JsonFile, JsonOrder, JsonOutcome, JsonPublish,
    JsonRollback, JsonRolledBack, MissingBlob,
};
pub use lifecycle::{CollectReply, Repack, Retention, RetentionPolicy};
pub use max_delete::MaxDelete;
pub use order::{Order, OrderKind};
pub use ranges::Ranges;
pub use spaces::{DeleteSpaceReply, SpaceView, SpacesReply};
pub use verify::{Reached, VerifyCursor, VerifyData, VerifyFault, VerifyReply};

/// The version of the publish API, sent in every head.
pub const VERSION: u8 = 1;

/// The media type of an [`Envelope`].
pub const ENVELOPE_MEDIA: &str = "application/vnd.pmx.publish";
