//! Download: a file of a deploy, handed on as it arrives.

use std::io;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use pmx_core::code::Code;
use pmx_core::id::BlobId;
use pmx_core::name::SpaceName;
use pmx_sync::path::SitePath;

use super::counted_body::CountedBody;
use super::fault::TransportError;
use super::{ApiRequest, ApiResponse, Broken, Client, PROBLEM_BYTES_MAX, exchange, media};
use crate::error::Failure;

/// Takes the bytes of a file.
pub trait Sink {
    /// Forgets what came so far: a request that broke is sent again.
    fn restart(&mut self) -> io::Result<()>;

    /// Takes the next bytes.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
}

impl Client {
    /// `GET /api/deploys/<n>/file`, of any size. Returns the id that the server gives to the blob.
    pub fn download(
        &self,
        space: &SpaceName,
        number: u64,
        path: &SitePath,
        sink: &mut impl Sink,
    ) -> Result<Option<BlobId>, Failure> {
        let query = utf8_percent_encode(path.as_str(), NON_ALPHANUMERIC);
        let url = format!("/api/deploys/{number}/file?space={space}&path={query}");
        let call = ApiRequest::get(&url);
        let local = |error: &io::Error| {
            let message = format!("can't write what came of \"{path}\": {error}");
            Failure::new(Code::Local, message)
        };
        self.repeated(|| {
            let restarted = sink.restart();
            restarted.map_err(|error| Broken::Final(local(&error)))?;
            let mut failed = None;
            let answer = self.pass_on(&call, |bytes| {
                let written = sink.write(bytes);
                written
                    .map_err(|error| failed = Some(local(&error)))
                    .is_ok()
            });
            match failed {
                Some(failure) => Err(Broken::Final(failure)),
                None => answer,
            }
        })
    }

    /// Sends a request, and hands on the body of its answer until `take` refuses.
    fn pass_on(
        &self,
        call: &ApiRequest<'_>,
        mut take: impl FnMut(&[u8]) -> bool,
    ) -> Result<Option<BlobId>, Broken> {
        let http = self.http.as_ref().map_err(|it| Broken::Final(it.clone()))?;
        let request = self.request(http, call);
        let mut body = CountedBody::new(&self.transfer, &[], None);
        let exchanged = self.wait(http, async {
            let request = request.build().map_err(TransportError::Http)?;
            let sent = exchange::send(http.client(), request, &mut body).await;
            body.answered(sent.is_ok());
            let mut response = sent?;
            let status = response.status().as_u16();
            let mut bytes = Vec::new();
            if status == 200 {
                let taken = |chunk: &[u8]| {
                    self.transfer.received(chunk.len() as u64);
                    take(chunk)
                };
                exchange::hand_on(&mut response, taken).await?;
            } else {
                let read = exchange::read(&mut response, PROBLEM_BYTES_MAX).await?;
                bytes = read.unwrap_or_default();
            }
            let headers = std::mem::take(response.headers_mut());
            Ok(ApiResponse {
                status,
                headers,
                bytes,
            })
        });
        drop(body);
        let answer = exchanged.map_err(|fault| self.broken(&fault))?;
        if answer.status == 200 {
            let tag = super::header(&answer.headers, "etag");
            return Ok(tag.and_then(|tag| BlobId::from_hex(tag.trim_matches('"')).ok()));
        }
        let media = media(&answer.headers);
        Err(self.refused(call, &answer.seen(&media)))
    }
}
