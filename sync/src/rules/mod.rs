//! Hosting rules: redirects, headers and modes that a site carries in its own files.
//!
//! `_redirects`, `_headers`, `_site.toml` and `_pmx/rules.json` are files of the manifest, so each
//! deploy has its own rules. [`SiteRules::compile`] parses them; it is total, and reports each
//! fault with its line. The client compiles before it uploads, the space again before it commits,
//! and both hosts serve from the compiled form.

mod compared_path;
mod condition;
mod diagnostic;
mod generated;
mod headers;
mod index;
mod lenient;
mod line;
mod memory;
mod overview;
mod pattern;
mod redirects;
#[cfg(test)]
mod round_trip;
mod settings;
mod site_rules;
mod target;

pub use condition::{ClientContext, DependsOn};
pub use diagnostic::{Diagnostic, RuleCode, RuleFile, RuleLine, Severity};
pub use generated::{CachePolicy, GeneratedRoute, GeneratedRules, RedirectStatus, RulesVersion};
pub use lenient::without_errors;
pub(crate) use overview::RuleSample;
pub use settings::{HtmlMode, Missing, SiteSettings};
pub(crate) use site_rules::{HeaderChange, MatchedAction, MatchedRule, RuleAnswer, names_asset};
pub use site_rules::{RuleRequest, SiteRules, has_errors};
