//! lb.
fn main() {}
