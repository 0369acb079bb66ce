//! Follows every database server by a watch link to its proxy, and tells each proxy the latest epoch
//! that was attested. Runs on the daemon's main thread; sessions see what comes of it in the
//! cluster's picture.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::cluster::Cluster;
use crate::upstream::postgres::{Connector, Credentials, Reader, ServerError, Who};
use crate::wire::postgres::link::{self, Attest, Epoch, FromLogic, FromProxy};

/// Who logs in for a watch; `links` of `[db_proxy]` names it.
pub(super) const USER: &str = "lb";
/// A watch needs a name of a database, and reads none.
const DATABASE: &str = "postgres";
/// How often it is looked who became silent.
const TICK: Duration = Duration::from_millis(20);
/// How long a link may take to come up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// After so long a silence the link is made anew.
const DEAD_AFTER: Duration = Duration::from_secs(2);
/// How long after a failure a link is tried again.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Follows every server of every cluster, for ever.
pub(super) async fn follow(clusters: Vec<Arc<Cluster>>, credentials: Credentials) {
    let mut tasks = tokio::task::JoinSet::new();
    for cluster in clusters {
        for server in 0..cluster.servers.len() {
            tasks.spawn_local(follow_one(
                Arc::clone(&cluster),
                server,
                credentials.clone(),
            ));
        }
        tasks.spawn_local(async move {
            let mut interval = tokio::time::interval(TICK);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                interval.tick().await;
                cluster.tick();
            }
        });
    }
    while tasks.join_next().await.is_some() {}
}

async fn follow_one(cluster: Arc<Cluster>, server: usize, credentials: Credentials) {
    let connector = cluster.connector(server);
    let name = &cluster.servers[server].name;
    let mut known = String::new();
    loop {
        let Err(error) = link(&cluster, server, &connector, &credentials).await;
        let why = error.to_string();
        if why != known {
            tracing::warn!(
                database = cluster.name,
                server = name,
                error = why,
                "no link"
            );
            known.clone_from(&why);
        }
        cluster.unlinked(server, why);
        tokio::time::sleep(RETRY_AFTER).await;
    }
}

/// One link, until it breaks.
async fn link(
    cluster: &Cluster,
    server: usize,
    connector: &Connector,
    credentials: &Credentials,
) -> Result<Infallible, ServerError> {
    let who = Who {
        user: USER,
        database: DATABASE,
        credentials,
    };
    let options = [(link::OPTION, link::Mode::Watch.as_option())];
    let logged_in = tokio::time::timeout(CONNECT_TIMEOUT, connector.log_in(who, &options));
    let logged_in = logged_in.await;
    let mut logged_in = logged_in.map_err(|_| ServerError::Timeout(CONNECT_TIMEOUT))??;
    if !logged_in.is_linked {
        return Err(ServerError::Protocol(
            "it has no lb db-proxy: name the proxy's address in servers of [[database]]".into(),
        ));
    }
    let mut reader = Reader::of(std::mem::take(&mut logged_in.rest));
    let stream = &mut logged_in.stream;
    let mut turns = cluster.turns();
    let mut told = Epoch::default();
    loop {
        let view = cluster.view();
        let attested = view.attested(view.shard_of(server)).unwrap_or_default();
        if attested != told {
            let mut message = Vec::new();
            FromLogic::Attest(Attest { epoch: attested }).write(&mut message);
            stream.write_all(&message).await?;
            stream.flush().await?;
            told = attested;
        }
        tokio::select! {
            message = reader.next(stream) => {
                let (tag, body) = message?;
                take(cluster, server, tag, &body)?;
            }
            _ = turns.changed() => {}
            () = tokio::time::sleep(DEAD_AFTER) => return Err(ServerError::Timeout(DEAD_AFTER)),
        }
    }
}

fn take(cluster: &Cluster, server: usize, tag: u8, body: &[u8]) -> Result<(), ServerError> {
    match tag {
        link::TAG => {
            let malformed = |error: link::LinkError| ServerError::Protocol(error.to_string());
            if let FromProxy::Heartbeat(beat) = FromProxy::read(body).map_err(malformed)? {
                cluster.heard(server, *beat);
            }
            Ok(())
        }
        b'E' => Err(ServerError::Refused(
            crate::wire::postgres::error::PgError::read(body),
        )),
        _ => Ok(()),
    }
}
