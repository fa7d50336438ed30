//! Notification of live readers: the topics of a channel, and the call that wakes their readers.

use pmx_core::channel::Channel;
use pmx_core::code::Code;
use pmx_core::problem::Problem;
use pmx_streams::StreamName;

use crate::host::streams::broadcast::Topics;

/// Topics of a channel, by the content that their readers get. Sockets read more than other
/// readers. A net message differs from the events that it sums up. So neither shares with the
/// others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TopicKind {
    /// The log itself.
    Log,
    /// For sockets at the tail.
    Sockets,
    /// For sockets that catch up.
    Net,
    /// For readers that request net messages.
    NetLog,
    /// The log for holders of the publish secret. They share only with each other, because a site
    /// may close to visitors while they wait.
    HeldLog,
    /// Net messages for holders of the publish secret.
    HeldNetLog,
}

impl TopicKind {
    /// All topics.
    const ALL: [Self; 6] = [
        Self::Log,
        Self::Sockets,
        Self::Net,
        Self::NetLog,
        Self::HeldLog,
        Self::HeldNetLog,
    ];

    /// The topic of a channel.
    pub(super) fn topic(self, channel: &Channel) -> Result<StreamName, Problem> {
        let name = match self {
            Self::Log => channel.to_string(),
            Self::Sockets => format!("{channel}/sockets"),
            Self::Net => format!("{channel}/net"),
            Self::NetLog => format!("{channel}/net-log"),
            Self::HeldLog => format!("{channel}/held-log"),
            Self::HeldNetLog => format!("{channel}/held-net-log"),
        };
        let unfit = |error| Problem::new(Code::Storage, format!("waiting for {channel}: {error}"));
        StreamName::parse(&name).map_err(unfit)
    }
}

/// Wakes all readers that wait for a channel's next deploy, but no readers of other channels.
pub(crate) fn notify(topics: &Topics, channel: &Channel) {
    for kind in TopicKind::ALL {
        if let Ok(topic) = kind.topic(channel) {
            topics.notify(&topic);
        }
    }
}
