//! Cloudflare platform: its half of each port, and nothing that decides.
//!
//! A request comes to `main`, becomes one of the `http` crate, and is answered by the same
//! [`Server`](pmx_sync::serve::Server) that the embedded host runs. Its objects lie in R2 (`r2`),
//! the pointers that readers follow in KV (`kv`), and each space is a Durable Object with SQLite
//! (`space_do`, `sql`), which takes one command at a time (`spaces`).
//!
//! A panic here ends the isolate with every Durable Object in it, so nothing unwraps: whatever
//! JavaScript throws becomes an error with words.

#![forbid(unsafe_code)]

mod access_log;
mod crossing;
mod depth;
mod edge_cache;
mod front;
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
mod recent;
mod response_body;
mod retry;
mod sampling;
mod space_do;
mod spaces;
mod sql;
mod stream_do;
mod streams;
mod visitors;

pub use front::plain;
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
