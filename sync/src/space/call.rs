//! Space call: a command and its reply, as they cross to the isolate of the space.

use bytes::Bytes;
use pmx_core::crossing::Crosses;
use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::command::{Command, Offer, PublishCommand};
use super::reply::{Due, Reply};

/// A command on its way to a space.
#[derive(Debug, Serialize, Deserialize)]
pub struct SpaceCall {
    /// The space.
    pub space: SpaceName,
    /// The time of the request.
    pub now: Timestamp,
    /// The command.
    pub command: Command,
}

/// Response to a call.
#[derive(Debug, Serialize, Deserialize)]
pub struct SpaceResponse {
    /// The result of the command.
    pub outcome: Result<Reply, Problem>,
    /// Pointers that result from the command. The caller delivers them, so that readers need not
    /// wait.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub due: Vec<Due>,
}

impl Crosses for SpaceCall {
    fn strings(&mut self, each: &mut dyn FnMut(&mut Bytes)) {
        match &mut self.command {
            Command::Publish(publish) => publish.strings(each),
            Command::RecordPack { toc, .. } => each(toc),
            _ => {}
        }
    }
}

impl PublishCommand {
    fn strings(&mut self, each: &mut dyn FnMut(&mut Bytes)) {
        match &mut self.offer {
            Offer::Patch(patch) => each(patch),
            Offer::Nodes(nodes) => nodes.iter_mut().for_each(&mut *each),
            Offer::Root | Offer::Outline(_) => {}
        }
        if let Some(pack) = &mut self.pack {
            each(&mut pack.object);
            each(&mut pack.toc);
        }
    }
}

impl Crosses for SpaceResponse {
    fn strings(&mut self, each: &mut dyn FnMut(&mut Bytes)) {
        match &mut self.outcome {
            Ok(Reply::Nodes(nodes)) => nodes.iter_mut().for_each(each),
            Ok(Reply::Events { page, .. }) => each(&mut page.body),
            Ok(_) | Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests;
