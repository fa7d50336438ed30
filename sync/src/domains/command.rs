//! Registry commands and replies: values that cross a Durable Object call or a function call
//! unchanged. A new field or variant needs a default: the caller may be of another release.

use bytes::Bytes;
use pmx_core::crossing::Crosses;
use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::claim::{Claim, Finding};
use super::host::CustomHost;
use super::secrets::{Challenge, ServerId};

/// A command to the registry of a server's domains.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum DomainCommand {
    /// Claims a host for a space, or returns the claim that the space has.
    Add {
        /// The host.
        host: CustomHost,
        /// The space.
        space: SpaceName,
        /// Whether the operator vouches for the claim.
        is_trusted: bool,
        /// Randomness for a new claim.
        fresh: ClaimRandomness,
    },
    /// Lists the claims of a space.
    List {
        /// The space.
        space: SpaceName,
    },
    /// Records what a lookup found.
    Record {
        /// The host.
        host: CustomHost,
        /// The space.
        space: SpaceName,
        /// The challenge that was looked for: a newer claim has another.
        challenge: Challenge,
        /// The finding.
        finding: Finding,
    },
    /// Drops a claim.
    Remove {
        /// The host.
        host: CustomHost,
        /// The space.
        space: SpaceName,
    },
    /// Drops all claims of a space, with the space.
    RemoveSpace {
        /// The space.
        space: SpaceName,
    },
    /// Drops claims that are over, and returns those whose records are to be looked up.
    Due,
    /// Lists routes that readers do not see yet.
    PendingRoutes,
    /// Records that readers see the current route of a host.
    AckRoute {
        /// The host.
        host: CustomHost,
        /// The route that readers see.
        route: Option<Route>,
    },
    /// Lists all routes, for a platform that keeps them in memory.
    Routes,
}

impl DomainCommand {
    /// Records what a lookup found about a claim.
    pub(crate) fn record(claim: Claim, finding: Finding) -> Self {
        let Claim {
            host,
            space,
            challenge,
            ..
        } = claim;
        Self::Record {
            host,
            space,
            challenge,
            finding,
        }
    }
}

/// Randomness for a claim; the first command that needs it draws the server's id from it as well.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct ClaimRandomness {
    /// The server's id, if it has none.
    pub server: ServerId,
    /// The claim's challenge.
    pub challenge: Challenge,
}

/// The space that a host shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// The space.
    pub space: SpaceName,
    /// When the host stops, if nothing changes until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Route {
    /// Whether the host shows the space.
    pub fn is_shown(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// Reply of the registry.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum DomainReply {
    /// To an addition, a record or a list: the claims, in the order of their hosts.
    Claims {
        /// The server's id; none before the first claim.
        server: Option<ServerId>,
        /// The claims.
        claims: Vec<Claim>,
    },
    /// To a removal: how many claims there were.
    Removed(u64),
    /// To [`DomainCommand::Due`].
    Due {
        /// The server's id; none before the first claim.
        server: Option<ServerId>,
        /// The claims to look up.
        claims: Vec<Claim>,
        /// When to ask again.
        next: Option<Timestamp>,
    },
    /// Hosts and their routes; a host without one shows nothing.
    Routes(Vec<(CustomHost, Option<Route>)>),
}

/// A command on its way to the registry.
#[derive(Debug, Serialize, Deserialize)]
pub struct DomainCall {
    /// The time of the request.
    pub now: Timestamp,
    /// The command.
    pub command: DomainCommand,
}

/// Response to a call.
#[derive(Debug, Serialize, Deserialize)]
pub struct DomainResponse {
    /// The result of the command.
    pub outcome: Result<DomainReply, Problem>,
}

impl Crosses for DomainCall {
    fn strings(&mut self, _each: &mut dyn FnMut(&mut Bytes)) {}
}

impl Crosses for DomainResponse {
    fn strings(&mut self, _each: &mut dyn FnMut(&mut Bytes)) {}
}
