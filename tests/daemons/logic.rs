//! `lb logic` in front of real databases: a primary and its standbys, each behind its own proxy, and
//! real clients.

mod drivers;
mod losses;
mod probes;
mod reads;
mod relay;
mod shards;
mod site;
mod verdicts;
