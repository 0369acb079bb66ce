//! Fields of the link's messages: numbers in network order, texts that end with a zero byte.

use super::{Epoch, Lsn};
use crate::wire::postgres::frame::text;

/// What of a body was not read yet.
pub(super) struct Fields<'b>(pub &'b [u8]);

impl Fields<'_> {
    fn bytes<const COUNT: usize>(&mut self) -> Option<[u8; COUNT]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.bytes::<1>().map(|[byte]| byte)
    }

    /// A byte that is 0 or 1.
    pub fn bool(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.bytes().map(u16::from_be_bytes)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.bytes().map(u32::from_be_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.bytes().map(u64::from_be_bytes)
    }

    pub fn lsn(&mut self) -> Option<Lsn> {
        self.u64().map(Lsn)
    }

    pub fn epoch(&mut self) -> Option<Epoch> {
        Some(Epoch {
            system: self.u64()?,
            timeline: self.u32()?,
            began: self.lsn()?,
        })
    }

    pub fn text(&mut self) -> Option<String> {
        let (found, rest) = text(self.0)?;
        self.0 = rest;
        Some(String::from_utf8_lossy(found).into_owned())
    }
}

/// Appends an epoch.
pub(super) fn write_epoch(out: &mut Vec<u8>, epoch: Epoch) {
    out.extend_from_slice(&epoch.system.to_be_bytes());
    out.extend_from_slice(&epoch.timeline.to_be_bytes());
    out.extend_from_slice(&epoch.began.0.to_be_bytes());
}
