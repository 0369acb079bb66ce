//! lb.

pub mod health;
