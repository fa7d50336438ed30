//! Response plan: status, headers and body source, and the deploy snapshot behind them.

use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use pmx_core::coding::Coding;
use pmx_core::id::Root;
use pmx_core::location::Codec;

use super::content_sniffing::SniffedContent;
use super::lookups::LocatedFile;
use super::request::Verb;
use crate::limits::ASSET_RETENTION_DEPLOYS;
use crate::path::SitePath;
use crate::rules::RuleLine;

/// The deploy that answers, and the number of earlier deploys that may supply assets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    deploy: u64,
    pub(super) earlier: usize,
    root: Option<Root>,
}

impl Snapshot {
    /// The newest deploy of a site or a preview, by number, and the number of its `earlier`
    /// deploys. At most [`ASSET_RETENTION_DEPLOYS`] of them are searched.
    pub fn active(deploy: u64, earlier: usize) -> Self {
        Self {
            deploy,
            earlier: earlier.min(ASSET_RETENTION_DEPLOYS),
            root: None,
        }
    }

    /// A deploy at its own URL, which serves no assets of earlier deploys.
    pub const fn pinned(deploy: u64) -> Self {
        Self {
            deploy,
            earlier: 0,
            root: None,
        }
    }

    /// Adds the deploy's root, with which the server names its files as dictionaries.
    #[must_use]
    pub const fn of_root(self, root: Root) -> Self {
        let root = Some(root);
        Self { root, ..self }
    }

    pub(super) const fn root(&self) -> Option<&Root> {
        self.root.as_ref()
    }

    /// The number of the deploy.
    pub const fn deploy(self) -> u64 {
        self.deploy
    }
}

/// The planned response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The status.
    pub status: StatusCode,
    /// Every header, also for a HEAD request. `Content-Length` is missing if the length is unknown.
    pub headers: HeaderMap,
    /// The content to send; empty for a HEAD request.
    pub body: PlanBody,
    /// The blob that the headers describe, if there is one.
    pub(crate) described: Option<Described>,
    /// What answers.
    pub(crate) origin: Origin,
    /// The rule that answers, if one does.
    pub rule: Option<RuleLine>,
    /// The file that a rule or the shell shows at the requested path.
    pub shown: Option<SitePath>,
}

/// What a response consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The file at the path.
    File,
    /// The file that an earlier deploy has at the path.
    Kept,
    /// The file that a rule names for the path.
    Rule,
    /// A page for many paths: a 404 page, a shell, or the page of a rule with a `*`.
    Page,
    /// A redirect.
    Redirect,
    /// No content of the site.
    Nothing,
}

/// A blob whose headers also depend on its bytes, which a plan does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Described {
    /// The blob.
    pub(crate) held: LocatedFile,
    /// The coding of the sent bytes.
    pub(crate) coding: Coding,
    /// Whether the name says that the file is compressed, though its type is that of its content.
    pub(crate) is_gzip_by_name: bool,
    /// Whether a rule set the media type.
    pub(crate) has_own_type: bool,
}

impl Described {
    /// Whether the server must read the bytes to complete the headers.
    pub(crate) fn depends_on_bytes(&self) -> bool {
        self.is_gzip_by_name || self.held.entry.media.is_text()
    }

    /// Completes the headers from the sniffed content.
    pub(crate) fn complete(&self, nature: SniffedContent, headers: &mut HeaderMap) {
        let media = self.held.entry.media.served(nature.is_utf8);
        if let Ok(media) = HeaderValue::from_str(media.as_str())
            && !self.has_own_type
        {
            headers.insert(CONTENT_TYPE, media);
        }
        if self.is_gzip_by_name && nature.is_gzip {
            let codings = match self.coding {
                Coding::Identity => "gzip",
                Coding::Zstd => "gzip, zstd",
            };
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static(codings));
        }
    }
}

impl Plan {
    /// The blob whose stored zstd frame is the whole body, if the plan sends one.
    pub(crate) fn coded(&self) -> Option<&LocatedFile> {
        match &self.body {
            PlanBody::Blob {
                held,
                coding: Coding::Zstd,
                range: None,
            } if self.status == StatusCode::OK => Some(held),
            PlanBody::Blob { .. } | PlanBody::Text(_) | PlanBody::Page(_) | PlanBody::Empty => None,
        }
    }

    pub(super) fn for_verb(self, verb: Verb) -> Self {
        match verb {
            Verb::Get | Verb::Options | Verb::Other => self,
            Verb::Head => Self {
                body: PlanBody::Empty,
                ..self
            },
        }
    }
}

/// The body of a planned response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanBody {
    /// No body.
    Empty,
    /// A short text.
    Text(&'static str),
    /// A short page, into which the server injects the live script.
    Page(&'static str),
    /// A blob.
    Blob {
        /// The blob and its location.
        held: LocatedFile,
        /// `Zstd`: the stored frame, unchanged. `Identity`: the blob itself, decoded if necessary.
        coding: Coding,
        /// First byte and length of the range to send, both in the decoded blob; the coding is then
        /// `Identity`.
        range: Option<(u64, u64)>,
    },
}

impl PlanBody {
    /// The body's length, if known before a read. The coded length of a blob in parts is the sum
    /// over its part table, and the length of a page depends on the live script.
    pub fn length(&self) -> Option<u64> {
        match self {
            Self::Empty => Some(0),
            Self::Page(_) => None,
            Self::Text(text) => Some(text.len() as u64),
            Self::Blob {
                range: Some((_, len)),
                ..
            } => Some(*len),
            Self::Blob {
                held,
                coding: Coding::Identity,
                range: None,
            } => Some(held.entry.size),
            Self::Blob {
                held,
                coding: Coding::Zstd,
                range: None,
            } => match held.at.codec {
                Codec::Stored | Codec::Zstd => Some(held.at.extent.len),
                Codec::Parts | Codec::ZstdParts => None,
            },
        }
    }
}
