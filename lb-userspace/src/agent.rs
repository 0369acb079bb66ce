//! The gateway's agent.

pub mod announce;
pub mod datapath;
pub mod interface;
pub mod maglev;
pub mod neighbour;
pub mod netlink;
pub mod plan;
pub mod vip;
