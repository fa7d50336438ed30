//! JSON publish: builds the manifest that a client lists, and publishes it like any other.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::Response;
use pmx_core::code::Code;
use pmx_core::id::{BlobId, Root};
use pmx_core::limits::PART_BYTES;
use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;
use serde::Deserialize as _;

use super::super::answer::json;
use super::super::backend::Backend;
use super::super::body::Body;
use super::super::nonce::Nonce;
use super::super::publish_request::{PublishContent, check_version, head};
use super::super::server::Server;
use super::unexpected;
use crate::limits::{BLOB_BYTES_MAX, JSON_FILES_MAX, MISSING_LISTED_MAX};
use crate::manifest::{Entry, NewNode, Row, build};
use crate::media::{Media, media_of_name};
use crate::pack::PackCoding;
use crate::pack::wire::PackBuilder;
use crate::path::SitePath;
use crate::rules::{GeneratedRules, RuleFile};
use crate::space::{Command, Offer, Reply};
use crate::wire::{
    BeginHead, BeginReply, CommitPreconditions, DeployView, ExpiryText, JsonBegun, JsonCommitted,
    JsonFile, JsonOutcome, JsonPublish, JsonRollback, JsonRolledBack, MissingBlob, Order,
    PublishState, Replace, RollbackHead, VERSION,
};

/// Faults of rules that a refusal names.
const FAULTS_NAMED_MAX: usize = 20;

/// A listed site: its rows in path order, and the nodes of its manifest.
struct ListedSite {
    rows: Vec<Row>,
    root: Root,
    nodes: Vec<NewNode>,
    rules: Option<Bytes>,
}

impl ListedSite {
    fn of(publish: &JsonPublish) -> Result<Self, Problem> {
        check_version(publish.v)?;
        let count = publish.files.len();
        if count > JSON_FILES_MAX {
            let detail = format!("{count} files are listed; a JSON publish takes {JSON_FILES_MAX}");
            return Err(Problem::new(Code::TooLarge, detail));
        }
        let rows: Result<Vec<_>, _> = publish.files.iter().map(row).collect();
        let mut rows = rows?;
        let rules = publish.rules.as_ref().map(canonical).transpose()?;
        if let Some((_, bytes)) = &rules {
            rows.push(rules_row(bytes)?);
        }
        rows.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        let duplicate = rows.windows(2).find(|pair| pair[0].path == pair[1].path);
        if let Some(duplicate) = duplicate.and_then(<[Row]>::first) {
            let detail = format!("the file {:?} is listed twice", duplicate.path);
            return Err(Problem::new(Code::PathDuplicate, detail));
        }
        if let Some((rules, _)) = &rules {
            check_routes(&rows, rules)?;
        }
        let built = build(rows.iter().cloned())?;
        Ok(Self {
            rows,
            root: built.root,
            nodes: built.nodes,
            rules: rules.map(|(_, bytes)| bytes),
        })
    }

    fn content(&mut self) -> PublishContent {
        let nodes = std::mem::take(&mut self.nodes).into_iter();
        let nodes = nodes.map(|node| Bytes::copy_from_slice(&node.bytes));
        PublishContent {
            offer: Offer::Nodes(nodes.collect()),
            begun: true,
            ..PublishContent::nothing()
        }
    }

    fn head(&self, publish: &JsonPublish, commit: Option<CommitPreconditions>) -> BeginHead {
        BeginHead {
            v: VERSION,
            space: publish.space.clone(),
            alias: publish.alias.clone(),
            root: self.root,
            base: None,
            dry: false,
            commit,
        }
    }

    /// The rows whose blobs a reply reports missing, each blob once.
    fn missing<'a>(&'a self, reply: &'a BeginReply) -> impl Iterator<Item = &'a Row> {
        let mut seen: BTreeSet<BlobId> = self.rules.iter().map(|rules| BlobId::of(rules)).collect();
        let ranks = reply.blobs.iter(self.rows.len() as u64);
        let rows = ranks.filter_map(|rank| self.rows.get(rank as usize));
        rows.filter(move |row| seen.insert(row.entry.blob))
    }
}

fn row(file: &JsonFile) -> Result<Row, Problem> {
    let path = SitePath::parse(&file.path)
        .map_err(|error| Problem::new(Code::PathInvalid, error.to_string()))?;
    let blob = BlobId::from_hex(&file.hash)
        .map_err(|error| Problem::new(Code::HashInvalid, format!("the file {path:?}: {error}")))?;
    if file.size > BLOB_BYTES_MAX {
        let size = file.size;
        let detail = format!("the file {path:?} has {size} bytes; the limit is {BLOB_BYTES_MAX}");
        return Err(Problem::new(Code::TooLarge, detail));
    }
    let media = file.media.as_deref();
    let media = Media::parse(media.unwrap_or_else(|| media_of_name(path.name())));
    let media = media.map_err(|error| {
        let detail = format!("the file {path:?}: {error}");
        Problem::new(Code::RequestMalformed, detail)
    })?;
    let size = file.size;
    let entry = Entry { blob, size, media };
    Ok(Row { path, entry })
}

/// Rules, and their canonical bytes.
fn canonical(rules: &serde_json::Value) -> Result<(GeneratedRules, Bytes), Problem> {
    let read = || {
        let rules = GeneratedRules::deserialize(rules).map_err(|error| error.to_string())?;
        rules.check()?;
        let bytes = rules.encode()?;
        Ok((rules, bytes.into()))
    };
    read().map_err(|fault: String| {
        let detail = format!("\"rules\" can't be read: {fault}");
        Problem::new(Code::PublishForm, detail)
    })
}

/// Refuses rules that lead back to themselves or to files that are not listed.
fn check_routes(rows: &[Row], rules: &GeneratedRules) -> Result<(), Problem> {
    let has = |path: &SitePath| rows.binary_search_by(|row| row.path.cmp(path)).is_ok();
    let faults = rules.faults(&has);
    if faults.is_empty() {
        return Ok(());
    }
    let lines = faults.into_iter().take(FAULTS_NAMED_MAX);
    let lines = lines.map(|(code, message)| format!("{code}: {message}"));
    let problem = Problem::new(Code::RulesInvalid, "\"rules\" has routes that lead nowhere");
    Err(problem.with_items(lines.collect()))
}

fn rules_row(rules: &Bytes) -> Result<Row, Problem> {
    row(&JsonFile {
        path: RuleFile::Generated.site_path().to_string(),
        hash: BlobId::of(rules).to_hex(),
        size: rules.len() as u64,
        media: None,
    })
}

impl<B: Backend> Server<B> {
    pub(super) async fn json_begin(
        &self,
        body: &Bytes,
        now: Timestamp,
        nonce: Nonce,
    ) -> Result<Response<Body>, Problem> {
        let publish = JsonPublish::parse(body)?;
        let mut site = ListedSite::of(&publish)?;
        let head = site.head(&publish, None);
        let reply = self.publish(head, site.content(), now, nonce).await?;
        let missing = site.missing(&reply).map(|row| missing(row, &publish.space));
        json(&JsonBegun {
            missing: missing.collect::<Result<_, _>>()?,
            root: site.root,
            active: reply.active,
            space: publish.space.clone(),
        })
    }

    pub(super) async fn json_commit(
        &self,
        body: &Bytes,
        now: Timestamp,
        nonce: Nonce,
    ) -> Result<Response<Body>, Problem> {
        let publish = JsonPublish::parse(body)?;
        let mut site = ListedSite::of(&publish)?;
        let head = site.head(&publish, Some(preconditions(&publish, nonce)));
        let mut content = site.content();
        if let Some(rules) = &site.rules {
            let pack = self.pack_of(rules)?;
            content.pack = Some(self.small_pack(pack, &publish.space, now).await?);
        }
        let reply = self.publish(head, content, now, nonce).await?;
        let outcome = match reply.state {
            PublishState::Published => JsonOutcome::Published,
            PublishState::Current => JsonOutcome::Unchanged,
            PublishState::Ready
            | PublishState::Outline
            | PublishState::Base
            | PublishState::Nodes
            | PublishState::Blobs => {
                return Err(incomplete(&site, &reply));
            }
        };
        let deploy = match reply.deploy {
            Some(deploy) => *deploy,
            None => self.deploy_view(&publish.space, reply.active, now).await?,
        };
        json(&JsonCommitted {
            url: reply.url.unwrap_or_default(),
            deploy_id: deploy.number,
            deploy,
            root: site.root,
            outcome,
            expires: reply.expires,
        })
    }

    /// Stores one blob, sent as it is.
    pub(super) async fn raw_blob(
        &self,
        blob: BlobId,
        space: &SpaceName,
        body: Bytes,
        now: Timestamp,
        nonce: Nonce,
    ) -> Result<Response<Body>, Problem> {
        let actual = BlobId::of(&body);
        if actual != blob {
            let detail = format!("the blob sent as {blob} hashes to {actual}");
            return Err(Problem::new(Code::HashMismatch, detail));
        }
        let pack = self.pack_of(&body)?;
        drop(body);
        let id = pmx_core::id::PackId::of(&pack);
        self.pack(id, space, pack, now, nonce).await
    }

    /// A pack of one blob.
    fn pack_of(&self, blob: &[u8]) -> Result<Bytes, Problem> {
        let mut builder = PackBuilder::new();
        builder.push(blob)?;
        let pack = self
            .codecs()
            .encode(|encoder| builder.finish(encoder, PackCoding::Stored));
        Ok(pack.map_or_else(Bytes::new, |pack| pack.into_bytes().into()))
    }

    async fn deploy_view(
        &self,
        space: &SpaceName,
        number: u64,
        now: Timestamp,
    ) -> Result<DeployView, Problem> {
        let command = Command::Deploys {
            before: Some(number.saturating_add(1)),
            limit: 1,
            backup: false,
        };
        match self.call(space, command, now).await? {
            Reply::Deploys { deploys, .. } => deploys.into_iter().next().ok_or_else(|| {
                Problem::new(Code::DeployUnknown, format!("there is no deploy {number}"))
            }),
            other => Err(unexpected(&other)),
        }
    }

    /// Rolls back, as `pmx` or as clients of the first releases ask for it.
    pub(super) async fn rollback_request(
        &self,
        body: &Bytes,
        now: Timestamp,
        nonce: Nonce,
    ) -> Result<Response<Body>, Problem> {
        if let Ok(rollback) = serde_json::from_slice::<JsonRollback>(body) {
            return self.json_rollback(rollback, now, nonce).await;
        }
        let head: RollbackHead = head(body)?;
        check_version(head.v)?;
        self.rollback(head, now).await
    }

    async fn json_rollback(
        &self,
        rollback: JsonRollback,
        now: Timestamp,
        nonce: Nonce,
    ) -> Result<Response<Body>, Problem> {
        let space = rollback.space;
        let head = RollbackHead {
            v: VERSION,
            space: space.clone(),
            to: Some(rollback.deploy_id.number()?),
            expect: None,
            key: key(nonce),
            meta: crate::wire::DeployMeta::default(),
        };
        match self.call(&space, Command::Rollback(head), now).await? {
            Reply::Deploy(deploy) => {
                self.deliver_soon(&space, now).await;
                json(&JsonRolledBack {
                    url: self.url_of(&space.into()),
                    deploy_id: deploy.number,
                    deploy: *deploy,
                })
            }
            other => Err(unexpected(&other)),
        }
    }
}

/// A key that no other request has.
fn key(nonce: Nonce) -> String {
    format!("json-{}", nonce.object())
}

fn preconditions(publish: &JsonPublish, nonce: Nonce) -> CommitPreconditions {
    let replace = match (publish.force, publish.expect) {
        (true, _) => Replace::Any,
        (false, Some(_)) => Replace::Named,
        (false, None) => Replace::Seen,
    };
    CommitPreconditions {
        expect: publish.expect,
        replace,
        key: publish.key.clone().unwrap_or_else(|| key(nonce)),
        order: publish.order.clone().map(Order::from),
        max_delete: publish.max_delete,
        meta: publish.meta.clone(),
        expires: publish.expires.map(|ExpiryText(expiry)| expiry),
        restore: Vec::new(),
    }
}

fn missing(row: &Row, space: &SpaceName) -> Result<MissingBlob, Problem> {
    let (hash, size) = (row.entry.blob, row.entry.size);
    if size > PART_BYTES {
        let path = &row.path;
        let detail = format!(
            "the file {path:?} has {size} bytes; a JSON publish uploads at most {PART_BYTES} a \
             file, and `pmx sync` any"
        );
        return Err(Problem::new(Code::TooLarge, detail));
    }
    let upload_url = format!("/api/publish/upload?space={space}&hash={hash}");
    Ok(MissingBlob {
        hash,
        size,
        upload_url,
    })
}

fn incomplete(site: &ListedSite, reply: &BeginReply) -> Problem {
    let missing: Vec<_> = site.missing(reply).collect();
    let detail = format!("{} blobs of the listed files are missing", missing.len());
    let paths = missing.iter().take(MISSING_LISTED_MAX);
    let paths = paths.map(|row| row.path.to_string()).collect();
    Problem::new(Code::MissingObjects, detail).with_items(paths)
}
