//! `FLUSHALL` past lb takes the marker that lb keeps beside the data. It costs what was flushed, and
//! nothing of what is written afterwards.

use anyhow::{Result, ensure};
use lb_tests::redis::{Redis, Reply};
use lb_tests::wait;

use crate::scene::{Fault, Return, SOON, Scene};

const KEYS: usize = 200;
/// The database below `spare_database`.
const DATABASE: &str = "14";

fn has_marker(server: &Redis) -> Result<bool> {
    let mut connection = server.connect()?;
    connection.command(&["SELECT", DATABASE])?;
    Ok(!connection.command(&["GET", "lb:marker"])?.is_null())
}

/// Waits until the copy has everything that was written to its server before.
fn copied(server: &Redis) -> Result<()> {
    let mut connection = server.connect()?;
    connection.command(&["SET", "last", "1"])?;
    assert_eq!(
        connection.command(&["WAIT", "1", "10000"])?,
        Reply::Integer(1)
    );
    Ok(())
}

#[test]
fn what_is_written_after_a_flush_past_lb_outlives_a_promotion() -> Result<()> {
    let mut scene = Scene::new("writes = \"async\"\nmax_failover_share = 1.0")?;
    for (round, fault) in [Fault::Kill, Fault::Freeze].into_iter().enumerate() {
        let number = round % 3;
        let server = scene.current(number)?;
        server.command(&["FLUSHALL"])?;
        let value = format!("round-{round}");
        let mut client = scene.logics[0].connect()?;
        for number in 0..KEYS {
            let reply = client.command(&["SET", &format!("key:{number}"), &value])?;
            ensure!(reply == Reply::Simple("OK".into()), "{reply:?}");
        }
        // The first time as soon as may be, the second when lb has seen it.
        if fault == Fault::Freeze {
            wait::until("the marker to be written again", SOON, || {
                has_marker(server).unwrap_or(false)
            })?;
        }
        copied(server)?;
        let lost = scene.inject(number, fault)?;
        scene.wait_for_verdict(number, &lost)?;
        for logic in &scene.logics {
            let mut client = logic.connect()?;
            for number in 0..KEYS {
                let reply = client.command(&["GET", &format!("key:{number}")])?;
                ensure!(reply.text() == value, "round {round}: {reply:?}");
            }
            let reply = client.command(&["SET", "key:0", &value])?;
            ensure!(reply == Reply::Simple("OK".into()), "{reply:?}");
        }
        let emptied = scene.logics[0].metric("lb_logic_cache_emptied_total", "")?;
        assert_eq!(emptied, Some(0.0));
        scene.repair(&lost, fault, Return::Empty)?;
        scene.wait_until_follows(&lost)?;
    }
    Ok(())
}
