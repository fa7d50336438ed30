//! Response plan: status, headers and body source, and the deploy snapshot behind them.

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderValue, StatusCode};
use pmx_core::coding::Coding;
use pmx_core::id::Root;
use pmx_core::location::Codec;

use super::content_sniffing::SniffedContent;
use super::lookups::LocatedFile;
use super::request::Verb;
use crate::limits::ASSET_RETENTION_DEPLOYS;

/// Which deploy answers, and how far back its assets may come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    deploy: u64,
    pub(super) earlier: usize,
    root: Option<Root>,
}

impl Snapshot {
    /// The newest deploy of a site or a preview, by number, with `earlier` deploys of it before
    /// that. At most [`ASSET_RETENTION_DEPLOYS`] of them are asked.
    pub fn active(deploy: u64, earlier: usize) -> Self {
        Self {
            deploy,
            earlier: earlier.min(ASSET_RETENTION_DEPLOYS),
            root: None,
        }
    }

    /// A deploy at its own URL: what it lacks is not there.
    pub const fn pinned(deploy: u64) -> Self {
        Self {
            deploy,
            earlier: 0,
            root: None,
        }
    }

    /// The same of a deploy with this root: what it holds can be named as a dictionary.
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

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The status.
    pub status: StatusCode,
    /// Every header, also for a HEAD request. `Content-Length` is missing if it is not known.
    pub headers: HeaderMap,
    /// The content to send; nothing for a HEAD request.
    pub body: PlanBody,
    /// The blob that the headers describe, if they describe one.
    pub(crate) described: Option<Described>,
}

/// A blob whose headers depend on its bytes as well, which no plan knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Described {
    /// The blob.
    pub(crate) held: LocatedFile,
    /// The coding in which it is sent.
    pub(crate) coding: Coding,
    /// Whether its name says that it is compressed, though its type is that of its content.
    pub(crate) is_gzip_by_name: bool,
}

impl Described {
    /// Whether its bytes have to be looked at.
    pub(crate) fn depends_on_bytes(&self) -> bool {
        self.is_gzip_by_name || self.held.entry.media.is_text()
    }

    /// Completes the headers, now that the bytes are known.
    pub(crate) fn complete(&self, nature: SniffedContent, headers: &mut HeaderMap) {
        let media = self.held.entry.media.served(nature.is_utf8);
        if let Ok(media) = HeaderValue::from_str(media.as_str()) {
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
    /// The blob that is sent whole and coded as it lies, if that is what is sent.
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

    /// Whether it leads to another address.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.headers.contains_key(LOCATION)
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

/// The body of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlanBody {
    /// Nothing.
    Empty,
    /// A short text.
    Text(&'static str),
    /// A short page, which gets the live script put in.
    Page(&'static str),
    /// A blob.
    Blob {
        /// Which blob, and where it lies.
        held: LocatedFile,
        /// `Zstd`: its bytes at rest, unchanged. `Identity`: the blob itself, decoded if need be.
        coding: Coding,
        /// First byte and length of the part to send, both of the blob itself; the coding is
        /// `Identity` then.
        range: Option<(u64, u64)>,
    },
}

impl PlanBody {
    /// How many bytes it has, if that is known before they are read: the coded length of a blob in
    /// parts is the sum over its table of parts, and that of a page depends on the live script.
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
