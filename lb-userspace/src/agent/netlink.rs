//! The route netlink sockets of this host: questions with their answers, and the stream of changes.
//!
//! `interface`, `neighbour` and `vip` ask through [`Netlink`] and listen through [`Events`]. Nothing
//! here knows what a question is about. Sockets belong to the network namespace of the thread that
//! opens them.

use std::{io, sync::Arc, time::Duration};

use futures::StreamExt;
use rtnetlink::{
    MulticastGroup,
    packet_core::{
        NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage,
        NetlinkPayload,
    },
    packet_route::RouteNetlinkMessage,
    proto::{NetlinkCodec, NetlinkFramed},
    sys::{AsyncSocket, SocketAddr, TokioSocket, protocols::NETLINK_ROUTE},
};
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};

/// The kernel answers from memory; silence this long means that the answer was lost.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Room for changes that were not read yet; the kernel grants up to `net.core.rmem_max`. Past it it
/// drops them and says so, and we read everything anew.
const EVENTS_BUFFER_BYTES: u32 = 1 << 20;

/// What marks our neighbours and addresses as ours, in the kernel's "who put this here" field
/// (`rtm_protocol`'s number space, `IFA_PROTO`, `NDA_PROTOCOL`): `l`, which nobody else has taken.
pub const MARK: u8 = 0x6c;

/// Why netlink did not answer.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The socket could not be opened.
    #[error("cannot open a route netlink socket: {0}")]
    Open(#[source] io::Error),
    /// The kernel said no.
    #[error("the kernel refused to {what}: {source}")]
    Refused {
        /// What was asked, as in "add 192.0.2.1 to eth0".
        what: String,
        /// The kernel's errno.
        source: io::Error,
    },
    /// No answer, or only part of it.
    #[error("no answer from the kernel when asked to {what}")]
    Unanswered {
        /// What was asked.
        what: String,
    },
}

impl NetlinkError {
    /// The kernel's errno, when it refused.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } => source.raw_os_error(),
            Self::Open(_) | Self::Unanswered { .. } => None,
        }
    }
}

/// How a request is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    /// One object.
    Get,
    /// All objects.
    Dump,
    /// Make it; refused with `EEXIST` where it is already there.
    Create,
    /// Make it or change what is there.
    Set,
    /// Take it away.
    Delete,
}

impl Verb {
    fn flags(self) -> u16 {
        NLM_F_REQUEST
            | match self {
                Self::Get => 0,
                Self::Dump => NLM_F_DUMP,
                Self::Create => NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
                Self::Set => NLM_F_ACK | NLM_F_CREATE,
                Self::Delete => NLM_F_ACK,
            }
    }
}

/// A socket for questions. Cloning is shallow; the socket closes with the last clone.
#[derive(Debug, Clone)]
pub struct Netlink {
    handle: rtnetlink::Handle,
    /// The kernel refuses a second dump on a socket (`EBUSY`) until the first has been read.
    dumping: Arc<Semaphore>,
    /// Drives the socket; aborted when dropped.
    _driver: Arc<JoinSet<()>>,
}

impl Netlink {
    /// Opens the socket in the network namespace of the calling thread, inside a tokio runtime.
    pub fn open() -> Result<Self, NetlinkError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(NetlinkError::Open)?;
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        Ok(Self {
            handle,
            dumping: Arc::new(Semaphore::new(1)),
            _driver: Arc::new(driver),
        })
    }

    /// Asks, and collects the whole answer. `what` completes "the kernel refused to …".
    pub(crate) async fn request(
        &self,
        verb: Verb,
        message: RouteNetlinkMessage,
        what: impl FnOnce() -> String,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        match timeout(ANSWER_TIMEOUT, self.ask(verb, message)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Some(source))) => Err(NetlinkError::Refused {
                what: what(),
                source,
            }),
            Ok(Err(None)) | Err(_) => Err(NetlinkError::Unanswered { what: what() }),
        }
    }

    async fn ask(
        &self,
        verb: Verb,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, Option<io::Error>> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = verb.flags();
        let _turn = match verb {
            Verb::Dump => Some(self.dumping.acquire().await.map_err(|_| None)?),
            _ => None,
        };
        let mut answer = self.handle.clone().request(request).map_err(|_| None)?;
        let mut objects = Vec::new();
        while let Some(part) = answer.next().await {
            match part.payload {
                NetlinkPayload::InnerMessage(object) => objects.push(object),
                NetlinkPayload::Error(error) => return Err(Some(error.to_io())),
                NetlinkPayload::Overrun(_) => return Err(None),
                _ => {}
            }
        }
        Ok(objects)
    }
}

/// One thing heard from the kernel.
#[derive(Debug)]
pub(crate) enum Event {
    /// An object came, changed or went.
    Changed(RouteNetlinkMessage),
    /// Changes were lost: everything must be read anew.
    Lost,
}

/// The stream of changes. It is read only as fast as its owner handles them: what waits does so in
/// the kernel's buffer, which is bounded, and an overflow comes out as [`Event::Lost`].
pub(crate) struct Events {
    groups: &'static [MulticastGroup],
    socket: NetlinkFramed<RouteNetlinkMessage, TokioSocket, NetlinkCodec>,
}

impl Events {
    /// Subscribes, in the network namespace of the calling thread.
    pub(crate) fn subscribe(groups: &'static [MulticastGroup]) -> Result<Self, NetlinkError> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE).map_err(NetlinkError::Open)?;
        let plain = socket.socket_mut();
        plain
            .set_rx_buf_sz(EVENTS_BUFFER_BYTES)
            .map_err(NetlinkError::Open)?;
        plain
            .bind(&SocketAddr::new(0, 0))
            .map_err(NetlinkError::Open)?;
        for group in groups {
            plain
                .add_membership(*group as u32)
                .map_err(NetlinkError::Open)?;
        }
        Ok(Self {
            groups,
            socket: NetlinkFramed::new(socket),
        })
    }

    /// The next change. Cancel-safe: a change is either returned or still waiting. `None` when
    /// the socket failed; then [`Events::resubscribe`].
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            let (message, _) = self.socket.next().await?;
            match message.payload {
                NetlinkPayload::InnerMessage(object) => return Some(Event::Changed(object)),
                NetlinkPayload::Overrun(_) => return Some(Event::Lost),
                _ => {}
            }
        }
    }

    /// Opens the socket anew after it failed. What changed meanwhile is lost.
    pub(crate) fn resubscribe(&mut self) -> Result<(), NetlinkError> {
        *self = Self::subscribe(self.groups)?;
        Ok(())
    }
}
