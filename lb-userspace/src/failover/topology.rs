//! The servers of a database and its shards, as configured; and the hashing that spreads over them.

/// A server, by its place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(pub u16);

/// A part of the data that has a primary of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(pub u16);

/// Which servers hold which shard.
#[derive(Clone, Debug)]
pub struct Topology {
    /// The shard of each server.
    shard_of: Vec<Shard>,
    shards: u16,
}

/// Why servers are no topology.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopologyError {
    /// There are none.
    #[error("a database needs a server")]
    NoServer,
    /// More than can be counted.
    #[error("a database has at most {} servers", u16::MAX)]
    TooMany,
    /// Keys would be sent to a shard that nobody holds.
    #[error("shard {0} has no server: shards are counted from 0 without gaps")]
    Gap(u16),
}

impl Topology {
    /// Takes the shard of each server, in the order of the configuration.
    ///
    /// # Errors
    /// If there is no server, or a shard below the highest has none.
    pub fn new(shard_of: Vec<Shard>) -> Result<Self, TopologyError> {
        let highest = shard_of.iter().max().ok_or(TopologyError::NoServer)?.0;
        if u16::try_from(shard_of.len()).is_err() || highest == u16::MAX {
            return Err(TopologyError::TooMany);
        }
        match (0..=highest).find(|shard| !shard_of.contains(&Shard(*shard))) {
            Some(gap) => Err(TopologyError::Gap(gap)),
            None => Ok(Self {
                shard_of,
                shards: highest + 1,
            }),
        }
    }

    /// Every server.
    pub fn servers(&self) -> impl Iterator<Item = ServerId> + use<> {
        let count = u16::try_from(self.shard_of.len()).expect("new() has counted them");
        (0..count).map(ServerId)
    }

    /// Every shard.
    pub fn shards(&self) -> impl Iterator<Item = Shard> + use<> {
        (0..self.shards).map(Shard)
    }

    /// The shard of a server of this topology.
    #[must_use]
    pub fn shard_of(&self, server: ServerId) -> Option<Shard> {
        self.shard_of.get(usize::from(server.0)).copied()
    }

    /// The shard that holds a key: the one whose hash with the key is greatest. Another shard moves
    /// only the keys that it takes.
    #[must_use]
    pub fn shard_for(&self, key: &[u8]) -> Shard {
        let key = hash(key);
        let best = self.shards().max_by_key(|shard| mix(key, shard.0));
        best.expect("there is at least one shard")
    }
}

/// How much a server is a reader's own: readers go to the greatest, and on to the next when it fails.
pub(super) fn affinity(reader: u64, server: ServerId) -> u64 {
    mix(reader, server.0)
}

/// FNV-1a, 64 bits. Shards are chosen by it: it must never change.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The finisher of splitmix64, over a key and a number. It must never change either.
const fn mix(key: u64, number: u16) -> u64 {
    let mut mixed = key ^ (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
