//! Servers that behave and misbehave, on loopback ports of their own.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

/// What a server does with a connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum Manner {
    /// Keeps it open and says nothing.
    Silent,
    /// Closes it at once.
    Close,
    /// Resets it at once.
    Reset,
    /// Greets, then keeps it open.
    Greet(&'static [u8]),
    /// Reads a request, answers this and closes.
    Answer(&'static [u8]),
    /// Reads a request, answers this and keeps the connection open.
    AnswerAndStay(&'static [u8]),
    /// Reads a request and answers this over and over.
    Repeat(&'static [u8]),
    /// Reads a request and answers this byte by byte, slowly, then goes on with blanks.
    Drip(&'static [u8]),
    /// As `Answer`, but takes the next connection only when the one before is done.
    OneAtATime(&'static [u8]),
}

pub(super) struct Server {
    pub(super) address: SocketAddr,
    task: JoinHandle<()>,
    accepted: mpsc::UnboundedReceiver<()>,
    requests: mpsc::UnboundedReceiver<Vec<u8>>,
}

impl Server {
    pub(super) fn start(manner: Manner) -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap(), manner)
    }

    pub(super) fn start_at(address: SocketAddr, manner: Manner) -> Self {
        let listener = listen(address, 128);
        let address = listener.local_addr().unwrap();
        let (accepted_sender, accepted) = mpsc::unbounded_channel();
        let (request_sender, requests) = mpsc::unbounded_channel();
        let task = tokio::spawn(async move {
            // Connections die with the server.
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    stream = listener.accept() => {
                        let _ = accepted_sender.send(());
                        let (stream, _) = stream.unwrap();
                        let served = serve(stream, manner, request_sender.clone());
                        match manner {
                            Manner::OneAtATime(_) => served.await,
                            _ => drop(connections.spawn(served)),
                        }
                    }
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Self {
            address,
            task,
            accepted,
            requests,
        }
    }

    /// Waits for one more accepted connection.
    pub(super) async fn accepted(&mut self) {
        timeout(super::PATIENCE, self.accepted.recv())
            .await
            .expect("a connection in time");
    }

    /// Waits for one more request.
    pub(super) async fn request(&mut self) -> String {
        let request = timeout(super::PATIENCE, self.requests.recv()).await;
        String::from_utf8(request.expect("a request in time").unwrap()).unwrap()
    }

    /// Ends the server and all its connections; answers where it was.
    pub(super) async fn kill(self) -> SocketAddr {
        self.task.abort();
        let _ = self.task.await;
        self.address
    }
}

pub(super) fn listen(address: SocketAddr, backlog: u32) -> TcpListener {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }
    .unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket.listen(backlog).unwrap()
}

/// An address where nobody listens, and where nobody will: the socket that has it never does.
pub(super) fn refusing() -> (SocketAddr, TcpSocket) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    (socket.local_addr().unwrap(), socket)
}

async fn serve(mut stream: TcpStream, manner: Manner, requests: mpsc::UnboundedSender<Vec<u8>>) {
    // The checker resets its connections: errors are how they end here.
    let _ = match manner {
        Manner::Silent => Ok(()),
        Manner::Close => return,
        Manner::Reset => {
            stream.set_zero_linger().unwrap();
            return;
        }
        Manner::Greet(greeting) => stream.write_all(greeting).await,
        Manner::Answer(answer) | Manner::OneAtATime(answer) => {
            requests.send(read_request(&mut stream).await).ok();
            let _ = stream.write_all(answer).await;
            return;
        }
        Manner::AnswerAndStay(answer) => {
            requests.send(read_request(&mut stream).await).ok();
            stream.write_all(answer).await
        }
        Manner::Repeat(answer) => {
            read_request(&mut stream).await;
            while stream.write_all(answer).await.is_ok() {}
            return;
        }
        Manner::Drip(answer) => {
            read_request(&mut stream).await;
            for byte in answer.iter().chain(std::iter::repeat(&b' ')) {
                if stream.write_all(&[*byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            return;
        }
    };
    let mut sink = [0; 256];
    while stream.read(&mut sink).await.is_ok_and(|length| length > 0) {}
}

/// Reads up to the end of a request's head, or of the connection.
async fn read_request(stream: &mut TcpStream) -> Vec<u8> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if !stream
            .read_buf(&mut request)
            .await
            .is_ok_and(|length| length > 0)
        {
            break;
        }
    }
    request
}
