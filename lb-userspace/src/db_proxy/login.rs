//! From an accepted connection to a session, or to the console: what a client is told of the server
//! before its first query.

use std::net::SocketAddr;
use std::rc::Rc;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::console::{self, Console};
use super::link::{self, WatchLink};
use super::pool::PoolKey;
use super::session::{End, Session, check_out, give};
use super::{Proxy, cancel};
use crate::downstream::postgres::clients::Registered;
use crate::downstream::postgres::{self as downstream, LOGIN_TIMEOUT, Opening, Refused};
use crate::transport::keepalive;
use crate::transport::stream::Stream;
use crate::upstream::postgres::Credentials;
use crate::upstream::postgres::settings::Map;
use crate::wire::postgres::error::{PgError, code};
use crate::wire::postgres::link::{Mode, OPTION};
use crate::wire::postgres::startup::Startup;
use crate::wire::postgres::write;

/// What a client gets.
pub(super) enum Service {
    Session(Box<Session>),
    Console(Box<Console>),
    Watch(Box<WatchLink>),
}

/// Serves a connection until its client has logged in; `None` if it does not.
pub(super) async fn log_in(
    proxy: &Rc<Proxy>,
    stream: TcpStream,
    address: SocketAddr,
) -> Option<(Registered, Service)> {
    let _ = stream.set_nodelay(true);
    keepalive::ask_after(&stream, proxy.config.borrow().pool.keepalive);
    let mut stream = Some(Stream::Tcp(stream));
    let work = greet(proxy, &mut stream, address);
    let outcome = tokio::time::timeout(LOGIN_TIMEOUT, work).await;
    let refused = match outcome {
        Ok(Ok(service)) => {
            proxy.stats.logins.add(1);
            return Some(service);
        }
        Ok(Err(refused)) => refused,
        Err(_) => Refused::Silently,
    };
    if let (Refused::Told(error), Some(stream)) = (refused, &mut stream) {
        proxy.stats.logins_refused.add(1);
        tracing::info!(client = %address, %error, "login refused");
        downstream::refuse(stream, &error).await;
    }
    None
}

async fn greet(
    proxy: &Rc<Proxy>,
    slot: &mut Option<Stream>,
    address: SocketAddr,
) -> Result<(Registered, Service), Refused> {
    let mut door = proxy.door();
    let startup = match downstream::open(door.acceptor.as_ref(), slot).await? {
        Opening::Login(startup) => startup,
        Opening::Cancel { process, secret } => {
            cancel::forward(proxy, process, &secret).await;
            return Err(Refused::Silently);
        }
    };
    let stream = slot.as_mut().ok_or(Refused::Silently)?;
    let config = Rc::clone(&proxy.config.borrow());
    if proxy.connections.get() > config.pool.max_clients {
        let what = format!(
            "sorry, too many clients already ({})",
            config.pool.max_clients
        );
        return Err(PgError::fatal(code::TOO_MANY_CONNECTIONS, what).into());
    }
    let (user, database) = downstream::user_and_database(&startup)?;
    let mode = link::mode(&startup);
    let known = if mode.is_some() { &[OPTION][..] } else { &[] };
    downstream::negotiate(stream, &startup, known).await?;
    if let Some(about) = &config.auth_query
        && door.users.secret(user).is_none()
    {
        door.looked_up = proxy.auth_query.look_up(about, user).await?;
    }
    let authenticated = downstream::authenticate(&door, stream, user).await;
    if let Err(Refused::Told(error)) = &authenticated
        && error.code == code::INVALID_PASSWORD
    {
        proxy.auth_query.doubt(user);
    }
    let credentials = authenticated?;
    let is_encrypted = stream.is_encrypted();
    let registered = proxy
        .clients
        .register(user, database, address, is_encrypted);
    if mode == Some(Mode::Watch) {
        link::may_watch(proxy, user)?;
        let mut hello = write::AUTHENTICATION_OK.to_vec();
        link::greeting(&mut hello);
        end_of_login(&registered, mode, &mut hello);
        stream.write_all(&hello).await?;
        stream.flush().await?;
        let stream = slot.take().ok_or(Refused::Silently)?;
        let link = WatchLink::new(Rc::clone(proxy), Rc::clone(&registered.client), stream);
        return Ok((registered, Service::Watch(Box::new(link))));
    }
    if console::is_console(database) {
        console::may_use(proxy, user)?;
        let mut hello = write::AUTHENTICATION_OK.to_vec();
        console::greeting(&mut hello);
        end_of_login(&registered, None, &mut hello);
        stream.write_all(&hello).await?;
        let stream = slot.take().ok_or(Refused::Silently)?;
        let console = Console::new(Rc::clone(proxy), Rc::clone(&registered.client), stream);
        return Ok((registered, Service::Console(Box::new(console))));
    }
    let session = open_session(proxy, slot, &startup, database, &credentials, &registered).await?;
    Ok((registered, Service::Session(Box::new(session))))
}

async fn open_session(
    proxy: &Rc<Proxy>,
    slot: &mut Option<Stream>,
    startup: &Startup,
    database: &str,
    credentials: &Credentials,
    registered: &Registered,
) -> Result<Session, Refused> {
    let parameters = startup.parameters.iter();
    let map = Map::of_startup(parameters.map(|(name, value)| (name.as_str(), value.as_str())));
    let settings = proxy.settings.hold(map);
    let key = PoolKey {
        database: database.to_owned(),
        user: registered.client.user.to_string(),
    };
    let pool = proxy.pool(&key, credentials).ok_or_else(|| {
        PgError::fatal(code::TOO_MANY_CONNECTIONS, "too many users and databases")
    })?;
    let greeting = match pool.greeting(&settings) {
        Some(greeting) => greeting,
        None => {
            // The first of its kind: the server itself says whether database and settings are good.
            registered.client.waits(true);
            let server = check_out(proxy, &pool, &settings).await;
            registered.client.waits(false);
            let server = server.map_err(|end| match end {
                End::Refused(error) => error,
                _ => PgError::fatal(code::CONNECTION_FAILURE, "the server closed the connection"),
            })?;
            let greeting = pool.greet(&server);
            give(&pool, server);
            greeting
        }
    };
    let mut hello = write::AUTHENTICATION_OK.to_vec();
    hello.extend_from_slice(&greeting);
    let mode = link::mode(startup);
    end_of_login(registered, mode, &mut hello);
    let stream = slot.as_mut().ok_or(Refused::Silently)?;
    stream.write_all(&hello).await?;
    stream.flush().await?;
    let stream = slot.take().ok_or(Refused::Silently)?;
    let client = Rc::clone(&registered.client);
    let mut session = Session::new(Rc::clone(proxy), pool, client, stream, settings);
    if mode.is_some() {
        session.has_link();
    }
    Ok(session)
}

fn end_of_login(registered: &Registered, mode: Option<Mode>, hello: &mut Vec<u8>) {
    write::backend_key(hello, registered.client.id, &registered.client.secret);
    if mode.is_some() {
        link::hello(hello);
    }
    write::ready(hello, b'I');
}
