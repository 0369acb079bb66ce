//! Frames written out byte by byte, so that the parser is not checked against a builder of ours.

use super::*;

const CLIENT: [u8; 4] = [203, 0, 113, 7];
const VIP: [u8; 4] = [198, 51, 100, 10];

fn ethernet(ethertype: [u8; 2], payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    frame.extend(ethertype);
    frame.extend(payload);
    frame
}

fn ipv4(protocol: u8, fragment: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let header_len = 20 + options.len();
    let total = (header_len + payload.len()) as u16;
    let mut packet = vec![0x40 | (header_len / 4) as u8, 0x2e];
    packet.extend(total.to_be_bytes());
    packet.extend([0, 1]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0]);
    packet.extend(CLIENT);
    packet.extend(VIP);
    packet.extend(options);
    packet.extend(payload);
    ethernet([8, 0], &packet)
}

fn ipv6(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x62, 0xe0, 0, 0];
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend([next_header, 64]);
    packet.extend([0x20; 16]);
    packet.extend([0x30; 16]);
    packet.extend(payload);
    ethernet([0x86, 0xdd], &packet)
}

fn tcp(flags: u8) -> Vec<u8> {
    let mut segment = vec![0x9c, 0x40, 0x15, 0x38];
    segment.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment
}

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const UDP_DATAGRAM: [u8; 8] = [0x9c, 0x40, 0, 53, 0, 8, 0, 0];
const ECHO: [u8; 8] = [8, 0, 0, 0, 0, 1, 0, 1];
const ECHO_V6: [u8; 8] = [128, 0, 0, 0, 0, 1, 0, 1];

#[test]
fn a_tcp_segment_over_ipv4_is_read_whole() {
    let packet = parse(ipv4(6, 0, &[], &tcp(SYN)).as_slice()).unwrap();
    assert_eq!(
        packet,
        Packet {
            family: Family::V4,
            source: Address::v4(CLIENT),
            destination: Address::v4(VIP),
            protocol: TCP,
            traffic_class: 0x2e,
            transport: Transport::Tcp(TcpFlags(SYN)),
            is_fragment: false,
            ports: [0x9c, 0x40, 0x15, 0x38],
            sequence: 1,
            network_offset: 14,
            transport_offset: 34,
            length: 40,
        }
    );
    assert!(packet.opens_flow());
    assert_eq!(packet.destination_port(), [0x15, 0x38]);
}

#[test]
fn only_a_syn_without_ack_opens_a_flow() {
    for (flags, opens) in [(SYN, true), (SYN | ACK, false), (ACK, false), (0, false)] {
        let packet = parse(ipv4(6, 0, &[], &tcp(flags)).as_slice()).unwrap();
        assert_eq!(packet.opens_flow(), opens, "flags {flags:#x}");
    }
}

#[test]
fn a_fin_or_a_reset_closes_a_flow() {
    for (flags, closes) in [
        (FIN, true),
        (RST | ACK, true),
        (SYN | ACK, false),
        (0, false),
    ] {
        let packet = parse(ipv4(6, 0, &[], &tcp(flags)).as_slice()).unwrap();
        assert_eq!(packet.closes(), closes, "flags {flags:#x}");
    }
    assert!(
        !parse(ipv4(17, 0, &[], &UDP_DATAGRAM).as_slice())
            .unwrap()
            .closes()
    );
}

#[test]
fn ipv4_options_move_the_transport_header() {
    let packet = parse(ipv4(17, 0, &[1; 40], &UDP_DATAGRAM).as_slice()).unwrap();
    assert_eq!(packet.transport_offset, 74);
    assert_eq!(packet.destination_port(), [0, 53]);
}

#[test]
fn the_traffic_class_of_ipv6_spans_two_bytes() {
    let packet = parse(ipv6(6, &tcp(ACK)).as_slice()).unwrap();
    assert_eq!(packet.family, Family::V6);
    assert_eq!(packet.traffic_class, 0x2e);
    assert_eq!(packet.destination, Address::v6([0x30; 16]));
    assert_eq!(packet.length, 60);
}

#[test]
fn a_first_fragment_has_ports_and_a_later_one_has_none() {
    let mut behind_header = vec![17, 0, 0, 1, 0, 0, 0, 9];
    behind_header.extend(UDP_DATAGRAM);
    let mut later = behind_header.clone();
    later[3] = 8;
    for (name, frame, is_first) in [
        ("ipv4 first", ipv4(17, 0x2000, &[], &UDP_DATAGRAM), true),
        ("ipv4 middle", ipv4(17, 0x2001, &[], &UDP_DATAGRAM), false),
        ("ipv4 last", ipv4(17, 0x0001, &[], &UDP_DATAGRAM), false),
        ("ipv6 first", ipv6(44, &behind_header), true),
        ("ipv6 last", ipv6(44, &later), false),
    ] {
        let packet = parse(frame.as_slice()).unwrap();
        assert!(packet.is_fragment, "{name}");
        assert_eq!(packet.protocol, UDP, "{name}");
        let expected = if is_first {
            Transport::Udp
        } else {
            Transport::LaterFragment
        };
        assert_eq!(packet.transport, expected, "{name}");
        assert_eq!(packet.ports != [0; 4], is_first, "{name}");
    }
}

#[test]
fn an_echo_request_is_told_from_other_icmp() {
    for (name, frame, expected) in [
        ("echo", ipv4(1, 0, &[], &ECHO), true),
        ("echo of ipv6", ipv6(58, &ECHO_V6), true),
        ("reply", ipv4(1, 0, &[], &[0, 0, 0, 0, 0, 1, 0, 1]), false),
        (
            "unreachable",
            ipv4(1, 0, &[], &[3, 1, 0, 0, 0, 0, 0, 0]),
            false,
        ),
        (
            "neighbour solicitation",
            ipv6(58, &[135, 0, 0, 0, 0, 0, 0, 0]),
            false,
        ),
        ("ICMPv6 in IPv4", ipv4(58, 0, &[], &ECHO_V6), false),
        ("ICMP in IPv6", ipv6(1, &ECHO), false),
    ] {
        let transport = parse(frame.as_slice()).map(|packet| packet.transport);
        assert_eq!(
            transport == Some(Transport::EchoRequest),
            expected,
            "{name}"
        );
    }
}

#[test]
fn a_frame_cut_at_any_byte_is_not_ours() {
    for (name, frame) in [
        ("tcp4", ipv4(6, 0, &[], &tcp(SYN))),
        ("tcp4 with options", ipv4(6, 0, &[1; 8], &tcp(SYN))),
        ("udp4", ipv4(17, 0, &[], &UDP_DATAGRAM)),
        ("tcp6", ipv6(6, &tcp(ACK))),
        ("echo6", ipv6(58, &ECHO_V6)),
    ] {
        assert!(parse(frame.as_slice()).is_some(), "{name}");
        for length in 0..frame.len() {
            assert_eq!(parse(&frame[..length]), None, "{name} cut to {length}");
        }
    }
}

#[test]
fn a_header_that_contradicts_itself_is_not_ours() {
    let good = ipv4(6, 0, &[], &tcp(SYN));
    let mutate = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        frame
    };
    for (name, frame) in [
        ("version 5", mutate(14, 0x55)),
        ("header of 16 bytes", mutate(14, 0x44)),
        ("header longer than the packet", mutate(14, 0x4f)),
        ("total length below the header", mutate(17, 19)),
        ("total length without the TCP header", mutate(17, 39)),
        ("total length over the frame", mutate(17, 41)),
        ("ARP", mutate(13, 6)),
        ("SCTP", mutate(23, 132)),
    ] {
        assert_eq!(parse(frame.as_slice()), None, "{name}");
    }
}

#[test]
fn an_ipv4_mapped_destination_is_not_ours() {
    let mut frame = ipv6(6, &tcp(SYN));
    frame[38..54].copy_from_slice(&Address::v4(VIP).octets());
    assert_eq!(parse(frame.as_slice()), None);
}

#[test]
fn ethernet_padding_is_not_part_of_the_packet() {
    let mut frame = ipv4(17, 0, &[], &UDP_DATAGRAM);
    frame.resize(60, 0);
    assert_eq!(parse(frame.as_slice()).unwrap().length, 28);
}

#[test]
fn an_ipv6_packet_with_other_extension_headers_is_left_alone() {
    for next_header in [0, 43, 50, 51, 59, 60, 135] {
        assert_eq!(
            parse(ipv6(next_header, &tcp(SYN)).as_slice()),
            None,
            "header {next_header}"
        );
    }
}
