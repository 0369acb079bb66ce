//! The pieces, each by itself.

use std::time::{Duration, Instant};

use super::super::*;
use crate::wire::postgres::link::{Answering, Epoch, Heartbeat, Lsn, Role};

const SHARD: Shard = Shard(0);

fn epoch(timeline: u32, began: u64) -> Epoch {
    Epoch {
        system: 7,
        timeline,
        began: Lsn(began),
    }
}

fn primary(epoch: Epoch, inserted: u64) -> Heartbeat {
    Heartbeat {
        answering: Answering::Yes,
        incarnation: 1,
        epoch,
        role: Role::Primary {
            inserted: Lsn(inserted),
            flushed: Lsn(inserted),
        },
        ..Heartbeat::default()
    }
}

fn standby(epoch: Epoch, replayed: u64) -> Heartbeat {
    Heartbeat {
        role: Role::Standby {
            received: Lsn(replayed),
            replayed: Lsn(replayed),
        },
        ..primary(epoch, 0)
    }
}

fn view(servers: usize, persisted: Option<Epoch>, now: Instant) -> View {
    let topology = Topology::new(vec![SHARD; servers]).expect("one shard, several servers");
    View::new(topology, Limits::default(), |_| persisted, now)
}

fn after(now: Instant, ms: u64) -> Instant {
    now + Duration::from_millis(ms)
}

fn order(view: &View, floor: &Floor, now: Instant) -> (Reads, Vec<u16>) {
    let mut order = Vec::new();
    let reads = view.reads(SHARD, floor, 1, now, &mut order);
    let mut ids: Vec<u16> = order.iter().map(|server| server.0).collect();
    // Which standby is first depends on the reader; the primary is always last.
    let primary_at = ids.len().saturating_sub(1);
    ids[..primary_at].sort_unstable();
    (reads, ids)
}

#[test]
fn later_epoch_wins_and_stays() {
    let now = Instant::now();
    let mut view = view(2, None, now);
    view.heard(ServerId(1), standby(epoch(1, 0), 5), now);
    assert_eq!(
        view.heard(ServerId(0), primary(epoch(1, 0), 9), now),
        Some(epoch(1, 0))
    );
    let to = |server, epoch| Writes::To {
        server: ServerId(server),
        epoch,
    };
    assert_eq!(view.writes(SHARD, now), to(0, epoch(1, 0)));
    assert_eq!(
        view.heard(ServerId(1), primary(epoch(2, 5), 6), now),
        Some(epoch(2, 5))
    );
    assert_eq!(view.writes(SHARD, now), to(1, epoch(2, 5)));
    // The later one is gone: the older one stays what it is.
    view.lost(ServerId(1));
    assert_eq!(
        view.writes(SHARD, now),
        Writes::Wait(Some((ServerId(1), Condition::Lost)))
    );
    assert_eq!(view.condition(ServerId(0), now), Condition::OldPrimary);
}

#[test]
fn older_epoch_than_the_persisted_one_gets_nothing() {
    let now = Instant::now();
    let mut view = view(1, Some(epoch(3, 9)), now);
    assert_eq!(view.heard(ServerId(0), primary(epoch(2, 5), 50), now), None);
    assert_eq!(view.writes(SHARD, now), Writes::Wait(None));
    assert_eq!(order(&view, &Floor::default(), now).0, Reads::Wait);
}

#[test]
fn two_primaries_of_one_epoch_get_nothing_even_in_silence() {
    let now = Instant::now();
    for other in [epoch(2, 5), epoch(2, 6)] {
        let mut view = view(2, None, now);
        view.heard(ServerId(1), standby(epoch(1, 0), 5), now);
        view.heard(ServerId(0), primary(epoch(2, 5), 9), now);
        view.heard(ServerId(1), primary(other, 99), now);
        assert!(matches!(view.writes(SHARD, now), Writes::Refused(_)));
        let floor = Floor {
            epoch: epoch(2, 5),
            position: Lsn(7),
        };
        assert_eq!(order(&view, &floor, now).0, Reads::Wait);
        view.lost(ServerId(0));
        assert!(matches!(view.writes(SHARD, now), Writes::Refused(_)));
        // One gives in.
        view.heard(ServerId(0), standby(other, 9), now);
        let to = Writes::To {
            server: ServerId(1),
            epoch: other,
        };
        assert_eq!(view.writes(SHARD, now), to);
    }
}

#[test]
fn another_cluster_is_never_adopted_nor_used() {
    let now = Instant::now();
    let foreign = Epoch {
        system: 8,
        ..epoch(9, 1)
    };
    let mut view = view(2, None, now);
    view.heard(ServerId(0), primary(epoch(1, 0), 9), now);
    view.heard(ServerId(1), primary(foreign, 9), now);
    assert_eq!(
        view.writes(SHARD, now),
        Writes::Refused(Refusal::TwoClusters)
    );
    view.heard(ServerId(1), standby(epoch(1, 0), 9), now);
    assert!(matches!(view.writes(SHARD, now), Writes::To { .. }));
    view.heard(ServerId(1), primary(foreign, 9), now);
    assert_eq!(view.condition(ServerId(1), now), Condition::Foreign);
    assert_eq!(order(&view, &Floor::default(), now).1, [0]);
}

#[test]
fn hanging_host_is_told_from_a_hanging_server() {
    let now = Instant::now();
    let mut view = view(1, Some(epoch(1, 0)), now);
    view.heard(ServerId(0), primary(epoch(1, 0), 9), now);
    assert_eq!(
        view.condition(ServerId(0), after(now, 150)),
        Condition::Primary
    );
    assert_eq!(
        view.condition(ServerId(0), after(now, 151)),
        Condition::HostHangs
    );
    let silent = Heartbeat {
        answering: Answering::Silent,
        silent_ms: 120,
        ..primary(epoch(1, 0), 9)
    };
    view.heard(ServerId(0), silent, now);
    assert_eq!(
        view.condition(ServerId(0), after(now, 30)),
        Condition::Primary
    );
    assert_eq!(
        view.condition(ServerId(0), after(now, 31)),
        Condition::ServerHangs
    );
    let unreachable = Heartbeat {
        answering: Answering::Unreachable,
        ..primary(epoch(1, 0), 9)
    };
    view.heard(ServerId(0), unreachable, now);
    assert_eq!(view.condition(ServerId(0), now), Condition::Unreachable);
}

#[test]
fn reads_go_where_their_floor_is() {
    let now = Instant::now();
    let mut view = view(4, Some(epoch(2, 50)), now);
    view.heard(ServerId(0), primary(epoch(2, 50), 100), now);
    view.heard(ServerId(1), standby(epoch(2, 50), 80), now);
    view.heard(ServerId(2), standby(epoch(1, 0), 50), now);
    // It follows an old primary, beyond where the histories part.
    view.heard(ServerId(3), standby(epoch(1, 0), 51), now);
    let floor = |timeline, began, position| Floor {
        epoch: epoch(timeline, began),
        position: Lsn(position),
    };
    for (floor, expected) in [
        (Floor::default(), vec![1, 2, 0]),
        (floor(2, 50, 80), vec![1, 0]),
        (floor(2, 50, 81), vec![0]),
        (floor(1, 0, 50), vec![1, 2, 0]),
        (floor(3, 70, 10), vec![0]),
    ] {
        assert_eq!(
            order(&view, &floor, now),
            (Reads::Some, expected),
            "{floor:?}"
        );
    }
    // Written to the old primary beyond the switch: nobody has it.
    assert_eq!(order(&view, &floor(1, 0, 51), now).0, Reads::Lost);
    assert_eq!(order(&view, &floor(2, 49, 10), now).0, Reads::Lost);
}

#[test]
fn readers_are_spread_and_only_those_of_a_lost_server_move() {
    let now = Instant::now();
    let mut view = view(5, Some(epoch(1, 0)), now);
    view.heard(ServerId(0), primary(epoch(1, 0), 9), now);
    for server in 1..5 {
        view.heard(ServerId(server), standby(epoch(1, 0), 9), now);
    }
    let first = |view: &View, reader| {
        let mut order = Vec::new();
        view.reads(SHARD, &Floor::default(), reader, now, &mut order);
        order[0]
    };
    let before: Vec<ServerId> = (0..4000).map(|reader| first(&view, reader)).collect();
    for server in 1..5 {
        let count = before.iter().filter(|first| first.0 == server).count();
        assert!((800..1200).contains(&count), "{count} readers on {server}");
    }
    view.lost(ServerId(2));
    for (reader, before) in (0..4000).zip(before) {
        let is_moved = first(&view, reader) != before;
        assert_eq!(is_moved, before.0 == 2);
    }
}

#[test]
fn keys_have_shards_that_never_change() {
    let topology = Topology::new((0..4).map(Shard).collect()).expect("four shards");
    let shards: Vec<u16> = ["1", "2", "3", "a", "customer-77", ""]
        .iter()
        .map(|key| topology.shard_for(key.as_bytes()).0)
        .collect();
    // Golden: data lie where these say.
    assert_eq!(shards, GOLDEN);
    let count = |shard| {
        (0..4000_u32)
            .filter(|key| topology.shard_for(key.to_string().as_bytes()) == shard)
            .count()
    };
    for shard in topology.shards() {
        assert!(
            (850..1150).contains(&count(shard)),
            "{} keys of {shard:?}",
            count(shard)
        );
    }
    let fewer = Topology::new((0..3).map(Shard).collect()).expect("three shards");
    for key in 0..1000_u32 {
        let (before, after) = (
            topology.shard_for(&key.to_be_bytes()),
            fewer.shard_for(&key.to_be_bytes()),
        );
        assert!(before == after || before == Shard(3), "key {key} moved");
    }
    assert_eq!(Topology::new(vec![]).err(), Some(TopologyError::NoServer));
    assert_eq!(
        Topology::new(vec![Shard(1)]).err(),
        Some(TopologyError::Gap(0))
    );
}

const GOLDEN: [u16; 6] = [3, 3, 0, 3, 3, 3];

#[test]
fn line_is_bounded_in_length_and_time_and_keeps_its_order() {
    let now = Instant::now();
    let mut line = Line::new(2, Duration::from_secs(1));
    let first = line.enter(now).expect("it is empty");
    let second = line.enter(after(now, 10)).expect("one is left");
    assert_eq!(line.enter(now), Err(LineFull(2)));
    assert_eq!(line.ask(second, true, now), Admission::Stay);
    assert_eq!(line.ask(first, false, now), Admission::Stay);
    assert_eq!(line.ask(first, true, now), Admission::Go);
    assert_eq!(line.ask(second, true, after(now, 1009)), Admission::Go);
    let third = line.enter(now).expect("both are gone");
    let fourth = line.enter(after(now, 500)).expect("one is left");
    // Nobody asks for the third any more, and it does not hold up the fourth.
    assert_eq!(line.ask(fourth, true, after(now, 1200)), Admission::Go);
    assert_eq!(line.ask(third, true, after(now, 1200)), Admission::TooLate);
    assert!(line.is_empty());
}

#[test]
fn hedges_are_late_and_few() {
    let mut hedges = Hedges::default();
    assert_eq!(hedges.delay(), Duration::from_millis(100));
    for _ in 0..100 {
        hedges.answered(Duration::from_micros(300));
    }
    assert_eq!(hedges.delay(), Duration::from_millis(5));
    let taken = (0..1000).filter(|_| hedges.take()).count();
    assert_eq!(taken, HEDGES_SAVED_MAX as usize);
    for _ in 0..100 {
        hedges.answered(Duration::from_micros(300));
    }
    assert_eq!((0..1000).filter(|_| hedges.take()).count(), 5);
}

#[test]
fn only_what_surely_did_nothing_is_done_again() {
    use Progress::{Begun, NotSent, Sent};
    for (work, progress, then) in [
        (Work::Read, NotSent, Then::Repeat),
        (Work::Read, Sent, Then::Repeat),
        (Work::Read, Begun, Then::Tell("08006", State::Idle)),
        (Work::Write, NotSent, Then::Wait),
        (Work::Write, Sent, Then::Tell("40003", State::Idle)),
        (Work::Write, Begun, Then::Tell("40003", State::Idle)),
        (
            Work::InTransaction,
            NotSent,
            Then::Tell("08006", State::Failed),
        ),
        (
            Work::InTransaction,
            Sent,
            Then::Tell("08006", State::Failed),
        ),
        (
            Work::InTransaction,
            Begun,
            Then::Tell("08006", State::Failed),
        ),
        (Work::Commit, NotSent, Then::Tell("08006", State::Idle)),
        (Work::Commit, Sent, Then::Tell("08007", State::Idle)),
        (Work::Commit, Begun, Then::Tell("08007", State::Idle)),
        (Work::Rollback, Sent, Then::Confirm),
    ] {
        assert_eq!(after_loss(work, progress), then, "{work:?} {progress:?}");
    }
}
