//! The whole system in network namespaces: real agent, real XDP, real servers, real clients.

mod failover;
mod forwarding;
mod support;
