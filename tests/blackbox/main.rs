//! Black-box tests: the built binary, spoken to over sockets.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod append;
mod browser;
mod databases;
mod grpc;
mod grpc_web;
mod harness;
mod lifecycle;
mod outage;
mod peers;
mod proto;
mod proxy;
mod rest;
mod sse;
mod transport;
