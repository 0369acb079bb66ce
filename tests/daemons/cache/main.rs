//! The cache tier on loopback: `lb logic` before real Redis servers, used by real clients.

mod alone;
