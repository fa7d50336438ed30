//! Rule headers: the changes that `_headers` makes to a planned response.
//!
//! A later value replaces an earlier one; lines of one block join. `Set-Cookie` and `Link` add up,
//! and `Vary` is merged, because each value holds on its own. `Cache-Control` is for the file at
//! the path, never for a 404 page, a redirect or the shell of an application.

use std::collections::BTreeMap;

use http::StatusCode;
use http::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LINK, SET_COOKIE, VARY,
};

use super::answer::{Origin, Plan};
use super::request::SiteRequest;
use crate::rules::{DependsOn, HeaderChange, SiteRules};

/// Caching of an answer that depends on more than its URL.
const PRIVATE: HeaderValue = HeaderValue::from_static("private, max-age=0, must-revalidate");

/// Applies the rules of a site to a plan.
pub(super) fn apply(plan: &mut Plan, request: &SiteRequest, rules: &SiteRules, depends: DependsOn) {
    if is_about_the_file(plan) {
        change(plan, rules.header_changes(&request.for_rules()));
    }
    if !depends.is_nothing() {
        plan.headers.insert(CACHE_CONTROL, PRIVATE);
        let names = [
            (depends.language, "accept-language"),
            (depends.cookie, "cookie"),
        ];
        for (_, name) in names.iter().filter(|(counts, _)| *counts) {
            vary(&mut plan.headers, name);
        }
    }
}

/// Whether a response describes the path, and not the request.
fn is_about_the_file(plan: &Plan) -> bool {
    !matches!(
        plan.status,
        StatusCode::BAD_REQUEST | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NO_CONTENT
    )
}

fn change(plan: &mut Plan, changes: Vec<HeaderChange>) {
    let keeps_caching = !matches!(plan.origin, Origin::File | Origin::Kept | Origin::Rule)
        || !matches!(
            plan.status,
            StatusCode::OK | StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED
        );
    let mut set_by: BTreeMap<String, u32> = BTreeMap::new();
    for change in changes {
        let (HeaderChange::Remove(name) | HeaderChange::Set { name, .. }) = &change;
        if *name == CACHE_CONTROL && keeps_caching {
            continue;
        }
        if *name == CONTENT_TYPE && !plan.headers.contains_key(CONTENT_TYPE) {
            continue;
        }
        if let Some(described) = plan.described.as_mut().filter(|_| *name == CONTENT_TYPE) {
            described.has_own_type = true;
        }
        match change {
            HeaderChange::Remove(name) => {
                plan.headers.remove(&name);
                set_by.remove(name.as_str());
            }
            HeaderChange::Set { block, name, value } => {
                let before = set_by.insert(name.as_str().to_owned(), block);
                set(&mut plan.headers, name, &value, before == Some(block));
            }
        }
    }
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &str, joins: bool) {
    if name == VARY {
        return vary(headers, value);
    }
    let joined = match headers.get(&name).and_then(|before| before.to_str().ok()) {
        Some(before) if joins => format!("{before}, {value}"),
        Some(_) | None => value.to_owned(),
    };
    let adds_up = name == SET_COOKIE || name == LINK;
    let value = if adds_up { value } else { &joined };
    let Ok(value) = HeaderValue::from_str(value) else {
        return;
    };
    if adds_up {
        headers.append(name, value);
    } else {
        headers.insert(name, value);
    }
}

/// Adds names to `Vary`.
fn vary(headers: &mut HeaderMap, names: &str) {
    let before = headers.get(VARY).and_then(|value| value.to_str().ok());
    let mut all: Vec<String> = Vec::new();
    for name in before
        .unwrap_or_default()
        .split(',')
        .chain(names.split(','))
    {
        let name = name.trim();
        if !name.is_empty() && !all.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            all.push(name.to_owned());
        }
    }
    if let Ok(value) = HeaderValue::from_str(&all.join(", ")) {
        headers.insert(VARY, value);
    }
}

#[cfg(test)]
mod tests;
