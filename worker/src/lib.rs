//! Cloudflare platform: its implementation of each port, without any decisions.
//!
//! The function `main` receives a request and converts it to one of the `http` crate. The same
//! [`Server`](pmx_sync::serve::Server) that the embedded host runs answers it. R2 stores its
//! objects (`r2`), and KV the pointers that readers follow (`kv`). Each space is a Durable Object
//! with SQLite (`space_do`, `sql`), which executes one command at a time (`spaces`).
//!
//! A panic here ends the isolate with every Durable Object in it. So the module unwraps nothing:
//! each thrown value of JavaScript becomes an error with a text.

#![forbid(unsafe_code)]

mod access_log;
mod admission;
mod crossing;
mod depth;
mod domains;
mod domains_do;
mod edge_cache;
mod event_rate_limit;
mod handle;
mod head;
mod http;
mod hub_do;
mod isolate;
mod js_error;
mod kv;
mod live;
mod location;
mod op_counts;
#[cfg(feature = "measured")]
mod pack_bench;
mod r2;
mod recent_pointers;
mod response_body;
mod retry;
mod sampling;
mod space_do;
mod spaces;
mod sql;
mod stream_do;
mod streams;

pub use admission::plain;
pub use domains_do::DomainsDO;
pub use hub_do::HubDO;
pub use live::edge::live;
pub use space_do::SpaceDO;
pub use stream_do::StreamDO;
pub use streams::edge::{stream, unanswered};

use worker::{Context, Env, Request, Response, event};

/// Answers a request to a site or to the API.
#[event(fetch)]
async fn main(request: Request, env: Env, context: Context) -> worker::Result<Response> {
    #[cfg(feature = "measured")]
    if let Some(answer) = pack_bench::answer(&request).await {
        return answer;
    }
    let answer = handle::answer(&request, &env).await;
    if edge_cache::is_pending() {
        context.wait_until(edge_cache::flush());
    }
    answer
}
