//! Where events are kept.

pub mod sea_orm;
