//! Logging in to PostgreSQL: trust and peer, a password, md5, SCRAM with or without the password.

use ring::rand::{SecureRandom, SystemRandom};
use tokio::io::AsyncWriteExt;

use super::talk::Reader;
use super::{Key, ServerError};
use crate::transport::stream::Stream;
use crate::wire::postgres::error::PgError;
use crate::wire::postgres::link::{self, FromProxy};
use crate::wire::postgres::scram::{self, Client, Secret, Verifier};
use crate::wire::postgres::startup::Startup;
use crate::wire::postgres::{frame, md5, write};

/// What the proxy knows of a user, to log in to the server as that user.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    pub password: Option<String>,
    /// `md5…`, as PostgreSQL stores it.
    pub md5: Option<String>,
    /// Learned when a client logged in.
    pub key: Option<(scram::ClientKey, Verifier)>,
}

/// Who logs in, and to which database.
#[derive(Debug, Clone, Copy)]
pub struct Who<'w> {
    pub user: &'w str,
    pub database: &'w str,
    pub credentials: &'w Credentials,
}

/// What a login told.
#[derive(Debug)]
pub struct LoggedIn {
    pub stream: Stream,
    pub key: Key,
    pub parameters: Vec<(String, String)>,
    /// The server is a proxy that takes the messages of the link.
    pub is_linked: bool,
    /// What was read beyond the login.
    pub rest: Vec<u8>,
}

/// Logs in. `binding` is the hash of the server's certificate.
pub(super) async fn log_in(
    mut stream: Stream,
    who: Who<'_>,
    options: &[(&str, &str)],
    binding: Option<&[u8]>,
) -> Result<LoggedIn, ServerError> {
    let names = [("user", who.user), ("database", who.database)];
    let parameters = names.iter().chain(options);
    let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
    let startup = Startup {
        minor: 0,
        parameters: parameters.map(owned).collect(),
    };
    let mut packet = Vec::new();
    startup.write(&mut packet);
    send(&mut stream, &packet).await?;
    let mut reader = Reader::default();
    let mut key = Key::default();
    let mut parameters = Vec::new();
    let mut is_linked = false;
    loop {
        let (tag, body) = reader.next(&mut stream).await?;
        match tag {
            b'R' => {
                let login = Login {
                    stream: &mut stream,
                    reader: &mut reader,
                    user: who.user,
                    credentials: who.credentials,
                    binding,
                };
                login.authenticate(&body).await?;
            }
            b'S' => {
                if let Some((name, rest)) = frame::text(&body)
                    && let Some((value, _)) = frame::text(rest)
                {
                    let owned = |text| String::from_utf8_lossy(text).into_owned();
                    parameters.push((owned(name), owned(value)));
                }
            }
            b'K' if body.len() >= 4 => {
                let (process, secret) = body.split_first_chunk().expect("four bytes are there");
                key = Key {
                    process: u32::from_be_bytes(*process),
                    secret: secret.into(),
                };
            }
            b'E' => return Err(ServerError::Refused(PgError::read(&body))),
            link::TAG => {
                let hello = FromProxy::read(&body);
                is_linked =
                    matches!(hello, Ok(FromProxy::Hello(hello)) if hello.version >= link::VERSION);
            }
            b'Z' => {
                return Ok(LoggedIn {
                    stream,
                    key,
                    parameters,
                    is_linked,
                    rest: reader.into_rest(),
                });
            }
            b'N' | b'v' => {}
            tag => {
                let what = format!("message {:?} during the login", char::from(tag));
                return Err(ServerError::Protocol(what));
            }
        }
    }
}

struct Login<'l> {
    stream: &'l mut Stream,
    reader: &'l mut Reader,
    user: &'l str,
    credentials: &'l Credentials,
    binding: Option<&'l [u8]>,
}

impl Login<'_> {
    /// Does what an Authentication message asks for.
    async fn authenticate(self, body: &[u8]) -> Result<(), ServerError> {
        let (code, data) = body
            .split_first_chunk()
            .ok_or_else(|| ServerError::Protocol("a short Authentication".into()))?;
        match u32::from_be_bytes(*code) {
            0 => Ok(()),
            3 => {
                let password = self.credentials.password.as_deref();
                let password = password.ok_or_else(|| self.lacks("the password itself"))?;
                let mut answer = password.as_bytes().to_vec();
                answer.push(0);
                self.answer(&answer).await
            }
            5 => {
                let salt = data
                    .try_into()
                    .map_err(|_| ServerError::Protocol("a short salt".into()))?;
                let stored = match &self.credentials.password {
                    Some(password) => Some(md5::stored(self.user, password)),
                    None => self.credentials.md5.clone(),
                };
                let stored = stored.ok_or_else(|| self.lacks("the password or its md5"))?;
                let mut answer = md5::answer(&stored, salt).into_bytes();
                answer.push(0);
                self.answer(&answer).await
            }
            10 => self.scram(data).await,
            code => Err(ServerError::Credentials(format!(
                "the server wants authentication method {code}, which lb does not have"
            ))),
        }
    }

    async fn scram(self, mechanisms: &[u8]) -> Result<(), ServerError> {
        let offers = |name: &str| {
            let mut offered = mechanisms.split(|&byte| byte == 0);
            offered.any(|offered| offered == name.as_bytes())
        };
        let secret = match (&self.credentials.password, &self.credentials.key) {
            (Some(password), _) => Secret::Password(password.clone()),
            (None, Some((key, verifier))) => Secret::Key(key.clone(), verifier.clone()),
            (None, None) => return Err(self.lacks("the password, or a login by SCRAM")),
        };
        let binding = self.binding.filter(|_| offers(scram::PLUS));
        let mechanism = if binding.is_some() {
            scram::PLUS
        } else {
            scram::PLAIN
        };
        let client = Client::new(secret, &nonce()?, binding);
        let mut message = Vec::new();
        write::sasl_initial(&mut message, mechanism, client.first().as_bytes());
        send(self.stream, &message).await?;
        let first = expect(self.reader, self.stream, 11).await?;
        let (last, expected) = client.last(&first)?;
        message.clear();
        write::password(&mut message, last.as_bytes());
        send(self.stream, &message).await?;
        let last = expect(self.reader, self.stream, 12).await?;
        expected.check(&last)?;
        Ok(())
    }

    async fn answer(self, answer: &[u8]) -> Result<(), ServerError> {
        let mut message = Vec::new();
        write::password(&mut message, answer);
        send(self.stream, &message).await
    }

    fn lacks(&self, what: &str) -> ServerError {
        ServerError::Credentials(format!(
            "the server asks user {:?} for a password, and neither users_file nor the login has {what}",
            self.user
        ))
    }
}

async fn expect(
    reader: &mut Reader,
    stream: &mut Stream,
    code: u32,
) -> Result<Vec<u8>, ServerError> {
    let (tag, body) = reader.next(stream).await?;
    match (tag, body.split_first_chunk()) {
        (b'E', _) => Err(ServerError::Refused(PgError::read(&body))),
        (b'R', Some((came, data))) if u32::from_be_bytes(*came) == code => Ok(data.to_vec()),
        _ => Err(ServerError::Protocol("SCRAM was broken off".into())),
    }
}

async fn send(stream: &mut Stream, bytes: &[u8]) -> Result<(), ServerError> {
    stream.write_all(bytes).await?;
    stream.flush().await?;
    Ok(())
}

/// A nonce that nobody can guess.
pub fn nonce() -> Result<String, ServerError> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let mut bytes = [0; 18];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| ServerError::Protocol("the kernel gives no random numbers".into()))?;
    Ok(STANDARD.encode(bytes))
}
