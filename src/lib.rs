//! Events DB: an event store and event stream for CloudEvents on a single port.
//!
//! Dependencies point inward: [`domain`] values, then [`ports`], then the use cases of [`domain::service`], then
//! [`adapters`], then [`app`], which alone wires them. `docs/ARCHITECTURE.md` is the map.

pub mod adapters;
pub mod app;
pub mod config;
pub mod domain;
pub mod error_chain;
pub mod ports;
