//! Golden tests of the formats: a naive reference implementation, checked-in vectors, and the
//! design page.

#[path = "../golden/agree.rs"]
mod agree;
#[path = "../golden/conversation.rs"]
mod conversation;
#[path = "../golden/document.rs"]
mod document;
#[path = "../golden/fixtures.rs"]
pub(crate) mod fixtures;
#[path = "../golden/memory.rs"]
pub(crate) mod memory;
#[path = "../golden/reference.rs"]
mod reference;
#[path = "../golden/vectors.rs"]
mod vectors;
