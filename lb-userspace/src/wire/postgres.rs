//! PostgreSQL's protocol, version 3: framing in place, the few messages that a proxy must
//! understand, the many that it must write, and the cryptography of its logins.
//!
//! Nothing here copies a payload to look at it; whoever relays messages scans their headers only.

pub mod error;
pub mod frame;
pub mod frontend;
pub mod link;
pub mod md5;
pub mod scram;
pub mod sql;
pub mod startup;
pub mod write;

#[cfg(test)]
mod tests;
