//! it

mod golden;
