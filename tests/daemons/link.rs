//! The link between logic daemons and the proxy, spoken by a small client of the tests' own.

pub mod client;
mod fence;
mod floors;
mod heartbeats;
mod positions;
