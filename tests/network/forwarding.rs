//! Packets reach the right backends, in every way of forwarding.
