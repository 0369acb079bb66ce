//! Connections towards servers, as every daemon that relays needs them. Called by roles and by
//! `downstream`; never decides which server to ask.

pub mod postgres;
pub mod redis;
