//! Faults in rounds while clients write: every client gets a proper SQLSTATE or a close, nothing hangs
//! longer than its timeout, the ledger is whole, and the proxy serves again by itself.
//!
//! One round each in the suite, thirty with `--long`.

mod pair;
mod place;
mod tier;

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lb_tests::db_proxy::DbProxy;
use lb_tests::postgres::Postgres;
use lb_tests::run_directory::RunDirectory;
use lb_tests::workload::ledger::{Ledger, Verdict};
use lb_tests::workload::{Failure, Load};
use lb_tests::{scale, wait};

use self::pair::Pair;
use self::tier::Tier;
use crate::setup::Site;

/// How long after a fault is over the first clients may take to be served again.
const SERVES_AGAIN_MAX: Duration = Duration::from_secs(20);
const CLIENTS: usize = 20;
/// What a lost, unreachable, full, ending or unwilling server may be told as.
const PROPER: [&str; 9] = [
    "08006", "08007", "25006", "40003", "53100", "53300", "57P01", "57P02", "57P03",
];

fn rounds() -> u32 {
    if scale::is_long() { 30 } else { 1 }
}

/// How long a fault lasts: not always the same.
fn a_while() -> Duration {
    Duration::from_millis(fastrand::u64(50..600))
}

/// One round of several, and who works meanwhile.
struct Round<'r> {
    number: u32,
    ledger: &'r Ledger,
    clients: usize,
}

impl Round<'_> {
    /// Every other round differs.
    fn is_odd(&self) -> bool {
        self.number % 2 == 1
    }

    /// Clients are served; when they are not, with what there is to see of the tier.
    fn goes_on(&self, when: &str, tier: &impl Tier) -> Result<()> {
        let more = 4 * u64::try_from(self.clients)?;
        let waited = self.ledger.wait_for_more(more, SERVES_AGAIN_MAX);
        waited.with_context(|| {
            let (number, picture) = (self.number, tier.picture());
            format!("{when} the fault of round {number}\n{picture}")
        })
    }
}

/// Clients write while `fault` happens, again and again.
fn clients_survive<T: Tier>(
    tier: &mut T,
    load: Load,
    rounds: u32,
    mut fault: impl FnMut(&mut T, &Round<'_>) -> Result<()>,
) -> Result<Verdict> {
    Ledger::create(tier.keeper())?;
    let ledger = Ledger::start(&tier.target(), load)?;
    for number in 0..rounds {
        let round = Round {
            number,
            ledger: &ledger,
            clients: load.clients,
        };
        round.goes_on("before", tier)?;
        fault(tier, &round).with_context(|| format!("round {number}"))?;
        round.goes_on("after", tier)?;
    }
    let verdict = ledger.stop()?.check(&Ledger::rows(tier.keeper())?);
    println!("{rounds} rounds: {verdict}");
    judge(&verdict)?;
    Ok(verdict)
}

fn judge(verdict: &Verdict) -> Result<()> {
    verdict.expect_whole()?;
    let failures = [
        &verdict.refused,
        &verdict.unknown,
        &verdict.connect_failures,
    ];
    let failures = failures.into_iter().flat_map(|failures| failures.keys());
    let improper: BTreeSet<_> = failures
        .filter(|failure| match failure {
            Failure::Sqlstate(code) => !PROPER.contains(&code.as_str()),
            Failure::Closed => false,
            Failure::Hung => true,
        })
        .collect();
    ensure!(
        improper.is_empty(),
        "not what such faults are told as: {improper:?}"
    );
    Ok(())
}

fn site(queue_timeout: &str) -> Result<Site> {
    Site::new(&format!(
        "pool = {{ size = 5, queue_timeout = \"{queue_timeout}\" }}"
    ))
}

#[test]
fn servers_are_killed() -> Result<()> {
    let load = Load::clients(CLIENTS);
    clients_survive(&mut site("5s")?, load, rounds(), |site, _| {
        site.server.kill()?;
        thread::sleep(a_while());
        site.server.start()
    })?;
    Ok(())
}

#[test]
fn servers_are_restarted() -> Result<()> {
    let load = Load::clients(CLIENTS);
    clients_survive(&mut site("5s")?, load, rounds(), |site, _| {
        site.server.restart()
    })?;
    Ok(())
}

#[test]
fn servers_are_frozen() -> Result<()> {
    let load = Load::clients(CLIENTS);
    let verdict = clients_survive(&mut site("200ms")?, load, rounds(), |site, _| {
        site.server.freeze()?;
        thread::sleep(Duration::from_millis(600) + a_while());
        site.server.thaw()
    })?;
    let told: u64 = [&verdict.refused, &verdict.connect_failures]
        .iter()
        .flat_map(|failures| failures.values())
        .sum();
    assert!(
        told > 0,
        "who waits for a frozen server is told after the queue timeout"
    );
    Ok(())
}

#[test]
fn proxies_are_killed_while_200_clients_work() -> Result<()> {
    let mut site = site("5s")?;
    clients_survive(&mut site, Load::clients(200), rounds(), |site, _| {
        site.proxy.process().kill();
        thread::sleep(a_while());
        site.proxy.restart(&site.run)
    })?;
    wait::until(
        "the dead proxies' transactions are over",
        SERVES_AGAIN_MAX,
        || site.server_connections().is_ok_and(|count| count <= 5),
    )
}

#[test]
fn every_connection_of_the_server_is_taken() -> Result<()> {
    let mut site = Site::with_server(
        "max_connections = 12\nsuperuser_reserved_connections = 0\nmax_wal_senders = 0",
        "pool = { size = 5, queue_timeout = \"200ms\" }",
    )?;
    let load = Load::clients(CLIENTS);
    let verdict = clients_survive(&mut site, load, rounds(), |site, _| {
        let taken = place::take_all(&site.server, 12)?;
        thread::sleep(Duration::from_millis(300) + a_while());
        drop(taken);
        Ok(())
    })?;
    assert!(
        !verdict.refused.is_empty(),
        "who waits in vain is told so: {verdict}"
    );
    Ok(())
}

#[test]
fn disks_run_full() -> Result<()> {
    let run = RunDirectory::new()?;
    let server = Postgres::start_new_on_small_disk(&run, "db-1", "")?;
    let settings =
        "auth = \"trust\"\nadmins = [\"postgres\"]\npool = { size = 5, queue_timeout = \"5s\" }";
    let proxy = DbProxy::start(&run, &server, settings)?;
    let mut site = Site { proxy, server, run };
    clients_survive(&mut site, Load::clients(CLIENTS), rounds(), |site, _| {
        let before = site.server.log().matches("No space left").count();
        wait::until("the server to run out of room", SERVES_AGAIN_MAX, || {
            // Again and again: each checkpoint removes old WAL, which makes room. A new segment needs some.
            let filled = site.server.fill_disk();
            let _ = site.server.sql("SELECT pg_switch_wal()");
            let now = site.server.log().matches("No space left").count();
            filled.is_err() || now > before
        })?;
        thread::sleep(a_while());
        site.server.free_disk()?;
        // Without room for its WAL, PostgreSQL gives up: its service manager starts it again.
        site.server.revive()
    })?;
    Ok(())
}

#[test]
fn standbys_are_promoted_and_old_primaries_rewound() -> Result<()> {
    clients_survive(&mut Pair::new()?, patient(), 2 * rounds(), |pair, round| {
        // Every other time the old primary is still there, and writes, when the new one is made.
        if round.is_odd() {
            pair.switch_over()
        } else {
            pair.fail_over()
        }
    })?;
    Ok(())
}

#[test]
fn old_primaries_that_come_back_take_no_write() -> Result<()> {
    clients_survive(&mut Pair::new()?, patient(), 2 * rounds(), |pair, round| {
        // Every other time the proxy knows of the new primary only by what it has kept on disk.
        pair.rise_again(round.is_odd())?;
        let fence = pair.fence_of_the_old()?;
        ensure!(fence.is_fenced, "{fence:?}");
        let held = Ledger::rows(pair.old())?;
        round.goes_on("during", pair)?;
        // What it would have acknowledged now would be lost when it is rewound.
        let now = Ledger::rows(pair.old())?;
        let taken = now.len() - held.len();
        ensure!(now == held, "the old primary took {taken} rows");
        pair.demote()
    })?;
    Ok(())
}

/// Clients whose writes may have to wait for a standby that is being rewound.
fn patient() -> Load {
    Load::clients(CLIENTS).operation_max(Duration::from_secs(40))
}
