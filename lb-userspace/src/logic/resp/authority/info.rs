//! What a server says of itself, as far as it matters here.

/// The answer to INFO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Info {
    pub run_id: String,
    pub is_primary: bool,
    pub is_loading: bool,
    pub replid: String,
    /// Whose data it had before it was promoted.
    pub replid_before: String,
    /// Bytes of the replication stream that it has written, or has taken.
    pub offset: u64,
    /// A replica's connection to its primary.
    pub link_is_up: bool,
    /// Whether database 0 has keys.
    pub has_keys: bool,
    /// The databases that have any.
    pub databases: Vec<u64>,
}

impl Info {
    pub fn parse(text: &str) -> Self {
        let field = |name: &str| {
            let mut lines = text.lines();
            let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            found.unwrap_or_default().trim()
        };
        let is_primary = field("role") == "master";
        let offset = if is_primary {
            "master_repl_offset"
        } else {
            "slave_repl_offset"
        };
        Self {
            run_id: field("run_id").to_owned(),
            is_primary,
            is_loading: field("loading") == "1",
            replid: field("master_replid").to_owned(),
            replid_before: field("master_replid2").to_owned(),
            offset: field(offset).parse().unwrap_or_default(),
            link_is_up: field("master_link_status") == "up",
            has_keys: !field("db0").is_empty(),
            databases: text.lines().filter_map(database).collect(),
        }
    }
}

/// The number of a database that has keys, as a line of INFO tells.
fn database(line: &str) -> Option<u64> {
    let (number, _) = line.strip_prefix("db")?.split_once(":keys=")?;
    number.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_is_found() {
        let text = "# Server\r\nrun_id:abc\r\nloading:0\r\nrole:slave\r\nmaster_link_status:up\r\n\
                    slave_repl_offset:42\r\nmaster_repl_offset:41\r\nmaster_replid:x\r\n\
                    master_replid2:y\r\ndb0:keys=1,expires=0\r\ndb14:keys=1,expires=0\r\n";
        let info = Info::parse(text);
        assert_eq!(
            (info.offset, info.is_primary, info.link_is_up),
            (42, false, true)
        );
        assert!(info.has_keys && !info.is_loading);
        assert_eq!(info.databases, [0, 14]);
        assert_eq!(info.replid_before, "y");
    }
}
