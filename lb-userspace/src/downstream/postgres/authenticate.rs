//! A client proves who it is, by what is known of its user: SCRAM where there is a password or a
//! verifier, md5 where there is only an md5.

use ring::rand::{SecureRandom, SystemRandom};
use subtle::ConstantTimeEq;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::users::Secret;
use super::{Door, Refused};
use crate::transport::stream::Stream;
use crate::upstream::postgres::{Credentials, nonce};
use crate::wire::postgres::error::{PgError, code};
use crate::wire::postgres::scram::{self, ScramError};
use crate::wire::postgres::{frame, md5, write};

/// The longest answer to a request for a password.
const ANSWER_BYTES_MAX: usize = 10_000;

const AUTH_MD5: u32 = 5;
const AUTH_SASL: u32 = 10;
const AUTH_SASL_CONTINUE: u32 = 11;
const AUTH_SASL_FINAL: u32 = 12;

/// Lets a client prove who it is; returns what the proxy can log in to the server with.
///
/// # Errors
/// If it does not, or leaves.
pub async fn authenticate(
    door: &Door,
    stream: &mut Stream,
    user: &str,
) -> Result<Credentials, Refused> {
    let secret = door.users.secret(user).or(door.looked_up.as_ref());
    let mut credentials = secret.map_or_else(Credentials::default, Secret::credentials);
    if door.trusts {
        return Ok(credentials);
    }
    if let Some(Secret::Md5(stored)) = secret {
        by_md5(stream, user, stored).await?;
        return Ok(credentials);
    }
    let verifier = match secret {
        Some(Secret::Scram(verifier)) => verifier.clone(),
        _ => door.users.verifier(user)?,
    };
    let key = by_scram(door, stream, user, &verifier).await?;
    if secret.is_none() {
        // It cannot come this far: nobody has the key of a made-up verifier.
        return Err(wrong_password(user));
    }
    credentials.key = Some((key, verifier));
    Ok(credentials)
}

async fn by_md5(stream: &mut Stream, user: &str, stored: &str) -> Result<(), Refused> {
    let mut salt = [0; 4];
    SystemRandom::new()
        .fill(&mut salt)
        .map_err(|_| anyhow::anyhow!("the kernel gives no random numbers"))?;
    let mut message = Vec::new();
    write::authentication(&mut message, AUTH_MD5, &salt);
    send(stream, &message).await?;
    let answer = answer(stream).await?;
    let answer = answer.strip_suffix(b"\0").unwrap_or(&answer);
    let expected = md5::answer(stored, salt);
    if bool::from(expected.as_bytes().ct_eq(answer)) {
        Ok(())
    } else {
        Err(wrong_password(user))
    }
}

async fn by_scram(
    door: &Door,
    stream: &mut Stream,
    user: &str,
    verifier: &scram::Verifier,
) -> Result<scram::ClientKey, Refused> {
    let ours = door.acceptor.as_ref();
    let ours = ours.and_then(|acceptor| acceptor.binding.clone());
    let ours = ours.filter(|_| stream.is_encrypted());
    let mut mechanisms = Vec::new();
    if ours.is_some() {
        write::text(&mut mechanisms, scram::PLUS.as_bytes());
    }
    write::text(&mut mechanisms, scram::PLAIN.as_bytes());
    mechanisms.push(0);
    let mut message = Vec::new();
    write::authentication(&mut message, AUTH_SASL, &mechanisms);
    send(stream, &message).await?;

    let initial = answer(stream).await?;
    let (mechanism, rest) = frame::text(&initial).ok_or_else(malformed)?;
    let (_length, first) = rest.split_first_chunk::<4>().ok_or_else(malformed)?;
    let binding = match std::str::from_utf8(mechanism) {
        Ok(scram::PLUS) if ours.is_some() => ours.as_deref(),
        Ok(scram::PLAIN) => None,
        _ => return Err(malformed().into()),
    };
    let nonce = nonce().map_err(anyhow::Error::from)?;
    let failed = |error: ScramError| match error {
        ScramError::Proof => wrong_password(user),
        error => PgError::fatal(code::PROTOCOL_VIOLATION, error.to_string()).into(),
    };
    let (server, first) =
        scram::Server::first(verifier.clone(), first, binding, ours.is_some(), &nonce)
            .map_err(failed)?;
    message.clear();
    write::authentication(&mut message, AUTH_SASL_CONTINUE, first.as_bytes());
    send(stream, &message).await?;

    let last = answer(stream).await?;
    let (key, last) = server.last(&last).map_err(failed)?;
    message.clear();
    write::authentication(&mut message, AUTH_SASL_FINAL, last.as_bytes());
    send(stream, &message).await?;
    Ok(key)
}

async fn send(stream: &mut Stream, message: &[u8]) -> Result<(), Refused> {
    stream.write_all(message).await?;
    stream.flush().await?;
    Ok(())
}

/// The body of a password message.
async fn answer(stream: &mut Stream) -> Result<Vec<u8>, Refused> {
    let mut head = [0; frame::HEADER_BYTES];
    stream.read_exact(&mut head).await?;
    let header = frame::header(&head).ok().flatten().ok_or_else(malformed)?;
    if header.tag != b'p' || header.total > ANSWER_BYTES_MAX {
        return Err(malformed().into());
    }
    let mut body = vec![0; header.total - frame::HEADER_BYTES];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

fn malformed() -> PgError {
    PgError::fatal(code::PROTOCOL_VIOLATION, "expected password response")
}

fn wrong_password(user: &str) -> Refused {
    let what = format!("password authentication failed for user \"{user}\"");
    PgError::fatal(code::INVALID_PASSWORD, what).into()
}
