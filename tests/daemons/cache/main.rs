//! The cache tier on loopback: `lb logic` before real Redis servers, used by real clients.

mod alone;
mod bad_input;
mod catalogue;
mod clients;
mod differential;
mod fuzz;
mod ketama;
mod local;
mod redis_rs;
mod tls;

/// Longer than anything here may take.
const SOON: std::time::Duration = std::time::Duration::from_secs(30);
