//! Database hosts on a network: PostgreSQL and `lb db-proxy` on each, clients on others, and hosts that
//! are cut off in silence, as by a broken switch: nobody is told anything.

use std::fs;
use std::time::Duration;

use anyhow::Result;
use lb_tests::db_proxy::DbProxy;
use lb_tests::place::Place;
use lb_tests::postgres::{Postgres, Replication};
use lb_tests::run_directory::RunDirectory;
use lb_tests::segment::Segment;
use lb_tests::wait;
use lb_tests::workload::ledger::Ledger;
use lb_tests::workload::{Failure, Load, Target};
use tokio::runtime::Runtime;
use tokio_postgres::{Client, NoTls};

/// How long clients may take to be served by another host.
const SERVES_AGAIN_MAX: Duration = Duration::from_secs(30);
/// What a client says to notice by itself that a host is gone.
const WATCHFUL: &str = "connect_timeout=1 keepalives_idle=1 keepalives_interval=1 keepalives_retries=2 tcp_user_timeout=2";
const NAMES: [&str; 2] = ["db-1", "db-2"];

/// A client of a proxy, on a host.
struct Session {
    client: Client,
    runtime: Runtime,
}

impl Session {
    fn open(place: &Place, proxy: &DbProxy) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let address = proxy.address();
        let words = format!(
            "host={} port={} user=postgres dbname=postgres",
            address.ip(),
            address.port()
        );
        let client = place.run(|| {
            runtime.block_on(async {
                let (client, connection) = tokio_postgres::connect(&words, NoTls).await?;
                tokio::spawn(async move { drop(connection.await) });
                anyhow::Ok(client)
            })
        })?;
        Ok(Self { client, runtime })
    }

    fn runs(&self, sql: &str) -> Result<()> {
        Ok(self.runtime.block_on(self.client.batch_execute(sql))?)
    }

    fn count(&self, sql: &str) -> Result<i64> {
        let row = self.runtime.block_on(self.client.query_one(sql, &[]))?;
        Ok(row.get(0))
    }
}

#[test]
fn a_client_whose_host_is_gone_gives_its_server_connection_back() -> Result<()> {
    let run = RunDirectory::new()?;
    let segment = Segment::new()?;
    let (host, gone, stays) = (
        segment.host("db-1")?,
        segment.host("gone")?,
        segment.host("stays")?,
    );
    let server = Postgres::start_new_on(&run, &host, "db-1", "")?;
    server.sql("CREATE TABLE t (a int)")?;
    let settings =
        "auth = \"trust\"\npool = { size = 1, queue_timeout = \"1m\", keepalive = \"1s\" }";
    let proxy = DbProxy::start_on(&run, &host, &server, settings)?;
    let waits = Session::open(&stays, &proxy)?;
    let lost = Session::open(&gone, &proxy)?;
    lost.runs("BEGIN; INSERT INTO t VALUES (1); LOCK TABLE t")?;
    // What is not acknowledged would be sent again and again: another clock than that of silence.
    wait::until("everything is acknowledged", SERVES_AGAIN_MAX, || {
        unacknowledged_bytes(&host).is_ok_and(|bytes| bytes == 0)
    })?;
    segment.isolate(&gone)?;
    // Its transaction is over, its lock is free, and so is the only connection.
    assert_eq!(waits.count("SELECT count(*) FROM t")?, 0);
    Ok(())
}

/// Bytes that connections of a host have sent and not heard of.
fn unacknowledged_bytes(host: &Place) -> Result<u64> {
    let table = host.run(|| fs::read_to_string("/proc/thread-self/net/tcp"))?;
    let queues = table.lines().skip(1).filter_map(|line| {
        let queues = line.split_ascii_whitespace().nth(4)?;
        u64::from_str_radix(queues.split_once(':')?.0, 16).ok()
    });
    Ok(queues.sum())
}

#[test]
fn a_primary_that_is_cut_off_loses_no_acknowledged_write_to_its_successor() -> Result<()> {
    let run = RunDirectory::new()?;
    let segment = Segment::new()?;
    let (one, two, clients) = (
        segment.host("db-1")?,
        segment.host("db-2")?,
        segment.host("clients")?,
    );
    let mut primary = Postgres::start_new_on(&run, &one, "db-1", "")?;
    let standby = primary.standby_on(&run, &two, "db-2")?;
    primary.replicate(Replication::Synchronous, &NAMES)?;
    primary.wait_until_synchronous(&standby)?;
    let proxies = [
        DbProxy::start_on(&run, &one, &primary, "auth = \"trust\"")?,
        DbProxy::start_on(&run, &two, &standby, "auth = \"trust\"")?,
    ];
    Ledger::create(&primary)?;
    let hosts = proxies
        .each_ref()
        .map(|proxy| proxy.address().ip().to_string());
    let target = Target::words(&format!(
        "host={} port={} target_session_attrs=read-write {WATCHFUL}",
        hosts.join(","),
        proxies[0].port()
    ));
    let ledger = clients.run(|| Ledger::start(&target, Load::clients(10)))?;
    ledger.wait_for_more(100, SERVES_AGAIN_MAX)?;
    segment.isolate(&one)?;
    standby.promote()?;
    ledger.wait_for_more(100, SERVES_AGAIN_MAX)?;
    let verdict = ledger.stop()?.check(&Ledger::rows(&standby)?);
    println!("cut off: {verdict}");
    verdict.expect_whole()?;
    assert!(
        verdict.unknown.contains_key(&Failure::Closed),
        "who wrote meanwhile notices: {verdict}"
    );
    // What it wrote alone was acknowledged to nobody, and is undone.
    segment.join(&one)?;
    primary.stop()?;
    primary.rewind(&standby)?;
    assert!(Ledger::rows(&primary)?.len() >= usize::try_from(verdict.acknowledged)?);
    Ok(())
}
