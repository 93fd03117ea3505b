//! Readers of every protocol and filter, on several replicas, while things break.

pub mod connection;
mod crowd;
mod filter;
pub mod nats;
pub mod reader;
mod scene;
mod stopped;
mod torture;
