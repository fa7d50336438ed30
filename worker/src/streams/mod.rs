//! Durable Streams on Cloudflare: each stream is a Durable Object of its own.
//!
//! The edge ([`edge`]) looks whether a request is about a stream and may pass, and hands it as it
//! is to the object of that name. There it is read ([`request`]), answered by the pure half
//! ([`stream`]) and, if its reader waits for more, kept: [`bell`] wakes those who wait, [`pipe`]
//! carries events to them. Segments lie in R2, and streams that fork ask each other
//! ([`peers`]). What becomes of them they tell ([`line`]) the hub ([`hub`]), which keeps the
//! subscriptions, wakes workers ([`courier`], a few at once: [`connections`]) and keeps an
//! [`index`].

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
