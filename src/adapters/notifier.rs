//! Ways to tell readers that the log has grown.

pub mod broadcast;
pub mod nats;
