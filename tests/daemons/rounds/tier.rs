//! What rounds of faults need to know of servers and proxies, however many there are.

use lb_tests::postgres::Postgres;
use lb_tests::workload::Target;

use super::Pair;
use crate::setup::Site;

/// Servers, proxies in front of them, and where clients write.
pub(super) trait Tier {
    /// Where clients write.
    fn target(&self) -> Target;

    /// The server that has everything that was acknowledged.
    fn keeper(&self) -> &Postgres;

    /// What there is to see when clients do not go on.
    fn picture(&self) -> String;
}

impl Tier for Site {
    fn target(&self) -> Target {
        Target::local(self.proxy.port())
    }

    fn keeper(&self) -> &Postgres {
        &self.server
    }

    fn picture(&self) -> String {
        picture(&self.proxy, &self.server)
    }
}

impl Tier for Pair {
    fn target(&self) -> Target {
        Target::writable(&self.ports())
    }

    fn keeper(&self) -> &Postgres {
        self.primary()
    }

    fn picture(&self) -> String {
        self.each()
            .map(|(proxy, server)| picture(proxy, server))
            .collect()
    }
}

fn picture(proxy: &lb_tests::db_proxy::DbProxy, server: &Postgres) -> String {
    let text = |said: anyhow::Result<String>| said.unwrap_or_else(|error| format!("{error:#}"));
    let status = text(proxy.command(&["status"]));
    let sessions = text(server.sql(
        "SELECT pid, backend_type, state, wait_event_type, wait_event, \
         clock_timestamp() - state_change, left(query, 60) FROM pg_stat_activity \
         WHERE backend_type IN ('client backend', 'walsender')",
    ));
    format!("{}:\n{status}\n{sessions}\n", server.name())
}
