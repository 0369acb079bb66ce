//! One row of the kernel's neighbour table: read it, have it resolved, give it back.

use std::net::IpAddr;

use rtnetlink::packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
        NeighbourState,
    },
    route::RouteProtocol,
};

use crate::agent::{
    interface::Mac,
    netlink::{MARK, Netlink, NetlinkError, Verb},
};

const ENOENT: i32 = nix::errno::Errno::ENOENT as i32;

/// Which row: interface number and address of the neighbour.
pub(super) type EntryKey = (u32, IpAddr);

/// What the kernel knows of a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Neighbour {
    /// It has an address that is good to send to, be it fresh or not.
    Known(Mac),
    /// Nobody asked yet, or the answer is awaited.
    Asking,
    /// It was asked and did not answer.
    Silent,
}

/// A row, as far as it concerns us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) neighbour: Neighbour,
    /// It stays known without our asking: the kernel manages it already, or it is somebody else's
    /// to keep (static, or learned by a routing daemon). Asking for one of the latter would turn it
    /// into an ordinary entry: the kernel clears `NUD_PERMANENT` and `NTF_EXT_LEARNED`.
    pub(super) is_kept: bool,
    /// We told the kernel to manage it.
    is_ours: bool,
}

impl Entry {
    const ABSENT: Self = Self {
        neighbour: Neighbour::Asking,
        is_kept: false,
        is_ours: false,
    };

    /// Reads one row.
    pub(super) async fn get(netlink: &Netlink, key: EntryKey) -> Result<Self, NetlinkError> {
        let query = RouteNetlinkMessage::GetNeighbour(row(key));
        let what = || format!("look up neighbour {}", key.1);
        match netlink.request(Verb::Get, query, what).await {
            Ok(answer) => Ok(answer
                .iter()
                .find_map(parse_answer)
                .map_or(Self::ABSENT, |(_, entry)| entry)),
            Err(error) if error.errno() == Some(ENOENT) => Ok(Self::ABSENT),
            Err(error) => Err(error),
        }
    }
}

/// Has the kernel resolve the neighbour, and keep it resolved from then on.
pub(super) async fn keep_resolved(netlink: &Netlink, key: EntryKey) -> Result<(), NetlinkError> {
    let mut message = row(key);
    // Kernels before 5.16 ignore NTF_EXT_MANAGED; what remains is NTF_USE: resolve now.
    message.header.flags = NeighbourFlags::Use;
    message
        .attributes
        .push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
    message
        .attributes
        .push(NeighbourAttribute::Protocol(RouteProtocol::Other(MARK)));
    let what = || format!("resolve neighbour {}", key.1);
    netlink
        .request(Verb::Set, RouteNetlinkMessage::NewNeighbour(message), what)
        .await?;
    Ok(())
}

/// The rows that the kernel manages on our behalf, also those of an earlier run.
pub(super) async fn kept(netlink: &Netlink) -> Result<Vec<EntryKey>, NetlinkError> {
    let mut keys = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut query = NeighbourMessage::default();
        query.header.family = family;
        let query = RouteNetlinkMessage::GetNeighbour(query);
        let what = || "list the neighbours".to_owned();
        let answer = netlink.request(Verb::Dump, query, what).await?;
        let ours = answer
            .iter()
            .filter_map(parse_answer)
            .filter(|(_, entry)| entry.is_ours);
        keys.extend(ours.map(|(key, _)| key));
    }
    Ok(keys)
}

/// Leaves the neighbour to the kernel's ordinary care: it expires when nobody uses it.
pub(super) async fn give_back(netlink: &Netlink, key: EntryKey) -> Result<(), NetlinkError> {
    let mut message = row(key);
    // NTF_USE without NTF_EXT_MANAGED clears the latter.
    message.header.flags = NeighbourFlags::Use;
    let what = || format!("stop managing neighbour {}", key.1);
    netlink
        .request(Verb::Set, RouteNetlinkMessage::NewNeighbour(message), what)
        .await?;
    Ok(())
}

/// Which row a notification is about; `None` for other families (bridge forwarding entries).
pub(super) fn key_of(message: &NeighbourMessage) -> Option<EntryKey> {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                Some((message.header.ifindex, IpAddr::V4(*v4)))
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                Some((message.header.ifindex, IpAddr::V6(*v6)))
            }
            _ => None,
        })
}

fn row((interface_index, address): EntryKey) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = interface_index;
    let (family, address) = match address {
        IpAddr::V4(v4) => (AddressFamily::Inet, NeighbourAddress::Inet(v4)),
        IpAddr::V6(v6) => (AddressFamily::Inet6, NeighbourAddress::Inet6(v6)),
    };
    message.header.family = family;
    message
        .attributes
        .push(NeighbourAttribute::Destination(address));
    message
}

fn parse_answer(answer: &RouteNetlinkMessage) -> Option<(EntryKey, Entry)> {
    match answer {
        RouteNetlinkMessage::NewNeighbour(message) => Some((key_of(message)?, parse(message))),
        _ => None,
    }
}

fn parse(message: &NeighbourMessage) -> Entry {
    let (mut mac, mut is_managed, mut is_marked) = (None, false, false);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = Mac::unicast(bytes),
            NeighbourAttribute::ExtFlags(flags) => {
                is_managed = flags.contains(NeighbourExtFlags::Managed);
            }
            NeighbourAttribute::Protocol(protocol) => {
                is_marked = *protocol == RouteProtocol::Other(MARK);
            }
            _ => {}
        }
    }
    let state = message.header.state;
    let neighbour = match state {
        // Stale, delay and probe mean "to be verified when used"; the address is good until then.
        NeighbourState::Reachable
        | NeighbourState::Stale
        | NeighbourState::Delay
        | NeighbourState::Probe
        | NeighbourState::Permanent
        | NeighbourState::Noarp => mac.map_or(Neighbour::Silent, Neighbour::Known),
        NeighbourState::Failed => Neighbour::Silent,
        _ => Neighbour::Asking,
    };
    Entry {
        neighbour,
        is_kept: is_managed
            || matches!(state, NeighbourState::Permanent | NeighbourState::Noarp)
            || message.header.flags.contains(NeighbourFlags::ExtLearned),
        is_ours: is_managed && is_marked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_states_with_a_valid_address_give_one() {
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        for (state, expected) in [
            (NeighbourState::Reachable, Neighbour::Known(mac)),
            (NeighbourState::Stale, Neighbour::Known(mac)),
            (NeighbourState::Delay, Neighbour::Known(mac)),
            (NeighbourState::Probe, Neighbour::Known(mac)),
            (NeighbourState::Permanent, Neighbour::Known(mac)),
            (NeighbourState::Noarp, Neighbour::Known(mac)),
            (NeighbourState::Incomplete, Neighbour::Asking),
            (NeighbourState::None, Neighbour::Asking),
            // The kernel leaves the last known address in a failed entry.
            (NeighbourState::Failed, Neighbour::Silent),
        ] {
            let mut message = row((3, "192.0.2.1".parse().unwrap()));
            message.header.state = state;
            message
                .attributes
                .push(NeighbourAttribute::LinkLayerAddress(mac.0.to_vec()));
            assert_eq!(parse(&message).neighbour, expected, "{state}");
        }
    }

    #[test]
    fn entries_of_others_are_not_ours_to_ask_for() {
        let mut message = row((3, "192.0.2.1".parse().unwrap()));
        message.header.state = NeighbourState::Permanent;
        assert!(parse(&message).is_kept);
        message.header.state = NeighbourState::Reachable;
        assert!(!parse(&message).is_kept);
        message.header.flags = NeighbourFlags::ExtLearned;
        assert!(parse(&message).is_kept);
    }
}
