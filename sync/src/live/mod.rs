//! Live pages: filters the change events of each deploy for each open page, which applies them.
//!
//! A deploy adds one [`ChangeMessage`] to its space's event log. Readers of Durable Streams get the
//! log unchanged ([`EventRequest`] is a request that waits for more). An open page sends the paths
//! that it shows and uses over a WebSocket, and a [`Session`] decides which messages it receives.
//! The page runs one script ([`SCRIPT`]), which [`inject()`] adds to live pages.
//!
//! The module neither waits nor sends: the platforms have the sockets, the waiting and the clock.

mod event_request;
mod frame;
mod head;
mod inject;
mod key;
mod message;
mod script;
mod session;
mod subscription;

pub use event_request::{
    DeliveryMode, Dialect, EventQuery, EventReader, EventRequest, SUBPROTOCOL, add_event_headers,
    refused,
};
pub(crate) use event_request::{is_compact, parse};
pub use frame::EventBatch;
pub(crate) use inject::opening;
pub use inject::{Served, inject};
pub use key::Key;
pub use message::{ChangeMessage, Event};
pub(crate) use script::answer as script;
pub use script::{SCRIPT, SCRIPT_PATH};
pub(crate) use session::events_closed;
pub use session::{ClientCommand, Closing, Session};
pub use subscription::{ClientMessage, InvalidMessage, Subscription};

/// Path of a site's change events.
pub const EVENTS_PATH: &str = "/_events";
