//! Hub client: RPC from stream objects to the hub.
//!
//! One thing at a time: a client that comes in the meantime waits, and then tells all that
//! gathered, or finds that it was told. So thirty appends at once are two requests. What can't be
//! told stays written down, and the alarm tells it.

use std::cell::RefCell;
use std::time::Duration;

use http::Uri;
use pmx_core::backend::BackendError;
use pmx_core::crossing::{Crosses, arrived};
use pmx_streams::{HubAck, HubUpdate, StreamName};
use serde::{Deserialize, Serialize};
use worker::ObjectNamespace;

use super::notify::timeout;
use super::single_flight::SingleFlight;
use crate::crossing::{Callee, laid_out};
use crate::depth::Depth;
use crate::js_error::backend;

/// The name of the one hub.
pub(super) const HUB: &str = "hub";

/// Where streams tell.
const HOST: &str = "hub";
const PATH: &str = "/hear";

/// A stub leads to its object whatever host the address names.
const ADDRESS: &str = "https://hub/hear";

/// How long a client that waits for an answer waits for the hub.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bytes of what a stream tells: its media types, and little else.
pub(crate) const UPDATE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Whether a request comes from a stream.
pub(crate) fn is_from_stream(address: &Uri) -> bool {
    address.host() == Some(HOST) && address.path() == PATH
}

/// What a stream tells the hub.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HubRequest {
    pub(crate) name: StreamName,
    #[serde(rename = "tidings")]
    pub(crate) update: HubUpdate,
}

/// What the hub says to it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HubResponse {
    #[serde(rename = "heeding")]
    pub(crate) ack: HubAck,
}

impl Crosses for HubRequest {}
impl Crosses for HubResponse {}

/// A stream's line to the hub.
pub(super) struct HubClient {
    hub: ObjectNamespace,
    depth: Depth,
    /// What the stream is called, by those who asked for it or automatically.
    name: RefCell<Option<StreamName>>,
    pub(super) reporting: SingleFlight,
}

impl HubClient {
    pub(super) fn new(hub: ObjectNamespace, depth: Depth, name: Option<&str>) -> Self {
        Self {
            hub,
            depth,
            name: RefCell::new(name.and_then(|name| StreamName::parse(name).ok())),
            reporting: SingleFlight::default(),
        }
    }

    /// What the stream is called, if that is known.
    pub(super) fn name(&self) -> Option<StreamName> {
        self.name.borrow().clone()
    }

    /// Takes the name that the stream keeps, where the platform knows none.
    pub(super) fn recall(&self, name: Option<StreamName>) {
        let mut known = self.name.borrow_mut();
        if known.is_none() {
            *known = name;
        }
    }

    pub(super) async fn report(&self, update: &HubUpdate) -> Result<HubAck, BackendError> {
        let doing = "telling the hub";
        let failed = |why: &str| BackendError::new(doing, why.to_owned());
        let name = self
            .name()
            .ok_or_else(|| failed("the stream does not know its name"))?;
        let update = update.clone();
        let body = laid_out(HubRequest { name, update }).map_err(backend(doing))?;
        let hub = Callee {
            namespace: &self.hub,
            name: HUB,
            address: ADDRESS,
            hint: None,
            // The alarm reports again what did not arrive.
            may_repeat: false,
            depth: self.depth.next(),
        };
        let answered = timeout(PATIENCE, hub.ask(&body)).await;
        let answered = answered.ok_or_else(|| failed("it takes too long"))?;
        let (status, body) = answered.map_err(backend(doing))?;
        if status != 200 {
            return Err(failed(&format!("the status {status}")));
        }
        let answer = arrived::<HubResponse>(&body);
        let answer = answer.map_err(|foreign| failed(&foreign.to_string()))?;
        Ok(answer.ack)
    }
}
