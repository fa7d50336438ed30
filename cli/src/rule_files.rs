//! Rule files of a folder: their diagnostics, before anything is uploaded.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};

use bytes::Bytes;
use pmx_core::code::Code;
use pmx_core::problem::Problem;
use pmx_sync::path::SitePath;
use pmx_sync::rules::{Diagnostic, RuleFile, Severity, SiteRules, has_errors, without_errors};
use pmx_sync::scan::{Scan, Sources};
use pmx_sync::site::check_rules;
use serde_json::json;

use crate::error::Failure;
use crate::ui::Ui;

/// Whether a site has a file.
pub(crate) type Exists<'a> = dyn Fn(&SitePath) -> bool + 'a;

/// The rule files of a scanned folder.
#[derive(Debug, Default)]
pub(crate) struct RuleFiles {
    files: Vec<(RuleFile, Bytes)>,
    /// The lines of `pmx.toml` of which `_site.toml` was made.
    settings_lines: Option<String>,
}

impl RuleFiles {
    /// Reads the rule files.
    pub(crate) fn of(scan: &Scan, settings_lines: Option<String>) -> Result<Self, Failure> {
        let mut sources = Sources::of(scan);
        let files = Self::gather(|file| read(&mut sources, file))?;
        Ok(Self {
            settings_lines,
            ..files
        })
    }

    /// Takes the rule files that `read` finds.
    pub(crate) fn gather(
        mut read: impl FnMut(RuleFile) -> Result<Option<Bytes>, Failure>,
    ) -> Result<Self, Failure> {
        let mut files = Vec::new();
        for file in RuleFile::ALL {
            files.extend(read(file)?.map(|bytes| (file, bytes)));
        }
        Ok(Self {
            files,
            settings_lines: None,
        })
    }

    /// The bytes of a file, if the folder has it.
    pub(crate) fn bytes(&self, file: RuleFile) -> Option<&[u8]> {
        let found = self.files.iter().find(|(known, _)| *known == file);
        found.map(|(_, bytes)| &bytes[..])
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The compiled rules, and all diagnostics, also those that need the site's files. Those of
    /// settings name the file in which the user wrote them.
    pub(crate) fn checked(&self, exists: &Exists<'_>) -> (SiteRules, Vec<Diagnostic>) {
        let (rules, mut diagnostics) = self.compiled(exists);
        if let Some(lines) = &self.settings_lines {
            let (_, written) = SiteRules::compile([(RuleFile::Project, lines.as_bytes())]);
            diagnostics.retain(|found| found.at.file != RuleFile::Settings);
            diagnostics.extend(written);
        }
        (rules, diagnostics)
    }

    fn compiled(&self, exists: &Exists<'_>) -> (SiteRules, Vec<Diagnostic>) {
        let files = self.files.iter().map(|(file, bytes)| (*file, &bytes[..]));
        let (rules, mut diagnostics) = SiteRules::compile(files);
        diagnostics.extend(check_rules(&rules, exists));
        diagnostics.sort_by_key(|found| (found.at, found.column));
        (rules, diagnostics)
    }

    /// The files that have errors, with empty lines in place of those.
    pub(crate) fn without_errors(&self, exists: &Exists<'_>) -> BTreeMap<SitePath, Bytes> {
        if self.is_empty() {
            return BTreeMap::new();
        }
        let (_, diagnostics) = self.compiled(exists);
        let files = self.files.iter().filter_map(|(file, bytes)| {
            let kept = without_errors(*file, bytes, &diagnostics)?;
            Some((file.site_path(), kept.into()))
        });
        files.collect()
    }

    /// Prints the diagnostics, and refuses files with errors: the failure has their lines.
    pub(crate) fn check(&self, exists: &Exists<'_>, ui: &Ui) -> Result<(), Failure> {
        if self.is_empty() {
            return Ok(());
        }
        let (_, diagnostics) = self.checked(exists);
        print_objects(&diagnostics, ui);
        let (errors, warnings): (Vec<_>, Vec<_>) = diagnostics.iter().partition(|it| is_error(it));
        for found in warnings {
            ui.note(found);
        }
        refuse(&diagnostics).map_err(|failure| Failure {
            items: errors.iter().map(ToString::to_string).collect(),
            ..failure
        })
    }
}

/// Reads a rule file, if the sources have it.
pub(crate) fn read(sources: &mut Sources<'_>, file: RuleFile) -> Result<Option<Bytes>, Failure> {
    let mut bytes = Vec::new();
    // One byte more than the limit says that the file is too large.
    let most = file.bytes_max() as u64 + 1;
    let opened = sources.open(&file.site_path());
    match opened.and_then(|source| source.take(most).read_to_end(&mut bytes)) {
        Ok(_) => Ok(Some(bytes.into())),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => {
            let message = format!("can't read \"{file}\": {error}");
            Err(Failure::new(Code::Unreadable, message))
        }
    }
}

fn is_error(found: &Diagnostic) -> bool {
    found.severity == Severity::Error
}

/// Prints diagnostics: one line or one object for each.
pub(crate) fn print(diagnostics: &[Diagnostic], ui: &Ui) {
    for found in diagnostics {
        ui.note(found);
    }
    print_objects(diagnostics, ui);
}

/// Prints diagnostics as JSON only.
pub(crate) fn print_objects(diagnostics: &[Diagnostic], ui: &Ui) {
    for found in diagnostics {
        let mut body = json!(found);
        body["text"] = found.to_string().into();
        ui.object("rule", &body);
    }
}

/// Refuses rules with errors.
pub(crate) fn refuse(diagnostics: &[Diagnostic]) -> Result<(), Failure> {
    if !has_errors(diagnostics) {
        return Ok(());
    }
    let errors = diagnostics.iter().filter(|found| is_error(found));
    let lines: Vec<String> = errors.map(|found| found.at.to_string()).collect();
    let detail = format!("the rules of the site have errors: {}", lines.join(", "));
    Err(Failure::from(Problem::new(Code::RulesInvalid, detail)))
}
