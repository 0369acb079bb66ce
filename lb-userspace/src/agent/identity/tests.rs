use lb_common::backend::Backend;

use super::*;
use crate::agent::desired::desired;

/// A configuration with one pool per list of backends' last octets.
fn config(pools: &[(&str, &[u8])]) -> Config {
    let mut text = String::from("[agent]\ninterfaces = [\"eth0\"]\n");
    for (index, (name, backends)) in pools.iter().enumerate() {
        text += &format!("[[pool]]\nname = \"{name}\"\nslots = 251\nbackends = [\n");
        for last in *backends {
            text += &format!("{{ name = \"b{last}\", address = \"10.0.{index}.{last}\" }},\n");
        }
        text += &format!(
            "]\n[[service]]\nname = \"{name}\"\nvip = \"198.51.100.{}\"\nport = 80\npool = \"{name}\"\n",
            index + 1
        );
    }
    Config::parse(&text, "test.toml").unwrap()
}

fn contents_of(config: &Config, actual: &Contents) -> Contents {
    desired(config, &assign(config, actual).unwrap(), |_, _| None)
}

fn ids(config: &Config, actual: &Contents) -> Vec<(u16, u32)> {
    let assignment = assign(config, actual).unwrap();
    let assigned = assignment.backends.values();
    assigned
        .map(|assigned| (assigned.id.0, assigned.generation))
        .collect()
}

#[test]
fn from_empty_maps_everybody_gets_the_next_index_in_the_files_order() {
    let config = config(&[("a", &[1, 2]), ("b", &[1])]);
    let assignment = assign(&config, &Contents::default()).unwrap();
    assert_eq!(assignment.pools["a"], PoolId(0));
    assert_eq!(assignment.pools["b"], PoolId(1));
    assert_eq!(ids(&config, &Contents::default()), [(0, 0), (1, 0), (2, 0)]);
}

#[test]
fn an_index_stays_with_its_owner_when_others_come_and_go() {
    let before = contents_of(&config(&[("a", &[1, 2, 3])]), &Contents::default());
    let after = config(&[("new", &[9]), ("a", &[3, 4, 1])]);
    let assignment = assign(&after, &before).unwrap();
    assert_eq!(assignment.pools["a"], PoolId(0));
    // The address tells who is who: pool "a" is second in the file now, its network is 10.0.1.0.
    assert_eq!(assignment.pools["new"], PoolId(1));
    let same = config(&[("a", &[3, 4, 1])]);
    assert_eq!(ids(&same, &before), [(0, 0), (2, 0), (3, 0)]);
}

#[test]
fn an_id_that_was_given_away_before_rests_longest_and_comes_back_with_another_generation() {
    let mut actual = Contents::default();
    for id in 0..BACKENDS_MAX as u16 {
        let generation = u32::from(id == 7);
        actual.backends.insert(
            BackendId(id),
            Backend {
                generation,
                ..Backend::FREE
            },
        );
    }
    let one = config(&[("a", &[1])]);
    assert_eq!(
        ids(&one, &actual),
        [(0, 1)],
        "the first of those that rested longest"
    );
    actual.backends.retain(|id, _| id.0 == 7);
    assert_eq!(
        ids(&one, &actual),
        [(0, 0)],
        "one that nobody had comes first"
    );
}

#[test]
fn a_pool_with_another_number_of_slots_is_another_pool() {
    let before = contents_of(&config(&[("a", &[1])]), &Contents::default());
    let mut other = config(&[("a", &[1])]);
    other.pools[0].slots = 257;
    let assignment = assign(&other, &before).unwrap();
    assert_eq!(assignment.pools["a"], PoolId(1));
}

#[test]
fn services_and_vips_have_counters_of_their_own() {
    let config = config(&[("a", &[1]), ("b", &[1])]);
    let assignment = assign(&config, &Contents::default()).unwrap();
    let distinct: BTreeSet<u32> = assignment.counters.values().copied().collect();
    assert_eq!(assignment.counters.len(), 4, "two services and two VIPs");
    assert_eq!(distinct.len(), 4);
}

#[test]
fn more_than_the_maps_hold_is_refused_with_what_to_do() {
    let mut actual = Contents::default();
    for id in 0..BACKENDS_MAX as u16 {
        let taken = Backend {
            encapsulation: 1,
            pool: 63,
            ..Backend::FREE
        };
        actual.backends.insert(BackendId(id), taken);
    }
    let error = assign(&config(&[("a", &[1])]), &actual)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("backend ids") && error.contains("remove first"),
        "{error}"
    );
}
