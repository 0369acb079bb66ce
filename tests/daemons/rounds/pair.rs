//! A primary, a synchronous standby, and a proxy in front of each.

use std::fs::OpenOptions;
use std::io::Write;

use anyhow::Result;
use lb_tests::db_proxy::DbProxy;
use lb_tests::postgres::{Postgres, Replication};
use lb_tests::run_directory::RunDirectory;
use lb_userspace::wire::postgres::link::{Attest, FromLogic, Heartbeat, Role};

use crate::link::client::Link;

const NAMES: [&str; 2] = ["db-1", "db-2"];

/// Which of the two is the primary changes.
pub(super) struct Pair {
    proxies: [DbProxy; 2],
    servers: [Postgres; 2],
    primary: usize,
    run: RunDirectory,
}

impl Pair {
    pub(super) fn new() -> Result<Self> {
        let run = RunDirectory::new()?;
        let primary = Postgres::start_new(&run, "db-1", "")?;
        let standby = primary.standby(&run, "db-2")?;
        // Both, for whichever is the primary.
        for server in [&primary, &standby] {
            server.replicate(Replication::Synchronous, &NAMES)?;
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
            run,
        })
    }

    pub(super) fn ports(&self) -> [u16; 2] {
        self.proxies.each_ref().map(DbProxy::port)
    }

    /// Each proxy and the server behind it.
    pub(super) fn each(&self) -> impl Iterator<Item = (&DbProxy, &Postgres)> {
        self.proxies.iter().zip(&self.servers)
    }

    pub(super) fn primary(&self) -> &Postgres {
        &self.servers[self.primary]
    }

    /// The primary dies, the standby takes over, and the old one comes back as its standby.
    pub(super) fn fail_over(&mut self) -> Result<()> {
        self.servers[self.primary].kill()?;
        self.servers[1 - self.primary].promote()?;
        self.primary = 1 - self.primary;
        self.come_back()
    }

    /// The standby takes over beside a primary that knows nothing of it, which is then demoted.
    pub(super) fn switch_over(&mut self) -> Result<()> {
        self.servers[1 - self.primary].promote()?;
        self.servers[self.primary].stop()?;
        self.primary = 1 - self.primary;
        self.come_back()
    }

    /// The primary dies, the standby takes over, and the old one comes back as the primary that it was,
    /// ready to acknowledge writes alone. Its proxy has been told of the new one, and has perhaps
    /// started anew since. Returns when both serve, or would.
    pub(super) fn rise_again(&mut self, proxy_restarts: bool) -> Result<()> {
        let (old, new) = (self.primary, 1 - self.primary);
        self.servers[old].kill()?;
        self.servers[new].promote()?;
        self.servers[new].replicate(Replication::Asynchronous, &[])?;
        self.primary = new;
        let timeline = self.servers[new].timeline()?;
        let epoch = self
            .watch(new)?
            .until("promoted", |heartbeat| is_primary(heartbeat, timeline))?
            .epoch;
        let mut link = self.watch(old)?;
        link.say(FromLogic::Attest(Attest { epoch }))?;
        link.until("told", |heartbeat| heartbeat.highest == epoch)?;
        if proxy_restarts {
            self.proxies[old].restart(&self.run)?;
        }
        let settings = self.servers[old].data().join("postgresql.auto.conf");
        let mut settings = OpenOptions::new().append(true).open(settings)?;
        writeln!(settings, "synchronous_standby_names = ''")?;
        self.servers[old].start()
    }

    /// What the old primary's proxy says once it has looked at it.
    pub(super) fn fence_of_the_old(&self) -> Result<Heartbeat> {
        self.watch(1 - self.primary)?
            .until("looked at", |heartbeat| heartbeat.role != Role::Unknown)
    }

    /// The primary that is over.
    pub(super) fn old(&self) -> &Postgres {
        &self.servers[1 - self.primary]
    }

    /// The old primary is made a standby of the new one, whose clients wait for it as soon as it streams.
    pub(super) fn demote(&mut self) -> Result<()> {
        self.servers[1 - self.primary].stop()?;
        self.follow()?;
        self.primary().replicate(Replication::Synchronous, &NAMES)?;
        self.primary().wait_until_synchronous(self.old())?;
        self.watch(1 - self.primary)?
            .until("let in", |heartbeat| {
                !heartbeat.is_fenced && matches!(heartbeat.role, Role::Standby { .. })
            })
            .map(drop)
    }

    fn watch(&self, number: usize) -> Result<Link> {
        Link::open(self.proxies[number].port(), "lb", "watch")
    }

    /// The old primary, which has ended, becomes the standby that the new one waits for.
    fn come_back(&mut self) -> Result<()> {
        self.follow()?;
        self.primary().wait_until_synchronous(self.old())
    }

    /// The old primary, which has ended, becomes the new one's standby.
    fn follow(&mut self) -> Result<()> {
        let [one, two] = &mut self.servers;
        if self.primary == 0 {
            two.rewind(one)
        } else {
            one.rewind(two)
        }
    }
}

fn is_primary(heartbeat: &Heartbeat, timeline: u32) -> bool {
    matches!(heartbeat.role, Role::Primary { .. }) && heartbeat.epoch.timeline == timeline
}
