//! The server: one implementation over the seams that both platforms bring.

mod backend;
mod body;
mod server;

pub use backend::{Backend, BackendError, Blobs, ObjectKey, Pointer, Pointers, Spaces};
pub use body::{Body, Open, Piece};
pub use server::{Nonce, Server, Settings, SiteUrls};
