//! The TOML as written: every section and key with its type and its place, nothing decided yet.
//! A key is listed here and in `keys.rs`; what its value must be, in `validate.rs`.

use std::{
    net::{IpAddr, SocketAddr},
    ops::Range,
    time::Duration,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    OnBackendLoss, OnEmpty, Port, Protocol, Role, Spill, StatusRanges, Tracking, UdpFlows, XdpMode,
    error::Diagnostics,
    field::{Field, Table, tables},
    keys::{Section, Shape, TOP, TopSection},
    suggest::{bare, nearest},
    value::Mistake,
};

mod db_proxy;
mod logic;

pub(super) use self::{
    db_proxy::{AuthQuery, DbPool, DbProxy, DbTls},
    logic::{
        Cache, CacheServer, Database, DatabaseServer, Logic, LogicHttp, LogicPostgres, LogicResp,
    },
};

/// The file.
#[derive(Default)]
pub(super) struct File {
    /// `None` with `has_agent` set: written, but not as a table, and reported.
    pub(super) agent: Option<Agent>,
    pub(super) has_agent: bool,
    pub(super) pools: Vec<Pool>,
    /// `[[pool]]` was not written as such: which pools there are meant to be is not known.
    pub(super) pools_refused: bool,
    pub(super) services: Vec<Service>,
    pub(super) db_proxy: Option<DbProxy>,
    pub(super) logic: Option<Logic>,
    pub(super) cache: Option<Cache>,
    /// `[cache]` was written, well or not.
    pub(super) has_cache: bool,
    pub(super) databases: Vec<Database>,
    pub(super) unread: Vec<String>,
}

/// `[agent]`
pub(super) struct Agent {
    pub(super) interfaces: Field<Vec<Field<String>>>,
    pub(super) xdp_mode: Field<XdpMode>,
    pub(super) manage_vips: Field<bool>,
    pub(super) pin: Field<String>,
    pub(super) state: Field<String>,
    pub(super) control: Field<String>,
    pub(super) metrics: Field<SocketAddr>,
    pub(super) tunnel_source_v4: Field<String>,
    pub(super) tunnel_source_v6: Field<String>,
    pub(super) probes_per_second: Field<i64>,
    pub(super) flows_max: Field<i64>,
}

/// `[[pool]]`
pub(super) struct Pool {
    pub(super) path: String,
    pub(super) name: Field<String>,
    pub(super) forward: Field<String>,
    pub(super) slots: Field<i64>,
    pub(super) spill: Field<Spill>,
    pub(super) on_backend_loss: Field<OnBackendLoss>,
    pub(super) on_empty: Field<OnEmpty>,
    pub(super) tracking: Field<Tracking>,
    pub(super) flows: Flows,
    pub(super) check: Option<Check>,
    pub(super) backends: Field<Vec<Backend>>,
}

/// `flows` of a pool
pub(super) struct Flows {
    pub(super) window: Field<Duration>,
    pub(super) udp_window: Field<Duration>,
    pub(super) idle: Field<Duration>,
    pub(super) lost_for: Field<Duration>,
    pub(super) embryo: Field<Duration>,
}

/// `check` of a pool
pub(super) struct Check {
    pub(super) kind: Field<String>,
    pub(super) port: Field<i64>,
    pub(super) path: Field<String>,
    pub(super) host: Field<String>,
    pub(super) expect: Field<StatusRanges>,
    pub(super) interval: Field<Duration>,
    pub(super) timeout: Field<Duration>,
    pub(super) rise: Field<i64>,
    pub(super) fall: Field<i64>,
    pub(super) jitter: Field<f64>,
    pub(super) hold: Field<bool>,
}

/// One of `backends` of a pool
pub(super) struct Backend {
    pub(super) path: String,
    pub(super) span: Range<usize>,
    pub(super) name: Field<String>,
    pub(super) address: Field<IpAddr>,
    pub(super) role: Field<Role>,
    pub(super) weight: Field<i64>,
    pub(super) zone: Field<String>,
    pub(super) port: Field<i64>,
}

/// `[[service]]`
pub(super) struct Service {
    pub(super) path: String,
    pub(super) span: Range<usize>,
    pub(super) name: Field<String>,
    pub(super) vip: Field<IpAddr>,
    pub(super) port: Field<Port>,
    pub(super) protocol: Field<Protocol>,
    pub(super) pool: Field<String>,
    pub(super) fragments: Field<bool>,
    pub(super) mss: Field<i64>,
    pub(super) udp: Field<UdpFlows>,
}

impl File {
    /// Reads the whole tree, reporting unknown sections and keys and values of the wrong type.
    pub(super) fn read<'t>(root: &'t DeTable<'t>, out: &mut Diagnostics<'_>) -> Self {
        let mut file = Self::default();
        for (name, value) in root {
            let Some(section) = TOP.iter().find(|section| section.name == name.get_ref()) else {
                let wrong = "is not a section of the configuration";
                out.refuse(
                    &name.span(),
                    bare(name.get_ref()),
                    wrong,
                    meant(name.get_ref()),
                );
                // A slip in the header must not count as a missing section as well.
                let near = near(name.get_ref()).map(|section| section.name);
                file.has_agent |= near == Some("agent");
                file.pools_refused |= near == Some("pool");
                continue;
            };
            file.read_section(section, value, out);
        }
        file
    }

    fn read_section<'t>(
        &mut self,
        section: &TopSection,
        value: &'t Spanned<DeValue<'t>>,
        out: &mut Diagnostics<'_>,
    ) {
        let is_right_shape = match (section.shape, value.get_ref()) {
            (Shape::Table, value) => value.is_table(),
            // Elements that are no tables are reported one by one where the section is read.
            (Shape::Tables, DeValue::Array(array)) => {
                section.is_read || array.iter().all(|element| element.get_ref().is_table())
            }
            (Shape::Tables, _) => false,
        };
        if !is_right_shape {
            let Mistake { wrong, right } =
                Mistake::kind(value.get_ref(), format!("write {}", section.header()));
            out.refuse(&value.span(), section.name, wrong, right);
        }
        let all = |of: Section, out: &mut Diagnostics<'_>| {
            tables(section.name, value, of, out).unwrap_or_default()
        };
        let one = |of: Section, out: &mut Diagnostics<'_>| {
            let entries = value.get_ref().as_table()?;
            let path = section.name.to_owned();
            Some(Table::open(path, value.span(), of, entries, out))
        };
        match section.name {
            "agent" => {
                self.has_agent = true;
                let table = one(Section::Agent, out);
                self.agent = table.map(|table| Agent::read(&table, out));
            }
            "pool" => {
                self.pools_refused |= !is_right_shape;
                self.pools = all(Section::Pool, out)
                    .iter()
                    .map(|t| Pool::read(t, out))
                    .collect();
            }
            "service" => {
                let tables = all(Section::Service, out);
                self.services = tables
                    .iter()
                    .map(|table| Service::read(table, out))
                    .collect();
            }
            "db_proxy" => {
                let table = one(Section::DbProxy, out);
                self.db_proxy = table.map(|table| DbProxy::read(&table, out));
            }
            "logic" => {
                let table = one(Section::Logic, out);
                self.logic = table.map(|table| Logic::read(&table, out));
            }
            "cache" => {
                self.has_cache = true;
                let table = one(Section::Cache, out);
                self.cache = table.map(|table| Cache::read(&table, out));
            }
            "database" => {
                self.databases = all(Section::Database, out)
                    .iter()
                    .map(|table| Database::read(table, out))
                    .collect();
            }
            other => self.unread.push(other.to_owned()),
        }
    }
}

/// What somebody may have meant by a section that there is not.
fn meant(name: &str) -> String {
    let home = Section::ALL
        .iter()
        .find(|section| section.key(name).is_some());
    match (near(name), home) {
        (Some(near), _) => format!("did you mean {}?", near.header()),
        (None, Some(home)) => format!("`{name}` belongs to {}: write it below", home.title()),
        (None, None) => {
            let headers: Vec<_> = TOP.iter().map(TopSection::header).collect();
            format!("its sections are {}", headers.join(", "))
        }
    }
}

/// The section whose name differs least.
fn near(name: &str) -> Option<&'static TopSection> {
    let near = nearest(name, TOP.iter().map(|section| section.name))?;
    TOP.iter().find(|section| section.name == near)
}

impl Agent {
    fn read(table: &Table<'_>, out: &mut Diagnostics<'_>) -> Self {
        Self {
            interfaces: table.list("interfaces", out),
            xdp_mode: table.field("xdp_mode", out),
            manage_vips: table.field("manage_vips", out),
            pin: table.field("pin", out),
            state: table.field("state", out),
            control: table.field("control", out),
            metrics: table.field("metrics", out),
            tunnel_source_v4: table.field("tunnel_source_v4", out),
            tunnel_source_v6: table.field("tunnel_source_v6", out),
            probes_per_second: table.field("probes_per_second", out),
            flows_max: table.field("flows_max", out),
        }
    }
}

impl Pool {
    fn read(table: &Table<'_>, out: &mut Diagnostics<'_>) -> Self {
        Self {
            path: table.path.clone(),
            name: table.field("name", out),
            forward: table.field("forward", out),
            slots: table.field("slots", out),
            spill: table.field("spill", out),
            on_backend_loss: table.field("on_backend_loss", out),
            on_empty: table.field("on_empty", out),
            tracking: table.field("tracking", out),
            flows: Flows::read(table, out),
            check: table
                .table("check", Section::Check, out)
                .written()
                .map(|table| Check::read(table, out)),
            backends: table
                .tables("backends", Section::Backend, out)
                .map(|tables| {
                    tables
                        .iter()
                        .map(|table| Backend::read(table, out))
                        .collect()
                }),
        }
    }
}

impl Flows {
    fn read(pool: &Table<'_>, out: &mut Diagnostics<'_>) -> Self {
        let flows = pool.table("flows", Section::Flows, out);
        let absent = Table::absent(flows.key.clone(), flows.span.clone(), Section::Flows);
        let table = flows.written().unwrap_or(&absent);
        Self {
            window: table.field("window", out),
            udp_window: table.field("udp_window", out),
            idle: table.field("idle", out),
            lost_for: table.field("lost_for", out),
            embryo: table.field("embryo", out),
        }
    }
}

impl Check {
    fn read(table: &Table<'_>, out: &mut Diagnostics<'_>) -> Self {
        Self {
            kind: table.field("kind", out),
            port: table.field("port", out),
            path: table.field("path", out),
            host: table.field("host", out),
            expect: table.field("expect", out),
            interval: table.field("interval", out),
            timeout: table.field("timeout", out),
            rise: table.field("rise", out),
            fall: table.field("fall", out),
            jitter: table.field("jitter", out),
            hold: table.field("hold", out),
        }
    }
}

impl Backend {
    fn read(table: &Table<'_>, out: &mut Diagnostics<'_>) -> Self {
        Self {
            path: table.path.clone(),
            span: table.span.clone(),
            name: table.field("name", out),
            address: table.field("address", out),
            role: table.field("role", out),
            weight: table.field("weight", out),
            zone: table.field("zone", out),
            port: table.field("port", out),
        }
    }
}

impl Service {
    fn read(table: &Table<'_>, out: &mut Diagnostics<'_>) -> Self {
        Self {
            path: table.path.clone(),
            span: table.span.clone(),
            name: table.field("name", out),
            vip: table.field("vip", out),
            port: table.field("port", out),
            protocol: table.field("protocol", out),
            pool: table.field("pool", out),
            fragments: table.field("fragments", out),
            mss: table.field("mss", out),
            udp: table.field("udp", out),
        }
    }
}
