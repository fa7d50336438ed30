//! Custom domains: hosts outside of the server's domain that show a space.
//!
//! A space claims a host ([`Claim`]). A TXT record `_pmx.<host>` proves the claim: it names the
//! server and the claim's random challenge. A CNAME to the server proves nothing, since anyone can
//! make one. The [registry](execute) of a server decides which space a host shows, and readers use
//! a copy of its [routes](Route).

mod check;
mod claim;
mod command;
mod dns;
mod host;
mod registry;
mod secrets;

pub use check::{DomainRegistry, Resolver, check_due, look_up};
pub use claim::{Claim, ClaimState, Finding, GRACE};
pub use command::{ClaimRandomness, DomainCall, DomainCommand, DomainReply, DomainResponse, Route};
pub use dns::{InvalidAnswer, query, texts};
pub use host::{CustomHost, InvalidHost, RECORD_LABEL};
pub use registry::execute;
pub use secrets::{Challenge, ServerId};

#[cfg(test)]
mod tests;
