//! Domain checks: look up the records of claims, and record what was found.

use bytes::Bytes;
use pmx_core::backend::BackendError;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;

use super::claim::{Claim, Finding};
use super::command::{DomainCommand, DomainReply};
use super::dns;
use super::secrets::ServerId;

/// The registry of a server's domains: one writer for all spaces.
pub trait DomainRegistry {
    /// Carries out a command. An `Err` is an answer for the client.
    fn call(
        &self,
        command: DomainCommand,
        now: Timestamp,
    ) -> impl Future<Output = Result<DomainReply, Problem>>;
}

/// A resolver of DNS names.
pub trait Resolver {
    /// Sends a DNS message to the operator's resolver by DNS over HTTPS, and returns its answer of
    /// at most [`DNS_MESSAGE_BYTES_MAX`](crate::limits::DNS_MESSAGE_BYTES_MAX) bytes.
    fn exchange(&self, query: Bytes) -> impl Future<Output = Result<Bytes, BackendError>>;
}

/// Looks up the record of a claim. Also returns why a lookup failed.
pub async fn look_up<R: Resolver>(
    resolver: &R,
    server: &ServerId,
    claim: &Claim,
) -> (Finding, Option<String>) {
    let answer = match resolver.exchange(dns::query(&claim.host)).await {
        Ok(answer) => answer,
        Err(error) => return (Finding::Unknown, Some(error.to_string())),
    };
    match dns::texts(&claim.host, &answer) {
        Err(error) => (Finding::Unknown, Some(error.to_string())),
        Ok(texts)
            if texts
                .iter()
                .any(|text| text == claim.proof(server).as_bytes()) =>
        {
            (Finding::Present, None)
        }
        Ok(_) => (Finding::Absent, None),
    }
}

/// Looks up the records that are due. Returns when the next one is.
pub async fn check_due<D: DomainRegistry, R: Resolver>(
    registry: &D,
    resolver: &R,
    now: Timestamp,
) -> Result<Option<Timestamp>, Problem> {
    let reply = registry.call(DomainCommand::Due, now).await?;
    let DomainReply::Due {
        server: Some(server),
        claims,
        next,
    } = reply
    else {
        return Ok(None);
    };
    let is_due = !claims.is_empty();
    for claim in claims {
        let (finding, _) = look_up(resolver, &server, &claim).await;
        let record = DomainCommand::record(claim, finding);
        // A claim that was removed during the check has nothing to record.
        let _recorded = registry.call(record, now).await;
    }
    // The findings moved the next check of these claims.
    Ok(if is_due { Some(now) } else { next })
}
