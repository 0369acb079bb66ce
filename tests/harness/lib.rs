//! What all tests, the demo and the benches stand on: network namespaces and the links between
//! them, real processes, a packet builder, load and its measurement.
//!
//! A test reads like this:
//!
//! ```no_run
//! use lb_tests::site::Site;
//!
//! # fn main() -> anyhow::Result<()> {
//! let site = Site::builder().primaries(3).standbys(1).build()?;
//! let web = site.backend("logic-1").serve()?;
//! let agent = site.gateway().start_agent(&site.config().text())?;
//! # Ok(())
//! # }
//! ```
//!
//! Everything made here is removed when its guard is dropped, also when the test panics; what a
//! killed test leaves behind is found by its name and removed by the next one
//! ([`sweep::sweep_leftovers`]). Everything carries the prefix `lbt-` and the owner's pid.

pub mod agent;
pub mod bpffs;
pub mod canary;
pub mod clients;
pub mod connections;
pub mod datapath;
pub mod db_proxy;
pub mod distribution;
pub mod duties;
pub mod forwarder;
pub mod fuzz;
pub mod history;
pub mod link;
pub mod load;
pub mod logic;
pub mod mac;
pub mod namespace;
pub mod packet;
pub mod place;
pub mod poll;
pub mod postgres;
pub mod process;
pub mod redis;
pub mod run_directory;
pub mod scale;
pub mod segment;
pub mod site;
pub mod sweep;
pub mod wait;
pub mod web;
pub mod wire;
pub mod workload;
