//! What the kernel makes of the program before the first packet.

use anyhow::{Context, Result};

use crate::setup::bare;

/// The verifier follows a million instructions and no more. Far below, there is room for a kernel
/// that follows paths in another order, and loading takes no time that anybody would notice.
const VERIFIED_MAX: u32 = 500_000;

#[test]
fn the_verifier_is_done_long_before_its_limit() -> Result<()> {
    let mut gateway = bare()?;
    let info = gateway.datapath.program()?.info()?;
    let verified = info
        .verified_instruction_count()
        .context("a kernel before 5.16")?;
    assert!(verified < VERIFIED_MAX, "{verified} instructions followed");
    Ok(())
}
