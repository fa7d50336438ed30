//! Durable Streams on Cloudflare: each stream is a Durable Object of its own.
//!
//! The edge ([`edge`]) recognises and admits stream requests, and forwards each to the object of
//! its stream. The object parses it ([`request`]), answers it with the platform-independent engine
//! ([`stream`]), and keeps waiting readers: [`notify`] wakes them, and [`body_stream`] carries
//! events to them. Segments are stored in R2, and streams that fork call each other ([`rpc`]).
//! Streams report ([`hub_client`]) to the hub ([`hub`]), which keeps the subscriptions, wakes
//! workers ([`webhook`], a few at once: [`connections`]) and keeps an [`index`].

pub(crate) mod alarm;
mod analytics;
pub(crate) mod answer;
mod body_stream;
mod connections;
pub(crate) mod edge;
pub(crate) mod events;
pub(crate) mod hub;
pub(crate) mod hub_client;
mod index;
mod limit;
pub(crate) mod notify;
mod report;
pub(crate) mod request;
pub(crate) mod rpc;
mod server_timing;
pub(crate) mod settings;
mod single_flight;
pub(crate) mod source;
pub(crate) mod stream;
mod webhook;
