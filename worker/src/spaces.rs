//! Space calls: send a command to the Durable Object of its space, and return its reply.
//!
//! A call is one request and one response. The object with a space's name is that space. The
//! platform runs it once in the whole world, so the space has one writer.

use std::rc::Rc;

use pmx_core::channel::Channel;
use pmx_core::crossing::arrived;
use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;
use pmx_sync::serve::{NamesPage, Spaces};
use pmx_sync::space::{Command, Due, Outbox, Reply, SpaceCall, SpaceResponse};
use worker::ObjectNamespace;

use crate::crossing::{Callee, encoded};
use crate::js_error::{problem, unavailable};
use crate::kv::Kv;
use crate::location::LocationHint;

/// Client of all spaces.
pub(crate) struct Objects {
    namespace: ObjectNamespace,
    pointers: Rc<Kv>,
    hint: Option<LocationHint>,
}

impl Objects {
    pub(crate) const fn new(
        namespace: ObjectNamespace,
        pointers: Rc<Kv>,
        hint: Option<LocationHint>,
    ) -> Self {
        Self {
            namespace,
            pointers,
            hint,
        }
    }

    async fn send(&self, call: SpaceCall) -> Result<SpaceResponse, Problem> {
        let space = call.space.clone();
        let doing = format!("asking the space {space}");
        let callee = Callee {
            namespace: &self.namespace,
            name: space.as_str(),
            address: ADDRESS,
            hint: self.hint,
            may_repeat: call.command.may_repeat(),
            depth: 1,
        };
        let body = encoded(call).map_err(problem(&*doing))?;
        let answer = callee.ask(&body).await;
        let (_, answer) = answer.map_err(unavailable(&*doing))?;
        arrived(&answer).map_err(|foreign| foreign.into_problem(&doing))
    }
}

impl Spaces for Objects {
    async fn call(
        &self,
        space: &SpaceName,
        command: Command,
        now: Timestamp,
    ) -> Result<Reply, Problem> {
        if matches!(command, Command::ExpirePreviews) {
            // A space does it itself, by its alarm.
            return Ok(Reply::Expired {
                removed: Vec::new(),
                next: None,
                purge: None,
            });
        }
        if matches!(
            command,
            Command::PendingPointers | Command::AckPointer { .. }
        ) {
            // A space writes its own pointer: a second writer might bring an older one back. So a
            // caller outside has nothing to deliver.
            return Ok(Reply::Due(Outbox::default()));
        }
        let call = SpaceCall {
            space: space.clone(),
            now,
            command,
        };
        let SpaceResponse { outcome, due } = self.send(call).await?;
        for Due { alias, pointer } in due {
            let space = space.clone();
            self.pointers.remember(&Channel { space, alias }, pointer);
        }
        outcome
    }

    async fn names(&self, after: Option<&str>, most: usize) -> Result<NamesPage, Problem> {
        Ok(self.pointers.names(after, most).await?)
    }
}

const ADDRESS: &str = "https://space/";
