//! The configuration as a whole: what is accepted, what is refused and how, and the documents.

mod bad;
mod documents;
mod good;

use super::{Config, ConfigError};

/// A small good configuration; each piece can be replaced.
const AGENT: &str = "[agent]\ninterfaces = [\"eth0\"]\n";
const POOL: &str = "[[pool]]\nname = \"logic\"\n\
     backends = [{ name = \"logic-1\", address = \"10.0.1.11\" }]\n";
const SERVICE: &str =
    "[[service]]\nname = \"orders\"\nvip = \"198.51.100.10\"\nport = 5432\npool = \"logic\"\n";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, "lb.toml")
}
