//! Histories that must be found out, each by its kind, and such as are fine.

use super::*;

const R: Key = Key::Register(1);
const L: Key = Key::List(1);
const C: Key = Key::Counter(1);

fn operation(key: Key, start: u64, end: u64, what: What) -> Operation {
    Operation {
        client: 0,
        key,
        start,
        end,
        what,
    }
}

fn wrote(key: Key, start: u64, end: u64, version: u64, outcome: Outcome) -> Operation {
    operation(key, start, end, What::Wrote { version, outcome })
}

fn set(start: u64, end: u64, version: u64) -> Operation {
    wrote(R, start, end, version, Outcome::Acknowledged)
}

fn read(start: u64, end: u64, saw: u64) -> Operation {
    operation(R, start, end, What::Read { saw, after: 0 })
}

fn counted(start: u64, end: u64, version: u64) -> Operation {
    let outcome = Outcome::Acknowledged;
    operation(C, start, end, What::Counted { version, outcome })
}

fn listed(saw: &[u64]) -> Operation {
    operation(L, 100, 101, What::Listed { saw: saw.to_vec() })
}

fn pushed(versions: &[u64]) -> Vec<Operation> {
    let push = |version: &u64| {
        wrote(
            L,
            10 * version,
            10 * version + 5,
            *version,
            Outcome::Acknowledged,
        )
    };
    versions.iter().map(push).collect()
}

/// The kinds that are found.
fn kinds(operations: &[Operation], rules: &Rules<'_>) -> Vec<&'static str> {
    check(operations, rules).counts.into_keys().collect()
}

fn strictly(operations: &[Operation]) -> Vec<&'static str> {
    kinds(operations, &Rules::default())
}

#[test]
fn what_was_acknowledged_before_is_seen() {
    let history = [
        set(0, 10, 1),
        set(20, 30, 2),
        read(31, 35, 2),
        read(21, 29, 1),
    ];
    assert!(strictly(&history).is_empty());
    // Under way: old or new.
    assert!(strictly(&[set(0, 10, 1), read(5, 8, 0), read(5, 9, 1)]).is_empty());
}

#[test]
fn a_stale_read_is_found() {
    let history = [set(0, 10, 1), set(20, 30, 2), read(31, 35, 1)];
    assert_eq!(strictly(&history), ["stale read"]);
}

#[test]
fn going_back_behind_what_another_client_saw_is_stale() {
    let history = [
        set(0, 10, 1),
        set(20, 50, 2),
        read(22, 30, 2),
        read(31, 35, 1),
    ];
    assert_eq!(strictly(&history), ["stale read"]);
}

#[test]
fn going_back_within_one_pipeline_is_stale() {
    let after = What::Read { saw: 1, after: 2 };
    let history = [set(0, 10, 1), set(20, 30, 2), operation(R, 20, 31, after)];
    assert_eq!(strictly(&history), ["stale read"]);
}

#[test]
fn a_lost_write_is_found() {
    assert_eq!(
        strictly(&[set(0, 10, 1), read(20, 25, 0)]),
        ["lost acknowledged write"]
    );
    let settled = operation(R, 90, 91, What::Settled { saw: 1 });
    let history = [set(0, 10, 1), set(20, 30, 2), settled];
    assert_eq!(strictly(&history), ["lost acknowledged write"]);
}

#[test]
fn a_miss_is_none_where_misses_are_promised() {
    let rules = Rules {
        may_miss: true,
        ..Rules::default()
    };
    let findings = check(&[set(0, 10, 1), read(20, 25, 0)], &rules);
    assert!(findings.is_clean());
    assert_eq!(findings.misses, 1);
    let history = [set(0, 10, 1), set(12, 14, 2), read(20, 25, 1)];
    assert_eq!(kinds(&history, &rules), ["stale read"]);
}

#[test]
fn an_answer_that_nobody_wrote_is_wrong() {
    assert_eq!(
        strictly(&[set(0, 10, 1), read(20, 25, 7)]),
        ["wrong answer"]
    );
    assert_eq!(
        strictly(&[set(50, 60, 1), read(20, 25, 1)]),
        ["wrong answer"]
    );
    let wrong = What::Wrong {
        answer: "r:2=5".into(),
    };
    assert_eq!(strictly(&[operation(R, 0, 1, wrong)]), ["wrong answer"]);
}

#[test]
fn a_write_that_was_refused_must_not_be_seen() {
    let history = [wrote(R, 0, 10, 1, Outcome::Refused), read(20, 25, 1)];
    assert_eq!(strictly(&history), ["refused, and yet done"]);
}

#[test]
fn a_write_of_unknown_outcome_may_be_seen_or_not_and_late() {
    let unknown = wrote(R, 20, 30, 2, Outcome::Unknown);
    for saw in [1, 2] {
        assert!(strictly(&[set(0, 10, 1), unknown.clone(), read(40, 50, saw)]).is_empty());
    }
    let history = [set(0, 10, 1), unknown, set(40, 50, 3), read(60, 70, 2)];
    let findings = check(&history, &Rules::default());
    assert!(findings.is_clean());
    assert_eq!(findings.late, 1);
}

#[test]
fn a_failed_read_is_found_where_none_may_fail() {
    let failed = What::Failed {
        error: "ERR".into(),
    };
    assert_eq!(strictly(&[operation(R, 0, 1, failed)]), ["failed read"]);
}

#[test]
fn an_answer_older_than_the_lag_is_found() {
    let lag = |_: Key, _: u64| 20;
    let rules = Rules {
        lag: Some(&lag),
        ..Rules::default()
    };
    let history = |start| [set(0, 10, 1), set(20, 30, 2), read(start, start + 5, 1)];
    assert!(kinds(&history(45), &rules).is_empty());
    assert_eq!(kinds(&history(55), &rules), ["older than the lag shown"]);
}

#[test]
fn only_what_was_acknowledged_in_the_window_may_be_lost() {
    let may_be_lost = |_: Key, acknowledged: u64| (25..=35).contains(&acknowledged);
    let rules = Rules {
        may_be_lost: Some(&may_be_lost),
        ..Rules::default()
    };
    let settled = |saw| operation(R, 90, 91, What::Settled { saw });
    let history = |saw| [set(0, 10, 1), set(20, 30, 2), settled(saw)];
    assert!(kinds(&history(1), &rules).is_empty());
    assert_eq!(kinds(&history(0), &rules), ["lost acknowledged write"]);
}

#[test]
fn a_list_in_another_order_is_found() {
    let history = |saw: &[u64]| [pushed(&[1, 2, 3]), vec![listed(saw)]].concat();
    assert!(strictly(&history(&[1, 2, 3])).is_empty());
    assert_eq!(strictly(&history(&[2, 1, 3])), ["reordered"]);
    assert_eq!(strictly(&history(&[1, 2, 2, 3])), ["done twice"]);
    assert_eq!(strictly(&history(&[1, 3])), ["lost acknowledged write"]);
    assert_eq!(strictly(&history(&[1, 2, 3, 4])), ["wrong answer"]);
}

#[test]
fn a_counter_that_goes_back_or_counts_twice_is_found() {
    assert!(strictly(&[counted(0, 10, 1), counted(5, 15, 2), counted(20, 25, 3)]).is_empty());
    let back = [counted(0, 10, 1), counted(11, 15, 2), counted(20, 25, 2)];
    assert_eq!(strictly(&back), ["lost acknowledged write"]);
    let same = [counted(0, 10, 1), counted(5, 15, 1)];
    assert_eq!(strictly(&same), ["lost acknowledged write"]);
    assert_eq!(strictly(&[counted(0, 10, 2)]), ["done twice"]);
    let settled = operation(C, 90, 91, What::Settled { saw: 3 });
    assert_eq!(strictly(&[counted(0, 10, 1), settled]), ["done twice"]);
}
