//! SCRAM-SHA-256 (RFC 5802, RFC 7677), both sides. Nonces and salts are arguments.
//!
//! Who checks a client's proof learns the client's key, and with it can log in to a server that has
//! the same verifier, although nobody told it the password.

use std::num::NonZeroU32;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use ring::{digest, hmac, pbkdf2};
use subtle::ConstantTimeEq;

/// Bytes of a SHA-256 digest.
const KEY_BYTES: usize = 32;
/// Rounds of new verifiers; PostgreSQL's default.
pub const ITERATIONS_DEFAULT: u32 = 4096;
/// The most rounds that we compute of a password because a server says so: about 40 ms, in which a
/// daemon's thread does nothing else. PostgreSQL's `scram_iterations` is 4096 unless it is raised.
pub const ITERATIONS_MAX: u32 = 100_000;

/// The mechanism without channel binding.
pub const PLAIN: &str = "SCRAM-SHA-256";
/// The mechanism with channel binding.
pub const PLUS: &str = "SCRAM-SHA-256-PLUS";

type Key = [u8; KEY_BYTES];

/// Why an exchange failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// A message is none.
    #[error("malformed SCRAM message")]
    Malformed,
    /// The server asks for more rounds than [`ITERATIONS_MAX`].
    #[error(
        "the server asks for {0} rounds of SCRAM, and at most {ITERATIONS_MAX} are computed: set the \
         password again with a smaller scram_iterations"
    )]
    Iterations(u32),
    /// The nonce is not the one that was agreed upon.
    #[error("SCRAM nonce does not match")]
    Nonce,
    /// The channel binding is another one.
    #[error("SCRAM channel binding check failed")]
    Binding,
    /// The proof is wrong: another password.
    #[error("password authentication failed")]
    Proof,
    /// The server could not prove that it knows the verifier.
    #[error("the server does not know the password either")]
    Server,
    /// The key at hand belongs to another salt or another number of rounds.
    #[error("the server's SCRAM verifier differs from the one by which the client was let in")]
    Verifier,
}

/// What a server stores of a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    /// Rounds of the key derivation.
    pub iterations: u32,
    /// Its salt.
    pub salt: Vec<u8>,
    stored_key: Key,
    server_key: Key,
}

/// What a client proves.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientKey(Key);

impl std::fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientKey(…)")
    }
}

impl Verifier {
    /// Makes one of a password.
    #[must_use]
    pub fn new(password: &str, salt: &[u8], iterations: u32) -> Self {
        let salted = salted(password, salt, iterations);
        let client_key = sign(&salted, &[b"Client Key"]);
        Self {
            iterations,
            salt: salt.to_vec(),
            stored_key: sha256(&client_key),
            server_key: sign(&salted, &[b"Server Key"]),
        }
    }

    /// Reads what PostgreSQL stores: `SCRAM-SHA-256$<rounds>:<salt>$<StoredKey>:<ServerKey>`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (rounds, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (iterations, salt) = rounds.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        Some(Self {
            iterations: iterations.parse().ok().filter(|&rounds| rounds > 0)?,
            salt: BASE64.decode(salt).ok()?,
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
        })
    }
}

/// The server's side of an exchange, after its first message.
#[derive(Debug)]
pub struct Server {
    verifier: Verifier,
    /// What the client's final message must repeat: GS2 header and binding data.
    binding: Vec<u8>,
    nonce: String,
    /// client-first-message-bare "," server-first-message
    auth_message: String,
}

impl Server {
    /// Takes the client's first message; returns the server's first message as well.
    /// `binding` is the hash of our certificate where the mechanism is [`PLUS`].
    ///
    /// # Errors
    /// If the message is none, or asks for another binding.
    pub fn first(
        verifier: Verifier,
        message: &[u8],
        binding: Option<&[u8]>,
        could_bind: bool,
        nonce: &str,
    ) -> Result<(Self, String), ScramError> {
        let message = std::str::from_utf8(message).map_err(|_| ScramError::Malformed)?;
        // gs2-cbind-flag "," [authzid] "," client-first-message-bare
        let mut parts = message.splitn(3, ',');
        let mut part = || parts.next().ok_or(ScramError::Malformed);
        let (flag, authzid, bare) = (part()?, part()?, part()?);
        let is_bound = match flag {
            "n" => false,
            // "I could, but you did not offer": a lie that somebody between us told the client.
            "y" if could_bind => return Err(ScramError::Binding),
            "y" => false,
            "p=tls-server-end-point" => true,
            _ => return Err(ScramError::Malformed),
        };
        if is_bound != binding.is_some() {
            return Err(ScramError::Binding);
        }
        let theirs = bare
            .split(',')
            .find_map(|field| field.strip_prefix("r="))
            .filter(|theirs| !theirs.is_empty())
            .ok_or(ScramError::Malformed)?;
        let nonce = format!("{theirs}{nonce}");
        let salt = BASE64.encode(&verifier.salt);
        let answer = format!("r={nonce},s={salt},i={}", verifier.iterations);
        let mut header = format!("{flag},{authzid},").into_bytes();
        header.extend_from_slice(binding.unwrap_or_default());
        let server = Self {
            verifier,
            binding: header,
            nonce,
            auth_message: format!("{bare},{answer}"),
        };
        Ok((server, answer))
    }

    /// Takes the client's final message; returns the client's key and the server's final message.
    ///
    /// # Errors
    /// If the message is none, or the proof is wrong.
    pub fn last(self, message: &[u8]) -> Result<(ClientKey, String), ScramError> {
        let message = std::str::from_utf8(message).map_err(|_| ScramError::Malformed)?;
        let (without_proof, proof) = message.rsplit_once(",p=").ok_or(ScramError::Malformed)?;
        let mut fields = without_proof.split(',');
        let binding = fields.next().and_then(|field| field.strip_prefix("c="));
        let nonce = fields.next().and_then(|field| field.strip_prefix("r="));
        let binding = binding.and_then(|binding| BASE64.decode(binding).ok());
        if binding.as_deref() != Some(&self.binding) {
            return Err(ScramError::Binding);
        }
        if nonce != Some(&self.nonce) {
            return Err(ScramError::Nonce);
        }
        let proof = key(proof).ok_or(ScramError::Malformed)?;
        let auth_message = format!("{},{without_proof}", self.auth_message);
        let signature = sign(&self.verifier.stored_key, &[auth_message.as_bytes()]);
        let client_key = xor(proof, signature);
        if !bool::from(sha256(&client_key).ct_eq(&self.verifier.stored_key)) {
            return Err(ScramError::Proof);
        }
        let signature = sign(&self.verifier.server_key, &[auth_message.as_bytes()]);
        let answer = format!("v={}", BASE64.encode(signature));
        Ok((ClientKey(client_key), answer))
    }
}

/// What a client knows.
#[derive(Clone, Debug)]
pub enum Secret {
    /// The password.
    Password(String),
    /// The client's key, learned when it logged in, and the verifier that it belongs to.
    Key(ClientKey, Verifier),
}

/// The client's side of an exchange, before the server's first message.
#[derive(Debug)]
pub struct Client {
    secret: Secret,
    nonce: String,
    /// GS2 header and binding data, as the final message repeats them.
    binding: Vec<u8>,
    header: &'static str,
}

impl Client {
    /// Starts an exchange. `binding` is the hash of the server's certificate for [`PLUS`].
    #[must_use]
    pub fn new(secret: Secret, nonce: &str, binding: Option<&[u8]>) -> Self {
        let header = if binding.is_some() {
            "p=tls-server-end-point,,"
        } else {
            "n,,"
        };
        Self {
            secret,
            nonce: nonce.to_owned(),
            binding: [header.as_bytes(), binding.unwrap_or_default()].concat(),
            header,
        }
    }

    /// The client's first message. PostgreSQL takes the user's name from the startup packet.
    #[must_use]
    pub fn first(&self) -> String {
        format!("{}n=,r={}", self.header, self.nonce)
    }

    /// Takes the server's first message; returns the final one and what the server must answer.
    ///
    /// # Errors
    /// If the message is none, or the key at hand belongs to another verifier.
    pub fn last(self, message: &[u8]) -> Result<(String, Expected), ScramError> {
        let message = std::str::from_utf8(message).map_err(|_| ScramError::Malformed)?;
        let mut fields = message.split(',');
        let mut field = |name| fields.next().and_then(|field| field.strip_prefix(name));
        let (Some(nonce), Some(salt), Some(rounds)) = (field("r="), field("s="), field("i="))
        else {
            return Err(ScramError::Malformed);
        };
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(ScramError::Nonce);
        }
        let salt = BASE64.decode(salt).map_err(|_| ScramError::Malformed)?;
        let iterations = rounds
            .parse()
            .ok()
            .filter(|&rounds| rounds > 0)
            .ok_or(ScramError::Malformed)?;
        let (client_key, server_key) = match &self.secret {
            Secret::Password(_) if iterations > ITERATIONS_MAX => {
                return Err(ScramError::Iterations(iterations));
            }
            Secret::Password(password) => {
                let salted = salted(password, &salt, iterations);
                (
                    sign(&salted, &[b"Client Key"]),
                    sign(&salted, &[b"Server Key"]),
                )
            }
            Secret::Key(key, verifier) => {
                if verifier.salt != salt || verifier.iterations != iterations {
                    return Err(ScramError::Verifier);
                }
                (key.0, verifier.server_key)
            }
        };
        let without_proof = format!("c={},r={nonce}", BASE64.encode(&self.binding));
        let auth_message = format!("n=,r={},{message},{without_proof}", self.nonce);
        let signature = sign(&sha256(&client_key), &[auth_message.as_bytes()]);
        let proof = BASE64.encode(xor(client_key, signature));
        let expected = Expected(sign(&server_key, &[auth_message.as_bytes()]));
        Ok((format!("{without_proof},p={proof}"), expected))
    }
}

/// What proves that the server knows the verifier.
#[derive(Debug)]
pub struct Expected(Key);

impl Expected {
    /// Takes the server's final message.
    ///
    /// # Errors
    /// If it proves nothing.
    pub fn check(&self, message: &[u8]) -> Result<(), ScramError> {
        let message = std::str::from_utf8(message).map_err(|_| ScramError::Malformed)?;
        let signature = message.strip_prefix("v=").and_then(key);
        let is_right = signature.is_some_and(|signature| bool::from(signature.ct_eq(&self.0)));
        is_right.then_some(()).ok_or(ScramError::Server)
    }
}

fn salted(password: &str, salt: &[u8], iterations: u32) -> Key {
    let mut out = [0; KEY_BYTES];
    pbkdf2::derive(
        pbkdf2::PBKDF2_HMAC_SHA256,
        NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN),
        salt,
        password.as_bytes(),
        &mut out,
    );
    out
}

fn sign(key: &[u8], parts: &[&[u8]]) -> Key {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, key));
    for part in parts {
        context.update(part);
    }
    let mut out = [0; KEY_BYTES];
    out.copy_from_slice(context.sign().as_ref());
    out
}

fn sha256(bytes: &[u8]) -> Key {
    let mut out = [0; KEY_BYTES];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

fn key(text: &str) -> Option<Key> {
    BASE64.decode(text).ok()?.try_into().ok()
}

fn xor(mut left: Key, right: Key) -> Key {
    for (left, right) in left.iter_mut().zip(right) {
        *left ^= right;
    }
    left
}
