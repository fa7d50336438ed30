//! Webhook capacity: how many more webhooks a platform can have in flight.

use super::effect::{Attempt, Effect, PlatformAction};

/// How many more webhooks a platform can have in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WebhookCapacity {
    /// Webhooks of either [`Attempt`].
    pub webhooks: usize,
    /// Webhooks that are a [retry](Attempt::Retry): hosts that hang must not use all connections.
    pub retries: usize,
}

impl WebhookCapacity {
    /// Capacity of a platform without a limit.
    pub const UNLIMITED: Self = Self {
        webhooks: usize::MAX,
        retries: usize::MAX,
    };

    /// Whether there is capacity for such a webhook.
    pub const fn admits(self, attempt: Attempt) -> bool {
        match attempt {
            Attempt::First => self.webhooks > 0,
            Attempt::Retry => self.webhooks > 0 && self.retries > 0,
        }
    }

    /// The capacity that is left beside these effects.
    #[must_use]
    pub fn without(self, effects: &[Effect]) -> Self {
        effects
            .iter()
            .fold(self, |capacity, effect| match effect.action {
                PlatformAction::Webhook { attempt, .. } => capacity.without_one(attempt),
                PlatformAction::Append { .. } | PlatformAction::Copy(_) => capacity,
            })
    }

    /// The capacity that is left beside one webhook.
    #[must_use]
    pub const fn without_one(self, attempt: Attempt) -> Self {
        let retries = match attempt {
            Attempt::First => 0,
            Attempt::Retry => 1,
        };
        Self {
            webhooks: self.webhooks.saturating_sub(1),
            retries: self.retries.saturating_sub(retries),
        }
    }
}
