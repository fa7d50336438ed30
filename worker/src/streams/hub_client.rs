//! Hub client: RPC from stream objects to the hub.
//!
//! A stream sends one report at a time. Appends during a report wait, and the next report covers
//! all of them: thirty appends at once cost two requests. A report that fails stays queued, and the
//! alarm sends it again.

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
use crate::crossing::{Callee, encoded};
use crate::depth::Depth;
use crate::js_error::backend;

/// The name of the one hub.
pub(super) const HUB: &str = "hub";

/// Host and path of reports.
const HOST: &str = "hub";
const PATH: &str = "/hear";

/// A stub forwards to its object, whatever host the address has.
const ADDRESS: &str = "https://hub/hear";

/// How long a request of a client waits for the hub.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Largest report in bytes: it contains media types and little else.
pub(crate) const UPDATE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Whether a request is a report of a stream.
pub(crate) fn is_from_stream(address: &Uri) -> bool {
    address.host() == Some(HOST) && address.path() == PATH
}

/// A report of a stream to the hub.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HubRequest {
    pub(crate) name: StreamName,
    #[serde(rename = "tidings")]
    pub(crate) update: HubUpdate,
}

/// The hub's answer.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct HubResponse {
    #[serde(rename = "heeding")]
    pub(crate) ack: HubAck,
}

impl Crosses for HubRequest {}
impl Crosses for HubResponse {}

/// A stream's client of the hub.
pub(super) struct HubClient {
    hub: ObjectNamespace,
    depth: Depth,
    /// The stream's name, from the platform or from its database.
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

    /// The stream's name, if it is known.
    pub(super) fn name(&self) -> Option<StreamName> {
        self.name.borrow().clone()
    }

    /// Sets the name that the database has, if the platform has none.
    pub(super) fn set_stored_name(&self, name: Option<StreamName>) {
        let mut known = self.name.borrow_mut();
        if known.is_none() {
            *known = name;
        }
    }

    /// Sends a report.
    pub(super) async fn report(&self, update: &HubUpdate) -> Result<HubAck, BackendError> {
        let doing = "reporting to the hub";
        let failed = |why: &str| BackendError::new(doing, why.to_owned());
        let name = self
            .name()
            .ok_or_else(|| failed("the stream does not know its name"))?;
        let update = update.clone();
        let body = encoded(HubRequest { name, update }).map_err(backend(doing))?;
        let hub = Callee {
            namespace: &self.hub,
            name: HUB,
            address: ADDRESS,
            hint: None,
            // The alarm repeats a lost report.
            may_repeat: false,
            depth: self.depth.next(),
        };
        let answered = timeout(TIMEOUT, hub.ask(&body)).await;
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
