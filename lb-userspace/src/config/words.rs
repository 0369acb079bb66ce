//! The enums of the configuration, each value with the word that stands for it in the file, in
//! `lb status` and in JSON. A word is written here once.

use std::{fmt, str::FromStr};

use super::suggest;

/// An enum whose values have words.
pub(super) trait Word: FromStr<Err = UnknownWord> {
    /// Every word, in the order of the documentation.
    const WORDS: &[&str];
}

/// A word that is none of those that a key takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{wrong}; {right}")]
pub struct UnknownWord {
    /// What is wrong.
    pub wrong: String,
    /// What would be right.
    pub right: String,
}

impl UnknownWord {
    pub(super) fn new(word: &str, words: &[&str]) -> Self {
        Self {
            wrong: format!("is {}", suggest::shown(word)),
            right: suggest::one_of(word, words),
        }
    }
}

macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$meaning:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$meaning])* $variant,)+
        }

        impl $name {
            /// Every value, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word for it in the configuration.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        impl Word for $name {
            const WORDS: &[&str] = &[$($word),+];
        }

        impl FromStr for $name {
            type Err = UnknownWord;

            fn from_str(word: &str) -> Result<Self, UnknownWord> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(UnknownWord::new(word, Self::WORDS)),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

words! {
    /// How the XDP program is attached.
    XdpMode {
        /// Native where the driver has it, generic otherwise.
        Auto = "auto",
        /// In the driver, or not at all.
        Native = "native",
        /// In the kernel's generic hook: slower, works with every interface.
        Generic = "generic",
    }
}

words! {
    /// How a packet reaches a backend.
    Forward {
        /// By its MAC address, on the same network.
        L2 = "l2",
        /// Inside an IP tunnel.
        Ipip = "ipip",
    }
}

words! {
    /// Which group the alternates of a failed backend come from.
    Spill {
        /// Primaries and standbys, by weight.
        Both = "both",
        /// Primaries only when no standby is left.
        StandbysFirst = "standbys-first",
        /// Standbys only when no primary is left.
        PrimariesFirst = "primaries-first",
    }
}

words! {
    /// What becomes of the flows of a backend that is lost.
    OnBackendLoss {
        /// TCP flows are answered with RST, so that clients connect again at once.
        Reset = "reset",
        /// Flows go to another backend as they are.
        Migrate = "migrate",
    }
}

words! {
    /// What becomes of packets when no backend is usable.
    OnEmpty {
        /// Answered with TCP RST or ICMP port unreachable.
        Reset = "reset",
        /// Dropped and counted.
        Drop = "drop",
        /// Left to this host's own network stack.
        Pass = "pass",
    }
}

words! {
    /// When flows are recorded.
    Tracking {
        /// While a slot is unstable, and only those that need it.
        Auto = "auto",
        /// From their first packet.
        Always = "always",
        /// Never: flows move with every change.
        Never = "never",
    }
}

words! {
    /// The group of a backend.
    Role {
        /// Takes flows while it is up.
        Primary = "primary",
        /// Takes flows of others that failed.
        Standby = "standby",
    }
}

words! {
    /// When a client gives its server connection back.
    PoolMode {
        /// After each transaction.
        Transaction = "transaction",
        /// When it leaves.
        Session = "session",
    }
}

words! {
    /// How clients of the database proxy prove who they are.
    ClientAuth {
        /// By a password: SCRAM, or md5 where nothing else is known.
        Password = "password",
        /// Not at all.
        Trust = "trust",
    }
}

words! {
    /// Whether connections to the database server are encrypted.
    ServerTls {
        /// Never.
        Disable = "disable",
        /// If the server offers it.
        Prefer = "prefer",
        /// Always, whoever the server is.
        Require = "require",
        /// Always, and the server proves its name.
        VerifyFull = "verify-full",
    }
}

words! {
    /// The transport protocol of a service.
    Protocol {
        /// TCP.
        Tcp = "tcp",
        /// UDP.
        Udp = "udp",
    }
}

words! {
    /// Where a flow of a UDP service begins.
    UdpFlows {
        /// Nowhere that could be seen: any datagram may be the first.
        Plain = "plain",
        /// With a QUIC Initial packet.
        Quic = "quic",
    }
}

words! {
    /// Who decides that a cache server has failed.
    Authority {
        /// Redis Sentinel.
        Sentinel = "sentinel",
        /// This daemon alone.
        Local = "local",
    }
}

words! {
    /// How keys are spread over layer one.
    HashKind {
        /// A Maglev table over the servers' names.
        Maglev = "maglev",
        /// As nutcracker does with `distribution: ketama` and `hash: fnv1a_64`.
        Ketama = "ketama",
    }
}

words! {
    /// Whether a write to the cache is answered before its copy has it.
    WriteMode {
        /// Yes.
        Async = "async",
        /// No.
        Sync = "sync",
    }
}

words! {
    /// What reads do between a failure and its verdict.
    DuringFailover {
        /// The copy answers, by at most its lag behind.
        Serve = "serve",
        /// They wait.
        Strict = "strict",
    }
}

words! {
    /// Where reads of a database go.
    ReadRoute {
        /// Known reads to standbys.
        Split = "split",
        /// Everything to the primary.
        Primary = "primary",
    }
}
