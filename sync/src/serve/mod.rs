//! The server: one implementation over the seams that both platforms bring.

mod answer;
mod auth;
mod backend;
mod body;
mod claims;
mod codecs;
mod copied;
mod delivery;
mod difference;
mod events;
mod fresh;
mod home;
mod keep;
mod live;
mod marks;
mod moved;
mod nature;
mod newest;
mod nonce;
mod numbered;
mod parts;
mod prefix;
mod publish;
mod questions;
mod room;
mod route;
mod secrets;
mod server;
mod site;
mod stored;
#[cfg(test)]
mod strangers;
mod token;
mod told;
mod transport;

pub use backend::{Backend, Pointer, Pointers, Spaces};
pub use body::{Body, Check, Open, Piece};
pub use fresh::Lag;
pub use nonce::Nonce;
pub use room::{Room, Share};
pub use secrets::unknown_secrets;
pub use server::{Dictionaries, LivePages, Server, Settings, SiteUrls};
pub use transport::{Hsts, Transport, keep_as_sent};
