//! Everything that knows a library: the ports' implementations and the interfaces to the outside.

pub mod api_error;
pub mod archive;
pub mod authenticator;
pub mod client;
pub mod cloudevents;
pub mod grpc;
pub mod listener;
pub mod metrics;
pub mod multiplex;
pub mod notifier;
pub mod repository;
pub mod response_cut;
pub mod rest;
pub mod traces;
pub mod unread_body;
