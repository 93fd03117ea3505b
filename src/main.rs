//! The `events-db` server binary.

fn main() {}
