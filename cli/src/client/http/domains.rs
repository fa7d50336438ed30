//! Domain requests: the domains of a site.

use pmx_core::name::SpaceName;
use pmx_sync::domains::CustomHost;
use pmx_sync::wire::{AddDomainHead, DomainView, DomainsReply, RemoveDomainReply};

use super::{ApiRequest, Client, JSON_MEDIA};
use crate::error::Failure;

impl Client {
    /// `POST /api/domains`.
    pub fn add_domain(&self, head: &AddDomainHead) -> Result<DomainView, Failure> {
        let body = serde_json::to_vec(head).map_err(|error| Failure::usage(error.to_string()))?;
        self.json(&ApiRequest::post("/api/domains", JSON_MEDIA, &body))
    }

    /// `GET /api/domains`.
    pub fn domains(&self, space: &SpaceName) -> Result<DomainsReply, Failure> {
        self.json(&ApiRequest::get(&format!("/api/domains?space={space}")))
    }

    /// `POST /api/domains/<host>/check`.
    pub fn check_domain(&self, space: &SpaceName, host: &str) -> Result<DomainView, Failure> {
        let path = format!("/api/domains/{host}/check?space={space}");
        self.json(&ApiRequest::post(&path, JSON_MEDIA, &[]))
    }

    /// `DELETE /api/domains/<host>`.
    pub fn remove_domain(
        &self,
        space: &SpaceName,
        host: &CustomHost,
    ) -> Result<RemoveDomainReply, Failure> {
        let path = format!("/api/domains/{host}?space={space}");
        self.json(&ApiRequest::delete(&path))
    }
}
