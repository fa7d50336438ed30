//! Domains API: adds, lists, checks and removes the domains of a space, and finds the space of a
//! custom host.

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use pmx_core::backend::BackendError;
use pmx_core::code::Code;
use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;

use super::answer::json;
use super::backend::{Backend, DomainRoutes as _};
use super::body::Body;
use super::nonce::Nonce;
use super::publish_request::{check_version, head};
use super::route::{ApiRoute, Query};
use super::server::{Server, SiteUrls};
use crate::domains::{
    Claim, ClaimRandomness, ClaimState, CustomHost, DomainCommand, DomainRegistry as _,
    DomainReply, Finding, ServerId, check_due, look_up,
};
use crate::site::{Addressed, CustomSite};
use crate::space::Command;
use crate::wire::{
    AddDomainHead, DomainRecord, DomainState, DomainView, DomainsReply, RemoveDomainReply,
};

impl<B: Backend> Server<B> {
    /// Finds the space of a request's custom host, and puts it into the request's extensions. The
    /// platform must call this before any other method gets the head.
    pub async fn find_custom_site(
        &self,
        head: &mut Parts,
        now: Timestamp,
    ) -> Result<(), BackendError> {
        let Some(host) = self.custom_host(head) else {
            return Ok(());
        };
        let route = self.backend().domains().route(&host, now).await?;
        if let Some(route) = route.filter(|route| route.is_shown(now)) {
            head.extensions.insert(CustomSite(route.space));
        }
        Ok(())
    }

    /// The custom host of a request, if its host is not one of the server's own.
    pub fn custom_host(&self, head: &Parts) -> Option<CustomHost> {
        match self.addressed(head) {
            Addressed::Unknown => self.settings.hosts.custom(head),
            Addressed::Site { .. } | Addressed::Api => None,
        }
    }

    /// Looks up the records of domains that are due. Returns when the next one is.
    pub async fn check_domains(&self, now: Timestamp) -> Result<Option<Timestamp>, Problem> {
        let domains = self.backend().domains();
        check_due(domains, domains, now).await
    }

    /// Drops all domains of a space. The removal of a space must call this: a space that later gets
    /// the name inherits none of them.
    pub async fn remove_domains(&self, space: &SpaceName, now: Timestamp) -> Result<u64, Problem> {
        let space = space.clone();
        match self
            .ask_registry(DomainCommand::RemoveSpace { space }, now)
            .await?
        {
            DomainReply::Removed(count) => Ok(count),
            other => Err(foreign(&other)),
        }
    }

    /// Answers an authorised request for the domains of a space.
    pub(super) async fn domain_route(
        &self,
        route: ApiRoute,
        request: &Request<Bytes>,
        now: Timestamp,
        nonce: Nonce,
    ) -> Result<Response<Body>, Problem> {
        if route == ApiRoute::AddDomain {
            let head: AddDomainHead = head(request.body())?;
            check_version(head.v)?;
            return self.add_domain(head, now, nonce).await;
        }
        let space = Query::of(request.uri())?.space()?;
        match route {
            ApiRoute::CheckDomain(host) => self.check_domain(&space, host, now).await,
            ApiRoute::RemoveDomain(host) => self.remove_domain(&space, host, now).await,
            _ => self.domains(&space, now).await,
        }
    }

    async fn add_domain(
        &self,
        head: AddDomainHead,
        now: Timestamp,
        nonce: Nonce,
    ) -> Result<Response<Body>, Problem> {
        let host = CustomHost::parse(&head.host)?;
        if self.settings.hosts.owns(&host) {
            let detail = format!(
                "{host} is a host of the server itself, whose sites are under {}",
                self.domain()
            );
            return Err(Problem::new(Code::DomainInvalid, detail));
        }
        // Only an existing space gets a domain: a slip in its name shows at once.
        let exists = Command::Deploys {
            before: None,
            limit: 0,
            backup: false,
        };
        self.call(&head.space, exists, now).await?;
        let fresh = ClaimRandomness {
            server: nonce.server(),
            challenge: nonce.challenge(),
        };
        let (space, is_trusted) = (head.space, head.unverified);
        let add = DomainCommand::Add {
            host,
            space,
            is_trusted,
            fresh,
        };
        let (server, claim) = self.claim(add, now).await?;
        self.looked_up(server, claim, now).await
    }

    async fn check_domain(
        &self,
        space: &SpaceName,
        host: CustomHost,
        now: Timestamp,
    ) -> Result<Response<Body>, Problem> {
        let (server, claims) = self.claims(space, now).await?;
        let claim = claims.into_iter().find(|claim| claim.host == host);
        let Some((server, claim)) = server.zip(claim) else {
            let detail = format!("{space} has no domain {host}");
            return Err(Problem::new(Code::NotFound, detail));
        };
        self.looked_up(server, claim, now).await
    }

    async fn domains(&self, space: &SpaceName, now: Timestamp) -> Result<Response<Body>, Problem> {
        let (server, claims) = self.claims(space, now).await?;
        let domains = claims.iter().zip(std::iter::repeat(server));
        let domains = domains.filter_map(|(claim, server)| Some(self.view(&server?, claim, now)));
        json(&DomainsReply {
            domains: domains.collect(),
        })
    }

    async fn remove_domain(
        &self,
        space: &SpaceName,
        host: CustomHost,
        now: Timestamp,
    ) -> Result<Response<Body>, Problem> {
        let space = space.clone();
        match self
            .ask_registry(DomainCommand::Remove { host, space }, now)
            .await?
        {
            DomainReply::Removed(count) => json(&RemoveDomainReply { removed: count > 0 }),
            other => Err(foreign(&other)),
        }
    }

    /// Looks up the record of a claim, and answers with the claim after that.
    async fn looked_up(
        &self,
        server: ServerId,
        claim: Claim,
        now: Timestamp,
    ) -> Result<Response<Body>, Problem> {
        if claim.standing == ClaimState::Trusted {
            return json(&self.view(&server, &claim, now));
        }
        let (finding, fault) = look_up(self.backend().domains(), &server, &claim).await;
        let record = DomainCommand::record(claim, finding);
        let (server, claim) = self.claim(record, now).await?;
        let is_waiting = finding == Finding::Present && !claim.is_served(now);
        let taken = || "another space of this server has the host; remove it there".to_owned();
        let fault = fault.or_else(|| is_waiting.then(taken));
        json(&DomainView {
            fault,
            ..self.view(&server, &claim, now)
        })
    }

    async fn ask_registry(
        &self,
        command: DomainCommand,
        now: Timestamp,
    ) -> Result<DomainReply, Problem> {
        self.backend().domains().call(command, now).await
    }

    async fn claims(
        &self,
        space: &SpaceName,
        now: Timestamp,
    ) -> Result<(Option<ServerId>, Vec<Claim>), Problem> {
        let space = space.clone();
        match self
            .ask_registry(DomainCommand::List { space }, now)
            .await?
        {
            DomainReply::Claims { server, claims } => Ok((server, claims)),
            other => Err(foreign(&other)),
        }
    }

    /// The one claim that a command is about.
    async fn claim(
        &self,
        command: DomainCommand,
        now: Timestamp,
    ) -> Result<(ServerId, Claim), Problem> {
        match self.ask_registry(command, now).await? {
            DomainReply::Claims {
                server: Some(server),
                mut claims,
            } if claims.len() == 1 => Ok((server, claims.remove(0))),
            other => Err(foreign(&other)),
        }
    }

    fn view(&self, server: &ServerId, claim: &Claim, now: Timestamp) -> DomainView {
        let SiteUrls { scheme, port } = self.settings.urls;
        let port = port.map(|port| format!(":{port}")).unwrap_or_default();
        DomainView {
            host: claim.host.to_string(),
            space: claim.space.clone(),
            state: state(claim, now),
            record: DomainRecord {
                name: claim.host.record(),
                value: claim.proof(server),
            },
            added: claim.added,
            checked: claim.checked,
            ends: claim.ends().filter(|_| claim.is_served(now)),
            fault: None,
            url: format!("{scheme}://{}{port}/", claim.host),
        }
    }
}

fn state(claim: &Claim, now: Timestamp) -> DomainState {
    match claim.standing {
        ClaimState::Pending => DomainState::Pending,
        ClaimState::Proved { .. } => DomainState::Active,
        ClaimState::Trusted => DomainState::Unverified,
        ClaimState::Absent { .. } if claim.is_served(now) => DomainState::Failing,
        ClaimState::Absent { .. } => DomainState::Stopped,
    }
}

fn foreign(reply: &DomainReply) -> Problem {
    let detail = format!("the registry of domains answered another question: {reply:?}");
    Problem::new(Code::Storage, detail)
}
