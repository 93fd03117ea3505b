//! Values and use cases. Nothing here knows a database, a wire format or a framework.

pub mod append;
pub mod attribute;
pub mod context;
pub mod event;
pub mod filter;
pub mod log;
pub mod log_state;
pub mod position;
pub mod service;
pub mod subscription;
#[cfg(test)]
mod testing;
pub mod timestamp;
pub mod transfer;
