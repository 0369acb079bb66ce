//! How much of a test to run, and with which random numbers: what the environment asks for.

use anyhow::{Context, Result};

/// Whether the whole of a test is asked for (`cargo xtask test --long`) that wants longer than the
/// suite may take.
pub fn is_long() -> bool {
    std::env::var_os("LB_TEST_LONG").is_some_and(|value| value == "1")
}

/// `LB_TEST_SEED`, to repeat what an earlier run did at random; else any.
///
/// # Errors
/// If the variable is no number.
pub fn seed() -> Result<u64> {
    match std::env::var("LB_TEST_SEED") {
        Ok(text) => text.parse().context("LB_TEST_SEED is not a number"),
        Err(_) => Ok(fastrand::u64(..)),
    }
}

/// As [`seed`], for what compares two programs at random: the suite does the same in every run, as
/// what it may find is as likely a habit of the other program's as a fault of ours. Long runs begin
/// anywhere.
///
/// # Errors
/// If the variable is no number.
pub fn seed_of_the_suite() -> Result<u64> {
    match std::env::var_os("LB_TEST_SEED") {
        None if !is_long() => Ok(1),
        _ => seed(),
    }
}
