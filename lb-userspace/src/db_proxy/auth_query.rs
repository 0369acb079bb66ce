//! `auth_query`: users whom `users_file` does not name are looked up in PostgreSQL. Called by logins.
//!
//! One task asks, on one connection, a question at a time; whoever logs in meanwhile waits in a queue.
//! Only verifiers are taken, as PostgreSQL stores them: no clear password comes here. What was found is
//! kept for a while, and also that there was nothing. Whether somebody comes in is not decided here.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::sync::{mpsc, oneshot};

use super::Proxy;
use crate::config::AuthQuery as About;
use crate::downstream::postgres::users::Secret;
use crate::telemetry::counter::Counter;
use crate::telemetry::histogram::Histogram;
use crate::upstream::postgres::{Server, ServerError, Who};
use crate::wire::postgres::error::{PgError, code};
use crate::wire::postgres::{md5, scram, write};

/// The most logins that wait for an answer.
const WAITING_MAX: usize = 1000;
/// How long PostgreSQL may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the connection may lie unused before it is closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// What was found is not forgotten earlier, however often somebody comes with a wrong password.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(1);
/// PostgreSQL has no longer names.
const NAME_BYTES_MAX: usize = 63;

/// What is known of users.
#[derive(Debug)]
pub(super) struct AuthQuery {
    kept: RefCell<HashMap<Box<str>, Kept>>,
    asks: mpsc::Sender<Question>,
    /// Counts up when the configuration is read again: the connection is made anew.
    generation: Cell<u64>,
    pub stats: AuthStats,
}

/// What is counted.
#[derive(Debug, Default)]
pub(super) struct AuthStats {
    /// Logins that were answered without asking PostgreSQL.
    pub kept: Counter,
    /// Answers of PostgreSQL by what they were.
    pub found: Counter,
    pub unknown: Counter,
    /// A password that is no verifier.
    pub refused: Counter,
    /// PostgreSQL could not be asked, or did not answer.
    pub failed: Counter,
    /// Logins refused because too many waited.
    pub queue_full: Counter,
    pub took: Histogram,
}

#[derive(Debug)]
struct Kept {
    /// `None`: there is no such user, or none with a password.
    secret: Option<Secret>,
    since: Instant,
}

/// A user to be looked up, and who waits for it.
#[derive(Debug)]
pub(super) struct Question {
    user: Box<str>,
    answer: oneshot::Sender<Result<Option<Secret>, PgError>>,
}

impl AuthQuery {
    /// With the questions that [`run`] is to answer.
    pub fn new() -> (Self, mpsc::Receiver<Question>) {
        let (asks, asked) = mpsc::channel(WAITING_MAX);
        let auth_query = Self {
            kept: RefCell::default(),
            asks,
            generation: Cell::new(0),
            stats: AuthStats::default(),
        };
        (auth_query, asked)
    }

    /// What PostgreSQL stores of a user's password; `None` if it has none.
    ///
    /// # Errors
    /// If too many wait, or PostgreSQL does not answer.
    pub async fn look_up(&self, about: &About, user: &str) -> Result<Option<Secret>, PgError> {
        if let Some(secret) = self.kept(about, user) {
            self.stats.kept.add(1);
            return Ok(secret);
        }
        if user.len() > NAME_BYTES_MAX {
            return Ok(None);
        }
        let (answer, answered) = oneshot::channel();
        let user = user.into();
        if self.asks.try_send(Question { user, answer }).is_err() {
            self.stats.queue_full.add(1);
            let what = format!("{WAITING_MAX} logins wait for auth_query already");
            return Err(PgError::fatal(code::TOO_MANY_CONNECTIONS, what));
        }
        answered.await.unwrap_or_else(|_| Err(unanswered()))
    }

    /// Somebody came with another password: it may have been changed since it was looked up.
    pub fn doubt(&self, user: &str) {
        let mut kept = self.kept.borrow_mut();
        let is_old = |kept: &Kept| kept.since.elapsed() >= FORGOTTEN_AFTER;
        if kept.get(user).is_some_and(is_old) {
            kept.remove(user);
        }
    }

    /// Everything is looked up anew.
    pub fn forget(&self) {
        self.kept.borrow_mut().clear();
        self.generation.set(self.generation.get() + 1);
    }

    /// How many users are kept.
    pub fn len(&self) -> usize {
        self.kept.borrow().len()
    }

    fn kept(&self, about: &About, user: &str) -> Option<Option<Secret>> {
        let kept = self.kept.borrow();
        let kept = kept.get(user)?;
        (kept.since.elapsed() < about.keep).then(|| kept.secret.clone())
    }

    /// Keeps what was found; makes room for it first by what is out of date, then by who was not found,
    /// then by who was looked up the longest time ago.
    fn keep(&self, about: &About, user: Box<str>, secret: Option<Secret>) {
        let mut kept = self.kept.borrow_mut();
        if kept.len() >= about.users && !kept.contains_key(&user) {
            kept.retain(|_, kept| kept.since.elapsed() < about.keep);
        }
        while kept.len() >= about.users && !kept.contains_key(&user) {
            let next = kept
                .iter()
                .min_by_key(|(_, kept)| (kept.secret.is_some(), kept.since))
                .map(|(user, _)| user.clone());
            let Some(next) = next else { break };
            kept.remove(&next);
        }
        let since = Instant::now();
        kept.insert(user, Kept { secret, since });
    }
}

/// Answers questions until the proxy ends.
pub(super) async fn run(proxy: Rc<Proxy>, mut asked: mpsc::Receiver<Question>) {
    let mut line = Line::default();
    loop {
        let Ok(question) = tokio::time::timeout(IDLE_TIMEOUT, asked.recv()).await else {
            line.close().await;
            continue;
        };
        let Some(Question { user, answer }) = question else {
            return;
        };
        if answer.is_closed() {
            continue;
        }
        let Some(about) = proxy.config.borrow().auth_query.clone() else {
            let _ = answer.send(Ok(None));
            continue;
        };
        // Asked for by somebody else meanwhile.
        let found = match proxy.auth_query.kept(&about, &user) {
            Some(kept) => Ok(kept),
            None => line.look_up(&proxy, &about, &user).await,
        };
        let _ = answer.send(found);
    }
}

/// The connection on which is asked.
#[derive(Debug, Default)]
struct Line {
    server: Option<Server<()>>,
    /// The configuration that it was made for.
    generation: u64,
}

impl Line {
    async fn look_up(
        &mut self,
        proxy: &Rc<Proxy>,
        about: &About,
        user: &str,
    ) -> Result<Option<Secret>, PgError> {
        let stats = &proxy.auth_query.stats;
        let began = Instant::now();
        let asked = tokio::time::timeout(ANSWER_TIMEOUT, self.ask(proxy, about, user)).await;
        stats.took.add(began.elapsed());
        let found = asked.unwrap_or(Err(ServerError::Timeout(ANSWER_TIMEOUT)));
        let count = match &found {
            Ok(Found::Secret(_)) => &stats.found,
            Ok(Found::Nobody) => &stats.unknown,
            Ok(Found::NoVerifier) => &stats.refused,
            Err(_) => &stats.failed,
        };
        count.add(1);
        let secret = match found {
            Ok(Found::Secret(secret)) => Some(secret),
            Ok(Found::Nobody) => None,
            Ok(Found::NoVerifier) => {
                tracing::warn!(
                    user,
                    "auth_query answers with what is no SCRAM or md5 verifier"
                );
                None
            }
            Err(error) => {
                self.server = None;
                tracing::warn!(user, %error, "auth_query does not get an answer");
                return Err(unanswered());
            }
        };
        proxy.auth_query.keep(about, user.into(), secret.clone());
        Ok(secret)
    }

    async fn ask(
        &mut self,
        proxy: &Rc<Proxy>,
        about: &About,
        user: &str,
    ) -> Result<Found, ServerError> {
        let generation = proxy.auth_query.generation.get();
        // A connection that died while it rested says nothing of the server as it is now.
        let resting = self.server.take().filter(|_| self.generation == generation);
        let resting = resting.and_then(|mut server| server.is_quiet().then_some(server));
        let mut server = match resting {
            Some(server) => server,
            None => connect(proxy, about).await?,
        };
        let rows = server.rows_with(about.query.as_bytes(), &[user]).await?;
        (self.server, self.generation) = (Some(server), generation);
        found(&rows, user)
    }

    async fn close(&mut self) {
        if let Some(mut server) = self.server.take() {
            let good_bye = server.stream.write_all(write::TERMINATE);
            let _ = tokio::time::timeout(ANSWER_TIMEOUT, good_bye).await;
        }
    }
}

async fn connect(proxy: &Rc<Proxy>, about: &About) -> Result<Server<()>, ServerError> {
    let connector = Rc::clone(&proxy.connector.borrow());
    let credentials = proxy.users.borrow().credentials(&about.user);
    let who = Who {
        user: &about.user,
        database: &about.database,
        credentials: &credentials,
    };
    let name = [("application_name", "lb db-proxy auth_query")];
    connector
        .connect(who, &name, proxy.pristine.clone(), ())
        .await
}

/// What an answer means.
#[derive(Debug)]
enum Found {
    Secret(Secret),
    Nobody,
    NoVerifier,
}

fn found(rows: &[Vec<Option<String>>], user: &str) -> Result<Found, ServerError> {
    let wrong = |what: &str| Err(ServerError::Protocol(format!("auth_query answers {what}")));
    let row = match rows {
        [] => return Ok(Found::Nobody),
        [row] => row,
        _ => return wrong("more than one row"),
    };
    let [Some(name), stored] = row.as_slice() else {
        return wrong("a row that is no name and password");
    };
    if name != user {
        return wrong("with another user than it was asked for");
    }
    let Some(stored) = stored else {
        return Ok(Found::Nobody);
    };
    Ok(if let Some(verifier) = scram::Verifier::parse(stored) {
        Found::Secret(Secret::Scram(verifier))
    } else if md5::is_stored(stored) {
        Found::Secret(Secret::Md5(stored.clone()))
    } else {
        Found::NoVerifier
    })
}

fn unanswered() -> PgError {
    PgError::fatal(
        code::CANNOT_CONNECT_NOW,
        "the user cannot be looked up now: PostgreSQL does not answer auth_query",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about(users: usize) -> About {
        About {
            user: "lb".to_owned(),
            database: "postgres".to_owned(),
            query: String::new(),
            keep: Duration::from_secs(60),
            users,
        }
    }

    fn row(name: &str, stored: Option<&str>) -> Vec<Option<String>> {
        vec![Some(name.to_owned()), stored.map(str::to_owned)]
    }

    #[test]
    fn only_verifiers_of_the_user_asked_for_are_taken() {
        let md5 = "md5d8578edf8458ce06fbc5bb76a58c5ca4";
        let is = |rows: &[Vec<Option<String>>]| found(rows, "bob");
        assert!(matches!(is(&[]), Ok(Found::Nobody)));
        assert!(matches!(is(&[row("bob", None)]), Ok(Found::Nobody)));
        assert!(matches!(is(&[row("bob", Some(md5))]), Ok(Found::Secret(_))));
        assert!(matches!(
            is(&[row("bob", Some("secret"))]),
            Ok(Found::NoVerifier)
        ));
        assert!(is(&[row("eve", Some(md5))]).is_err());
        assert!(is(&[row("bob", Some(md5)), row("bob", Some(md5))]).is_err());
        assert!(is(&[vec![Some("bob".to_owned())]]).is_err());
    }

    #[test]
    fn no_more_users_are_kept_than_are_to_be() {
        let (auth_query, _asked) = AuthQuery::new();
        let about = about(3);
        let secret = || Some(Secret::Md5("md5".to_owned()));
        auth_query.keep(&about, "bob".into(), secret());
        auth_query.keep(&about, "nobody".into(), None);
        for user in 0..10 {
            auth_query.keep(&about, user.to_string().into(), None);
        }
        assert_eq!(auth_query.len(), 3);
        assert!(
            auth_query
                .kept(&about, "bob")
                .is_some_and(|bob| bob.is_some())
        );
        assert!(auth_query.kept(&about, "9").is_some());
        assert!(auth_query.kept(&about, "nobody").is_none());
        auth_query.doubt("bob");
        assert!(
            auth_query.kept(&about, "bob").is_some(),
            "looked up just now"
        );
    }
}
