//! Waiting for what a site's deploys change.

use http::Response;
use pmx_sync::live::Message;
use ureq::Body;

use super::stranger::Seen;
use super::{ANSWER_BYTES_MAX, Broken, Call, Client, header, media, retry};
use crate::error::Failure;

impl Client {
    /// `GET /_events` of a site: waits for deploys behind an offset. Returns what they changed, and
    /// the offset behind them. The token goes along, because lists of paths are for its holders;
    /// it never leaves an encrypted server for a site that is not.
    pub fn events(&self, site: &str, offset: &str) -> Result<(Vec<Message>, String), Failure> {
        let path = format!("/_events?live=long-poll&offset={offset}");
        let host = site.split_once("://").map_or(site, |(_, rest)| rest);
        let host = host.trim_end_matches('/');
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let mut attempt = 0;
        loop {
            self.interrupt.check()?;
            // Not every system knows where names below localhost are.
            let mut request = if name.ends_with(".localhost") {
                self.agent()
                    .get(self.server.url(&path))
                    .header("host", host)
            } else {
                self.agent()
                    .get(format!("{}{path}", site.trim_end_matches('/')))
            };
            let is_weaker = self.server.url("/").starts_with("https:") && site.starts_with("http:");
            if let Some(token) = self.token.as_ref().filter(|_| !is_weaker) {
                request = request.header("authorization", format!("Bearer {}", token.reveal()));
            }
            let call = Call::get(&path);
            let broken = match request.call() {
                Ok(response) => self.heard(&call, response, offset),
                Err(error) => Err(self.broken(&error)),
            };
            match broken {
                Ok(heard) => return Ok(heard),
                Err(Broken::Final(failure)) => return Err(failure),
                Err(Broken::Passing { after, .. }) => {
                    // Whoever waits for deploys waits for a server as well.
                    let wait = retry::wait(attempt, after, retry::jitter());
                    self.interrupt
                        .sleep(wait.unwrap_or(retry::RETRY_AFTER_MAX))?;
                    attempt = (attempt + 1).min(6);
                }
            }
        }
    }

    fn heard(
        &self,
        call: &Call<'_>,
        mut response: Response<Body>,
        offset: &str,
    ) -> Result<(Vec<Message>, String), Broken> {
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let media = media(&headers);
        let next = header(&headers, "stream-next-offset").unwrap_or(offset);
        let next = next.to_owned();
        let read = response.body_mut().with_config().limit(ANSWER_BYTES_MAX);
        let bytes = read.read_to_vec().map_err(|error| self.broken(&error))?;
        let seen = Seen {
            status,
            headers: &headers,
            media: &media,
            bytes: &bytes,
        };
        match status {
            204 => Ok((Vec::new(), next)),
            200 => match serde_json::from_slice(&bytes) {
                Ok(messages) => Ok((messages, next)),
                Err(error) => {
                    let failure = self.no_answer(call, &error.to_string(), &seen);
                    Err(Broken::Final(failure))
                }
            },
            _ => Err(self.refused(call, &seen)),
        }
    }
}
