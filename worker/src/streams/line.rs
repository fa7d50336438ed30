//! What a stream tells the hub, and how.
//!
//! One thing at a time: whoever comes meanwhile waits, and then tells all that gathered, or finds
//! that it was told. So thirty appends at once are two requests. What can't be told stays written
//! down, and the alarm tells it.

use std::time::Duration;

use http::Uri;
use pmx_sync::serve::BackendError;
use pmx_sync::stream::{Heeding, StreamName, Tidings};
use pmx_sync::wire::Problem;
use serde::{Deserialize, Serialize};
use worker::js_sys::Uint8Array;
use worker::{Method, ObjectNamespace, Request, RequestInit, console_error};

use super::bell::within;
use super::busy::{Busy, LOST};
use super::stream::Stream;
use crate::http::now;
use crate::tally::{self, Kind};
use crate::thrown::{backend, problem};

/// The name of the one hub.
pub(super) const HUB: &str = "hub";

/// Where streams tell.
const PATH: &str = "/hear";

/// A stub leads to its object whatever host the address names.
const ADDRESS: &str = "https://hub/hear";

/// How long whoever waits for an answer waits for the hub.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of what a stream tells: its media types, and little else.
pub(crate) const TOLD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Whether a request comes from a stream.
pub(crate) fn is_from_stream(address: &Uri) -> bool {
    address.path() == PATH
}

/// What a stream tells the hub.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) name: StreamName,
    pub(crate) tidings: Tidings,
}

/// A stream's line to the hub.
pub(super) struct Line {
    hub: ObjectNamespace,
    /// What the stream is called, by those who asked for it.
    name: Option<StreamName>,
    busy: Busy,
}

impl Line {
    pub(super) fn new(hub: ObjectNamespace, name: Option<&str>) -> Self {
        Self {
            hub,
            name: name.and_then(|name| StreamName::parse(name).ok()),
            busy: Busy::default(),
        }
    }

    async fn tell(&self, tidings: &Tidings) -> Result<Heeding, BackendError> {
        let doing = "telling the hub";
        let failed = |why: &str| BackendError::new(doing, why.to_owned());
        let name = self.name.clone();
        let name = name.ok_or_else(|| failed("the stream does not know its name"))?;
        let tidings = tidings.clone();
        let unreadable = |error: serde_json::Error| BackendError::new(doing, error);
        let body = serde_json::to_vec(&Told { name, tidings }).map_err(unreadable)?;
        let mut init = RequestInit::new();
        init.with_method(Method::Post)
            .with_body(Some(Uint8Array::from(body.as_slice()).into()));
        let request = Request::new_with_init(ADDRESS, &init).map_err(backend(doing))?;
        let stub = self.hub.get_by_name(HUB).map_err(backend(doing))?;
        tally::note(Kind::SpaceCall);
        let asked = async {
            let mut answer = stub.fetch_with_request(request).await?;
            Ok::<_, worker::Error>((answer.status_code(), answer.bytes().await?))
        };
        let answered = within(PATIENCE, asked).await;
        let answered = answered.ok_or_else(|| failed("it takes too long"))?;
        let (status, body) = answered.map_err(backend(doing))?;
        if status != 200 {
            return Err(failed(&format!("the status {status}")));
        }
        serde_json::from_slice(&body).map_err(unreadable)
    }
}

impl Stream {
    /// Tells the hub what it has not heard, if anything. Returns when it has, or when it can't.
    pub(super) async fn tell(&self) {
        let busy = &self.line.busy;
        let _telling = loop {
            let heard = busy.over().rung();
            match busy.begin(now()) {
                Some(telling) => break telling,
                None => drop(within(LOST, busy.over().beyond(heard)).await),
            }
        };
        if let Err(problem) = self.tell_all().await {
            console_error!("{problem}");
        }
    }

    async fn tell_all(&self) -> Result<(), Problem> {
        let engine = self.engine();
        let failed = |error: pmx_sync::sql::SqlError| {
            problem("looking at what the hub has to hear")(error.to_string())
        };
        while let Some(tidings) = engine.tidings().map_err(failed)? {
            match self.line.tell(&tidings).await {
                Ok(heeding) => {
                    let heard = engine.atomically(|engine| engine.heard(&tidings, &heeding));
                    heard.map_err(failed)?;
                }
                Err(failure) => {
                    let put_off = engine.atomically(|engine| engine.unheard(now()));
                    put_off.map_err(failed)?;
                    return Err(problem("leaving it to the alarm")(failure.to_string()));
                }
            }
            if tidings.place.is_some() || tidings.news.is_empty() {
                return Ok(());
            }
        }
        Ok(())
    }
}
