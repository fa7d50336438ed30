//! Registry object (Durable Object): the domains of all spaces, and the only writer of their routes
//! in KV.
//!
//! Its alarm looks up the records that are due, and writes routes that could not be written at
//! once.

#![expect(
    missing_docs,
    reason = "the methods that `#[durable_object]` writes have none"
)]

use std::time::Duration;

use pmx_core::code::Code;
use pmx_core::crossing::arrived;
use pmx_core::problem::Problem;
use pmx_core::time::Timestamp;
use pmx_sync::domains::{
    DomainCall, DomainCommand, DomainRegistry, DomainReply, DomainResponse, check_due, execute,
};
// The expansion of `#[durable_object]` refers to this name.
use worker::wasm_bindgen;
use worker::{DurableObject, Env, Request, Response, State, console_error, durable_object};

use crate::crossing::response;
use crate::domains::{DohResolver, Routes};
use crate::http::{body, now};
use crate::js_error;
use crate::sql::ObjectDatabase;

/// The registry of all domains.
#[durable_object(alarm)]
pub struct DomainsDO {
    env: Env,
    database: ObjectDatabase,
}

/// Largest command in bytes: a host, a space and a challenge.
const CALL_BYTES_MAX: usize = 64 * 1024;

/// KV accepts one write per second and key; the alarm repeats after this time.
const PAUSE: Duration = Duration::from_secs(1);

/// Wait of the alarm after a failure. The platform itself retries only a few times.
const LATE: Duration = Duration::from_mins(1);

impl DurableObject for DomainsDO {
    fn new(state: State, env: Env) -> Self {
        let database = ObjectDatabase::new(state.storage());
        Self { env, database }
    }

    async fn fetch(&self, request: Request) -> worker::Result<Response> {
        response(DomainResponse {
            outcome: self.answer(&request).await,
        })
    }

    async fn alarm(&self) -> worker::Result<Response> {
        if let Err(problem) = self.run_due().await {
            console_error!("{problem}");
            self.database.storage().set_alarm(LATE).await?;
        }
        Response::empty()
    }
}

impl DomainsDO {
    async fn answer(&self, request: &Request) -> Result<DomainReply, Problem> {
        let call = body(request, CALL_BYTES_MAX).await?;
        let call = arrived::<DomainCall>(&call);
        let call = call.map_err(|foreign| foreign.into_problem("reading a command"))?;
        let is_reading = matches!(call.command, DomainCommand::List { .. });
        let reply = execute(&self.database, call.command, call.now)?;
        if !is_reading {
            // No wait between the commit and this: both reach the disk or neither.
            self.wake(PAUSE).await?;
            // The command has succeeded; its route reaches readers now or by the alarm.
            if let Err(problem) = self.deliver(call.now).await {
                console_error!("{problem}");
            }
        }
        Ok(reply)
    }

    /// Looks up the records that are due, writes routes, and sets the next alarm.
    async fn run_due(&self) -> Result<(), Problem> {
        let now = now();
        let resolver = DohResolver::new(&self.env);
        let next = check_due(&Local(&self.database), &resolver, now).await?;
        let is_left = self.deliver(now).await?;
        let next = if is_left {
            Some(now.after(PAUSE))
        } else {
            next
        };
        let Some(next) = next else {
            return Ok(());
        };
        let wait = next
            .as_millis()
            .saturating_sub(crate::http::now().as_millis());
        self.wake(Duration::from_millis(wait).max(PAUSE)).await
    }

    /// Writes routes that readers do not see yet. Returns whether some are left.
    async fn deliver(&self, now: Timestamp) -> Result<bool, Problem> {
        let routes = match execute(&self.database, DomainCommand::PendingRoutes, now)? {
            DomainReply::Routes(routes) => routes,
            other => {
                let detail = format!("the registry answered another question: {other:?}");
                return Err(Problem::new(Code::Storage, detail));
            }
        };
        let store = self.env.kv("POINTERS");
        let store = store.map_err(js_error::problem("reading the binding POINTERS"))?;
        let kv = Routes::new(store, Duration::ZERO);
        for (host, route) in routes {
            kv.write(&host, route.as_ref()).await?;
            let ack = DomainCommand::AckRoute { host, route };
            execute(&self.database, ack, now)?;
        }
        let left = execute(&self.database, DomainCommand::PendingRoutes, now)?;
        Ok(matches!(left, DomainReply::Routes(routes) if !routes.is_empty()))
    }

    async fn wake(&self, wait: Duration) -> Result<(), Problem> {
        let set = self.database.storage().set_alarm(wait).await;
        set.map_err(js_error::problem(
            "setting the alarm of the registry of domains",
        ))
    }
}

/// The registry's own database, for its alarm.
struct Local<'a>(&'a ObjectDatabase);

impl DomainRegistry for Local<'_> {
    async fn call(&self, command: DomainCommand, now: Timestamp) -> Result<DomainReply, Problem> {
        execute(self.0, command, now)
    }
}
