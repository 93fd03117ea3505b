//! Ways to prove who is calling.

pub mod open;
pub mod static_token;
