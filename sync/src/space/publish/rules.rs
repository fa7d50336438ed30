//! Rule check: a commit refuses a root whose rule files have lines with errors.
//!
//! Clients check before they upload; a commit checks again, because not every client does. Files
//! that the replaced deploy has as well were checked with it.

use bytes::Bytes;
use pmx_core::backend::{BackendError, Blobs, ObjectKey};
use pmx_core::code::Code;
use pmx_core::codec::{Bounds, Decoder};
use pmx_core::id::{BlobId, Root, SpaceId};
use pmx_core::location::Codec;
use pmx_core::problem::Problem;
use pmx_core::sql::Sql;

use super::super::blob_index::{BlobIndex, StoredBlob};
use super::super::command::PublishCommand;
use super::commit::Commit;
use crate::manifest::{CachedSource, Entry, Layered, lookup};
use crate::rules::{Diagnostic, RuleFile, Severity, SiteRules};

/// Lines that a refusal names.
const LINES_NAMED_MAX: usize = 20;

impl<S: Sql> Commit<'_, S> {
    /// Refuses a root with invalid rules.
    pub(super) async fn check_rules<B: Blobs>(
        &self,
        blobs: &B,
        space: SpaceId,
        publish: &PublishCommand,
    ) -> Result<(), Problem> {
        let mut files = Vec::new();
        for (file, entry) in self.new_rule_files(publish)? {
            if entry.size > file.bytes_max() as u64 {
                let detail = format!(
                    "{file} has {} bytes; the limit is {}",
                    entry.size,
                    file.bytes_max()
                );
                return Err(Problem::new(Code::RulesInvalid, detail));
            }
            let Some(held) = self.stored(&entry.blob)? else {
                continue;
            };
            let bytes = self.stored_bytes(blobs, space, publish, &held).await?;
            // Unreadable content is reported lost when it is served, and sent again.
            if let Some(bytes) = bytes.and_then(|bytes| opened(&bytes, &held, &entry.blob)) {
                files.push((file, bytes));
            }
        }
        let files = files.iter().map(|(file, bytes)| (*file, &bytes[..]));
        let (rules, mut diagnostics) = SiteRules::compile(files);
        diagnostics.extend(rules.oversized_headers());
        refuse(&diagnostics)
    }

    /// The rule files that the replaced deploy has not.
    fn new_rule_files(&self, publish: &PublishCommand) -> Result<Vec<(RuleFile, Entry)>, Problem> {
        let source = Layered {
            new: &self.incoming.nodes,
            old: self.ledger,
        };
        let nodes = CachedSource::new(&source);
        let replaced = self.ledger.current(publish.alias.as_ref())?;
        let find = |root: Root, file: RuleFile| lookup(&nodes, root, &file.site_path());
        let mut files = Vec::new();
        for file in RuleFile::ALL {
            let Some(entry) = find(publish.root, file)? else {
                continue;
            };
            let before = match &replaced {
                Some(deploy) => find(deploy.root, file)?,
                None => None,
            };
            if before.is_none_or(|before| before.blob != entry.blob) {
                files.push((file, entry));
            }
        }
        Ok(files)
    }

    fn stored(&self, blob: &BlobId) -> Result<Option<StoredBlob>, Problem> {
        if let Some(held) = self.incoming.pack.get(blob) {
            return Ok(Some(*held));
        }
        if let Some(held) = self.closure.located.get(blob) {
            return Ok(Some(*held));
        }
        Ok(BlobIndex::new(self.ledger).find(blob)?)
    }

    async fn stored_bytes<B: Blobs>(
        &self,
        blobs: &B,
        space: SpaceId,
        publish: &PublishCommand,
        held: &StoredBlob,
    ) -> Result<Option<Bytes>, BackendError> {
        let extent = held.location.extent;
        let range = extent.offset..extent.offset.saturating_add(extent.len);
        if extent.object == publish.index {
            // The inline pack is not written yet.
            let pack = publish.pack.as_ref().map(|pack| &pack.object);
            let range = range.start as usize..range.end as usize;
            return Ok(pack
                .filter(|pack| range.end <= pack.len())
                .map(|pack| pack.slice(range)));
        }
        let key = ObjectKey {
            space,
            object: extent.object,
        };
        blobs.read(key, range).await
    }
}

/// The content of a small blob, if it is right.
fn opened(stored: &Bytes, held: &StoredBlob, blob: &BlobId) -> Option<Bytes> {
    let raw = match held.location.codec {
        Codec::Stored => stored.clone(),
        Codec::Zstd => {
            let mut decoder = Decoder::new();
            decoder.frame(stored, held.raw, Bounds::STORED).ok()?.into()
        }
        Codec::Parts | Codec::ZstdParts => return None,
    };
    (BlobId::of(&raw) == *blob).then_some(raw)
}

fn refuse(diagnostics: &[Diagnostic]) -> Result<(), Problem> {
    let errors = diagnostics.iter();
    let errors = errors.filter(|found| found.severity == Severity::Error);
    let lines: Vec<String> = errors.map(ToString::to_string).collect();
    if lines.is_empty() {
        return Ok(());
    }
    let count = lines.len();
    let plural = if count == 1 { "" } else { "s" };
    let detail = format!("the site's rules have {count} error{plural}");
    let lines = lines.into_iter().take(LINES_NAMED_MAX).collect();
    Err(Problem::new(Code::RulesInvalid, detail).with_items(lines))
}
