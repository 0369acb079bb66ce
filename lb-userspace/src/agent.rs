//! The gateway's agent.

pub mod datapath;
pub mod plan;
