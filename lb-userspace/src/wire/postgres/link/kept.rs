//! Epochs as they are kept in JSON, whose numbers are too short for a system identifier.

use serde::{Deserialize, Serialize};

use super::{Epoch, Lsn};

#[derive(Serialize, Deserialize)]
pub(super) struct Kept {
    system: String,
    timeline: u32,
    began: String,
}

impl From<Epoch> for Kept {
    fn from(epoch: Epoch) -> Self {
        Self {
            system: epoch.system.to_string(),
            timeline: epoch.timeline,
            began: epoch.began.to_string(),
        }
    }
}

impl TryFrom<Kept> for Epoch {
    type Error = &'static str;

    fn try_from(kept: Kept) -> Result<Self, Self::Error> {
        Ok(Self {
            system: kept.system.parse().map_err(|_| "system is no number")?,
            timeline: kept.timeline,
            began: Lsn::parse(&kept.began).ok_or("began is no position")?,
        })
    }
}
