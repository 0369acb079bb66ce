//! What is known of everything that has one name, and the hash by which names are found.

use std::hash::{BuildHasher, Hasher, RandomState};

use super::{Function, Relation};

/// All that a name stands for, in one schema or in all.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    /// Functions of the name, and those of them that hide something.
    pub(super) functions: Count,
    pub(super) is_volatile: bool,
    pub(super) is_local: bool,
    pub(super) leaves_something: bool,
    /// Relations of the name, and those of them that hide something.
    pub(super) relations: Count,
    pub(super) is_hidden_type: bool,
    pub(super) is_hidden_attribute: bool,
}

/// How many there are, and how many of them hide something.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count {
    pub(super) all: u32,
    pub(super) hidden: u32,
}

impl Facts {
    /// The worst that a function of this name may do.
    pub(super) fn function(&self) -> Function {
        match self.functions {
            Count { all: 0, .. } => Function::Unknown,
            _ if self.leaves_something => Function::Session,
            _ if self.is_local => Function::Local,
            _ if self.is_volatile => Function::Volatile,
            Count { hidden: 0, .. } => Function::Clean,
            _ => Function::Hidden,
        }
    }

    pub(super) fn relation(&self) -> Relation {
        match self.relations {
            Count { all: 0, .. } => Relation::Unknown,
            Count { hidden: 0, .. } => Relation::Clean,
            _ => Relation::Hidden,
        }
    }
}

/// Hashes names eight bytes at a time; keyed, since whoever makes tables chooses names.
#[derive(Clone, Debug)]
pub(super) struct Fold(u64);

impl Default for Fold {
    fn default() -> Self {
        Self(RandomState::new().hash_one(0_u64))
    }
}

impl BuildHasher for Fold {
    type Hasher = Folding;

    fn build_hasher(&self) -> Folding {
        Folding(self.0)
    }
}

pub(super) struct Folding(u64);

impl Folding {
    fn fold(&mut self, word: u64) {
        const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;
        let product = u128::from(self.0 ^ word) * u128::from(PRIME);
        self.0 = (product as u64) ^ (product >> 64) as u64;
    }
}

impl Hasher for Folding {
    fn write(&mut self, bytes: &[u8]) {
        let (words, tail) = bytes.as_chunks::<8>();
        for word in words {
            self.fold(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..tail.len()].copy_from_slice(tail);
        self.fold(u64::from_le_bytes(last));
    }

    fn write_usize(&mut self, length: usize) {
        self.fold(length as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
