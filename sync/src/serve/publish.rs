//! Publish API: maps requests to commands, and replies to responses.

mod deploys;
mod file;
mod json;
mod upload;

use bytes::Bytes;
use http::{Request, Response};
use pmx_core::channel::Channel;
use pmx_core::code::Code;
use pmx_core::id::BlobId;
use pmx_core::limits::DNS_LABEL_BYTES_MAX;
use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;

use super::answer::json;
use super::backend::{Backend, Spaces};
use super::body::Body;
use super::nonce::Nonce;
use super::publish_request::{PublishContent, check_version, head, offer, packs};
use super::route::{ApiRoute, Query};
use super::server::Server;
use crate::limits::DEPLOYS_PAGE_MAX;
use crate::space::{Command, PublishCommand, Reply};
use crate::wire::{
    BeginHead, BeginReply, Envelope, EnvelopeError, PublishState, ResumeHead, SectionKind,
};

use deploys::node_ids;
use file::site_path;
use upload::PartSent;

/// Deploys in a history when the request gives no number.
const DEPLOYS_SHOWN: u64 = 50;

impl<B: Backend> Server<B> {
    /// Answers an authorised API request.
    pub(super) async fn api(
        &self,
        route: ApiRoute,
        request: Request<Bytes>,
        now: Timestamp,
        nonce: Nonce,
    ) -> Result<Response<Body>, Problem> {
        let query = Query::of(request.uri())?;
        let space = || query.space();
        match route {
            ApiRoute::Health => json(&serde_json::json!({
                "ok": true, "name": "pmx", "version": env!("CARGO_PKG_VERSION")
            })),
            ApiRoute::Home => Ok(self.home()),
            ApiRoute::Begin => json(&self.begin(request.body(), now, nonce).await?),
            ApiRoute::Commit => json(&self.commit(request.body(), now, nonce).await?),
            ApiRoute::JsonBegin => self.json_begin(request.body(), now, nonce).await,
            ApiRoute::JsonCommit => self.json_commit(request.body(), now, nonce).await,
            ApiRoute::Upload => {
                let blob = query.required("hash", blob_id)?;
                self.raw_blob(blob, &space()?, request.into_body(), now, nonce)
                    .await
            }
            ApiRoute::Rollback => self.rollback_request(request.body(), now, nonce).await,
            ApiRoute::Resume => {
                let head: ResumeHead = head(request.body())?;
                check_version(head.v)?;
                self.resume(&head.space, now).await
            }
            ApiRoute::Pack(id) => {
                self.pack(id, &space()?, request.into_body(), now, nonce)
                    .await
            }
            ApiRoute::Part(blob, number) => {
                let size = query.required_number("size")?;
                let part = PartSent { blob, size, number };
                self.part(part, &space()?, request.into_body(), now, nonce)
                    .await
            }
            ApiRoute::Alias(alias) => self.unalias(&space()?, alias, now).await,
            ApiRoute::Previews => self.previews(&space()?, now).await,
            ApiRoute::Domains
            | ApiRoute::AddDomain
            | ApiRoute::CheckDomain(_)
            | ApiRoute::RemoveDomain(_) => self.domain_route(route, &request, now, nonce).await,
            ApiRoute::Spaces | ApiRoute::DeleteSpace(_) => {
                self.space_route(route, &query, now).await
            }
            ApiRoute::Verify(space) => self.verify_step(&space, &query, now).await,
            ApiRoute::Collect(space) => self.collection_step(&space, &query, now).await,
            ApiRoute::Retention(space) => self.retention(&space, now).await,
            ApiRoute::SetRetention(space) => self.set_retention(&space, request.body(), now).await,
            ApiRoute::Deploys => self.deploys(&space()?, page_of_deploys(&query)?, now).await,
            ApiRoute::Deploy(number) => self.deploy(&space()?, number, now).await,
            ApiRoute::RemoveDeploy(number) => {
                self.remove_deploy(&space()?, number, &query, now).await
            }
            ApiRoute::Pin(number) => self.pin(&space()?, number, true, now).await,
            ApiRoute::Unpin(number) => self.pin(&space()?, number, false, now).await,
            ApiRoute::File(number) => {
                let path = query.required("path", site_path)?;
                self.file(&space()?, number, path, now).await
            }
            ApiRoute::Diff(sides) => self.diff(&space()?, compared(sides, &query)?, now).await,
            ApiRoute::Nodes => {
                let ids = query.required("ids", node_ids)?;
                self.nodes(&space()?, ids, now).await
            }
        }
    }

    pub(super) async fn call(
        &self,
        space: &SpaceName,
        command: Command,
        now: Timestamp,
    ) -> Result<Reply, Problem> {
        self.backend().spaces().call(space, command, now).await
    }

    /// Decodes the envelope of a begin or a commit, and its head.
    fn begin_request(&self, body: &Bytes) -> Result<(BeginHead, Envelope), Problem> {
        let max = self.section_raw_bytes_max();
        let envelope = self
            .codecs()
            .decode(|decoder| Envelope::decode(body, max, decoder))?;
        let head: BeginHead = head(&envelope.head)?;
        check_version(head.v)?;
        Ok((head, envelope))
    }

    async fn begin(
        &self,
        body: &Bytes,
        now: Timestamp,
        nonce: Nonce,
    ) -> Result<BeginReply, Problem> {
        let (head, envelope) = self.begin_request(body)?;
        let offer = offer(&envelope)?;
        let pack = envelope.section(SectionKind::Pack);
        let pack = match pack {
            Some(pack) => Some(self.small_pack(pack.clone(), &head.space, now).await?),
            None => None,
        };
        let content = PublishContent {
            offer,
            pack,
            packs: packs(&envelope)?,
            begun: false,
        };
        // Without the envelope, `content` owns the last reference to its bytes, and frees them once
        // sent.
        drop(envelope);
        self.publish(head, content, now, nonce).await
    }

    async fn commit(
        &self,
        body: &Bytes,
        now: Timestamp,
        nonce: Nonce,
    ) -> Result<BeginReply, Problem> {
        let (head, _) = self.begin_request(body)?;
        if head.commit.is_none() || head.dry {
            let detail = "a commit needs preconditions";
            return Err(Problem::new(Code::RequestMalformed, detail));
        }
        let reply = self
            .publish(head, PublishContent::nothing(), now, nonce)
            .await?;
        match reply.state {
            PublishState::Current | PublishState::Published => Ok(reply),
            PublishState::Ready
            | PublishState::Outline
            | PublishState::Base
            | PublishState::Nodes
            | PublishState::Blobs => {
                let detail = match reply.blobs.len() {
                    0 => "manifest nodes of the root are missing".to_owned(),
                    blobs => format!("the blobs of {blobs} files are missing"),
                };
                Err(Problem::new(Code::MissingObjects, detail))
            }
        }
    }

    async fn publish(
        &self,
        head: BeginHead,
        content: PublishContent,
        now: Timestamp,
        nonce: Nonce,
    ) -> Result<BeginReply, Problem> {
        let BeginHead {
            space,
            alias,
            root,
            base,
            dry,
            commit,
            ..
        } = head;
        let channel = Channel {
            space: space.clone(),
            alias: alias.clone(),
        };
        if !channel.is_addressable() {
            let detail =
                format!("{channel} is no label of a host: {DNS_LABEL_BYTES_MAX} bytes fit");
            return Err(Problem::new(Code::NameInvalid, detail));
        }
        if !dry {
            self.space_id(&space, now, nonce).await?;
        }
        let index = nonce.object();
        let PublishContent {
            offer,
            pack,
            packs,
            begun,
        } = content;
        let publish = PublishCommand {
            alias,
            root,
            base,
            offer,
            pack,
            packs,
            commit,
            dry,
            begun,
            lease: self.lease(),
            files_max: self.files_max(),
            index,
        };
        let reply = self
            .call(&space, Command::Publish(Box::new(publish)), now)
            .await;
        let mut reply = match reply {
            Ok(Reply::Publish(reply)) => *reply,
            Ok(other) => return Err(unexpected(&other)),
            Err(problem) if dry && problem.code == Code::NotFound => {
                BeginReply::new(PublishState::Outline)
            }
            Err(problem) if problem.code == Code::NotFound => return Err(self.gone(&space)),
            Err(problem) => return Err(problem),
        };
        if matches!(reply.state, PublishState::Current | PublishState::Published) {
            reply.url = Some(self.url_of(&channel));
        }
        if reply.state == PublishState::Published {
            self.deliver_soon(&space, now).await;
        }
        Ok(reply)
    }

    /// Delivers the pointers of the outbox now; if that fails, the alarm delivers them.
    pub(super) async fn deliver_soon(&self, space: &SpaceName, now: Timestamp) {
        // The publish has succeeded, whether the pointer is written now or by the retry alarm.
        let _later = self.deliver(space, now).await;
    }
}

/// The page of a history that a request asks for.
fn page_of_deploys(query: &Query) -> Result<Command, Problem> {
    let limit = query.number("limit")?.unwrap_or(DEPLOYS_SHOWN);
    Ok(Command::Deploys {
        before: query.number("before")?,
        limit: limit.min(DEPLOYS_PAGE_MAX),
        backup: query.number("backup")?.unwrap_or(0) > 0,
    })
}

/// The deploys that a request compares, from its path or its query.
fn compared(sides: Option<(u64, u64)>, query: &Query) -> Result<Command, Problem> {
    let (from, to) = match sides {
        Some(sides) => sides,
        None => (query.required_number("from")?, query.required_number("to")?),
    };
    Ok(Command::Diff { from, to })
}

fn blob_id(text: &str) -> Result<BlobId, Problem> {
    BlobId::from_hex(text).map_err(|error| Problem::new(Code::HashInvalid, error.to_string()))
}

pub(super) fn unexpected(reply: &Reply) -> Problem {
    Problem::new(
        Code::Storage,
        format!("a space gave an answer to another question: {reply:?}"),
    )
}

impl From<EnvelopeError> for Problem {
    fn from(error: EnvelopeError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}
