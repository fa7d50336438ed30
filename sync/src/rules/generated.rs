//! Generated rules: routes and cache policies that a build tool gives, in `_pmx/rules.json`.
//!
//! The file has one canonical form: compact JSON, keys sorted by their bytes, no unknown keys. So
//! two builds with the same rules have the same root.
//!
//! ```text
//! {"cache":{"<site path>":"immutable"|"revalidate"},"html":MODE,"missing":MODE,
//!  "routes":{"<URL path>":{"file":"<site path>"}|{"status":N,"to":"<URL>"}},"version":1}
//! ```

use std::collections::BTreeMap;

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::diagnostic::RuleCode;
use super::settings::{HtmlMode, Missing};
use super::target::RedirectTarget;
use crate::limits::GENERATED_RULES_BYTES_MAX;
use crate::path::SitePath;

/// Rules that a build tool gives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeneratedRules {
    /// The cache policy of files, by their path in the site.
    #[serde(default)]
    pub cache: BTreeMap<SitePath, CachePolicy>,
    /// The mode of HTML files, as in `_site.toml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    /// What answers if nothing else does, as in `_site.toml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub missing: Option<String>,
    /// Routes, by the path exactly as a client requests it.
    #[serde(default)]
    pub routes: BTreeMap<Box<str>, GeneratedRoute>,
    /// The version of the format.
    pub version: RulesVersion,
}

/// The version of the format: 1.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct RulesVersion;

impl TryFrom<u8> for RulesVersion {
    type Error = &'static str;

    fn try_from(version: u8) -> Result<Self, Self::Error> {
        (version == 1)
            .then_some(Self)
            .ok_or("the version of the rules is not 1")
    }
}

impl From<RulesVersion> for u8 {
    fn from(_: RulesVersion) -> Self {
        1
    }
}

/// How long clients may keep a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CachePolicy {
    /// A year.
    Immutable,
    /// Until they ask again, each time.
    Revalidate,
}

/// What answers at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum GeneratedRoute {
    /// A redirect.
    Redirect {
        /// Its status.
        status: RedirectStatus,
        /// The URL.
        to: String,
    },
    /// A file.
    File {
        /// Its path in the site.
        file: SitePath,
    },
}

/// The status of a redirect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct RedirectStatus(StatusCode);

impl RedirectStatus {
    /// The status.
    pub const fn get(self) -> StatusCode {
        self.0
    }
}

impl TryFrom<u16> for RedirectStatus {
    type Error = String;

    fn try_from(status: u16) -> Result<Self, Self::Error> {
        match StatusCode::from_u16(status) {
            Ok(status) if matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308) => {
                Ok(Self(status))
            }
            _ => Err(format!("{status} is no status of a redirect")),
        }
    }
}

impl From<RedirectStatus> for u16 {
    fn from(status: RedirectStatus) -> Self {
        status.0.as_u16()
    }
}

impl GeneratedRules {
    /// Decodes the canonical form, and refuses any other.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() > GENERATED_RULES_BYTES_MAX {
            let size = bytes.len();
            return Err(format!(
                "{size} bytes; the limit is {GENERATED_RULES_BYTES_MAX}"
            ));
        }
        let rules: Self = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
        rules.check()?;
        if rules.encode()? != bytes {
            return Err("the JSON is not compact, sorted and without duplicates".into());
        }
        Ok(rules)
    }

    /// The canonical form.
    pub fn encode(&self) -> Result<Vec<u8>, String> {
        serde_json::to_vec(self).map_err(|error| error.to_string())
    }

    /// Checks modes, paths and targets.
    pub fn check(&self) -> Result<(), String> {
        if let Some(html) = &self.html {
            HtmlMode::parse(html).ok_or_else(|| format!("{html:?} is no mode of HTML files"))?;
        }
        if let Some(missing) = &self.missing {
            let known = Missing::parse(missing);
            known.ok_or_else(|| format!("{missing:?} does not say what answers"))?;
        }
        for (path, route) in &self.routes {
            if !path.starts_with('/') {
                return Err(format!("{path:?} is no path of a request"));
            }
            if let GeneratedRoute::Redirect { to, .. } = route {
                let target = RedirectTarget::parse(to, &[]);
                target.map_err(|fault| format!("{path:?}: {}", fault.message))?;
            }
        }
        Ok(())
    }

    /// The routes that lead back to themselves, and those to files that do not exist.
    pub(crate) fn faults(&self, exists: &dyn Fn(&SitePath) -> bool) -> Vec<(RuleCode, String)> {
        let faults = self.routes.iter().filter_map(|(path, route)| match route {
            GeneratedRoute::File { file } if !exists(file) => {
                let message = format!("{path} shows {file}, and the site has no such file");
                Some((RuleCode::NoTarget, message))
            }
            GeneratedRoute::Redirect { to, .. } if self.returns(path, to) => {
                let message = format!("{path} leads back to itself");
                Some((RuleCode::Loop, message))
            }
            GeneratedRoute::File { .. } | GeneratedRoute::Redirect { .. } => None,
        });
        faults.collect()
    }

    /// Whether redirects lead from `to` to a path.
    fn returns(&self, path: &str, to: &str) -> bool {
        let mut at = path_of(to);
        for _ in 0..STEPS_MAX {
            if at == path {
                return true;
            }
            match self.routes.get(at) {
                Some(GeneratedRoute::Redirect { to, .. }) => at = path_of(to),
                Some(GeneratedRoute::File { .. }) | None => return false,
            }
        }
        false
    }
}

/// Redirects that a check follows: more than browsers do (the Fetch standard ends after 20).
const STEPS_MAX: usize = 32;

fn path_of(to: &str) -> &str {
    to.split(['?', '#']).next().unwrap_or(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decode_refuses_all_but_the_canonical_form() {
        let right = br#"{"cache":{"a.js":"immutable"},"html":"exact","routes":{"/":{"status":308,"to":"/index.path"},"/index.path":{"file":"index.path.html"}},"version":1}"#;
        let rules = GeneratedRules::decode(right).unwrap();
        assert_eq!(rules.encode().unwrap(), right);
        let text = std::str::from_utf8(right).unwrap();
        for (from, to) in [
            ("{\"cache\"", "{ \"cache\""),
            ("\"version\":1", "\"version\":2"),
            ("308", "200"),
            ("308", "308.0"),
            ("\"exact\"", "\"inexact\""),
            ("\"/index.path\"}", "\"//evil.example\"}"),
            ("\"/index.path\":", "\"index.path\":"),
            ("index.path.html", "../index.path.html"),
            ("\"immutable\"", "\"forever\""),
            ("\"cache\"", "\"caches\""),
            (
                "{\"a.js\":\"immutable\"}",
                "{\"a.js\":\"immutable\",\"a.js\":\"immutable\"}",
            ),
            (",\"html\":\"exact\"", ",\"html\":null"),
        ] {
            let wrong = text.replacen(from, to, 1);
            assert_ne!(wrong, text, "{from}");
            assert!(GeneratedRules::decode(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
