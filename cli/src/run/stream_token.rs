//! `pmx stream-token`: a token that opens some streams.

use pmx_streams::policy::{Claims, Keys};
use serde_json::json;

use super::Ended;
use crate::args::StreamTokenArgs;
use crate::env::Environment;
use crate::error::Failure;
use crate::ui::Ui;

pub(super) fn run(args: StreamTokenArgs, env: &Environment, ui: &Ui) -> Result<Ended, Failure> {
    let secret = env.var("STREAM_SECRET").or_else(|| env.var("AUTH_TOKEN"));
    let keys = Keys::of(secret, env.var("STREAM_TOKEN_KEYS"));
    let keys = keys.map_err(|error| Failure::usage(format!("STREAM_TOKEN_KEYS: {error}")))?;
    let now = crate::host::now();
    let claims = Claims::new(&args.stream, &args.scope, now, args.expires, args.id);
    let claims = claims.map_err(|error| Failure::usage(error.to_string()))?;
    let token = keys.sign(&claims).ok_or_else(no_key)?;
    let body = json!({
        "token": token, "stream": args.stream, "scope": claims.scope().to_string(),
        "expires": claims.expires(),
    });
    ui.result(&token);
    ui.object("stream-token", &body);
    Ok(Ended::Done)
}

fn no_key() -> Failure {
    let message = "there is no key to sign with";
    Failure::usage(message).with_hint(
        "Set STREAM_TOKEN_KEYS to what the server has, or STREAM_SECRET if that is 32 bytes or \
         longer.",
    )
}
