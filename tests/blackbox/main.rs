//! Black-box tests: the built binary, spoken to over sockets.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod append;
mod browser;
mod cloudevents;
mod commands;
mod commit_proxy;
mod databases;
mod event_store;
mod examples;
mod follower;
mod front;
mod grpc;
mod grpc_web;
mod harness;
mod lifecycle;
mod load;
mod lost_answers;
mod outage;
mod peers;
mod private_database;
mod proto;
mod proxies;
mod proxy;
mod readers;
mod rest;
mod rolling;
mod rotation;
mod schema;
mod seeded;
mod sse;
mod torture;
mod transport;
mod watch;
