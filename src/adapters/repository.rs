//! Where events are kept.

pub mod memory;
pub mod sea_orm;
