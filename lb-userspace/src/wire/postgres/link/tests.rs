//! Facts about the link's messages, and properties of whatever bytes may come.

use proptest::prelude::*;

use super::*;
use crate::wire::postgres::frame::{self, HEADER_BYTES};

fn epoch() -> impl Strategy<Value = Epoch> {
    (any::<u64>(), any::<u32>(), any::<u64>()).prop_map(|(system, timeline, began)| Epoch {
        system,
        timeline,
        began: Lsn(began),
    })
}

fn role() -> impl Strategy<Value = Role> {
    (0..3, any::<u64>(), any::<u64>()).prop_map(|(role, first, second)| match role {
        0 => Role::Unknown,
        1 => Role::Primary {
            inserted: Lsn(first),
            flushed: Lsn(second),
        },
        _ => Role::Standby {
            received: Lsn(first),
            replayed: Lsn(second),
        },
    })
}

prop_compose! {
    fn heartbeat()(
        sequence: u64,
        answering in prop_oneof![
            Just(Answering::Yes),
            Just(Answering::Silent),
            Just(Answering::Unreachable),
        ],
        (silent_ms, age_ms) in any::<(u32, u32)>(),
        (incarnation, started_us) in any::<(u64, u64)>(),
        (epoch, highest, role) in (epoch(), epoch(), role()),
        is_fenced: bool,
        (clients, active, waiting) in any::<(u32, u32, u32)>(),
        reason in "[ -~äß]{0,80}",
    ) -> Heartbeat {
        let load = Load { clients, active, waiting };
        Heartbeat {
            sequence, answering, silent_ms, age_ms, incarnation, started_us,
            epoch, role, is_fenced, highest, load, reason,
        }
    }
}

fn from_proxy() -> impl Strategy<Value = FromProxy> {
    prop_oneof![
        any::<u16>().prop_map(|version| FromProxy::Hello(Hello { version })),
        heartbeat().prop_map(|heartbeat| FromProxy::Heartbeat(Box::new(heartbeat))),
        (any::<u64>(), epoch(), any::<u64>()).prop_map(|(segments, epoch, position)| {
            FromProxy::Position(Position {
                segments,
                epoch,
                position: Lsn(position),
            })
        }),
    ]
}

fn from_logic() -> impl Strategy<Value = FromLogic> {
    prop_oneof![
        (any::<bool>(), any::<u16>(), epoch(), any::<u64>()).prop_map(
            |(reads, patience_ms, epoch, position)| {
                FromLogic::Floor(Floor {
                    intent: if reads { Intent::Read } else { Intent::Write },
                    patience_ms,
                    epoch,
                    position: Lsn(position),
                })
            }
        ),
        epoch().prop_map(|epoch| FromLogic::Attest(Attest { epoch })),
    ]
}

/// The body of a written message, of which the frame was checked.
fn body(bytes: &[u8]) -> &[u8] {
    let header = frame::header(bytes).ok().flatten().expect("a whole header");
    assert_eq!((header.tag, header.total), (TAG, bytes.len()));
    &bytes[HEADER_BYTES..]
}

#[test]
fn positions_are_read_and_written_as_postgresql_does() {
    let position = Lsn(0x16_B374_D848);
    assert_eq!(position.to_string(), "16/B374D848");
    assert_eq!(Lsn::parse("16/B374D848"), Some(position));
    assert_eq!(Lsn::parse("0/0"), Some(Lsn(0)));
    for wrong in ["", "/", "16", "16/", "G/0", "1/2/3", "100000000/0"] {
        assert_eq!(Lsn::parse(wrong), None, "{wrong}");
    }
}

#[test]
fn a_later_timeline_of_the_same_cluster_is_a_later_epoch() {
    let epoch = |system, timeline, began| Epoch {
        system,
        timeline,
        began: Lsn(began),
    };
    assert!(epoch(7, 3, 90).is_after(&epoch(7, 2, 50)));
    assert!(!epoch(7, 2, 50).is_after(&epoch(7, 2, 40)));
    assert!(!epoch(8, 3, 90).is_after(&epoch(7, 2, 50)));
    assert!(epoch(7, 2, 50).is_rival_of(&epoch(7, 2, 40)));
    assert!(!epoch(7, 2, 50).is_rival_of(&epoch(7, 2, 50)));
}

#[test]
fn messages_that_there_are_not_are_told_from_malformed_ones() {
    let unknown = LinkError::Unknown { kind: 'x' };
    assert_eq!(FromProxy::read(b"x"), Err(unknown));
    assert_eq!(FromLogic::read(b"x"), Err(unknown));
    let malformed = LinkError::Malformed { kind: 'H' };
    assert_eq!(FromProxy::read(b"H\0"), Err(malformed));
    assert!(FromLogic::read(b"").is_err());
}

#[test]
fn bytes_on_the_wire_are_as_the_documentation_says() {
    let mut out = Vec::new();
    FromProxy::Hello(Hello { version: 1 }).write(&mut out);
    assert_eq!(out, b"L\0\0\0\x07H\0\x01");
    out.clear();
    let floor = Floor {
        intent: Intent::Read,
        patience_ms: 5,
        epoch: Epoch {
            system: 1,
            timeline: 2,
            began: Lsn(3),
        },
        position: Lsn(4),
    };
    FromLogic::Floor(floor).write(&mut out);
    let expected =
        b"L\0\0\0\x24Fr\0\x05\0\0\0\0\0\0\0\x01\0\0\0\x02\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\x04";
    assert_eq!(out, expected);
}

proptest! {
    #[test]
    fn what_a_proxy_says_is_read_as_it_was_written(message in from_proxy(), more in any::<u8>()) {
        let mut bytes = Vec::new();
        message.write(&mut bytes);
        let body = body(&bytes);
        prop_assert_eq!(FromProxy::read(body), Ok(message.clone()));
        for end in 0..body.len() {
            prop_assert!(FromProxy::read(&body[..end]).is_err());
        }
        // A later version may say more.
        let longer = [body, &[more]].concat();
        prop_assert_eq!(FromProxy::read(&longer), Ok(message));
    }

    #[test]
    fn what_logic_says_is_read_as_it_was_written(message in from_logic()) {
        let mut bytes = Vec::new();
        message.write(&mut bytes);
        let body = body(&bytes);
        prop_assert_eq!(FromLogic::read(body), Ok(message));
        for end in 0..body.len() {
            prop_assert!(FromLogic::read(&body[..end]).is_err());
        }
    }

    #[test]
    fn no_bytes_make_a_reader_of_the_link_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = FromProxy::read(&bytes);
        let _ = FromLogic::read(&bytes);
    }
}
