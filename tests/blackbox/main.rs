//! Black-box tests: the built binary, spoken to over sockets.

mod harness;
mod lifecycle;
mod outage;
mod peers;
mod proxy;
mod rest;
mod sse;
mod transport;
