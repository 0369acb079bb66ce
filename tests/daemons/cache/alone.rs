//! The servers by themselves: what later tests rely on.

use anyhow::Result;
use lb_tests::redis::{Reply, Tier};

#[test]
fn a_copy_has_what_its_primary_has() -> Result<()> {
    let tier = Tier::builder().primaries(1).copies().build()?;
    let mut primary = tier.primaries[0].connect()?;
    primary.queue(&["SET", "a", "1"]);
    primary.queue(&["WAIT", "1", "5000"]);
    primary.flush()?;
    assert_eq!(primary.answer()?, Reply::Simple("OK".into()));
    assert_eq!(primary.answer()?, Reply::Integer(1));
    assert_eq!(tier.copies[0].command(&["GET", "a"])?.text(), "1");
    Ok(())
}

#[test]
fn a_server_comes_back_empty_or_with_old_data() -> Result<()> {
    let mut tier = Tier::builder().primaries(1).build()?;
    let server = tier.server("cache-1")?;
    server.command(&["SET", "a", "old"])?;
    let kept = server.keep_data()?;
    server.command(&["SET", "a", "new"])?;
    server.kill()?;
    server.start_empty()?;
    assert!(server.command(&["GET", "a"])?.is_null());
    server.kill()?;
    server.start_with(&kept)?;
    assert_eq!(server.command(&["GET", "a"])?.text(), "old");
    Ok(())
}
