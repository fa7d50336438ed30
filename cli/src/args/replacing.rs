//! Arguments of the commands that replace the active deploy, beside `pmx sync`.

use std::path::PathBuf;

use clap::Args;
use pmx_core::code::Code;
use pmx_core::limits::EXACT_INTEGER_MAX;

use super::{PreviewName, SiteArgs};

/// `pmx rollback`
#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// The deploy to go back to [default: the one before the active one]
    #[arg(value_parser = number)]
    pub deploy: Option<u64>,
    /// Folder whose name is the site's, if no name is given
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Why, for the history
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
    /// Refuse if another deploy than this is active
    #[arg(long, value_name = "DEPLOY", value_parser = number)]
    pub expect: Option<u64>,
    /// The site.
    #[command(flatten)]
    pub site: SiteArgs,
}

/// `pmx promote`
#[derive(Debug, Args)]
pub struct PromoteArgs {
    /// The preview, by its name or its branch, or the number of a deploy
    #[arg(value_name = "PREVIEW|DEPLOY", value_parser = Promoted::parse)]
    pub from: Promoted,
    /// Folder whose name is the site's, if no name is given
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Why, for the history
    #[arg(short, long, value_name = "TEXT")]
    pub message: Option<String>,
    /// Replace this deploy, also one that a rollback holds; refuse if another is live
    #[arg(long, value_name = "DEPLOY", value_parser = number)]
    pub expect: Option<u64>,
    /// Replace whatever is live, also what a rollback holds
    #[arg(long, conflicts_with = "expect")]
    pub force: bool,
    /// The site.
    #[command(flatten)]
    pub site: SiteArgs,
}

/// The deploy that becomes live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Promoted {
    /// The deploy with this number.
    Deploy(u64),
    /// The deploy that a preview shows.
    Preview(PreviewName),
}

impl Promoted {
    /// Reads the number of a deploy, or the name of a preview.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return number(text).map(Self::Deploy);
        }
        let preview = PreviewName::parse(text).map_err(|error| error.to_string())?;
        Ok(Self::Preview(preview))
    }
}

/// `pmx resume`
#[derive(Debug, Args)]
pub struct ResumeArgs {
    /// Folder whose name is the site's, if no name is given
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// The site.
    #[command(flatten)]
    pub site: SiteArgs,
}

/// Reads a number that both hosts and JSON represent exactly.
pub(super) fn number(text: &str) -> Result<u64, String> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let exact = text.parse().ok().filter(|&n| n <= EXACT_INTEGER_MAX);
    match exact {
        Some(number) if is_number => Ok(number),
        Some(_) | None if !is_number => Err("expected a number".into()),
        Some(_) | None => {
            let code = Code::NumberTooLarge;
            Err(format!(
                "{code}: {text} is above the limit of {EXACT_INTEGER_MAX}"
            ))
        }
    }
}
