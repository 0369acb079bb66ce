//! The thread that carries a change out: builds the tables, writes the maps, attaches.
//!
//! It holds the data plane for as long as that takes and decides nothing; the gateway goes on
//! storing verdicts meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use lb_common::backend::{Backend, BackendId, BackendState};
use lb_common::pool::PoolId;
use tokio::task::JoinError;

use crate::agent::changes;
use crate::agent::datapath::{AttachMode, Attachment, Datapath, DatapathError, FlowSizes};
use crate::agent::desired::desired;
use crate::agent::flows::{Evaluator, Rules, TableChange, carry_over};
use crate::agent::identity::Assignment;
use crate::agent::intent::Intents;
use crate::agent::plan::{Contents, MapWrite, plan};
use crate::config::{Config, XdpMode};
use crate::control::Moved;

/// What became of writing a change.
pub struct Applied {
    /// What the maps hold now.
    pub(super) contents: Option<Contents>,
    /// Interfaces that the program was attached to.
    pub(super) attached: Vec<(String, Attachment)>,
    /// Slots whose owner changed.
    pub(super) moved: Vec<Moved>,
    /// The tables that were swapped in.
    pub(super) tables: Vec<TableChange>,
    pub(super) error: Option<anyhow::Error>,
}

impl Applied {
    /// The writing thread ended by a bug.
    pub fn panicked(error: JoinError) -> Self {
        Self {
            contents: None,
            attached: Vec::new(),
            moved: Vec::new(),
            tables: Vec::new(),
            error: Some(error.into()),
        }
    }
}

/// What the writing thread needs.
pub(super) struct Job {
    pub datapath: Arc<Mutex<Datapath>>,
    pub config: Config,
    pub assignment: Assignment,
    pub weights: Intents,
    pub actual: Contents,
    pub fresh: Vec<(BackendId, Backend)>,
    /// States and tables as they are now, for the flows of slots that change.
    pub flows: Evaluator,
    pub rules: BTreeMap<PoolId, Rules>,
    pub interfaces: Vec<String>,
    pub before: Vec<String>,
}

impl Job {
    /// Builds what the maps should hold, writes what differs, attaches to the interfaces. What
    /// cannot be done whole is undone.
    pub fn run(self) -> Applied {
        let mut wanted = desired(&self.config, &self.assignment, |pool, name| {
            self.weights.of(pool, name).weight
        });
        for (id, fresh) in &self.fresh {
            if let Some(backend) = wanted.backends.get_mut(id) {
                backend.state = fresh.state;
                backend.next_hop = fresh.next_hop;
            }
        }
        let moved = changes::moved(&self.actual, &wanted);
        let targets = carry_over(&mut wanted, &self.actual);
        let tables = self.evaluate(&wanted, &targets);
        let writes = with_tables(plan(&wanted, &self.actual), &tables);
        let mut datapath = self.datapath.lock().unwrap_or_else(PoisonError::into_inner);
        let mut attached = Vec::new();
        // Before the first write, so that a name that is wrong changes nothing at all.
        let error = self
            .interface_indices()
            .and_then(|indices| {
                write(&mut datapath, &writes)?;
                self.attach(&mut datapath, &indices, &mut attached)
            })
            .err();
        if error.is_some() {
            self.restore(&mut datapath, &attached);
        }
        let (contents, error) = match datapath.actual() {
            Ok(contents) => (Some(contents), error),
            Err(unread) => (None, error.or_else(|| Some(unread.into()))),
        };
        Applied {
            contents,
            attached,
            moved,
            tables,
            error,
        }
    }

    /// The tables that differ from what is there, with the owners that their slots had. `targets`
    /// are pools that a service is about to move to.
    fn evaluate(&self, wanted: &Contents, targets: &BTreeSet<PoolId>) -> Vec<TableChange> {
        let differs = |id: &PoolId, ladders| self.actual.tables.get(id) != Some(ladders);
        wanted
            .tables
            .iter()
            .filter(|(id, ladders)| targets.contains(id) || differs(id, ladders))
            .filter_map(|(id, ladders)| {
                let rules = *self.rules.get(id)?;
                let tracks_all = targets.contains(id);
                Some(self.flows.evaluate(*id, rules, ladders, tracks_all))
            })
            .collect()
    }

    /// The kernel's numbers of the configuration's interfaces, in their order.
    fn interface_indices(&self) -> anyhow::Result<Vec<u32>> {
        let index = |name: &String| {
            nix::net::if_::if_nametoindex(name.as_str()).map_err(|_| {
                anyhow::anyhow!(
                    "there is no network interface {name} on this host: `ip link` lists those \
                     there are"
                )
            })
        };
        self.interfaces.iter().map(index).collect()
    }

    /// Attaches to the configuration's interfaces, then leaves those that it no longer names.
    fn attach(
        &self,
        datapath: &mut Datapath,
        indices: &[u32],
        attached: &mut Vec<(String, Attachment)>,
    ) -> anyhow::Result<()> {
        let linked = datapath.pins().linked_interfaces();
        let is_running = datapath.is_taken_over();
        for (interface, index) in self.interfaces.iter().zip(indices) {
            if is_running && linked.contains(interface) && self.before.contains(interface) {
                continue;
            }
            let mode = attach_mode(self.config.agent.xdp_mode);
            attached.push((interface.clone(), datapath.attach(interface, *index, mode)?));
        }
        for interface in linked.iter().filter(|name| !self.interfaces.contains(name)) {
            datapath.detach(interface)?;
        }
        datapath.set_taken_over();
        Ok(())
    }

    /// Writes back what was there before a write failed, and leaves the interfaces that were new.
    /// Backends that had been freed return as down: the state in `actual` is as old as the last
    /// change, and the gateway stores the one of today right after.
    fn restore(&self, datapath: &mut Datapath, attached: &[(String, Attachment)]) {
        let is_new = |attachment: &Attachment| *attachment != Attachment::Updated;
        for (interface, _) in attached.iter().filter(|(_, how)| is_new(how)) {
            if let Err(error) = datapath.detach(interface) {
                tracing::error!(%error, "cannot take the program off {interface} again");
            }
        }
        let mut before = self.actual.clone();
        for backend in before.backends.values_mut() {
            backend.state = BackendState::DOWN;
        }
        let restored = datapath.actual().and_then(|actual| {
            let mut writes = plan(&before, &actual);
            for write in &mut writes {
                if let MapWrite::Table { pool, table } = write
                    && let Some(there) = self.flows.table(*pool)
                {
                    *table = there.clone();
                }
            }
            write(datapath, &writes)
        });
        if let Err(error) = restored {
            tracing::error!(%error, "cannot write back the tables as they were");
        }
    }
}

/// Puts flags and previous owners into the tables of a plan. A table that only gets flags comes
/// first: with them packets look at more than they did, and find the same.
fn with_tables(mut writes: Vec<MapWrite>, tables: &[TableChange]) -> Vec<MapWrite> {
    let mut flagged = Vec::new();
    for change in tables {
        let planned = writes.iter_mut().find_map(|write| match write {
            MapWrite::Table { pool, table } if *pool == change.pool => Some(table),
            _ => None,
        });
        match planned {
            Some(table) => *table = change.table.clone(),
            None => flagged.push(MapWrite::Table {
                pool: change.pool,
                table: change.table.clone(),
            }),
        }
    }
    flagged.append(&mut writes);
    flagged
}

fn write(datapath: &mut Datapath, writes: &[MapWrite]) -> Result<(), DatapathError> {
    writes.iter().try_for_each(|write| datapath.apply(write))
}

pub(super) fn attach_mode(mode: XdpMode) -> AttachMode {
    match mode {
        XdpMode::Auto => AttachMode::Auto,
        XdpMode::Native => AttachMode::Native,
        XdpMode::Generic => AttachMode::Generic,
    }
}

/// Kernel memory that the maps take under this configuration, bytes.
pub(super) fn memory_bytes(config: &Config, flows: FlowSizes) -> u64 {
    crate::agent::datapath::memory_bytes(config.pools.iter().map(|pool| pool.slots), flows)
}
