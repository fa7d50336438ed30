//! `pmx rules`: checks the rules of a folder, and shows how they answer a request.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use pmx_core::country::Country;
use pmx_sync::manifest::lookup;
use pmx_sync::path::SitePath;
use pmx_sync::rules::{Severity, SiteRules};
use pmx_sync::site::{AnswerPreview, SiteRequest, preview};
use serde_json::json;

use super::{Context, Ended};
use crate::args::{FolderArgs, RulesArgs, RulesCommand, RulesTestArgs};
use crate::error::Failure;
use crate::rule_files;
use crate::source_tree::SourceTree;
use crate::ui;

pub(super) fn run(args: RulesArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    match args.command {
        Some(RulesCommand::Test(test)) => show(&test, context),
        None => check(&args.folder, context),
    }
}

/// Prints the diagnostics of a folder; nothing is sent.
fn check(args: &FolderArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    let tree = read(args, context)?;
    let (_, diagnostics) = tree.rule_files()?.checked(&|path| tree.has(path));
    for found in &diagnostics {
        context.ui.result(found.to_string());
    }
    rule_files::print_objects(&diagnostics, context.ui);
    let errors = diagnostics.iter();
    let errors = errors.filter(|found| found.severity == Severity::Error);
    let errors = errors.count() as u64;
    let warnings = diagnostics.len() as u64 - errors;
    context.ui.note(format!(
        "{}, {}",
        ui::count(errors, "error", "errors"),
        ui::count(warnings, "warning", "warnings")
    ));
    let body = json!({ "errors": errors, "warnings": warnings });
    context.ui.object("rules", &body);
    rule_files::refuse(&diagnostics)?;
    Ok(Ended::Done)
}

fn read(args: &FolderArgs, context: &Context<'_>) -> Result<SourceTree, Failure> {
    let folder = context.layers.folder(args)?;
    let cache = context.cache.folder(&folder);
    SourceTree::read(&folder, &args.scan, cache, context.ui)
}

/// Prints how a request is answered.
fn show(args: &RulesTestArgs, context: &Context<'_>) -> Result<Ended, Failure> {
    let folder = FolderArgs {
        dir: args.dir.clone(),
        scan: args.scan.clone(),
    };
    let tree = read(&folder, context)?;
    let (rules, diagnostics) = tree.rule_files()?.checked(&|path| tree.has(path));
    rule_files::print(&diagnostics, context.ui);
    let request = request(args)?;
    let find = |path: &SitePath| lookup(&tree, tree.root(), path).ok().flatten();
    let answer = preview(&request, &rules, &find);
    print(&answer, &rules, context);
    rule_files::refuse(&diagnostics)?;
    Ok(Ended::Done)
}

fn request(args: &RulesTestArgs) -> Result<SiteRequest, Failure> {
    let unusable = |why: String| Failure::usage(format!("\"{}\" is no URL: {why}", args.url));
    let uri: Uri = args
        .url
        .parse()
        .map_err(|why: http::uri::InvalidUri| unusable(why.to_string()))?;
    if !uri.path().starts_with('/') {
        return Err(unusable("a path starts with /".to_owned()));
    }
    let mut headers = HeaderMap::new();
    for line in &args.header {
        let parts = line.split_once(':');
        let parsed = parts.and_then(|(name, value)| {
            let name: HeaderName = name.trim().parse().ok()?;
            Some((name, HeaderValue::from_str(value.trim()).ok()?))
        });
        let Some((name, value)) = parsed else {
            return Err(Failure::usage(format!(
                "\"{line}\" is no header; write NAME: VALUE"
            )));
        };
        headers.append(name, value);
    }
    let country = args.country.as_deref().map(|text| {
        let unknown = || Failure::usage(format!("\"{text}\" is no country; use two letters"));
        Country::parse(text).ok_or_else(unknown)
    });
    let method = Method::from_bytes(args.method.to_ascii_uppercase().as_bytes());
    let method = method.map_err(|why| Failure::usage(format!("reading --method: {why}")))?;
    let request = SiteRequest::new(&method, uri.path(), uri.query(), &headers, None);
    Ok(request.from_client(uri.host().unwrap_or_default(), country.transpose()?))
}

fn print(answer: &AnswerPreview, rules: &SiteRules, context: &Context<'_>) {
    let ui = context.ui;
    let AnswerPreview { plan, lookups, .. } = answer;
    if rules.is_empty() {
        ui.note("the folder has no rules");
    }
    for (path, exists) in lookups {
        let found = if *exists { "found" } else { "not found" };
        ui.result(format!("looked up  {path}: {found}"));
    }
    if let Some(rule) = plan.rule {
        ui.result(format!("rule       {rule}"));
    }
    if let Some(file) = &answer.file {
        ui.result(format!("file       {file}"));
    }
    ui.result(format!("status     {}", plan.status.as_u16()));
    let mut headers = serde_json::Map::new();
    for (name, value) in &plan.headers {
        let value = value.to_str().unwrap_or_default();
        ui.result(format!("{name}: {value}"));
        headers.insert(name.to_string(), value.into());
    }
    let looked: Vec<_> = lookups
        .iter()
        .map(|(path, exists)| json!({ "path": path, "exists": exists }))
        .collect();
    let body = json!({
        "status": plan.status.as_u16(),
        "rule": plan.rule.map(|rule| rule.to_string()),
        "file": answer.file,
        "headers": headers,
        "lookups": looked,
    });
    ui.object("answer", &body);
}
