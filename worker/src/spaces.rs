//! How a command reaches the Durable Object of its space, and its reply comes back.
//!
//! One request each way. The object with the name of a space is that space: the platform runs one
//! of it in all the world, so it has one writer.

use std::rc::Rc;

use pmx_sync::channel::Channel;
use pmx_sync::crossing::arrived;
use pmx_sync::name::SpaceName;
use pmx_sync::serve::Spaces;
use pmx_sync::space::{Answer, Call, Command, Due, Outbox, Reply};
use pmx_sync::time::Timestamp;
use pmx_sync::wire::Problem;
use serde::{Deserialize, Serialize};
use worker::js_sys::Uint8Array;
use worker::{Method, ObjectNamespace, Request, RequestInit, Stub};

use crate::crossing::{Callee, laid_out};
use crate::kv::Kv;
use crate::location::LocationHint;
use crate::tally::{self, Kind};
use crate::thrown::problem;

/// The spaces, from outside.
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

    /// A stub of a space. It belongs to the request that takes it, so each call takes a new one.
    fn stub(&self, space: &SpaceName) -> worker::Result<Stub> {
        match self.hint {
            Some(hint) => {
                let namespace = &self.namespace;
                namespace.get_by_name_with_location_hint(space.as_str(), hint.as_str())
            }
            None => self.namespace.get_by_name(space.as_str()),
        }
    }

    async fn send(&self, call: Call) -> Result<Answer, Problem> {
        let space = call.space.clone();
        let doing = format!("asking the space {space}");
        let callee = Callee {
            namespace: &self.namespace,
            name: space.as_str(),
            address: ADDRESS,
            may_repeat: call.command.may_repeat(),
        };
        let body = serde_json::to_vec(call).map_err(unreadable)?;
        let mut init = RequestInit::new();
        init.with_method(Method::Post)
            .with_body(Some(Uint8Array::from(body.as_slice()).into()));
        drop(body);
        let request = Request::new_with_init(ADDRESS, &init).map_err(problem(&*doing))?;
        let stub = self.stub(&call.space).map_err(problem(&*doing))?;
        tally::note(Kind::SpaceCall);
        let sent = stub.fetch_with_request(request).await;
        let mut response = sent.map_err(problem(&*doing))?;
        let answer = response.bytes().await.map_err(problem(&*doing))?;
        serde_json::from_slice(&answer).map_err(unreadable)
    }
}

impl Spaces for Objects {
    async fn call(
        &self,
        space: &SpaceName,
        command: Command,
        now: Timestamp,
    ) -> Result<Reply, Problem> {
        if matches!(command, Command::Undelivered | Command::Delivered { .. }) {
            // A space writes its own pointer, lest two writers bring an older one back: from
            // outside there is never anything to deliver.
            return Ok(Reply::Due(Outbox::default()));
        }
        let call = Call {
            space: space.clone(),
            now,
            command,
        };
        let Answer { outcome, due } = self.send(call).await?;
        for Due { alias, pointer } in due {
            let space = space.clone();
            self.pointers.remember(&Channel { space, alias }, pointer);
        }
        outcome
    }
}

const ADDRESS: &str = "https://space/";
