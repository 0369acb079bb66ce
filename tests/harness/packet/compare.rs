//! Compares two frames and says in which fields they differ.

use std::fmt::Write as _;

use super::explain::{Layer, explain};

/// Fails unless the frames are the same, saying field by field what differs.
///
/// # Panics
/// If they differ.
#[track_caller]
pub fn assert_same(actual: &[u8], expected: &[u8]) {
    if let Some(difference) = difference(actual, expected) {
        panic!(
            "frames differ:\n{difference}actual:\n{}expected:\n{}",
            explain(actual),
            explain(expected)
        );
    }
}

/// Field by field what differs, one line each; `None` if the frames are the same.
pub fn difference(actual: &[u8], expected: &[u8]) -> Option<String> {
    if actual == expected {
        return None;
    }
    let (actual_layers, expected_layers) = (explain(actual).layers, explain(expected).layers);
    let mut text = String::new();
    for (number, expected) in expected_layers.iter().enumerate() {
        match actual_layers.get(number) {
            Some(actual) if actual.name == expected.name => {
                compare_fields(&mut text, actual, expected);
            }
            Some(actual) => {
                let _ = writeln!(text, "  {} instead of {}", actual.name, expected.name);
                break;
            }
            None => {
                let _ = writeln!(text, "  no {}", expected.name);
            }
        }
    }
    for extra in actual_layers.iter().skip(expected_layers.len()) {
        let _ = writeln!(text, "  unexpected {}", extra.name);
    }
    if text.is_empty() {
        let first = actual
            .iter()
            .zip(expected)
            .position(|(actual, expected)| actual != expected);
        let at = first.unwrap_or(actual.len().min(expected.len()));
        let _ = writeln!(
            text,
            "  first at byte {at} of {} and {}",
            actual.len(),
            expected.len()
        );
    }
    Some(text)
}

fn compare_fields(text: &mut String, actual: &Layer, expected: &Layer) {
    for ((name, actual_value), (_, value)) in actual.fields.iter().zip(&expected.fields) {
        if actual_value != value {
            let _ = writeln!(
                text,
                "  {} {name}: {actual_value} instead of {value}",
                actual.name
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{self, ACK, HOP_BY_HOP, SYN};

    #[test]
    fn a_difference_names_the_fields() {
        let one = packet::tcp("192.0.2.1:4000", "198.51.100.10:80").flags(SYN);
        let other = one.clone().flags(ACK).hop_limit(63);
        let text = difference(&other.build(), &one.build()).unwrap();
        for line in [
            "IPv4 hop limit: 63 instead of 64",
            "TCP flags: ACK instead of SYN",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(!text.contains("source"), "{text}");
        assert_eq!(difference(&one.build(), &one.build()), None);
    }

    #[test]
    fn a_difference_names_missing_and_unexpected_layers() {
        let plain = packet::udp("[2001:db8::1]:1", "[2001:db8::2]:2").build();
        let tunnelled = plain.in_tunnel("198.18.0.1", "10.0.1.11").build();
        let text = difference(&plain, &tunnelled).unwrap();
        assert!(text.contains("IPv6 instead of IPv4"), "{text}");
        let longer = packet::udp("[2001:db8::1]:1", "[2001:db8::2]:2")
            .payload(b"x")
            .build();
        assert!(
            difference(&longer, &plain)
                .unwrap()
                .contains("unexpected payload")
        );
        assert!(difference(&plain, &longer).unwrap().contains("no payload"));
    }

    #[test]
    fn differences_beyond_what_is_shown_are_found() {
        let frame = |last: u8| packet::not_ip(0x1234).payload(&[vec![0; 200], vec![last]].concat());
        let text = difference(&frame(1).build(), &frame(2).build()).unwrap();
        assert!(text.contains("first at byte 214"), "{text}");
    }

    #[test]
    fn every_kind_of_frame_is_explained_as_it_was_built() {
        let endpoints = [
            ("192.0.2.1:4000", "198.51.100.10:80"),
            ("[2001:db8::1]:4000", "[2001:db8:100::a]:80"),
        ];
        for (from, to) in endpoints {
            let tcp = packet::tcp(from, to)
                .vlan(5)
                .vlan(6)
                .tcp_options(&[2, 4, 5, 0xb4]);
            let frame = tcp.flags(SYN | ACK).sequence(7).payload(b"hello").build();
            let words = frame.explain();
            assert_eq!(words.fields("VLAN", "id"), ["5", "6"]);
            assert_eq!(words.field("TCP", "flags"), Some("SYN+ACK"));
            assert_eq!(words.field("TCP", "sequence"), Some("7"));
            assert_eq!(words.field("TCP", "options"), Some("[4] 02 04 05 b4"));
            assert!(
                words.field("TCP", "checksum").unwrap().ends_with("(right)"),
                "{words}"
            );

            let outer = frame.in_tunnel("2001:db8:5::1", "2001:db8:6::1").build();
            assert_eq!(outer.explain().fields("VLAN", "id"), ["5", "6"]);
            assert_eq!(
                outer.explain().field("TCP", "sequence"),
                Some("7"),
                "{outer:?}"
            );

            let wrong = packet::udp(from, to)
                .wrong_checksum()
                .payload(b"odd")
                .build();
            assert!(
                wrong
                    .explain()
                    .field("UDP", "checksum")
                    .unwrap()
                    .ends_with("(wrong)")
            );
        }
    }

    #[test]
    fn extensions_options_and_fragments_are_explained() {
        let udp = packet::udp("[2001:db8::1]:1", "[2001:db8::2]:2").extension(HOP_BY_HOP, &[]);
        let frame = udp.fragment(0, true).id(9).payload(b"part").build();
        let words = frame.explain();
        assert_eq!(words.fields("extension", "kind"), ["0", "44"]);
        assert!(
            words
                .field("UDP", "checksum")
                .unwrap()
                .ends_with("(not checked)"),
            "{words}"
        );

        let v4 = packet::ip("192.0.2.1", "192.0.2.2", 17)
            .fragment(8, false)
            .ip_options(&[1]);
        let words = v4.payload(&[1; 16]).build().explain();
        assert_eq!(words.field("IPv4", "header length"), Some("24"));
        assert_eq!(words.field("IPv4", "offset"), Some("8"));
        assert_eq!(words.field("UDP", "source"), None, "{words}");
    }

    #[test]
    fn an_icmp_error_is_explained_with_the_packet_that_it_quotes() {
        let lost = packet::udp("192.0.2.1:1", "192.0.2.2:2")
            .payload(b"lost")
            .build();
        let quote = &lost.network()[..28];
        let error = packet::icmp("192.0.2.2", "192.0.2.1", 3, 3, [0; 4])
            .payload(quote)
            .build();
        let words = error.explain();
        assert!(
            words
                .field("ICMP", "checksum")
                .unwrap()
                .ends_with("(right)"),
            "{words}"
        );
        assert_eq!(words.fields("IPv4", "source"), ["192.0.2.2", "192.0.2.1"]);
        assert_eq!(words.field("UDP", "destination"), Some("2"));
    }

    #[test]
    fn a_frame_cut_off_anywhere_is_still_explained() {
        let inner = packet::tcp("[2001:db8::1]:1", "[2001:db8::2]:2").extension(HOP_BY_HOP, &[]);
        let frame = inner
            .vlan(3)
            .payload(b"end")
            .build()
            .in_tunnel("192.0.2.1", "192.0.2.2");
        let frame = frame.build();
        for length in 0..frame.len() {
            assert_ne!(
                frame.cut(length).explain(),
                frame.explain(),
                "cut to {length}"
            );
        }
    }
}
