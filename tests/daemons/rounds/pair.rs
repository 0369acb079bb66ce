//! A primary, a synchronous standby, and a proxy in front of each.

use anyhow::Result;
use lb_tests::db_proxy::DbProxy;
use lb_tests::postgres::{Postgres, Replication};
use lb_tests::run_directory::RunDirectory;

/// Which of the two is the primary changes.
pub(super) struct Pair {
    proxies: [DbProxy; 2],
    servers: [Postgres; 2],
    primary: usize,
    _run: RunDirectory,
}

impl Pair {
    pub(super) fn new() -> Result<Self> {
        let run = RunDirectory::new()?;
        let primary = Postgres::start_new(&run, "db-1", "")?;
        let standby = primary.standby(&run, "db-2")?;
        // Both, for whichever is the primary.
        for server in [&primary, &standby] {
            server.replicate(Replication::Synchronous, &["\"db-1\"", "\"db-2\""])?;
        }
        primary.wait_until_synchronous(&standby)?;
        let settings = "auth = \"trust\"\npool = { size = 5, queue_timeout = \"5s\" }";
        let proxies = [
            DbProxy::start(&run, &primary, settings)?,
            DbProxy::start(&run, &standby, settings)?,
        ];
        Ok(Self {
            proxies,
            servers: [primary, standby],
            primary: 0,
            _run: run,
        })
    }

    pub(super) fn ports(&self) -> [u16; 2] {
        self.proxies.each_ref().map(DbProxy::port)
    }

    pub(super) fn primary(&self) -> &Postgres {
        &self.servers[self.primary]
    }

    /// The primary dies, the standby takes over, and the old one comes back as its standby.
    pub(super) fn fail_over(&mut self) -> Result<()> {
        self.servers[self.primary].kill()?;
        self.servers[1 - self.primary].promote()?;
        self.come_back()
    }

    /// The standby takes over beside a primary that knows nothing of it, which is then demoted.
    pub(super) fn switch_over(&mut self) -> Result<()> {
        self.servers[1 - self.primary].promote()?;
        self.servers[self.primary].stop()?;
        self.come_back()
    }

    fn come_back(&mut self) -> Result<()> {
        self.primary = 1 - self.primary;
        let [one, two] = &mut self.servers;
        let (new, old) = if self.primary == 0 {
            (one, two)
        } else {
            (two, one)
        };
        old.rewind(new)?;
        new.wait_until_synchronous(old)
    }
}
