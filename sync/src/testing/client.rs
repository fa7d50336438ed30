//! Client driver: carries out the actions of [`Push`], with retries, over any network.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

use crate::manifest::{NodeMap, Row};
use crate::pack::part::{BlobParts, WirePart};
use crate::pack::plan::PackPlan;
use crate::pack::wire::{PackBuilder, Prefix, WirePack};
use crate::pack::{PackCoding, PackKind};
use crate::push::{self, Action, DeltaBase, Intent, Push, PushError, PushOutcome, Uploads};
use crate::wire::{
    DeployView, DeploysReply, Envelope, ResumeHead, ResumeReply, RollbackHead, Section,
    SectionKind, UnaliasReply, VERSION,
};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use pmx_core::code::Code;
use pmx_core::codec::{Encoder, Level};
use pmx_core::id::{BlobId, PackId};
use pmx_core::name::{AliasName, SpaceName};
use pmx_core::problem::Problem;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// The bearer token of clients.
pub const SECRET: &str = "the secret of the tests";

/// A response whose body was read completely.
#[derive(Debug, Clone)]
pub struct WholeResponse {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: http::HeaderMap,
    /// All bytes of the body, in their content coding.
    pub body: Bytes,
}

/// The connection broke, or no response arrived in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the connection broke")]
pub struct Broken;

/// A connection to a server.
#[allow(async_fn_in_trait, reason = "tests run on one thread")]
pub trait Network {
    /// Sends a request and reads its response.
    fn send(&self, request: Request<Bytes>) -> impl Future<Output = Result<WholeResponse, Broken>>;
}

/// The reason why a client gave up.
#[derive(Debug, Error)]
pub enum ClientFailure {
    /// The connection broke at each try.
    #[error("the connection broke")]
    Broken,
    /// The server refused.
    #[error("the server refused: {0:?}")]
    Refused(Box<Problem>),
    /// The publish cannot continue.
    #[error(transparent)]
    Push(#[from] PushError),
}

impl ClientFailure {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Broken => Code::Network,
            Self::Refused(problem) => problem.code,
            Self::Push(error) => error.code(),
        }
    }
}

/// A client whose site is in memory.
pub struct Client<'a, N> {
    /// The connection to the server.
    pub network: N,
    /// The space.
    pub space: SpaceName,
    /// The nodes of the manifest and of its base.
    pub nodes: &'a NodeMap,
    /// The blobs of the site and of its base.
    pub blobs: &'a BTreeMap<BlobId, Bytes>,
    /// Tries of a request before the client gives up.
    pub tries: usize,
}

thread_local! {
    static ENCODER: RefCell<Encoder> = RefCell::new(Encoder::new());
}

impl<N: Network> Client<'_, N> {
    /// Publishes an intent.
    pub async fn publish(&self, intent: Intent) -> Result<PushOutcome, ClientFailure> {
        let mut push = Push::new(self.nodes, intent);
        loop {
            let asked = match push.next()? {
                Action::Begin(request) => {
                    let body = self.envelope(request);
                    self.post("/api/publish/begin", body).await
                }
                Action::Commit(request) => {
                    let body = self.envelope(request);
                    self.post("/api/publish/commit", body).await
                }
                Action::Upload(uploads) => {
                    push.on_uploaded(self.upload(&uploads).await?);
                    continue;
                }
                Action::Done(outcome) => return Ok(*outcome),
            };
            match asked {
                Ok(reply) => push.on_reply(reply)?,
                Err(ClientFailure::Refused(problem)) => push.on_refusal(*problem)?,
                Err(failure) => return Err(failure),
            }
        }
    }

    /// Makes an earlier deploy active.
    pub async fn rollback(&self, head: &RollbackHead) -> Result<DeployView, ClientFailure> {
        let body = serde_json::to_vec(head).unwrap();
        let reply: serde_json::Value = self.post("/api/publish/rollback", body.into()).await?;
        Ok(serde_json::from_value(reply["deploy"].clone()).unwrap())
    }

    /// Lifts a hold.
    pub async fn resume(&self) -> Result<ResumeReply, ClientFailure> {
        let space = self.space.clone();
        let body = serde_json::to_vec(&ResumeHead { v: VERSION, space }).unwrap();
        self.post("/api/publish/resume", body.into()).await
    }

    /// Deletes a preview.
    pub async fn unalias(&self, alias: &AliasName) -> Result<UnaliasReply, ClientFailure> {
        let path = format!("/api/aliases/{alias}?space={}", self.space);
        self.call(Method::DELETE, &path, Bytes::new()).await
    }

    /// The last 1,000 deploys.
    pub async fn deploys(&self) -> Result<DeploysReply, ClientFailure> {
        self.get(&format!("/api/deploys?space={}&limit=1000", self.space))
            .await
    }

    /// Gets a JSON response of the API.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientFailure> {
        self.call(Method::GET, path, Bytes::new()).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: Bytes) -> Result<T, ClientFailure> {
        self.call(Method::POST, path, body).await
    }

    fn envelope(&self, request: push::Request) -> Bytes {
        let mut sections = request.sections;
        if let Some(uploads) = request.pack {
            let pack = self.pack(&uploads, &uploads.plan.packs[0]);
            let bytes = Bytes::from(pack.into_bytes());
            sections.push(Section {
                kind: SectionKind::Pack,
                bytes,
            });
        }
        let head = serde_json::to_vec(&request.head).unwrap().into();
        let envelope = Envelope { head, sections };
        ENCODER
            .with_borrow_mut(|encoder| envelope.encode(encoder))
            .into()
    }

    /// A pack, with the delta bases of its blobs as reference prefix.
    fn pack(&self, uploads: &Uploads, plan: &PackPlan) -> WirePack {
        let Some(reference) = uploads.reference.filter(|_| plan.kind == PackKind::Solid) else {
            return self.plain(uploads, plan);
        };
        let delta_base: BTreeSet<DeltaBase> = plan
            .members
            .iter()
            .filter_map(|at| uploads.delta_bases[*at])
            .collect();
        let mut prefix = Prefix::of(reference.base);
        for delta_base in delta_base {
            prefix.push(delta_base.rank, &self.blobs[&delta_base.blob]);
        }
        let builder = self.filled(uploads, plan);
        let packed = ENCODER
            .with_borrow_mut(|encoder| builder.build_with_prefix(&prefix, encoder, Level::WIRE));
        packed.unwrap_or_else(|| self.plain(uploads, plan))
    }

    fn plain(&self, uploads: &Uploads, plan: &PackPlan) -> WirePack {
        let builder = self.filled(uploads, plan);
        let coding = plan.kind.coding(Level::WIRE);
        ENCODER
            .with_borrow_mut(|encoder| builder.plain(encoder, coding))
            .unwrap()
    }

    fn filled(&self, uploads: &Uploads, plan: &PackPlan) -> PackBuilder {
        let mut builder = PackBuilder::new();
        for member in &plan.members {
            let blob = &self.blobs[&uploads.rows[*member].entry.blob];
            builder.push(blob).unwrap();
        }
        builder
    }

    async fn upload(&self, uploads: &Uploads) -> Result<Vec<PackId>, ClientFailure> {
        let mut sent = Vec::new();
        for plan in &uploads.plan.packs {
            let pack = self.pack(uploads, plan);
            sent.push(match self.send(uploads, pack).await {
                Err(ClientFailure::Refused(problem)) if problem.code == Code::PrefixMissing => {
                    self.send(uploads, self.plain(uploads, plan)).await?
                }
                sent => sent?,
            });
        }
        for member in &uploads.plan.big {
            self.parts(uploads, &uploads.rows[*member]).await?;
        }
        Ok(sent)
    }

    async fn send(&self, uploads: &Uploads, pack: WirePack) -> Result<PackId, ClientFailure> {
        let id = pack.id();
        if !uploads.arrived.contains(&id) {
            let path = format!("/api/publish/packs/{id}?space={}", self.space);
            self.put(&path, pack.into_bytes().into()).await?;
        }
        Ok(id)
    }

    async fn parts(&self, uploads: &Uploads, row: &Row) -> Result<(), ClientFailure> {
        let (blob, size) = (row.entry.blob, row.entry.size);
        let bytes = &self.blobs[&blob];
        let parts = BlobParts::of(size).unwrap();
        let have = uploads.parts.get(&blob);
        for part in parts.all() {
            let number = u64::from(part.number());
            if have.is_some_and(|have| have.iter(u64::MAX).any(|kept| kept == number)) {
                continue;
            }
            let start = part.offset() as usize;
            let bytes = &bytes[start..start + part.len() as usize];
            let coding = PackCoding::Zstd(Level::WIRE);
            let part = ENCODER.with_borrow_mut(|it| WirePart::of(part, bytes, it, coding));
            let space = &self.space;
            let path = format!("/api/publish/blobs/{blob}/{number}?space={space}&size={size}");
            self.put(&path, part.unwrap().bytes.into()).await?;
        }
        Ok(())
    }

    async fn put(&self, path: &str, body: Bytes) -> Result<(), ClientFailure> {
        let _kept: serde_json::Value = self.call(Method::PUT, path, body).await?;
        Ok(())
    }

    /// Sends a request until it succeeds, or until another try would give the same answer.
    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientFailure> {
        let mut failure = ClientFailure::Broken;
        for _ in 0..self.tries {
            let request = Request::builder()
                .method(method.clone())
                .uri(path)
                .header("host", "api.localhost")
                .header("authorization", format!("Bearer {SECRET}"))
                .header("content-length", body.len())
                .body(body.clone())
                .unwrap();
            failure = match self.network.send(request).await {
                Ok(answer) if answer.status.is_success() => {
                    return Ok(serde_json::from_slice(&answer.body).unwrap());
                }
                Ok(answer) => {
                    let problem: Problem = serde_json::from_slice(&answer.body).unwrap();
                    // The state machine handles missing objects.
                    if !problem.code.retriable() || problem.code == Code::MissingObjects {
                        return Err(ClientFailure::Refused(Box::new(problem)));
                    }
                    ClientFailure::Refused(Box::new(problem))
                }
                Err(Broken) => ClientFailure::Broken,
            };
        }
        Err(failure)
    }
}
