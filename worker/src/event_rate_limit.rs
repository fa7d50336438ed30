//! Rate limit of event requests, from one address to a site's space. The platform counts them if
//! the operator binds a limiter.

use pmx_core::channel::Channel;
use pmx_core::code::Code;
use pmx_core::problem::Problem;
use worker::{Env, console_error, web_sys};

/// The name of the Rate Limiting binding. Without it, this module counts nothing.
const BINDING: &str = "EVENTS_LIMIT";

/// Counts a request for the events of a channel, before the Worker calls the space.
pub(crate) async fn admit(
    env: &Env,
    request: &web_sys::Request,
    channel: &Channel,
) -> Result<(), Problem> {
    let Ok(limiter) = env.rate_limiter(BINDING) else {
        return Ok(());
    };
    // Cloudflare sets this header itself and replaces a client's value.
    let address = request.headers().get("cf-connecting-ip").ok().flatten();
    let key = format!("{} {channel}", address.unwrap_or_default());
    match limiter.limit(key).await {
        Ok(outcome) if outcome.success => Ok(()),
        Ok(_) => {
            let detail = "too many requests from this address for the events of this site";
            Err(Problem::new(Code::TooMany, detail))
        }
        Err(thrown) => {
            // A failing counter must not refuse readers.
            console_error!("counting requests for events: {thrown}");
            Ok(())
        }
    }
}
