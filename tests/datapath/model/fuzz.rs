//! Runs out of seeds, one after another; the first difference is shrunk and told.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use lb_model::generate::{Action, Limits, Run};

use crate::bench::{Bench, Difference};

/// A step as it was taken: what happened and, for a frame, its bytes.
pub type Step = (Action, Vec<u8>);

/// Steps of one run, and steps between two checkpoints in it.
const STEPS: usize = 2000;
const CHECKPOINT: usize = 500;

/// The time at which a run begins: of no run whose fingerprints might still lie in the program.
pub struct Times(pub u64);

impl Times {
    fn next(&mut self) -> u64 {
        // Longer than a SYN is remembered and than all steps of a run take.
        self.0 += 1 << 45;
        self.0
    }
}

/// Runs the world of `seed` once; how many packets that were.
///
/// # Errors
/// The kernel's; or that model and program differ, with the shortest run that shows it.
pub fn run(bench: &mut Bench, times: &mut Times, seed: u64, limits: &Limits) -> Result<u64> {
    let (mut run, world) = Run::new(seed, limits);
    bench.begin(world, run.mood(), times.next())?;
    let mut frame = Vec::with_capacity(2048);
    let mut packets = 0;
    for number in 1..=STEPS {
        let (world, duties) = bench.situation();
        let action = run.next(world, duties, &mut frame);
        packets += u64::from(matches!(action, Action::Frame(_)));
        let mut difference = bench.step(&action, &frame)?;
        if difference.is_none() && number % CHECKPOINT == 0 {
            difference = bench.checkpoint()?;
        }
        match difference {
            Some(_) if bench.is_whole() => bail!(report(bench, times, seed, limits, number)?),
            Some(difference) => bail!("seed {seed}: {difference}"),
            None => {}
        }
    }
    Ok(packets)
}

fn report(
    bench: &mut Bench,
    times: &mut Times,
    seed: u64,
    limits: &Limits,
    length: usize,
) -> Result<String> {
    let steps = record(bench, times, seed, limits, length)?;
    let mut shows = |steps: &[Step]| replay(bench, times, seed, limits, steps);
    let Some((difference, at)) = shows(&steps)? else {
        return Ok(format!(
            "LB_FUZZ_SEED={seed}: a difference in the first {length} steps, not seen again"
        ));
    };
    let (steps, difference) = shrink(steps[..at].to_vec(), difference, &mut shows)?;
    let mut text = format!("LB_FUZZ_SEED={seed}: model and program differ\n");
    for (number, (action, frame)) in steps.iter().enumerate() {
        let _ = write!(text, "{number}: {action:?}");
        if matches!(action, Action::Frame(_)) {
            let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
            let frame = lb_tests::packet::Frame(frame.clone());
            let _ = write!(text, " {hex}\n{}", frame.explain());
        }
        text.push('\n');
    }
    text.push_str(&difference);
    if let Some((_, frame)) = steps.last() {
        let _ = write!(text, "\nit meets: {}", bench.describe(frame));
    }
    Ok(text)
}

/// The steps of a run. What an agent does next depends on what it did, so they are taken again.
fn record(
    bench: &mut Bench,
    times: &mut Times,
    seed: u64,
    limits: &Limits,
    length: usize,
) -> Result<Vec<Step>> {
    let (mut run, world) = Run::new(seed, limits);
    bench.begin(world, run.mood(), times.next())?;
    let mut steps = Vec::new();
    for _ in 0..length {
        let mut frame = Vec::new();
        let (world, duties) = bench.situation();
        let action = run.next(world, duties, &mut frame);
        bench.step(&action, &frame)?;
        steps.push((action, frame));
    }
    Ok(steps)
}

/// Takes the steps, with a checkpoint behind each; the first difference, and how many steps it took.
fn replay(
    bench: &mut Bench,
    times: &mut Times,
    seed: u64,
    limits: &Limits,
    steps: &[Step],
) -> Result<Option<(Difference, usize)>> {
    let (run, world) = Run::new(seed, limits);
    bench.begin(world, run.mood(), times.next())?;
    for (number, (action, frame)) in steps.iter().enumerate() {
        let mut difference = bench.step(action, frame)?;
        if difference.is_none() {
            difference = bench.checkpoint()?;
        }
        if let Some(difference) = difference {
            return Ok(Some((difference, number + 1)));
        }
    }
    Ok(None)
}

/// Leaves out as many steps as can be left out, in ever smaller pieces.
fn shrink(
    mut steps: Vec<Step>,
    mut difference: Difference,
    shows: &mut impl FnMut(&[Step]) -> Result<Option<(Difference, usize)>>,
) -> Result<(Vec<Step>, Difference)> {
    let mut piece = steps.len().div_ceil(2);
    loop {
        let mut at = 0;
        let before = steps.len();
        while at < steps.len() {
            let end = (at + piece).min(steps.len());
            let shorter = [&steps[..at], &steps[end..]].concat();
            match shows(&shorter)? {
                Some((found, length)) => {
                    difference = found;
                    steps = shorter;
                    steps.truncate(length);
                }
                None => at = end,
            }
        }
        if piece == 1 && steps.len() == before {
            return Ok((steps, difference));
        }
        piece = (piece / 2).max(1);
    }
}
