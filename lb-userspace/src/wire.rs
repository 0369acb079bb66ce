//! Protocols as bytes: messages in, messages out. Pure: no sockets, no clock, no randomness of its
//! own. Called by the daemons that speak them.

pub mod buffer;
pub mod postgres;
pub mod resp;
pub mod splice;
