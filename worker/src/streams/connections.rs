//! Webhooks that are under way: the platform lets only a few connections wait for an answer.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use pmx_core::time::Timestamp;
use pmx_streams::limits::{HUB_WEBHOOKS_AGAIN_MAX, HUB_WEBHOOKS_MAX};
use pmx_streams::subscription::{Action, Attempt, Effect, Room};

/// After so long beyond its time a webhook is given up for lost: the platform may have ended it.
const LOST: Duration = Duration::from_secs(5);

/// The webhooks of a hub that are under way.
#[derive(Debug, Default)]
pub(super) struct Connections {
    open: RefCell<Vec<(Rc<()>, Timestamp, Attempt)>>,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Connection {
    all: Rc<Connections>,
    own: Rc<()>,
}

impl Connections {
    /// How many more there may be.
    pub(super) fn room(&self, now: Timestamp) -> Room {
        let mut open = self.open.borrow_mut();
        open.retain(|(_, until, _)| *until > now);
        let tried = open.iter().map(|(.., tried)| *tried);
        tried.fold(ROOM, Room::beside_one)
    }

    /// Notes that an effect is under way, if it is a webhook.
    pub(super) fn open(self: &Rc<Self>, effect: &Effect, now: Timestamp) -> Option<Connection> {
        let Action::Webhook { timeout, tried, .. } = effect.action else {
            return None;
        };
        let (all, own) = (Rc::clone(self), Rc::new(()));
        let until = now.after(timeout + LOST);
        all.open.borrow_mut().push((Rc::clone(&own), until, tried));
        Some(Connection { all, own })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut open = self.all.open.borrow_mut();
        open.retain(|(own, ..)| !Rc::ptr_eq(own, &self.own));
    }
}

const ROOM: Room = Room {
    webhooks: HUB_WEBHOOKS_MAX,
    again: HUB_WEBHOOKS_AGAIN_MAX,
};

#[cfg(test)]
mod tests {
    use pmx_streams::subscription::{LeaseRef, WebhookPolicy, WebhookUrl};

    use super::*;

    fn webhook(tried: Attempt) -> Effect {
        let url = WebhookUrl::parse("https://worker.dev/hook", WebhookPolicy::Public);
        Effect {
            lease: LeaseRef {
                subscription: 1,
                generation: 1,
            },
            action: Action::Webhook {
                url: url.unwrap(),
                tried,
                headers: Vec::new(),
                body: "".into(),
                timeout: Duration::from_secs(10),
            },
        }
    }

    #[test]
    fn what_is_over_or_lost_leaves_its_room() {
        let (at, all) = (Timestamp::from_millis, Rc::new(Connections::default()));
        let left = |now| {
            let room = all.room(at(now));
            (room.webhooks, room.again)
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
