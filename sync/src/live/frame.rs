//! Event batch: one read of the log, framed once for all sockets at the same offset.

use std::sync::OnceLock;

use pmx_streams::{Offset, Page};
use serde::Serialize;

use super::message::{ChangeMessage, Event};
use super::subscription::Subscription;

/// The messages after an offset of the log, up to the limit of one read.
#[derive(Debug)]
pub struct EventBatch {
    sent: Vec<SentEvent>,
    end: Offset,
    is_up_to_date: bool,
    /// Whether visitors may read lists of this channel's paths.
    is_open: bool,
    /// The deploy token of the batch's end.
    know: Option<String>,
}

/// A message of the batch, with its frames.
#[derive(Debug)]
struct SentEvent {
    end: Offset,
    message: ChangeMessage,
    /// The same message with all changed paths, if the log's message is truncated.
    fuller: Option<ChangeMessage>,
    /// The frame for [`Subscription::All`].
    whole: OnceLock<String>,
}

impl EventBatch {
    /// Reads a page of the log. A message ends at the offset after its deploy. `token`
    /// makes the deploy tokens of the page's channel.
    pub fn of(
        page: &Page,
        is_open: bool,
        token: impl Fn(u64) -> Option<String>,
    ) -> Result<Self, serde_json::Error> {
        let sent = ChangeMessage::list(page)?
            .into_iter()
            .map(|message| SentEvent {
                end: Offset::at(message.deploy),
                message: ChangeMessage {
                    know: token(message.deploy),
                    ..message
                },
                fuller: None,
                whole: OnceLock::new(),
            });
        Ok(Self {
            sent: sent.collect(),
            end: page.end,
            is_up_to_date: page.is_up_to_date(),
            is_open,
            know: token(page.end.position()),
        })
    }

    /// The pairs of deploys whose messages are truncated, except a first deploy.
    pub fn truncated(&self) -> Vec<(u64, u64)> {
        let sent = self.sent.iter().map(|sent| &sent.message);
        let lacking = sent.filter(|message| {
            let is_part = message.events.iter().any(|event| event.truncated);
            is_part && message.prev_root.is_some()
        });
        let between = |message: &ChangeMessage| {
            let before = message.deploy.saturating_sub(1);
            (message.since.unwrap_or(before), message.deploy)
        };
        lacking.map(between).collect()
    }

    /// Adds the full message for a truncated one.
    pub fn complete(&mut self, fuller: ChangeMessage) {
        let mut sent = self.sent.iter_mut();
        if let Some(sent) = sent.find(|sent| sent.message.deploy == fuller.deploy) {
            let know = sent.message.know.clone();
            sent.fuller = Some(ChangeMessage { know, ..fuller });
        }
    }

    /// The offset after the last message.
    pub const fn end(&self) -> Offset {
        self.end
    }

    /// Whether the batch reaches the end of the log.
    pub const fn is_up_to_date(&self) -> bool {
        self.is_up_to_date
    }

    /// Whether visitors may read lists of this channel's paths.
    pub(super) const fn is_open(&self) -> bool {
        self.is_open
    }

    /// A frame that only carries the reader's offset.
    pub(super) fn position_frame(&self) -> String {
        let place = PositionFrame {
            offset: self.end.to_string(),
            deploy: self.end.position(),
            events: [],
            know: self.know.as_deref(),
        };
        serde_json::to_string(&place).unwrap_or_default()
    }

    /// The frames for a subscription.
    pub(super) fn frames(&self, subscription: &Subscription) -> Vec<String> {
        let sent = self.sent.iter();
        sent.flat_map(|sent| sent.frames(subscription)).collect()
    }
}

impl SentEvent {
    fn frames(&self, subscription: &Subscription) -> Vec<String> {
        let fullest = self.fuller.as_ref().unwrap_or(&self.message);
        match subscription {
            Subscription::All => {
                let whole = self.whole.get_or_init(|| encoded(self.end, &self.message));
                vec![whole.clone()]
            }
            Subscription::These(_) => {
                let cut = subscription.cut(fullest);
                cut.iter().map(|cut| encoded(self.end, cut)).collect()
            }
            Subscription::Raw => fullest.events.iter().filter_map(raw).collect(),
        }
    }
}

#[derive(Serialize)]
struct Frame<'a> {
    offset: String,
    #[serde(flatten)]
    message: &'a ChangeMessage,
}

fn encoded(end: Offset, message: &ChangeMessage) -> String {
    let offset = end.to_string();
    serde_json::to_string(&Frame { offset, message }).unwrap_or_default()
}

/// See [`EventBatch::position_frame`].
#[derive(Serialize)]
struct PositionFrame<'a> {
    offset: String,
    deploy: u64,
    events: [(); 0],
    #[serde(skip_serializing_if = "Option::is_none")]
    know: Option<&'a str>,
}

/// An event in the form that the protocol's first clients read.
#[derive(Serialize)]
#[serde(tag = "type", rename = "artifacts-changed")]
struct RawEvent<'a> {
    paths: &'a [String],
}

fn raw(event: &Event) -> Option<String> {
    let paths = &event.paths;
    (!event.is_empty()).then(|| serde_json::to_string(&RawEvent { paths }).unwrap_or_default())
}
