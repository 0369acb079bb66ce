//! Redis's protocol (RESP 2 and 3), pure: where commands and replies end, what commands there are and
//! where their keys stand. Nothing here decodes a value that somebody else will read.

pub mod command;
pub mod commands;
pub mod disposition;
pub mod error;
pub mod keys;
pub mod reply;
pub mod write;

#[cfg(test)]
mod tests;
