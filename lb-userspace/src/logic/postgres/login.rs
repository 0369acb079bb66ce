//! From an accepted connection to a session: who the client is, which database it wants, and what it
//! is told of the servers before its first query.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::pool::Upstream;
use super::session::{Identity, Session, refusal, shard_of_settings};
use super::worker::Worker;
use crate::downstream::postgres::clients::Registered;
use crate::downstream::postgres::{self as downstream, LOGIN_TIMEOUT, Opening, Refused};
use crate::transport::stream::Stream;
use crate::upstream::postgres::settings::Map;
use crate::wire::postgres::error::{PgError, code};
use crate::wire::postgres::startup::Startup;
use crate::wire::postgres::write;

/// The most clients, all threads together.
pub(super) const CLIENTS_MAX: u64 = 50_000;
/// undefined_database
const UNDEFINED_DATABASE: &str = "3D000";
/// How long it is waited before it is looked again which servers there are.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a standby may take, while there may be another server.
const STANDBY_TIMEOUT: Duration = Duration::from_millis(200);

/// Serves one connection from its first packet to its end.
pub(super) async fn serve(worker: Rc<Worker>, stream: TcpStream, address: SocketAddr) {
    let shared = Arc::clone(&worker.shared);
    let count = shared.clients.fetch_add(1, Ordering::Relaxed);
    let _ = stream.set_nodelay(true);
    let mut slot = Some(Stream::Tcp(stream));
    // Boxed: a login needs more room than an idle client may take.
    let work = Box::pin(tokio::time::timeout(
        LOGIN_TIMEOUT,
        log_in(&worker, &mut slot, address, count >= CLIENTS_MAX),
    ));
    match work.await {
        Ok(Ok((registered, session))) => {
            shared.logins.add();
            session.run().await;
            drop(registered);
        }
        Ok(Err(Refused::Told(error))) => {
            shared.logins_refused.add();
            tracing::info!(client = %address, %error, "login refused");
            if let Some(stream) = &mut slot {
                Box::pin(downstream::refuse(stream, &error)).await;
            }
        }
        Ok(Err(Refused::Silently)) | Err(_) => {}
    }
    shared.clients.fetch_sub(1, Ordering::Relaxed);
}

async fn log_in(
    worker: &Rc<Worker>,
    slot: &mut Option<Stream>,
    address: SocketAddr,
    is_full: bool,
) -> Result<(Registered, Box<Session>), Refused> {
    let door = worker.door();
    let startup = match downstream::open(door.acceptor.as_ref(), slot).await? {
        Opening::Login(startup) => startup,
        Opening::Cancel { process, secret } => {
            cancel(worker, process, secret).await;
            return Err(Refused::Silently);
        }
    };
    let stream = slot.as_mut().ok_or(Refused::Silently)?;
    if is_full {
        let what = format!("sorry, too many clients already ({CLIENTS_MAX})");
        return Err(PgError::fatal(code::TOO_MANY_CONNECTIONS, what).into());
    }
    let (user, database) = downstream::user_and_database(&startup)?;
    downstream::negotiate(stream, &startup, &[]).await?;
    let credentials = downstream::authenticate(&door, stream, user).await?;
    let Some(position) = worker.shared.cluster_of(database) else {
        let what = format!("no [[database]] of lb serves the database \"{database}\"");
        return Err(PgError::fatal(UNDEFINED_DATABASE, what).into());
    };
    let parameters = startup.parameters.iter();
    let map = Map::of_startup(parameters.map(|(name, value)| (name.as_str(), value.as_str())));
    let base = worker.settings.hold(map);
    let who = Rc::new(Identity {
        cluster: Arc::clone(&worker.shared.clusters[position]),
        position,
        shards: worker.shared.clusters[position].shards(),
        user: user.into(),
        database: database.into(),
        credentials,
        parameters: settings(&startup),
        base,
    });
    let shard = shard_of_settings(&who.base, |key| who.shard_for(key)).unwrap_or_default();
    let (server, upstream) = first_server(worker, &who, shard).await?;
    let mut hello = write::AUTHENTICATION_OK.to_vec();
    greet(&upstream, &mut hello);
    let registered = worker
        .clients
        .register(user, database, address, stream.is_encrypted());
    write::backend_key(&mut hello, registered.client.id, &registered.client.secret);
    write::ready(&mut hello, b'I');
    stream.write_all(&hello).await?;
    stream.flush().await?;
    let stream = slot.take().ok_or(Refused::Silently)?;
    let me = Rc::clone(&registered.client);
    let mut session = Box::new(Session::new(Rc::clone(worker), who, shard, me, stream));
    session.has(server, upstream);
    Ok((registered, session))
}

/// What a client's login gives its session, as the logins of its own connections are to give it.
fn settings(startup: &Startup) -> Box<[(String, String)]> {
    let parameters = startup.parameters.iter();
    parameters
        .filter(|(name, _)| {
            !matches!(name.as_str(), "user" | "database" | "replication")
                && !name.starts_with("_pq_.")
        })
        .cloned()
        .collect()
}

/// The first connection to a server says whether user, database and settings are good. It is the
/// primary's, as long as there is one.
async fn first_server(
    worker: &Rc<Worker>,
    who: &Identity,
    shard: usize,
) -> Result<(usize, Box<Upstream>), PgError> {
    let deadline = Instant::now() + worker.failover_timeout();
    loop {
        let view = who.cluster.view();
        let mut servers: Vec<_> = view.primary(shard).into_iter().collect();
        servers.extend(view.standbys(shard));
        for server in servers {
            let limit = if view.is_standby(server) {
                STANDBY_TIMEOUT
            } else {
                worker.failover_timeout()
            };
            let work = worker.prepare(who, server, None, &who.base);
            match tokio::time::timeout(limit, work).await {
                Ok(Ok(upstream)) => return Ok((server, upstream)),
                Ok(Err(error)) => {
                    tracing::debug!(%error, "a login found a server that cannot be used");
                    if let Some(error) = refusal(error) {
                        return Err(error);
                    }
                }
                Err(_) => {}
            }
        }
        if Instant::now() >= deadline {
            let why = view.primary(shard).err().map(|why| why.to_string());
            let what = match (why, who.cluster.ready()) {
                (Some(why), Err(servers)) => format!("{why}; {servers}"),
                (Some(why), Ok(())) => why,
                (None, _) => "no server can be connected to".to_owned(),
            };
            return Err(PgError::fatal(code::CANNOT_CONNECT_NOW, what));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What a client is told of its server. It is to see a primary, wherever its reads go.
fn greet(upstream: &Upstream, hello: &mut Vec<u8>) {
    for (name, value) in &upstream.parameters {
        let value = match name.as_str() {
            "in_hot_standby" | "default_transaction_read_only" => "off",
            _ => value,
        };
        write::parameter_status(hello, name, value);
    }
}

/// Does what a CancelRequest asks for, on the thread that has the client.
async fn cancel(worker: &Rc<Worker>, process: u32, secret: Vec<u8>) {
    worker.shared.cancel_requests.add();
    let thread = process as usize % worker.shared.threads.max(1);
    if let Some(way) = worker.shared.cancels.get(thread) {
        let _ = way.send((process, secret)).await;
    }
}

/// Cancels what a client of this thread does, if the key is right.
pub(super) fn cancel_here(worker: &Rc<Worker>, process: u32, secret: &[u8]) {
    let client = worker.clients.get(process);
    let Some(client) = client.filter(|client| client.has_secret(secret)) else {
        tracing::debug!(process, "a cancel request with an unknown key");
        return;
    };
    if let Some(cancels) = client.serving() {
        tokio::task::spawn_local(cancels.cancel());
    }
}
