//! Webhooks in flight: the platform limits the connections that wait for a response.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use pmx_core::time::Timestamp;
use pmx_streams::limits::{HUB_WEBHOOKS_AGAIN_MAX, HUB_WEBHOOKS_MAX};
use pmx_streams::subscription::{Attempt, Effect, PlatformAction, WebhookCapacity};

/// How long after its timeout a webhook counts as lost: the platform may have ended it.
const LOST: Duration = Duration::from_secs(5);

/// The webhooks in flight of a hub.
#[derive(Debug, Default)]
pub(super) struct Connections {
    open: RefCell<Vec<(Rc<()>, Timestamp, Attempt)>>,
}

/// A webhook in flight, until it is dropped.
#[derive(Debug)]
pub(super) struct Connection {
    all: Rc<Connections>,
    own: Rc<()>,
}

impl Connections {
    /// The capacity for more webhooks.
    pub(super) fn capacity(&self, now: Timestamp) -> WebhookCapacity {
        let mut open = self.open.borrow_mut();
        open.retain(|(_, until, _)| *until > now);
        let attempts = open.iter().map(|(.., attempt)| *attempt);
        attempts.fold(CAPACITY, WebhookCapacity::without_one)
    }

    /// Opens a connection for an effect, if it is a webhook.
    pub(super) fn open(self: &Rc<Self>, effect: &Effect, now: Timestamp) -> Option<Connection> {
        let PlatformAction::Webhook {
            timeout, attempt, ..
        } = effect.action
        else {
            return None;
        };
        let (all, own) = (Rc::clone(self), Rc::new(()));
        let until = now.after(timeout + LOST);
        all.open
            .borrow_mut()
            .push((Rc::clone(&own), until, attempt));
        Some(Connection { all, own })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut open = self.all.open.borrow_mut();
        open.retain(|(own, ..)| !Rc::ptr_eq(own, &self.own));
    }
}

const CAPACITY: WebhookCapacity = WebhookCapacity {
    webhooks: HUB_WEBHOOKS_MAX,
    retries: HUB_WEBHOOKS_AGAIN_MAX,
};

#[cfg(test)]
mod tests {
    use pmx_streams::subscription::{LeaseRef, WebhookPolicy, WebhookUrl};

    use super::*;

    fn webhook(attempt: Attempt) -> Effect {
        let url = WebhookUrl::parse("https://worker.dev/hook", WebhookPolicy::Public);
        Effect {
            lease: LeaseRef {
                subscription: 1,
                generation: 1,
            },
            action: PlatformAction::Webhook {
                url: url.unwrap(),
                attempt,
                headers: Vec::new(),
                body: "".into(),
                timeout: Duration::from_secs(10),
            },
        }
    }

    #[test]
    fn capacity_grows_when_webhooks_end_or_are_lost() {
        let (at, all) = (Timestamp::from_millis, Rc::new(Connections::default()));
        let left = |now| {
            let capacity = all.capacity(at(now));
            (capacity.webhooks, capacity.retries)
        };
        assert_eq!(left(0), (4, 3));
        let first = all.open(&webhook(Attempt::First), at(0));
        let _again = all.open(&webhook(Attempt::Retry), at(5_000));
        assert_eq!(left(5_000), (2, 2));
        drop(first);
        assert_eq!(left(5_000), (3, 2));
        assert_eq!(left(19_999), (3, 2));
        assert_eq!(left(20_000), (4, 3), "it is lost");
    }
}
