//! What all tests, the demo and the benches stand on.

pub mod mac;
pub mod packet;
