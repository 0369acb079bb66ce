//! What these tests share: a site that serves, and questions to its agent.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use lb_tests::agent::Agent;
use lb_tests::load::{Outcome, Report};
use lb_tests::process::built;
use lb_tests::site::{ConfigText, Gateway, Site, SiteBuilder};
use lb_tests::wait;
use lb_tests::web::Web;
use lb_userspace::control::client::Client;
use lb_userspace::control::{Answer, BackendStatus, Intent, Reload, Request, Status};

/// How long anything may take that should happen at once.
pub const SOON: Duration = Duration::from_secs(10);

/// A site with a server on every backend and an agent on its gateway.
pub struct Serving {
    // The agent goes first, then the servers: what remains is removed by the site.
    pub agent: Agent,
    pub servers: BTreeMap<String, Web>,
    pub site: Site,
}

impl Serving {
    /// Builds it with the site's own configuration, and waits until every backend is up.
    pub fn start(site: SiteBuilder) -> Result<Serving> {
        Serving::configured(site, |site| site.config().text())
    }

    /// The same with another configuration.
    pub fn configured(site: SiteBuilder, config: impl FnOnce(&Site) -> String) -> Result<Serving> {
        let site = site.build()?;
        let mut servers = BTreeMap::new();
        for backend in site.backends() {
            servers.insert(backend.name().to_owned(), backend.serve()?);
        }
        let agent = site.gateway().start_agent(&config(&site))?;
        let serving = Serving {
            agent,
            servers,
            site,
        };
        serving.all_are_up()?;
        Ok(serving)
    }

    /// Waits until every backend of the configuration is up.
    pub fn all_are_up(&self) -> Result<()> {
        wait::until("every backend is up", SOON, || {
            let backends = status(&self.agent).map(|status| status.pools);
            backends.is_ok_and(|pools| {
                let mut all = pools.iter().flat_map(|pool| &pool.backends);
                !pools.is_empty() && all.all(|backend| backend.state == "up")
            })
        })
        .with_context(|| self.explain())
    }

    /// Kills the server of a backend; its kernel answers with RST from then on.
    pub fn kill(&mut self, backend: &str) {
        drop(self.servers.remove(backend));
    }

    /// Starts it again.
    pub fn revive(&mut self, backend: &str) -> Result<()> {
        let server = self.site.backend(backend).serve()?;
        self.servers.insert(backend.to_owned(), server);
        Ok(())
    }

    /// Waits until the agent has the backend in this state.
    pub fn is(&self, name: &str, state: &str) -> Result<()> {
        backend_is(&self.agent, name, state)
    }

    /// The status of one backend.
    pub fn backend(&self, name: &str) -> Result<BackendStatus> {
        backend(&self.agent, name)
    }

    /// Writes another configuration, without telling the agent.
    pub fn configure(&self, config: &ConfigText) -> Result<()> {
        self.site.gateway().write_config(&config.text()).map(drop)
    }

    /// Starts another agent in the place of the one before.
    pub fn restart_agent(&mut self, config: &str) -> Result<()> {
        self.agent.process().kill();
        self.agent = self.site.gateway().start_agent(config)?;
        Ok(())
    }

    /// Status and log, for a test that failed.
    pub fn explain(&self) -> String {
        let status = status(&self.agent);
        format!("{status:#?}\n{}", self.agent.log())
    }
}

/// Asks the agent over its control socket; once more while it says that another change is under way.
pub fn ask(agent: &Agent, request: &Request) -> Result<Answer> {
    let mut answer = None;
    wait::until("the change under way is over", SOON, || {
        let client = Client::connect(agent.control_socket());
        let asked = client.and_then(|mut client| client.ask(request));
        let is_busy = matches!(&asked, Err(error) if error.to_string().contains("is under way"));
        answer = Some(asked);
        !is_busy
    })?;
    Ok(answer.context("it was asked")??)
}

/// The agent's status.
pub fn status(agent: &Agent) -> Result<Status> {
    match ask(agent, &Request::Status)? {
        Answer::Status(status) => Ok(*status),
        other => bail!("not a status: {other:?}"),
    }
}

/// The status of one backend.
pub fn backend(agent: &Agent, name: &str) -> Result<BackendStatus> {
    let status = status(agent)?;
    let found = status
        .pools
        .into_iter()
        .flat_map(|pool| pool.backends)
        .find(|it| it.name == name);
    found.with_context(|| format!("no backend {name} in the status"))
}

/// Waits until the agent has the backend in this state.
pub fn backend_is(agent: &Agent, name: &str, state: &str) -> Result<()> {
    wait::until(&format!("{name} is {state}"), SOON, || {
        backend(agent, name).is_ok_and(|backend| backend.state == state)
    })
    .with_context(|| format!("it is {:?}\n{}", backend(agent, name), agent.log()))
}

/// Tells the agent what the operator wants of a backend.
pub fn admin(agent: &Agent, backend: &str, intent: Intent) -> Result<BackendStatus> {
    let request = Request::Admin {
        backend: backend.into(),
        pool: None,
        intent,
    };
    match ask(agent, &request)? {
        Answer::Backend(status) => Ok(*status),
        other => bail!("not a backend: {other:?}"),
    }
}

/// Sets a backend's weight, or takes that back.
pub fn weigh(agent: &Agent, backend: &str, weight: Option<u32>) -> Result<BackendStatus> {
    let request = Request::Weight {
        backend: backend.into(),
        pool: None,
        weight,
    };
    match ask(agent, &request)? {
        Answer::Backend(status) => Ok(*status),
        other => bail!("not a backend: {other:?}"),
    }
}

/// Makes the agent read its configuration again, or only say what that would change.
pub fn reload(agent: &Agent, dry_run: bool) -> Result<Reload> {
    match ask(agent, &Request::Reload { dry_run })? {
        Answer::Reload(reload) => Ok(reload),
        other => bail!("not a reload: {other:?}"),
    }
}

/// Client ports whose TCP flows go to `backend` while all is well.
pub fn flows_of(serving: &Serving, backend: &str, count: usize) -> Result<Vec<SocketAddr>> {
    let client = IpAddr::V4(serving.site.client().v4());
    let mut flows = Vec::new();
    for port in 20_000..=u16::MAX {
        let from = SocketAddr::new(client, port);
        let request = Request::Route {
            vip: serving.site.vip(),
            protocol: "tcp".into(),
            from,
        };
        let Answer::Route(route) = ask(&serving.agent, &request)? else {
            bail!("not a route");
        };
        if route.backend.as_deref() == Some(backend) {
            flows.push(from);
        }
        if flows.len() == count {
            return Ok(flows);
        }
    }
    bail!("only {} flows belong to {backend}", flows.len())
}

/// The addresses of the gateway's devices, as `ip` prints them.
pub fn has_address(site: &Site, address: IpAddr) -> Result<bool> {
    let shown = site.gateway().ip(&["-o", "addr", "show"])?;
    let prefix = if address.is_ipv4() { 32 } else { 128 };
    Ok(shown.contains(&format!(" {address}/{prefix} ")))
}

/// Panics unless every request was answered.
pub fn assert_unharmed(report: &Report, agent: &Agent) {
    let failures = report.failures();
    assert!(report.count() > 0, "no request was sent");
    assert!(failures.is_empty(), "{report}\n{}", agent.log());
}

/// Connections that broke although one of `survivors` had answered on them before `fault`: by the
/// client's address and port, what broke them. Those opened later may stand on slots that the
/// failed backend owns, and move when it returns.
pub fn disturbed(report: &Report, survivors: &[&str], fault: Instant) -> Vec<String> {
    let mut owners: HashMap<SocketAddr, String> = HashMap::new();
    let mut broken = Vec::new();
    for request in &report.requests {
        let Some(from) = request.from else { continue };
        match &request.outcome {
            Outcome::Answered { by } if request.end < fault => {
                owners.insert(from, by.to_string());
            }
            Outcome::Answered { .. } => {}
            Outcome::Failed(failure) => {
                // The port may carry another connection afterwards.
                let owner = owners.remove(&from);
                if let Some(owner) = owner.filter(|owner| survivors.contains(&owner.as_str())) {
                    broken.push(format!("{from} on {owner}: {failure}"));
                }
            }
        }
    }
    broken
}

/// Runs `lb ARGUMENTS` on the gateway to its end; one that does not end is killed.
pub fn lb(gateway: &Gateway, arguments: &[&str], user: Option<u32>) -> Result<Output> {
    let mut command = Command::new("timeout");
    command
        .args(["--signal=KILL", "10"])
        .arg(built("lb", "lb-userspace")?);
    command.args(arguments);
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    Ok(gateway.output(&mut command)?)
}

/// Whether an XDP program is on the gateway's device.
pub fn has_program(gateway: &Gateway, device: &str) -> Result<bool> {
    Ok(gateway.ip(&["link", "show", device])?.contains("prog/xdp"))
}
