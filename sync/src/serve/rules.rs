//! Rules of a root: read once, compiled, and kept for all requests to it.

use std::sync::Arc;

use pmx_core::problem::Problem;

use super::backend::Backend;
use super::server::Server;
use super::stored::Scope;
use crate::pointer::Pointer;
use crate::rules::{RuleFile, SiteRules};
use crate::site::{DeployAge, Lookup};

impl<B: Backend> Server<B> {
    /// The rules of a pointer's deploy. A deploy without rule files costs nothing.
    pub(super) async fn rules(
        &self,
        scope: Scope<'_>,
        pointer: &Pointer,
    ) -> Result<Arc<SiteRules>, Problem> {
        if !pointer.rules {
            return Ok(Arc::clone(self.no_rules()));
        }
        if let Some(rules) = self.compiled_rules().find(&pointer.root) {
            return Ok(rules);
        }
        let mut files = Vec::new();
        for file in RuleFile::ALL {
            let lookup = Lookup {
                age: DeployAge::SERVED,
                path: file.site_path(),
            };
            let found = self.look_up(scope, pointer, &lookup).await?;
            let fits = |size: u64| size <= file.bytes_max() as u64;
            if let Some(held) = found.filter(|held| fits(held.entry.size)) {
                files.push((file, self.whole_blob(scope, &held).await?));
            }
        }
        let files = files.iter().map(|(file, bytes)| (*file, &bytes[..]));
        // A commit refused lines with errors; here they are left out.
        let (rules, _) = SiteRules::compile(files);
        let rules = Arc::new(rules);
        let bytes = rules.charged_bytes();
        self.compiled_rules()
            .insert_large(pointer.root, Arc::clone(&rules), bytes);
        Ok(rules)
    }
}
