//! The rig itself: what it breaks is broken, and Sentinel decides.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use lb_tests::redis::{Connection, Place, Tier};
use lb_tests::wait;

/// Longer than Sentinels take for anything.
const SOON: Duration = Duration::from_secs(20);

fn can_reach(from: &Place, to: SocketAddr) -> bool {
    let Ok(mut connection) = Connection::open(from, to) else {
        return false;
    };
    connection.command(&["PING"]).is_ok()
}

#[test]
fn sentinels_promote_the_copy_of_a_server_that_is_lost_to_them() -> Result<()> {
    let began = std::time::Instant::now();
    let mut tier = Tier::builder()
        .primaries(2)
        .copies()
        .sentinels(3)
        .apart()
        .build()?;
    println!("built in {:?}", began.elapsed());
    let client = tier.host("client")?;
    let address = tier.primaries[0].address();

    // Cut off from the Sentinels only: everybody else still reaches it.
    let segment = tier.segment()?;
    for sentinel in &tier.sentinels {
        segment.cut(sentinel.place(), tier.primaries[0].place())?;
    }
    assert!(can_reach(&client, address));
    let cut = std::time::Instant::now();
    wait::until("the copy's promotion", SOON, || {
        tier.sentinels[0]
            .primary("cache-1")
            .is_ok_and(|primary| primary == tier.copies[0].address())
    })?;
    println!("promoted in {:?}", cut.elapsed());
    assert_eq!(tier.copies[0].info("role")?, "master");
    assert_eq!(tier.primaries[0].info("role")?, "master");
    for sentinel in &tier.sentinels {
        segment.mend(sentinel.place(), tier.primaries[0].place())?;
    }
    wait::until("the old primary to follow", SOON, || {
        tier.primaries[0]
            .info("role")
            .is_ok_and(|role| role == "slave")
    })?;
    println!("demoted in {:?}", cut.elapsed());

    // Killed: the same.
    tier.server("cache-2")?.kill()?;
    wait::until("the other copy's promotion", SOON, || {
        tier.sentinels[0]
            .primary("cache-2")
            .is_ok_and(|primary| primary == tier.copies[1].address())
    })
}

#[test]
fn cuts_are_silent_and_mended() -> Result<()> {
    let tier = Tier::builder().primaries(1).apart().build()?;
    let (one, two) = (tier.host("one")?, tier.host("two")?);
    let server = &tier.primaries[0];
    let segment = tier.segment()?;
    let mut open = Connection::open(&one, server.address())?;
    open.patience(Duration::from_millis(200))?;
    segment.cut(&one, server.place())?;
    assert!(open.command(&["PING"]).is_err(), "silence, no reset");
    assert!(can_reach(&two, server.address()));
    segment.mend(&one, server.place())?;
    assert!(can_reach(&one, server.address()));
    segment.isolate(server.place())?;
    assert!(!can_reach(&two, server.address()));
    assert!(can_reach(server.place(), server.address()));
    segment.join(server.place())?;
    assert!(can_reach(&two, server.address()));
    Ok(())
}
