//! Domain requests and replies: the JSON of `/api/domains`.

use pmx_core::name::SpaceName;
use pmx_core::time::Timestamp;
use serde::{Deserialize, Serialize};

/// The body of `POST /api/domains`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddDomainHead {
    /// The version of the API.
    pub v: u8,
    /// The space that the host shall show.
    pub space: SpaceName,
    /// The host.
    pub host: String,
    /// Whether the operator vouches for it: no record is looked up.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unverified: bool,
}

/// The answer of `GET /api/domains`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainsReply {
    /// In the order of their hosts.
    pub domains: Vec<DomainView>,
}

/// A domain of a space.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainView {
    /// The host.
    pub host: String,
    /// The space.
    pub space: SpaceName,
    /// Whether the host shows the space.
    pub state: DomainState,
    /// The record that proves the domain.
    pub record: DomainRecord,
    /// When it was added.
    pub added: Timestamp,
    /// When its record was last looked up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checked: Option<Timestamp>,
    /// With [`DomainState::Failing`]: when the host stops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<Timestamp>,
    /// Why the lookup of this request found nothing out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// The address.
    pub url: String,
}

/// State of a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DomainState {
    /// Its record was not found yet: the host shows nothing.
    Pending,
    /// The host shows the space.
    Active,
    /// The host shows the space without a record: the operator vouches for it.
    Unverified,
    /// Its record is gone: the host stops soon.
    Failing,
    /// Its record is gone: the host shows nothing any more.
    Stopped,
}

impl DomainState {
    /// Whether the host shows the space.
    pub const fn is_served(self) -> bool {
        matches!(self, Self::Active | Self::Unverified | Self::Failing)
    }

    /// The name, as JSON has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Unverified => "unverified",
            Self::Failing => "failing",
            Self::Stopped => "stopped",
        }
    }
}

/// A TXT record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainRecord {
    /// Its name.
    pub name: String,
    /// Its text.
    pub value: String,
}

/// The answer of `DELETE /api/domains/<host>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveDomainReply {
    /// Whether the space had the domain.
    pub removed: bool,
}
