//! Event requests: waits for the changes of a site's deploys.

use pmx_sync::live::ChangeMessage;
use reqwest::RequestBuilder;
use reqwest::header::{AUTHORIZATION, HOST};

use super::counted_body::CountedBody;
use super::{ANSWER_BYTES_MAX, ApiRequest, ApiResponse, Broken, Client, header, media, retry};
use crate::error::Failure;
use crate::http_client::HttpClient;

impl Client {
    /// `GET /_events` of a site: waits for deploys after an offset. Returns their changes, and the
    /// offset after them. The client sends its token, because only token holders get lists of
    /// paths. It never sends the token of an encrypted server to an unencrypted site.
    pub fn events(
        &self,
        site: &str,
        offset: &str,
    ) -> Result<(Vec<ChangeMessage>, String), Failure> {
        let path = format!("/_events?live=long-poll&offset={offset}");
        let http = self.http.as_ref().map_err(Clone::clone)?;
        let mut attempt = 0;
        loop {
            self.interrupt.check()?;
            let call = ApiRequest::get(&path);
            let request = self.events_request(http, site, &path);
            let mut body = CountedBody::new(&self.transfer, &[], None);
            let exchange = self.exchange(http, request, &mut body, |_| ANSWER_BYTES_MAX);
            let broken = match self.wait(http, exchange) {
                Ok((answer, is_whole)) => self.received(&call, &answer, is_whole, offset),
                Err(fault) => Err(self.broken(&fault)),
            };
            match broken {
                Ok(received) => return Ok(received),
                Err(Broken::Final(failure)) => return Err(failure),
                Err(Broken::Passing { after, .. }) => {
                    // A command that waits for deploys also waits for a server.
                    let wait = retry::wait(attempt, after, retry::jitter());
                    self.interrupt
                        .sleep(wait.unwrap_or(retry::RETRY_AFTER_MAX))?;
                    attempt = (attempt + 1).min(6);
                }
            }
        }
    }

    fn events_request(&self, http: &HttpClient, site: &str, path: &str) -> RequestBuilder {
        let host = site.split_once("://").map_or(site, |(_, rest)| rest);
        let host = host.trim_end_matches('/');
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        // Not every system resolves names below localhost.
        let mut request = if name.ends_with(".localhost") {
            let request = http.client().get(self.server.url(path));
            request.header(HOST, host)
        } else {
            let site = site.trim_end_matches('/');
            http.client().get(format!("{site}{path}"))
        };
        let is_weaker = self.server.url("/").starts_with("https:") && site.starts_with("http:");
        if let Some(token) = self.token.as_ref().filter(|_| !is_weaker) {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.reveal()));
        }
        request
    }

    fn received(
        &self,
        call: &ApiRequest<'_>,
        answer: &ApiResponse,
        is_whole: bool,
        offset: &str,
    ) -> Result<(Vec<ChangeMessage>, String), Broken> {
        let media = media(&answer.headers);
        let seen = answer.seen(&media);
        let next = header(&answer.headers, "stream-next-offset").unwrap_or(offset);
        let next = next.to_owned();
        if !is_whole {
            let why = format!("it is longer than {ANSWER_BYTES_MAX} bytes");
            return Err(Broken::Final(self.no_answer(call, &why, &seen)));
        }
        match answer.status {
            204 => Ok((Vec::new(), next)),
            200 => match serde_json::from_slice(&answer.bytes) {
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
