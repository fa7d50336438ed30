//! Messages of the log on their way to sockets: read once for all who stand at the same place.

use std::sync::OnceLock;

use serde::Serialize;

use super::message::Message;
use super::subscription::Subscription;
use crate::stream::{Offset, Page};

/// What lies behind a place of the log, as far as one read goes.
#[derive(Debug)]
pub struct Tidings {
    told: Vec<Told>,
    end: Offset,
    is_up_to_date: bool,
}

/// One message.
#[derive(Debug)]
struct Told {
    end: Offset,
    message: Message,
    /// The same with all that changed, where the message names only a part.
    fuller: Option<Message>,
    /// The frame for those who want everything.
    whole: OnceLock<String>,
}

impl Tidings {
    /// Reads a page of the log. A message says itself where it ends: behind its deploy.
    pub fn of(page: &Page) -> Result<Self, serde_json::Error> {
        let array = [b"[", &page.body[..], b"]"].concat();
        let messages: Vec<Message> = serde_json::from_slice(&array)?;
        let told = messages.into_iter().map(|message| Told {
            end: Offset::at(message.deploy),
            message,
            fuller: None,
            whole: OnceLock::new(),
        });
        Ok(Self {
            told: told.collect(),
            end: page.end,
            is_up_to_date: page.is_up_to_date(),
        })
    }

    /// The deploys between which more changed than a message names; nothing if there was no deploy
    /// before.
    pub fn lacking(&self) -> Vec<(u64, u64)> {
        let told = self.told.iter().map(|told| &told.message);
        let lacking = told.filter(|message| {
            let is_part = message.events.iter().any(|event| event.truncated);
            is_part && message.prev_root.is_some()
        });
        let between = |message: &Message| {
            let before = message.deploy.saturating_sub(1);
            (message.since.unwrap_or(before), message.deploy)
        };
        lacking.map(between).collect()
    }

    /// Takes what was lacking.
    pub fn complete(&mut self, fuller: Message) {
        let mut told = self.told.iter_mut();
        if let Some(told) = told.find(|told| told.message.deploy == fuller.deploy) {
            told.fuller = Some(fuller);
        }
    }

    /// Where they end.
    pub const fn end(&self) -> Offset {
        self.end
    }

    /// Whether nothing lies behind them yet.
    pub const fn is_up_to_date(&self) -> bool {
        self.is_up_to_date
    }

    /// The frames for a subscription.
    pub(super) fn frames(&self, subscription: &Subscription) -> Vec<String> {
        let told = self.told.iter();
        told.filter_map(|told| told.frame(subscription)).collect()
    }
}

impl Told {
    fn frame(&self, subscription: &Subscription) -> Option<String> {
        match subscription {
            Subscription::All => {
                let whole = self.whole.get_or_init(|| spelt(self.end, &self.message));
                Some(whole.clone())
            }
            Subscription::These(_) => {
                let message = self.fuller.as_ref().unwrap_or(&self.message);
                let cut = subscription.cut(message)?;
                Some(spelt(self.end, &cut))
            }
        }
    }
}

#[derive(Serialize)]
struct Frame<'a> {
    offset: String,
    #[serde(flatten)]
    message: &'a Message,
}

fn spelt(end: Offset, message: &Message) -> String {
    let offset = end.to_string();
    serde_json::to_string(&Frame { offset, message }).unwrap_or_default()
}

/// A frame that only says where the reader stands.
pub(super) fn place(end: Offset) -> String {
    let deploy = end.position();
    format!("{{\"offset\":\"{end}\",\"deploy\":{deploy},\"events\":[]}}")
}
