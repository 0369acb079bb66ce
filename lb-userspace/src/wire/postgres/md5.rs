//! Logins by `md5`, for servers and users that have nothing better yet.

use std::fmt::Write;

use md5::{Digest, Md5};

/// What PostgreSQL stores: `md5` and the digest of password and user name, in hexadecimal.
#[must_use]
pub fn stored(user: &str, password: &str) -> String {
    let mut digest = Md5::new();
    digest.update(password.as_bytes());
    digest.update(user.as_bytes());
    hex(&digest.finalize())
}

/// What a client answers to a salt, made of what is stored.
#[must_use]
pub fn answer(stored: &str, salt: [u8; 4]) -> String {
    let mut digest = Md5::new();
    digest.update(stored.strip_prefix("md5").unwrap_or(stored).as_bytes());
    digest.update(salt);
    hex(&digest.finalize())
}

/// Whether a text is what PostgreSQL stores.
#[must_use]
pub fn is_stored(text: &str) -> bool {
    text.strip_prefix("md5").is_some_and(|digest| {
        digest.len() == 32 && digest.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}

fn hex(digest: &[u8]) -> String {
    let mut text = String::from("md5");
    for byte in digest {
        write!(text, "{byte:02x}").expect("a String grows");
    }
    text
}
