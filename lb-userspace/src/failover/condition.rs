//! What one server is, given what its proxy told last and when.

use std::time::{Duration, Instant};

use crate::wire::postgres::link::{Answering, Epoch, Heartbeat, Role};

/// How long news count.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Without a heartbeat for so long, the host hangs, or the way to it.
    pub heartbeat_max: Duration,
    /// With a question of the watch unanswered for so long, the server hangs.
    pub silent_max: Duration,
    /// Nothing is adopted as the cluster before every server was heard, or so much time passed.
    pub first_look: Duration,
}

impl Default for Limits {
    /// Proxies send every 50 ms.
    fn default() -> Self {
        Self {
            heartbeat_max: Duration::from_millis(150),
            silent_max: Duration::from_millis(150),
            first_look: Duration::from_secs(1),
        }
    }
}

/// What a server is good for at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Condition {
    /// It was never heard.
    #[error("it was not heard yet")]
    Unheard,
    /// The link to its proxy is gone.
    #[error("there is no link to its proxy")]
    Lost,
    /// Its heartbeats stay away: the host hangs, or the network.
    #[error("its proxy is silent")]
    HostHangs,
    /// The proxy is alive, and the server does not answer it.
    #[error("it does not answer its proxy")]
    ServerHangs,
    /// The proxy has no connection to the server.
    #[error("its proxy cannot reach it")]
    Unreachable,
    /// The proxy keeps everybody away from it.
    #[error("it is fenced: a later primary was attested")]
    Fenced,
    /// It belongs to another cluster.
    #[error("it belongs to another cluster")]
    Foreign,
    /// It has not said what it is.
    #[error("it has not said yet what it is")]
    Unknown,
    /// It is a primary of the highest epoch known.
    #[error("it is the primary")]
    Primary,
    /// It is a primary of an epoch that is over, or of one that is disputed.
    #[error("it is a primary of an epoch that is over, or disputed")]
    OldPrimary,
    /// It follows.
    #[error("it is a standby")]
    Standby,
}

/// The last news of a server.
#[derive(Clone, Debug, Default)]
pub(super) enum News {
    #[default]
    None,
    Lost,
    Heard {
        at: Instant,
        beat: Heartbeat,
    },
}

/// A server as the view remembers it.
#[derive(Clone, Debug, Default)]
pub(super) struct Server {
    pub(super) news: News,
    /// The epoch of which it last said that it is primary. Silence does not take that back: only the
    /// server can, or a later epoch makes it void.
    pub(super) claim: Option<Epoch>,
}

impl Server {
    /// The heartbeat, if the server may be used for anything; else why not.
    pub(super) fn usable(
        &self,
        known: Option<&Epoch>,
        now: Instant,
        limits: &Limits,
    ) -> Result<&Heartbeat, Condition> {
        let (at, beat) = match &self.news {
            News::None => return Err(Condition::Unheard),
            News::Lost => return Err(Condition::Lost),
            News::Heard { at, beat } => (*at, beat),
        };
        if known.is_some_and(|known| known.system != beat.epoch.system) && beat.epoch.system != 0 {
            return Err(Condition::Foreign);
        }
        let quiet = now.saturating_duration_since(at);
        if quiet > limits.heartbeat_max {
            return Err(Condition::HostHangs);
        }
        // While heartbeats say that a question waits, it goes on waiting between them.
        let silent = match (&beat.answering, beat.silent_ms) {
            (Answering::Unreachable, _) => return Err(Condition::Unreachable),
            (Answering::Silent, waited) => Duration::from_millis(u64::from(waited)) + quiet,
            (Answering::Yes, _) => Duration::ZERO,
        };
        if silent > limits.silent_max {
            return Err(Condition::ServerHangs);
        }
        if beat.is_fenced {
            return Err(Condition::Fenced);
        }
        if beat.epoch.is_unknown() || beat.role == Role::Unknown {
            return Err(Condition::Unknown);
        }
        Ok(beat)
    }

    /// The cluster that it says it belongs to.
    pub(super) fn system(&self) -> Option<u64> {
        match &self.news {
            News::Heard { beat, .. } if beat.epoch.system != 0 => Some(beat.epoch.system),
            _ => None,
        }
    }
}
