//! What a statement's text says about the state that it leaves in its session. No parser: a quick
//! look that may suspect too much, and then costs only efficiency.

use memchr::memmem;

/// What a session keeps of a statement when its transaction is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Trace {
    /// Nothing that this look can see.
    #[default]
    Nothing,
    /// A setting: the statement begins with SET, RESET or DISCARD.
    Setting,
    /// Something that only this server connection has: the session must keep it.
    Pinned,
}

/// Looks at the text of one query, which may hold several statements.
#[must_use]
pub fn trace(sql: &[u8]) -> Trace {
    if leaves_something(sql) {
        return Trace::Pinned;
    }
    let is = |begins: &[u8]| word(sql).is_some_and(|(word, _)| word.eq_ignore_ascii_case(begins));
    if is(b"set") || is(b"reset") || is(b"discard") {
        Trace::Setting
    } else {
        Trace::Nothing
    }
}

/// Temporary objects, advisory locks of the session, cursors with hold, `set_config`, `pg_temp`.
fn leaves_something(sql: &[u8]) -> bool {
    // Every such word has one of two rare letters in it, so most texts are left after one pass.
    memchr::memchr3_iter(b'_', b'W', b'w', sql).any(|at| {
        let from = &sql[at..];
        if from[0] == b'_' {
            let is = |word: &[u8]| starts_with(&from[1..], word);
            return is(b"advisory_lock")
                || is(b"try_advisory_lock")
                || (is(b"temp") && ends_with(&sql[..at], b"pg"))
                || (is(b"config") && ends_with(&sql[..at], b"set") && !is_local(from));
        }
        starts_with(from, b"with hold")
    }) || mentions_temporary(sql)
}

/// `set_config(name, value, true)` ends with its transaction.
fn is_local(call: &[u8]) -> bool {
    let end = memchr::memchr(b')', call).unwrap_or(call.len());
    let call = call[..end].to_ascii_lowercase();
    memmem::find(&call, b"true").is_some()
}

/// `CREATE TEMP …`, `CREATE LOCAL TEMPORARY …`, `SELECT … INTO TEMP …`.
fn mentions_temporary(sql: &[u8]) -> bool {
    memchr::memchr2_iter(b't', b'T', sql).any(|at| {
        let begins_a_word = at == 0 || !is_letter(sql[at - 1]);
        let from = &sql[at..];
        begins_a_word
            && starts_with(from, b"temp")
            && match from.get(4) {
                None => false,
                Some(byte) if byte.is_ascii_whitespace() => true,
                Some(_) => {
                    starts_with(from, b"temporary")
                        && !from.get(9).is_some_and(|&byte| is_letter(byte))
                }
            }
    })
}

/// What a SET statement sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Set {
    /// A setting of the session by its name in lower case; running the text again sets it again.
    Session(String),
    /// A setting of the session goes back to what it was at the login.
    Default(String),
    /// Something that ends with the transaction.
    Local,
    /// For the rest of the transaction, a setting is what it was at the login.
    LocalDefault(String),
    /// More than one statement, or nothing that is known.
    Unknown,
}

/// Reads a statement that begins with SET.
#[must_use]
pub fn set(sql: &[u8]) -> Set {
    // What follows a semicolon is another statement; a quoted semicolon is rare enough to pin.
    let sql = sql.trim_ascii_end();
    let sql = sql.strip_suffix(b";").unwrap_or(sql);
    if memchr::memchr(b';', sql).is_some() {
        return Set::Unknown;
    }
    let mut rest = match word(sql) {
        Some((first, rest)) if first.eq_ignore_ascii_case(b"set") => rest,
        _ => return Set::Unknown,
    };
    let mut lower = || {
        if let Some(name) = name(&mut rest) {
            return Some(name);
        }
        let (word, after) = word(rest)?;
        rest = after;
        String::from_utf8(word.to_ascii_lowercase()).ok()
    };
    let mut is_local = false;
    let first = match lower().as_deref() {
        Some("session") => lower(),
        Some("local") => {
            is_local = true;
            lower()
        }
        Some("transaction" | "constraints") => return Set::Local,
        first => first.map(str::to_owned),
    };
    let name = match first.as_deref() {
        Some("characteristics") => return Set::Session("session characteristics".to_owned()),
        Some("authorization") | None => return Set::Unknown,
        Some("time") => {
            // SET TIME ZONE
            let _ = lower();
            "timezone".to_owned()
        }
        Some("names") => "client_encoding".to_owned(),
        Some(name) => name.to_owned(),
    };
    match (is_default(&name, rest), is_local) {
        (true, true) => Set::LocalDefault(name),
        (true, false) => Set::Default(name),
        (false, true) => Set::Local,
        (false, false) => Set::Session(name),
    }
}

/// The name of a setting in quotes, in lower case: `"datestyle"`, `"lb"."shard_key"`.
fn name(rest: &mut &[u8]) -> Option<String> {
    let mut name = Vec::new();
    let mut text = rest.trim_ascii_start();
    loop {
        let quoted = text.strip_prefix(b"\"")?;
        let end = memchr::memchr(b'"', quoted)?;
        name.extend_from_slice(&quoted[..end]);
        text = &quoted[end + 1..];
        match text.first() {
            Some(b'.') => name.push(b'.'),
            // A quote in a name is no name of a setting.
            Some(b'"') => return None,
            _ => break,
        }
        text = &text[1..];
    }
    *rest = text;
    String::from_utf8(name.to_ascii_lowercase()).ok()
}

/// Whether what follows the name in a SET means the default.
fn is_default(name: &str, rest: &[u8]) -> bool {
    let rest = rest.trim_ascii();
    let value = match rest.strip_prefix(b"=") {
        Some(value) => value.trim_ascii_start(),
        None => match word(rest) {
            Some((to, value)) if to.eq_ignore_ascii_case(b"to") => value.trim_ascii_start(),
            _ => rest,
        },
    };
    value.eq_ignore_ascii_case(b"default")
        || (name == "timezone" && value.eq_ignore_ascii_case(b"local"))
        || (name == "client_encoding" && value.is_empty())
}

/// Whether a statement that begins with SET, RESET or DISCARD may take a setting back to what it was at
/// the login.
#[must_use]
pub fn may_reset(sql: &[u8]) -> bool {
    let sets = word(sql).is_some_and(|(word, _)| word.eq_ignore_ascii_case(b"set"));
    let means_default = || match set(sql) {
        Set::Default(_) | Set::LocalDefault(_) => true,
        Set::Session(_) | Set::Local | Set::Unknown => false,
    };
    !sets || means_default()
}

/// What a statement that begins with RESET resets, in lower case; `all` for everything.
#[must_use]
pub fn reset(sql: &[u8]) -> Option<String> {
    let sql = sql.trim_ascii_end();
    let sql = sql.strip_suffix(b";").unwrap_or(sql);
    if memchr::memchr(b';', sql).is_some() {
        return None;
    }
    let (first, rest) = word(sql)?;
    if !first.eq_ignore_ascii_case(b"reset") {
        return None;
    }
    let Some((word, _)) = word(rest) else {
        let mut rest = rest;
        return name(&mut rest);
    };
    match String::from_utf8(word.to_ascii_lowercase()).ok()?.as_str() {
        "session" => None,
        "time" => Some("timezone".to_owned()),
        name => Some(name.to_owned()),
    }
}

/// Whether RESET ALL stands somewhere in a query of several statements, as drivers write it between two
/// of its users.
#[must_use]
pub fn mentions_reset_all(sql: &[u8]) -> bool {
    let sql = sql.trim_ascii_end();
    let sql = sql.strip_suffix(b";").unwrap_or(sql);
    if memchr::memchr(b';', sql).is_none() {
        return false;
    }
    memmem::find(sql, b"RESET ALL").is_some() || memmem::find(sql, b"reset all").is_some()
}

/// The name in `DEALLOCATE [PREPARE] name`, if the text is that alone.
#[must_use]
pub fn deallocated(sql: &[u8]) -> Option<Vec<u8>> {
    let sql = sql.trim_ascii();
    let sql = sql.strip_suffix(b";").unwrap_or(sql).trim_ascii();
    let (first, rest) = word(sql)?;
    if !first.eq_ignore_ascii_case(b"deallocate") {
        return None;
    }
    let rest = match word(rest) {
        Some((word, after)) if word.eq_ignore_ascii_case(b"prepare") => after,
        _ => rest,
    };
    let name = rest.trim_ascii();
    if let Some(quoted) = name
        .strip_prefix(b"\"")
        .and_then(|name| name.strip_suffix(b"\""))
    {
        return memchr::memchr(b'"', quoted)
            .is_none()
            .then(|| quoted.to_vec());
    }
    let is_plain = !name.is_empty() && name.iter().all(|&byte| is_letter(byte));
    is_plain.then(|| name.to_ascii_lowercase())
}

/// Whether a query begins with COMMIT or END.
#[must_use]
pub fn commits(sql: &[u8]) -> bool {
    word(sql).is_some_and(|(word, _)| {
        word.eq_ignore_ascii_case(b"commit") || word.eq_ignore_ascii_case(b"end")
    })
}

/// The first word in lower case, and what follows it; comments before it are skipped.
#[must_use]
pub fn first_word(sql: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    word(sql).map(|(word, rest)| (word.to_ascii_lowercase(), rest))
}

/// The first word, and what follows it; comments before it are skipped.
fn word(mut sql: &[u8]) -> Option<(&[u8], &[u8])> {
    loop {
        sql = sql.trim_ascii_start();
        if let Some(comment) = sql.strip_prefix(b"--") {
            let end = memchr::memchr(b'\n', comment)?;
            sql = &comment[end..];
        } else if let Some(comment) = sql.strip_prefix(b"/*") {
            let end = memmem::find(comment, b"*/")?;
            sql = &comment[end + 2..];
        } else {
            break;
        }
    }
    let end = sql
        .iter()
        .position(|&byte| !is_letter(byte) && byte != b'.');
    let (word, rest) = sql.split_at(end.unwrap_or(sql.len()));
    (!word.is_empty()).then_some((word, rest))
}

fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || !byte.is_ascii()
}

fn starts_with(text: &[u8], word: &[u8]) -> bool {
    text.get(..word.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(word))
}

fn ends_with(text: &[u8], word: &[u8]) -> bool {
    text.len() >= word.len() && text[text.len() - word.len()..].eq_ignore_ascii_case(word)
}
