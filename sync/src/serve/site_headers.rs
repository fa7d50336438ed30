//! Site headers: what a response says about its deploy.

use http::{HeaderMap, HeaderName, HeaderValue};
use pmx_core::channel::Channel;
use pmx_core::domain::Selector;
use pmx_core::name::SpaceName;

use super::backend::Backend;
use super::events::channel;
use super::min_deploy::{DEPLOY_TOKEN, mark};
use super::server::Server;
use crate::rules::RuleLine;
use crate::site::Addressed;

const RULE: HeaderName = HeaderName::from_static("x-pmx-rule");
const ROBOTS: HeaderName = HeaderName::from_static("x-robots-tag");

impl<B: Backend> Server<B> {
    /// Names the rule that answered, in previews and where the operator wants it.
    pub(super) fn name_rule(
        &self,
        selector: &Selector,
        rule: Option<RuleLine>,
        headers: &mut HeaderMap,
    ) {
        let is_shown = self.settings.shows_rules || *selector != Selector::Active;
        let rule = rule.filter(|_| is_shown).map(|rule| rule.to_string());
        if let Some(Ok(rule)) = rule.map(|rule| HeaderValue::from_str(&rule)) {
            headers.insert(RULE, rule);
        }
    }

    /// Adds the deploy's headers: its offset in the site's events on a page, its token, and
    /// `noindex` where crawlers should index only the site itself.
    pub(super) fn mark_place(
        &self,
        space: &SpaceName,
        selector: &Selector,
        deploy: u64,
        is_page: bool,
        headers: &mut HeaderMap,
    ) {
        match selector {
            Selector::Active | Selector::Alias(_) if is_page => mark(headers, deploy),
            Selector::Active | Selector::Alias(_) | Selector::Number(_) => {}
        }
        if let Some(token) = self.token_of(space, selector, deploy) {
            headers.insert(DEPLOY_TOKEN, token);
        }
        if *selector != Selector::Active {
            headers.insert(ROBOTS, HeaderValue::from_static("noindex"));
        }
    }

    /// The token with which a client asks for this deploy or a newer one; none for a numbered
    /// deploy.
    fn token_of(&self, space: &SpaceName, selector: &Selector, deploy: u64) -> Option<HeaderValue> {
        let channel = channel_of(space, selector)?;
        let token = self.tokens().token(&channel, deploy)?;
        HeaderValue::from_str(&token).ok()
    }
}

/// The channel of a site or a preview. A numbered deploy has none.
pub(super) fn channel_of(space: &SpaceName, selector: &Selector) -> Option<Channel> {
    channel(&Addressed::Site {
        space: space.clone(),
        deploy: selector.clone(),
    })
}
