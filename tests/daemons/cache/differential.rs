//! `lb logic` before several servers answers as one Redis does: random commands of every kind,
//! valid and not, the same to both; equal answers, equal data at the end.
//!
//! `LB_TEST_SEED` repeats a run; what fails is shrunk before it is told.

mod compare;
mod excluded;
mod generate;
mod play;
mod table;

use anyhow::{Result, ensure};
use lb_tests::redis::{Redis, Tier};
use lb_tests::run_directory::RunDirectory;
use lb_tests::scale::{is_long, seed_of_the_suite};

use self::generate::Generator;
use self::play::Pair;
use self::table::Table;

/// Commands, at least.
fn commands() -> usize {
    if is_long() { 1_000_000 } else { 100_000 }
}
/// Units between two looks at all data; then everything begins anew.
const EPISODE: usize = 1_000;

#[test]
fn random_commands_are_answered_as_by_one_server() -> Result<()> {
    let tier = Tier::builder().primaries(4).build()?;
    let logic = tier.start_logic("logic-1", "")?;
    let single = Tier::builder().primaries(1).build()?;
    let single = &single.primaries[0];
    let pair = Pair::of_logic(&logic, &tier, single)?;
    let told = run(pair, single, seed_of_the_suite()?, commands())?;
    println!("{told}");
    Ok(())
}

/// Plays so many commands; the first difference is shrunk and told.
fn run(mut pair: Pair<'_>, single: &Redis, seed: u64, commands: usize) -> Result<String> {
    let table = Table::read(&mut single.connect()?)?;
    let mut generator = Generator::new(&table, seed);
    let mut tally = play::Tally::default();
    while tally.commands < commands {
        let units: Vec<_> = (0..EPISODE).map(|_| generator.unit()).collect();
        let Some(difference) = pair.play(&units, &mut tally)? else {
            continue;
        };
        let units = pair.shrink(units)?;
        let last = pair.play(&units, &mut play::Tally::default())?;
        anyhow::bail!(
            "LB_TEST_SEED={seed}, after {} commands:\n{}\n{:?}\nat first: {difference:?}",
            tally.commands,
            play::script(&units),
            last
        );
    }
    ensure!(
        tally.refused * 20 < tally.commands,
        "{tally:?}: too many are refused"
    );
    Ok(format!("LB_TEST_SEED={seed}: {tally:?}"))
}

/// Two single servers: the commands have one answer each, or this would fail.
#[test]
fn two_servers_agree() -> Result<()> {
    let tier = Tier::builder().primaries(2).build()?;
    let [one, two] = [&tier.primaries[0], &tier.primaries[1]];
    println!(
        "{}",
        run(
            Pair::of_servers(one, two)?,
            two,
            seed_of_the_suite()?,
            20_000
        )?
    );
    Ok(())
}

/// Two servers that differ in one setting: the difference is found, and shrunk to what matters.
#[test]
fn a_difference_is_found_and_shrunk() -> Result<()> {
    let run_directory = RunDirectory::new()?;
    let here = lb_tests::redis::Place::here();
    let one = Redis::start_new(&run_directory, &here, "one", "")?;
    let two = Redis::start_new(
        &run_directory,
        &here,
        "two",
        "hash-max-listpack-entries 1\n",
    )?;
    let table = Table::read(&mut one.connect()?)?;
    let mut pair = Pair::of_servers(&one, &two)?;
    let mut units: Vec<_> = {
        let mut generator = Generator::new(&table, 7);
        (0..300).map(|_| generator.unit()).collect()
    };
    // Nothing else in it asks how a hash is kept.
    let asks = |unit: &generate::Unit| {
        unit.commands
            .iter()
            .any(|words| words[0].eq_ignore_ascii_case(b"OBJECT"))
    };
    units.retain(|unit| !asks(unit));
    let words = |text: &str| {
        text.split(' ')
            .map(|word| word.as_bytes().to_vec())
            .collect()
    };
    let unit = |text: &str| generate::Unit::of(vec![words(text)]);
    units.insert(100, unit("HSET {one}hash a 1 b 2"));
    units.push(unit("OBJECT ENCODING {one}hash"));
    ensure!(
        pair.play(&units, &mut play::Tally::default())?.is_some(),
        "nothing was found"
    );
    let shrunk = pair.shrink(units)?;
    assert!(shrunk.len() <= 3, "{}", play::script(&shrunk));
    Ok(())
}
