//! Space object (Durable Object): executes a space's commands and writes its pointer to KV.
//!
//! This object is the pointer's only writer. It writes at most once per second, because KV rejects
//! faster writes to one key, and never two at a time. The same turn sets the alarm and commits. So
//! the alarm writes a pointer that could not be written at once, even after a crash.

#![expect(
    missing_docs,
    reason = "the methods that `#[durable_object]` writes have none"
)]

use std::cell::Cell;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::time::Duration;

use pmx_core::channel::Channel;
use pmx_core::code::Code;
use pmx_core::crossing::arrived;
use pmx_core::id::SpaceId;
use pmx_core::name::SpaceName;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;
use pmx_sync::limits::{BODY_BYTES_MAX, PATCH_RAW_BYTES_MAX};
use pmx_sync::serve::{Backend, Pointers, Server};
use pmx_sync::space::{Command, Due, Outbox, Reply, SpaceCall, SpaceResponse, execute, name_of};
use pmx_sync::wire::Repack;
use worker::js_sys::Math;
// The expansion of `#[durable_object]` refers to this name.
use worker::wasm_bindgen;
use worker::{
    DurableObject, Env, Request, Response, State, WebSocket, WebSocketIncomingMessage,
    console_error, console_log, durable_object,
};

use crate::access_log;
use crate::admission::{Front, front};
use crate::crossing::response;
use crate::http::{body, now};
use crate::isolate::{Cloudflare, server};
use crate::js_error;
use crate::live::object::Subscribers;
use crate::op_counts;
use crate::response_body;
use crate::sampling::By;
use crate::sql::ObjectDatabase;

/// One space.
#[durable_object]
pub struct SpaceDO {
    state: State,
    env: Env,
    ledger: ObjectDatabase,
    live: AssertUnwindSafe<Rc<Subscribers>>,
    pace: AssertUnwindSafe<Pace>,
    backoff: AssertUnwindSafe<Backoff>,
}

impl DurableObject for SpaceDO {
    fn new(state: State, env: Env) -> Self {
        let ledger = ObjectDatabase::new(state.storage());
        let pace = AssertUnwindSafe(Pace::default());
        let backoff = AssertUnwindSafe(Backoff::default());
        let live = AssertUnwindSafe(Subscribers::new(&state, &env));
        Self {
            state,
            env,
            ledger,
            live,
            pace,
            backoff,
        }
    }

    async fn fetch(&self, request: Request) -> worker::Result<Response> {
        if request.inner().method() == "GET" {
            return match self.live.answer(&request).await {
                Ok(answer) => Ok(answer),
                Err(problem) => response_body::problem(&problem, "GET"),
            };
        }
        let answer = self.answer(&request).await;
        let answer = answer.unwrap_or_else(|problem| SpaceResponse {
            outcome: Err(problem),
            due: Vec::new(),
        });
        response(answer)
    }

    async fn alarm(&self) -> worker::Result<Response> {
        // Without a name, the object does not know whose pointers wait; the platform must wake it
        // again.
        let space = self.space().map_err(|problem| problem.to_string())?;
        if let Err(problem) = self.tend(&space, now()).await {
            console_error!("{problem}");
            // The platform retries only a few times. If even this fails, the platform must retry.
            self.backoff.failed();
            self.ledger.storage().set_alarm(self.backoff.wait()).await?;
        }
        Response::empty()
    }

    async fn websocket_message(
        &self,
        socket: WebSocket,
        message: WebSocketIncomingMessage,
    ) -> worker::Result<()> {
        self.live.on_message(&socket, &message);
        Ok(())
    }

    async fn websocket_close(
        &self,
        _socket: WebSocket,
        _code: usize,
        _reason: String,
        _was_clean: bool,
    ) -> worker::Result<()> {
        self.live.closed();
        Ok(())
    }

    async fn websocket_error(
        &self,
        _socket: WebSocket,
        _error: worker::Error,
    ) -> worker::Result<()> {
        self.live.closed();
        Ok(())
    }
}

impl SpaceDO {
    /// The name of the space, when an alarm wakes the object: from the platform or the ledger.
    fn space(&self) -> Result<SpaceName, Problem> {
        let name = self.state.id().name();
        if let Some(space) = name.and_then(|name| SpaceName::parse(&name).ok()) {
            return Ok(space);
        }
        let kept = name_of(&self.ledger)?;
        let unknown = "neither the platform nor the ledger knows its name";
        kept.ok_or_else(|| js_error::problem("waking a space")(unknown.to_owned()))
    }

    async fn answer(&self, request: &Request) -> Result<SpaceResponse, Problem> {
        let call = body(request, CALL_BYTES_MAX).await?;
        let call = arrived::<SpaceCall>(&call);
        let call = call.map_err(|foreign| foreign.into_problem("reading a command"))?;
        let announced = call.command.may_announce().then(|| Channel {
            space: call.space.clone(),
            alias: call.command.alias().cloned(),
        });
        let what = call.command.name();
        let by = if call.command.is_reading() {
            By::Reader
        } else {
            By::Publisher
        };
        let started = now();
        let outcome = self.carry_out(&call.space, call.command, call.now).await;
        if let Ok(Reply::SpaceDeleted(removal)) = &outcome {
            for alias in &removal.previews {
                let (space, alias) = (call.space.clone(), Some(alias.clone()));
                self.live.changed(&Channel { space, alias });
            }
        }
        let mut due = Vec::new();
        if let Some(channel) = announced.filter(|_| outcome.is_ok()) {
            self.live.changed(&channel);
            // The command has succeeded; readers get its pointer now or by the alarm.
            let delivered = self.deliver(&call.space, call.now).await;
            due = delivered.unwrap_or_else(|problem| {
                console_error!("{problem}");
                Vec::new()
            });
        }
        let problem = outcome.as_ref().err();
        let status = problem.map_or(200, |problem| problem.status);
        let is_logged = |front: Rc<Front>| front.logged.takes(by, status, Math::random());
        // The command has succeeded, even if its log line fails.
        if front(&self.env).is_ok_and(is_logged) {
            let code = problem.map(|problem| problem.code.as_str());
            let millis = now().as_millis().saturating_sub(started.as_millis());
            let line =
                access_log::command(call.space.as_str(), what, code, millis, &op_counts::take());
            console_log!("{line}");
        }
        Ok(SpaceResponse { outcome, due })
    }

    /// Nothing here waits, except for the write of a commit's index object.
    async fn carry_out(
        &self,
        space: &SpaceName,
        command: Command,
        now: Timestamp,
    ) -> Result<Reply, Problem> {
        let server = self.server()?;
        execute(&self.ledger, server.backend().blobs(), space, command, now).await
    }

    /// Does the work of an alarm: deletes objects of removed spaces, writes pointers, and then
    /// takes one step of a collection. Each of them leaves an alarm if it has more to do.
    async fn tend(&self, space: &SpaceName, now: Timestamp) -> Result<(), Problem> {
        let purged = self.purge(space, now).await;
        let delivered = self.deliver(space, now).await;
        purged?;
        delivered?;
        let next = match self.collect(space, now).await {
            Ok(Collected::Nothing) => return Ok(()),
            Ok(Collected::Step) => self.expire(space, now).await?.0,
            Err(problem) => {
                // Its failures slow no pointer down.
                console_error!("{problem}");
                Some(crate::http::now().after(COLLECT_PAUSE))
            }
        };
        // A publish may have left a pointer to the alarm while the step waited for R2.
        let outbox = self.outbox(space, now, Command::PendingPointers).await?;
        if is_empty(&outbox) {
            return self.rest(space, next).await;
        }
        let set = self.ledger.storage().set_alarm(self.backoff.wait()).await;
        set.map_err(js_error::problem(format!("setting the alarm of {space}")))
    }

    /// Takes one step of a collection if one is due and no pointer waits.
    async fn collect(&self, space: &SpaceName, now: Timestamp) -> Result<Collected, Problem> {
        let (next, _) = self.expire(space, now).await?;
        let outbox = self.outbox(space, now, Command::PendingPointers).await?;
        if next.is_none_or(|next| next > now) || !is_empty(&outbox) {
            return Ok(Collected::Nothing);
        }
        let step = Command::Collect {
            start: false,
            dry: false,
            repack: Repack::default(),
        };
        match self.carry_out(space, step, now).await {
            // The space was deleted.
            Err(absent) if absent.code == Code::NotFound => {}
            step => drop(step?),
        }
        Ok(Collected::Step)
    }

    /// Writes the pointers in the outbox to KV, if it may now; otherwise the alarm does. Returns
    /// the pointers that readers are to see.
    ///
    /// The alarm is set unless the outbox is empty and no preview ends, so that each failure has a
    /// retry.
    async fn deliver(&self, space: &SpaceName, now: Timestamp) -> Result<Vec<Due>, Problem> {
        let ends = self.expire(space, now).await.map(|(ends, _)| ends);
        let outbox = self.outbox(space, now, Command::PendingPointers).await;
        let storage = self.ledger.storage();
        if let Ok(ends) = &ends
            && outbox.as_ref().is_ok_and(is_empty)
        {
            if ends.is_some() {
                self.rest(space, *ends).await?;
            }
            return Ok(Vec::new());
        }
        // No wait between the commit and this: both reach the disk or neither.
        let set = storage.set_alarm(self.backoff.wait()).await;
        set.map_err(js_error::problem(format!("setting the alarm of {space}")))?;
        let (due, ends) = (outbox?.due, ends?);
        let started = crate::http::now();
        if !self.pace.start(started) {
            return Ok(due);
        }
        let written = self.write(space, &due, now).await;
        self.pace.stop();
        let left = written?;
        if let Some(problem) = left.blocked.into_iter().next() {
            return Err(problem);
        }
        if left.due.is_empty() {
            self.rest(space, ends).await?;
            self.backoff.succeeded();
        }
        Ok(due)
    }

    /// Deletes some objects of a removed space that may go now. The outbox names the next time.
    async fn purge(&self, space: &SpaceName, now: Timestamp) -> Result<(), Problem> {
        let (_, Some(removed)) = self.expire(space, now).await? else {
            return Ok(());
        };
        if self.server()?.purge(removed).await? {
            return Ok(());
        }
        let forget = Command::ForgetRemoved { space: removed };
        self.carry_out(space, forget, now).await.map(drop)
    }

    /// Removes previews whose time is over. Returns when the next one ends, and the removed space
    /// whose objects may go now.
    async fn expire(
        &self,
        space: &SpaceName,
        now: Timestamp,
    ) -> Result<(Option<Timestamp>, Option<SpaceId>), Problem> {
        let reply = self.carry_out(space, Command::ExpirePreviews, now).await?;
        let Reply::Expired {
            removed,
            next,
            purge,
        } = reply
        else {
            return Ok((None, None));
        };
        for alias in removed {
            let (space, alias) = (space.clone(), Some(alias));
            self.live.changed(&Channel { space, alias });
        }
        Ok((next, purge))
    }

    /// Sets the alarm to the time at which the next preview ends, or deletes it.
    async fn rest(&self, space: &SpaceName, ends: Option<Timestamp>) -> Result<(), Problem> {
        let storage = self.ledger.storage();
        let Some(ends) = ends else {
            let deleted = storage.delete_alarm().await;
            return deleted.map_err(js_error::problem(format!("deleting the alarm of {space}")));
        };
        let wait = ends
            .as_millis()
            .saturating_sub(crate::http::now().as_millis());
        let set = storage
            .set_alarm(Duration::from_millis(wait).max(PAUSE))
            .await;
        set.map_err(js_error::problem(format!("setting the alarm of {space}")))
    }

    /// Writes pointers to KV, each to its own key and independently of the others. Returns the
    /// outbox after that.
    async fn write(
        &self,
        space: &SpaceName,
        due: &[Due],
        now: Timestamp,
    ) -> Result<Outbox, Problem> {
        let server = self.server()?;
        for Due { alias, pointer } in due {
            let channel = Channel {
                space: space.clone(),
                alias: alias.clone(),
            };
            let pointers = server.backend().pointers();
            if let Err(error) = pointers.write(&channel, pointer).await {
                console_error!("writing the pointer of {channel}: {error}");
                continue;
            }
            let delivered = Command::ack(channel.alias, pointer);
            self.outbox(space, now, delivered).await?;
        }
        self.outbox(space, now, Command::PendingPointers).await
    }

    async fn outbox(
        &self,
        space: &SpaceName,
        now: Timestamp,
        command: Command,
    ) -> Result<Outbox, Problem> {
        match self.carry_out(space, command, now).await? {
            Reply::Due(outbox) => Ok(outbox),
            Reply::Space(_)
            | Reply::Publish(_)
            | Reply::Recorded(_)
            | Reply::Noted
            | Reply::Deploy(_)
            | Reply::Deploys { .. }
            | Reply::Diff(_)
            | Reply::Events { .. }
            | Reply::DiffSince(_)
            | Reply::Nodes(_)
            | Reply::Pointer(_)
            | Reply::Index { .. }
            | Reply::Resumed(_)
            | Reply::Expired { .. }
            | Reply::SpaceDeleted(_)
            | Reply::Retention(_)
            | Reply::Collected(_)
            | Reply::Verified(_)
            | Reply::Previews(_)
            | Reply::AliasDeleted(_) => Ok(Outbox::default()),
        }
    }

    fn server(&self) -> Result<Rc<Server<Cloudflare>>, Problem> {
        server(&self.env)
    }
}

fn is_empty(outbox: &Outbox) -> bool {
    outbox.due.is_empty() && outbox.blocked.is_empty()
}

/// Largest command in bytes: the largest section of a request, a pack, and its head.
const CALL_BYTES_MAX: usize = PATCH_RAW_BYTES_MAX + BODY_BYTES_MAX + 1024 * 1024;

/// KV accepts one write per second and key; the alarm repeats after this time.
const PAUSE: Duration = Duration::from_secs(1);

/// Whether an alarm took a step of a collection.
enum Collected {
    /// None was due, or a pointer waits.
    Nothing,
    /// It took one.
    Step,
}

/// Pause after a failed step of a collection.
const COLLECT_PAUSE: Duration = Duration::from_mins(5);

/// Time after which a write counts as lost: the request that waited for it may have ended.
const LOST: Duration = Duration::from_secs(30);

/// Rate of pointer writes: one at a time, with a pause between two.
#[derive(Default)]
struct Pace {
    started: Cell<Option<Timestamp>>,
    writing: Cell<bool>,
}

impl Pace {
    /// Starts a write if one may start now, and returns whether it did.
    fn start(&self, now: Timestamp) -> bool {
        let wait = if self.writing.get() { LOST } else { PAUSE };
        let is_early = |started: Timestamp| now < started.after(wait);
        if self.started.get().is_some_and(is_early) {
            return false;
        }
        self.started.set(Some(now));
        self.writing.set(true);
        true
    }

    fn stop(&self) {
        self.writing.set(false);
    }
}

/// Exponential backoff of the alarm after failures.
#[derive(Default)]
struct Backoff {
    failures: Cell<u32>,
}

impl Backoff {
    fn failed(&self) {
        self.failures.set(self.failures.get().saturating_add(1));
    }

    fn succeeded(&self) {
        self.failures.set(0);
    }

    /// How long the alarm waits: `PAUSE`, twice as long after each failure, at most 256 times.
    fn wait(&self) -> Duration {
        PAUSE * (1 << self.failures.get().min(8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_to_a_bound_and_begins_anew() {
        let backoff = Backoff::default();
        let mut waits = Vec::new();
        for _ in 0..12 {
            waits.push(backoff.wait().as_secs());
            backoff.failed();
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 256, 256, 256]);
        backoff.succeeded();
        assert_eq!(backoff.wait(), PAUSE);
    }

    #[test]
    fn pointer_writes_are_one_at_a_time_and_one_a_second() {
        let pace = Pace::default();
        let at = Timestamp::from_millis;
        assert!(pace.start(at(5_000)));
        assert!(!pace.start(at(7_000)), "a second write beside the first");
        pace.stop();
        assert!(!pace.start(at(5_999)), "two writes in a second");
        assert!(pace.start(at(6_000)));
        assert!(!pace.start(at(35_999)));
        assert!(pace.start(at(36_000)), "a lost write holds up all others");
    }
}
