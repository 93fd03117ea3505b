//! Readers of every protocol and filter, on several replicas, while things break.

mod connection;
mod crowd;
mod filter;
pub mod nats;
mod reader;
mod scene;
mod stopped;
mod torture;
