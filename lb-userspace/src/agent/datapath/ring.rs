//! What the program tells at once: the ring `EVENTS`.

use std::io;

use aya::maps::{MapData, MapError, RingBuf};
use lb_common::address::Address;
use lb_common::event::{Event, EventKind};
use lb_common::flow::FlowKey;
use lb_common::maps::name;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::{DatapathError, Pins, pinned};

/// Records that are taken from the ring at a time: a bound on what one look costs.
const TAKEN_MAX: usize = 256;

/// The reading end of `EVENTS`. There is one at a time: what is read is gone from the ring.
pub struct EventRing {
    ring: AsyncFd<RingBuf<MapData>>,
}

impl EventRing {
    /// Opens the ring; what the program wrote while nobody read comes first.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub(super) fn open(pins: &Pins) -> Result<Self, DatapathError> {
        let failed = |source| DatapathError::Map {
            map: name::EVENTS,
            source,
        };
        let map = aya::maps::Map::RingBuf(pinned(pins, name::EVENTS)?);
        let ring: RingBuf<MapData> = map.try_into().map_err(failed)?;
        #[expect(
            deprecated,
            reason = "the other constructor is unsafe; this reader owns its map"
        )]
        let ring = AsyncFd::with_interest(ring, Interest::READABLE)
            .map_err(|error| failed(MapError::IoError(error)))?;
        Ok(Self { ring })
    }

    /// Waits for records and takes them, some at a time. Cancel-safe.
    ///
    /// # Errors
    /// The kernel's, if the ring can no longer be watched.
    pub async fn next(&mut self) -> io::Result<Vec<(EventKind, Event)>> {
        loop {
            let mut guard = self.ring.readable_mut().await?;
            let ring = guard.get_inner_mut();
            let mut taken = Vec::new();
            let mut seen = 0;
            while seen < TAKEN_MAX
                && let Some(item) = ring.next()
            {
                seen += 1;
                taken.extend(parse(&item));
            }
            if seen < TAKEN_MAX {
                guard.clear_ready();
            }
            if !taken.is_empty() {
                return Ok(taken);
            }
        }
    }
}

/// A record as the program wrote it; nothing for one of a kind that this version does not know.
fn parse(bytes: &[u8]) -> Option<(EventKind, Event)> {
    let word = |at: usize| Some(u32::from_ne_bytes(*bytes.get(at..at + 4)?.as_array()?));
    let half = |at: usize| Some(u16::from_ne_bytes(*bytes.get(at..at + 2)?.as_array()?));
    let address = |at: usize| {
        Some(Address {
            words: [word(at)?, word(at + 4)?, word(at + 8)?, word(at + 12)?],
        })
    };
    let kind = word(0)?;
    let event = Event {
        kind,
        pool: half(4)?,
        backend: half(6)?,
        flow: FlowKey {
            source: address(8)?,
            destination: address(24)?,
            ports: *bytes.get(40..44)?.as_array()?,
            protocol: *bytes.get(44)?,
            pad: [0; 3],
        },
    };
    Some((EventKind::from_number(kind)?, event))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_the_program_wrote_it() {
        let mut bytes = [0u8; size_of::<Event>()];
        bytes[..4].copy_from_slice(&(EventKind::Reset as u32).to_ne_bytes());
        bytes[4..6].copy_from_slice(&7u16.to_ne_bytes());
        bytes[6..8].copy_from_slice(&9u16.to_ne_bytes());
        bytes[8..24].copy_from_slice(&Address::v4([203, 0, 113, 7]).octets());
        bytes[24..40].copy_from_slice(&Address::v4([198, 51, 100, 10]).octets());
        bytes[40..44].copy_from_slice(&[1, 2, 3, 4]);
        bytes[44] = 6;
        let (kind, event) = parse(&bytes).unwrap();
        assert_eq!((kind, event.pool, event.backend), (EventKind::Reset, 7, 9));
        assert_eq!(event.flow.source, Address::v4([203, 0, 113, 7]));
        assert_eq!(event.flow.destination, Address::v4([198, 51, 100, 10]));
        assert_eq!((event.flow.ports, event.flow.protocol), ([1, 2, 3, 4], 6));
        assert_eq!(parse(&bytes[..47]).map(|it| it.0), Some(EventKind::Reset));
        assert_eq!(parse(&bytes[..44]), None);
        bytes[0] = 99;
        assert_eq!(parse(&bytes), None);
    }
}
