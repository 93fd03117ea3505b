//! What the use cases ask of the outside: one trait and its errors per file.

pub mod append_observer;
pub mod archive;
pub mod authenticator;
pub mod event_repository;
pub mod notifier;
