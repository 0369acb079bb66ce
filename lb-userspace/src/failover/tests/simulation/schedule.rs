//! What happens to the simulated world, as a list that can be shortened.

/// Servers of the shard, and one of another cluster.
pub(super) const SERVERS: usize = 4;
/// The one of another cluster.
pub(super) const FOREIGN: usize = 3;
pub(super) const DAEMONS: usize = 2;
/// Ticks of 10 ms.
pub(super) const TICKS: u32 = 150;
const STEPS_MAX: usize = 14;

#[derive(Clone, Debug)]
pub(super) struct Schedule {
    pub(super) seed: u64,
    pub(super) steps: Vec<(u32, Step)>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// A failover manager makes a standby primary, whatever has become of the old one.
    Promote(usize),
    /// A server's host stops for a while, and goes on as if nothing was.
    Pause(usize, u32),
    /// A server's processes end and come back, and replay again from where they last had flushed.
    Restart(usize),
    /// An old primary, or a standby that is lost, is made anew as a standby of the newest primary.
    Rebuild(usize),
    /// A copy of a primary is started as a primary, by mistake.
    Clone(usize, usize),
    /// A daemon and a server do not reach each other for a while.
    Part(usize, usize, u32),
    /// A standby gets nothing from its primary for a while.
    Lag(usize, u32),
    /// A daemon starts again, with what it has persisted.
    Forget(usize),
    /// News between a daemon and a server take longer for a while, and so those on a new link come
    /// before them.
    Slow(usize, usize, u32),
}

impl Schedule {
    pub(super) fn random(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let count = random.usize(1..STEPS_MAX);
        let mut steps: Vec<(u32, Step)> = (0..count)
            .map(|_| (random.u32(10..TICKS - 20), step(&mut random)))
            .collect();
        steps.sort_by_key(|(at, _)| *at);
        Self { seed, steps }
    }
}

fn step(random: &mut fastrand::Rng) -> Step {
    let server = random.usize(..FOREIGN);
    let daemon = random.usize(..DAEMONS);
    let ticks = random.u32(3..60);
    match random.u8(..22) {
        0..4 => Step::Promote(server),
        4..7 => Step::Pause(server, ticks),
        7..10 => Step::Restart(server),
        10..12 => Step::Rebuild(server),
        12 => Step::Clone(server, random.usize(..FOREIGN)),
        13..16 => Step::Part(daemon, server, ticks),
        16 => Step::Lag(server, ticks),
        17..20 => Step::Forget(daemon),
        _ => Step::Slow(daemon, server, ticks),
    }
}
