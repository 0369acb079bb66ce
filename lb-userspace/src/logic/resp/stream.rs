//! A socket of either side, plain or with TLS, as the event loop uses it: it reads and writes what it
//! can at once, and never waits.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use mio::event::Source;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, Connection, ServerConfig, ServerConnection};

/// Plain bytes that TLS may hold back for a socket that is full.
const TLS_BUFFER_BYTES: usize = 256 << 10;

/// A connected socket, or one that is about to be.
#[derive(Debug)]
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<Tls>),
}

#[derive(Debug)]
pub(super) struct Tls {
    socket: TcpStream,
    session: Connection,
}

impl Stream {
    /// A client that connected by TLS.
    pub fn accept(socket: TcpStream, config: &Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        let mut session = ServerConnection::new(Arc::clone(config))?;
        session.set_buffer_limit(Some(TLS_BUFFER_BYTES));
        let session = Connection::Server(session);
        Ok(Self::Tls(Box::new(Tls { socket, session })))
    }

    /// Begins to connect to a server.
    pub fn connect(address: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> io::Result<Self> {
        let socket = TcpStream::connect(address)?;
        let Some(config) = tls else {
            return Ok(Self::Plain(socket));
        };
        let name = ServerName::IpAddress(address.ip().into());
        let mut session =
            ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        session.set_buffer_limit(Some(TLS_BUFFER_BYTES));
        let session = Connection::Client(session);
        Ok(Self::Tls(Box::new(Tls { socket, session })))
    }

    fn socket(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => &mut tls.socket,
        }
    }

    /// Asks for events. Edges only, of both kinds, for as long as the socket lives: nothing is ever
    /// asked again.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let both = Interest::READABLE | Interest::WRITABLE;
        let socket = self.socket();
        socket.register(registry, token, both)?;
        socket.set_nodelay(true).or(Ok(()))
    }

    pub fn deregister(&mut self, registry: &Registry) {
        // The socket is closed next, which does the same.
        let _ = self.socket().deregister(registry);
    }

    /// Whether a connection that was begun is there.
    pub fn connected(&mut self) -> io::Result<bool> {
        if let Some(error) = self.socket().take_error()? {
            return Err(error);
        }
        match self.socket().peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads what there is; 0 is the end, `WouldBlock` nothing yet.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read(buffer),
            Self::Tls(tls) => tls.read(buffer),
        }
    }

    /// Whether a read that filled less than its buffer has read all there was.
    pub fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// Writes what fits.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.write(bytes),
            Self::Tls(tls) => tls.write(bytes),
        }
    }

    /// Goes on writing what TLS has held back.
    pub fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(tls) => tls.send(),
        }
    }

    pub fn peer(&self) -> Option<SocketAddr> {
        match self {
            Self::Plain(socket) => socket.peer_addr().ok(),
            Self::Tls(tls) => tls.socket.peer_addr().ok(),
        }
    }
}

impl Tls {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
            let count = self.session.read_tls(&mut self.socket)?;
            let state = self.session.process_new_packets();
            // Also alerts go out.
            let sent = self.send();
            state.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            sent?;
            if count == 0 {
                return Ok(0);
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.session.writer().write(bytes)?;
        self.send()?;
        if count == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(count)
    }

    fn send(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
