//! The server: one implementation over the seams that both platforms bring.

mod answer;
mod auth;
mod backend;
mod body;
mod codecs;
mod events;
mod nonce;
mod publish;
mod route;
mod server;
mod site;

pub use backend::{Backend, BackendError, Blobs, ObjectKey, Pointer, Pointers, Spaces};
pub use body::{Body, Open, Piece};
pub use nonce::Nonce;
pub use server::{Server, Settings, SiteUrls};
