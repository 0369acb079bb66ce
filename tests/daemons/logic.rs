//! `lb logic` in front of real databases: a primary and its standbys, each behind its own proxy, and
//! real clients.

mod losses;
mod reads;
mod relay;
mod site;
mod verdicts;
