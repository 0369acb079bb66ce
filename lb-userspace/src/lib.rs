//! lb: disaster tolerance from the first packet to the database, in one binary.

pub mod agent;
pub mod cli;
pub mod config;
pub mod control;
pub mod db_proxy;
mod downstream;
pub mod failover;
pub mod health;
mod kept;
pub mod logic;
pub mod maglev;
pub mod runtime;
pub mod sql;
pub mod telemetry;
mod transport;
mod upstream;
pub mod wire;
