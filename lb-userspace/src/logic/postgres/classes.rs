//! Which statements only read.

/// Whether a query is known to read only.
pub(super) fn only_reads(_sql: &[u8]) -> bool {
    false
}
