//! What the data plane shall do with a backend, from what the operator wants, what the checks found
//! and what the network says. Pure.

use lb_common::backend::BackendState;

use super::flows::Wanted;
use super::neighbour::{NextHop, Unresolved};
use crate::health::ProbeError;

/// What the operator wants of a backend. Outranks health, survives restart and reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Admin {
    /// Nothing in particular.
    #[default]
    None,
    /// No new flows.
    Drained,
    /// No packets.
    Disabled,
}

impl Admin {
    /// The word for it in `lb status` and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Drained => "drained",
            Self::Disabled => "disabled",
        }
    }
}

/// What the checks say of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// Its pool has no check.
    Unchecked,
    /// No verdict yet; an earlier agent left it in service or not.
    Unknown {
        /// Whether the earlier agent had it in service.
        was_up: bool,
    },
    /// It passes.
    Up,
    /// It does not.
    Down {
        /// What the deciding probe met.
        reason: ProbeError,
    },
}

impl Health {
    /// The word for it in `lb status` and JSON.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Unchecked => "unchecked",
            Self::Unknown { .. } => "unknown",
            Self::Up => "up",
            Self::Down { .. } => "down",
        }
    }
}

/// What is known of the way to a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Path {
    /// Nothing yet.
    Unknown,
    /// What an earlier agent left in the map, until the kernel is heard.
    Adopted,
    /// The next hop.
    Known(NextHop),
    /// There is none, and why.
    None(Unresolved),
}

/// A backend's state, and why it has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    /// What is stored in the data plane.
    pub state: BackendState,
    /// Why, in words.
    pub reason: String,
}

impl Effective {
    fn new(state: BackendState, reason: impl Into<String>) -> Self {
        Self {
            state,
            reason: reason.into(),
        }
    }

    /// The state that the backend got: not always the one that checks and operator alone would give
    /// it, for flows' sake.
    pub fn follow(&mut self, state: BackendState, wanted: Wanted) {
        let is_alive = state.has(BackendState::ALIVE);
        if wanted.is_healthy && wanted.is_removed {
            self.reason = "removed from the configuration".into();
        }
        if wanted.is_healthy && !is_alive {
            self.reason += "; it was down since, so it has no flows to keep";
        }
        self.state = match (state.has(BackendState::NEW), is_alive) {
            (true, _) => BackendState::UP,
            (false, true) => BackendState::DRAINING,
            (false, false) => BackendState::DOWN,
        };
    }

    /// The word for the state in `lb status` and JSON.
    #[must_use]
    pub fn word(&self) -> &'static str {
        state_word(self.state)
    }
}

/// The word for a state in `lb status` and JSON.
#[must_use]
pub fn state_word(state: BackendState) -> &'static str {
    if state.has(BackendState::NEW) {
        "up"
    } else if state.has(BackendState::ALIVE) {
        "draining"
    } else {
        "down"
    }
}

/// Decides. What keeps a backend down is named in the order in which somebody would look into it.
#[must_use]
pub fn decide(admin: Admin, health: &Health, path: &Path) -> Effective {
    if admin == Admin::Disabled {
        return Effective::new(BackendState::DOWN, "disabled by the operator");
    }
    match path {
        Path::None(unresolved) => {
            return Effective::new(BackendState::DOWN, unresolved.to_string());
        }
        Path::Unknown => {
            return Effective::new(BackendState::DOWN, "next hop not resolved yet");
        }
        Path::Adopted | Path::Known(_) => {}
    }
    let passing = match health {
        Health::Down { reason } => {
            return Effective::new(BackendState::DOWN, format!("check failed: {reason}"));
        }
        Health::Unknown { was_up: false } => {
            return Effective::new(BackendState::DOWN, "waiting for its first checks");
        }
        Health::Unknown { was_up: true } => "as the agent before left it",
        Health::Unchecked => "its pool has no check",
        Health::Up => "check passed",
    };
    match admin {
        Admin::Drained => Effective::new(BackendState::DRAINING, "drained by the operator"),
        Admin::None | Admin::Disabled => Effective::new(BackendState::UP, passing),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::agent::interface::Mac;

    #[test]
    fn every_combination_has_its_state_and_its_reason() {
        let address: IpAddr = "10.0.1.11".parse().unwrap();
        let hop = Path::Known(NextHop {
            interface_index: 2,
            mac: Mac([2, 0, 0, 0, 0, 1]),
            gateway: None,
            source: None,
        });
        let lost = Path::None(Unresolved::NoRoute { address });
        let refused = Health::Down {
            reason: ProbeError::Refused,
        };
        let was_up = Health::Unknown { was_up: true };
        let fresh = Health::Unknown { was_up: false };
        for (admin, health, path, word, reason) in [
            (Admin::None, &Health::Up, &hop, "up", "check passed"),
            (
                Admin::None,
                &Health::Unchecked,
                &hop,
                "up",
                "its pool has no check",
            ),
            (
                Admin::None,
                &refused,
                &hop,
                "down",
                "check failed: connection refused",
            ),
            (
                Admin::None,
                &fresh,
                &hop,
                "down",
                "waiting for its first checks",
            ),
            (
                Admin::None,
                &was_up,
                &Path::Adopted,
                "up",
                "as the agent before left it",
            ),
            (
                Admin::None,
                &Health::Up,
                &lost,
                "down",
                "no route to 10.0.1.11",
            ),
            (
                Admin::None,
                &Health::Up,
                &Path::Unknown,
                "down",
                "next hop not resolved yet",
            ),
            (
                Admin::Drained,
                &Health::Up,
                &hop,
                "draining",
                "drained by the operator",
            ),
            (
                Admin::Drained,
                &refused,
                &hop,
                "down",
                "check failed: connection refused",
            ),
            (
                Admin::Disabled,
                &Health::Up,
                &hop,
                "down",
                "disabled by the operator",
            ),
            (
                Admin::Disabled,
                &refused,
                &lost,
                "down",
                "disabled by the operator",
            ),
        ] {
            let effective = decide(admin, health, path);
            assert_eq!(
                (effective.word(), effective.reason.as_str()),
                (word, reason)
            );
        }
    }
}
