//! One `MGET` of many keys, which a proxy splits over all servers and joins again.

use std::time::Instant;

use anyhow::{Result, ensure};
use lb_tests::redis::{Connection, Place};

use super::contestants::Contestant;
use crate::report::Row;

const KEYS: usize = 10_000;
/// In each round.
const TIMES: usize = 10;

/// How long it takes each contestant.
pub(super) fn rows(contestants: &[Contestant], rounds: u32) -> Result<Vec<Row>> {
    let keys: Vec<String> = (0..KEYS).map(|number| format!("mget:{number}")).collect();
    let mut times: Vec<Vec<f64>> = contestants.iter().map(|_| Vec::new()).collect();
    for _ in 0..rounds {
        for (contestant, times) in contestants.iter().zip(&mut times) {
            let mut connection = Connection::open(&Place::here(), contestant.address)?;
            for key in &keys {
                connection.queue(&["SET", key, "a value of some thirty-two bytes"]);
            }
            connection.flush()?;
            for _ in &keys {
                connection.answer()?;
            }
            let mut words = vec!["MGET"];
            words.extend(keys.iter().map(String::as_str));
            for _ in 0..TIMES {
                let began = Instant::now();
                let reply = connection.command(&words)?;
                times.push(began.elapsed().as_secs_f64() * 1e6);
                let found = reply.parts().iter().filter(|part| !part.is_null()).count();
                ensure!(found == KEYS, "{}: {found} of {KEYS} keys", contestant.name);
            }
        }
    }
    let row = |(contestant, times): (&Contestant, &mut Vec<f64>)| {
        times.sort_by(f64::total_cmp);
        Row {
            target: contestant.name,
            name: "mget",
            load_kind: "keys",
            load: KEYS as u64,
            unit: "us",
            min: times[0],
            median: times[times.len() / 2],
        }
    };
    Ok(contestants.iter().zip(&mut times).map(row).collect())
}
