//! Classes of texts that were seen before: long statements that come again and again, as drivers and
//! object mappers write them. Short ones are read faster than looked up.

use std::hash::{BuildHasher, RandomState};

use super::catalog::Catalog;
use super::class::Class;
use super::classify;

/// Texts that are kept.
pub const CACHE_SLOTS: usize = 1024;
/// Shorter texts are read each time.
pub const CACHE_TEXT_MIN: usize = 160;
/// Longer texts are read each time.
pub const CACHE_TEXT_MAX: usize = 16 * 1024;
/// All texts together.
pub const CACHE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A bounded table of texts and their classes, of one thread and one catalog at a time. A text takes
/// the place of the one that has the same slot.
pub struct Cache {
    slots: Vec<Option<Entry>>,
    seed: u64,
    generation: u64,
    bytes: usize,
    hits: u64,
    misses: u64,
}

struct Entry {
    hash: u64,
    text: Box<[u8]>,
    class: Class,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            slots: std::iter::repeat_with(|| None).take(CACHE_SLOTS).collect(),
            // Others must not choose which texts share a slot.
            seed: RandomState::new().hash_one(CACHE_SLOTS),
            generation: 0,
            bytes: 0,
            hits: 0,
            misses: 0,
        }
    }
}

impl Cache {
    /// As [`classify`], from the table if the text is in it.
    pub fn classify(&mut self, sql: &[u8], catalog: &Catalog) -> Class {
        if !(CACHE_TEXT_MIN..=CACHE_TEXT_MAX).contains(&sql.len()) {
            return classify(sql, catalog);
        }
        if self.generation != catalog.generation() {
            self.clear();
            self.generation = catalog.generation();
        }
        let hash = hash(sql, self.seed);
        let slot = hash as usize % CACHE_SLOTS;
        if let Some(entry) = &self.slots[slot]
            && entry.hash == hash
            && *entry.text == *sql
        {
            self.hits += 1;
            return entry.class;
        }
        self.misses += 1;
        let class = classify(sql, catalog);
        self.insert(slot, hash, sql, class);
        class
    }

    /// How many texts were found in the table.
    #[must_use]
    pub const fn hits(&self) -> u64 {
        self.hits
    }

    /// How many texts were long enough to be looked for, and not there.
    #[must_use]
    pub const fn misses(&self) -> u64 {
        self.misses
    }

    /// Bytes of all texts in the table.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    fn insert(&mut self, slot: usize, hash: u64, sql: &[u8], class: Class) {
        if self.bytes + sql.len() > CACHE_BYTES_MAX {
            self.clear();
        }
        let entry = Entry {
            hash,
            text: sql.into(),
            class,
        };
        self.bytes += sql.len();
        if let Some(old) = self.slots[slot].replace(entry) {
            self.bytes -= old.text.len();
        }
    }

    fn clear(&mut self) {
        self.slots.fill_with(|| None);
        self.bytes = 0;
    }
}

/// Mixes eight bytes at a time: some 0.3 ns each. Equal hashes are told apart by the texts.
fn hash(text: &[u8], seed: u64) -> u64 {
    const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;
    let fold = |hash: u64, word: u64| {
        let product = u128::from(hash ^ word) * u128::from(PRIME);
        (product as u64) ^ (product >> 64) as u64
    };
    let (words, tail) = text.as_chunks::<8>();
    let mut hash = seed ^ text.len() as u64;
    for word in words {
        hash = fold(hash, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    fold(fold(hash, u64::from_le_bytes(last)), PRIME)
}
