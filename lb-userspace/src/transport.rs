//! Connections of either side, whatever they are made of: TCP, TLS over TCP, Unix sockets; and the
//! certificates that TLS needs. Called by upstream, downstream and listeners; knows no protocol.

pub mod keepalive;
pub mod stream;
pub mod tls;
