//! How a command reaches the Durable Object of its space, and its reply comes back.
//!
//! One request each way, JSON in its body. The object with the name of a space is that space: the
//! platform runs one of it in all the world, so it has one writer.

use std::rc::Rc;

use pmx_sync::channel::Channel;
use pmx_sync::code::Code;
use pmx_sync::name::SpaceName;
use pmx_sync::serve::Spaces;
use pmx_sync::space::{Command, Due, Outbox, Reply};
use pmx_sync::time::Timestamp;
use pmx_sync::wire::Problem;
use serde::{Deserialize, Serialize};
use worker::js_sys::Uint8Array;
use worker::{Method, ObjectNamespace, Request, RequestInit};

use crate::kv::Kv;
use crate::tally::{self, Kind};
use crate::thrown::problem;

/// The spaces, from outside.
pub(crate) struct Objects {
    namespace: ObjectNamespace,
    pointers: Rc<Kv>,
}

/// A command on its way to a space.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Call {
    pub(crate) space: SpaceName,
    pub(crate) now: Timestamp,
    pub(crate) command: Command,
}

/// What comes back.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    pub(crate) outcome: Result<Reply, Problem>,
    /// Pointers that the command brought about, so that this isolate need not wait for KV.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) due: Vec<Due>,
}

impl Objects {
    pub(crate) const fn new(namespace: ObjectNamespace, pointers: Rc<Kv>) -> Self {
        Self {
            namespace,
            pointers,
        }
    }

    async fn send(&self, call: &Call) -> Result<Answer, Problem> {
        let doing = format!("asking the space {}", call.space);
        let unreadable = |error: serde_json::Error| {
            let detail = format!("{doing}: {error}");
            Problem::new(Code::Storage, detail)
        };
        let body = serde_json::to_vec(call).map_err(unreadable)?;
        let mut init = RequestInit::new();
        init.with_method(Method::Post)
            .with_body(Some(Uint8Array::from(body.as_slice()).into()));
        drop(body);
        let request = Request::new_with_init(ADDRESS, &init).map_err(problem(&*doing))?;
        // Stubs belong to the request at hand, so each call takes a new one.
        let stub = self.namespace.get_by_name(call.space.as_str());
        let stub = stub.map_err(problem(&*doing))?;
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
        let Answer { outcome, due } = self.send(&call).await?;
        for Due { alias, pointer } in due {
            let space = space.clone();
            self.pointers.remember(&Channel { space, alias }, pointer);
        }
        outcome
    }
}

/// A stub leads to its object whatever the address says.
const ADDRESS: &str = "https://space/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_and_answers_cross() {
        let call = Call {
            space: SpaceName::parse("docs").unwrap(),
            now: Timestamp::from_millis(1),
            command: Command::Undelivered,
        };
        let text = serde_json::to_string(&call).unwrap();
        assert_eq!(text, r#"{"space":"docs","now":1,"command":"Undelivered"}"#);
        let arrived: Call = serde_json::from_str(&text).unwrap();
        assert_eq!(format!("{arrived:?}"), format!("{call:?}"));
        for outcome in [
            Ok(Reply::Unaliased(None)),
            Err(Problem::new(Code::Conflict, "x").with_active(Some(2))),
        ] {
            let answer = Answer {
                outcome,
                due: Vec::new(),
            };
            let text = serde_json::to_string(&answer).unwrap();
            let arrived: Answer = serde_json::from_str(&text).unwrap();
            assert_eq!(format!("{arrived:?}"), format!("{answer:?}"));
        }
    }
}
