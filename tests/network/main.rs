//! The whole system in network namespaces: real agent, real XDP, real servers, real clients.

mod database;
mod failover;
mod forwarding;
mod lifetime;
mod metrics;
mod next_hop;
mod operator;
mod refusal;
mod reload;
mod schedule;
mod stability;
mod support;
mod suspicion;
mod timing;
