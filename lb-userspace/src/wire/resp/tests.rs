//! Framing against every cut of every example, and against garbage.

use super::command::{Found, Parser, Progress, inline_words};
use super::commands::{Effect, commands};
use super::error::ProtocolError;
use super::keys::{each_key, tag};
use super::reply::{self, Scan};
use super::write;

fn words_of(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut parser = Parser::default();
    match parser.next(bytes, &mut Progress::default()) {
        Ok(Found::Command(_)) => parser
            .words
            .iter()
            .map(|word| word.of(bytes).to_vec())
            .collect(),
        other => panic!("{other:?}"),
    }
}

fn keys_of(line: &str) -> Vec<String> {
    let mut bytes = Vec::new();
    let words: Vec<_> = line.split(' ').collect();
    write::command(&mut bytes, &words);
    let mut parser = Parser::default();
    parser
        .next(&bytes, &mut Progress::default())
        .expect("it is a command");
    let all = commands();
    let at = all
        .find_sub(words[0], words.get(1).unwrap_or(&"").as_bytes())
        .or_else(|| all.find(words[0].as_bytes()))
        .expect("there is such a command");
    let mut keys = Vec::new();
    each_key(&all.all()[at], &bytes, &parser.words, |at, _| {
        keys.push(String::from_utf8_lossy(parser.words[at].of(&bytes)).into_owned());
    })
    .expect(line);
    keys
}

#[test]
fn a_command_in_pieces_is_the_same_command() {
    let mut bytes = Vec::new();
    write::command(&mut bytes, &[&b"SET"[..], b"key\r\n$", &[b'v'; 300]]);
    let whole = words_of(&bytes);
    assert_eq!(whole.len(), 3);
    let mut parser = Parser::default();
    let mut progress = Progress::default();
    for end in 0..bytes.len() {
        match parser.next(&bytes[..end], &mut progress) {
            Ok(Found::Partial(needs)) => assert!(needs > end && needs <= bytes.len(), "{end}"),
            other => panic!("{end}: {other:?}"),
        }
    }
    assert_eq!(
        parser.next(&bytes, &mut progress),
        Ok(Found::Command(bytes.len()))
    );
    let words: Vec<_> = parser
        .words
        .iter()
        .map(|word| word.of(&bytes).to_vec())
        .collect();
    assert_eq!(words, whole);
}

#[test]
fn what_is_no_command_is_refused_as_redis_does() {
    for (bytes, error) in [
        (&b"*a\r\n"[..], ProtocolError::ArrayLength),
        (b"*99999999999999999999\r\n", ProtocolError::ArrayLength),
        (b"*1048577\r\n", ProtocolError::ArrayLength),
        (b"*1\r\n+OK\r\n", ProtocolError::NotBulk(b'+')),
        (b"*1\r\n$-1\r\n", ProtocolError::BulkLength),
        (b"*1\r\n$536870913\r\n", ProtocolError::BulkLength),
        (&[b'a'; 65_536], ProtocolError::LineTooLong),
    ] {
        let found = Parser::default().next(bytes, &mut Progress::default());
        assert_eq!(found, Err(error));
    }
    for nothing in [&b"\r\n"[..], b"*0\r\n", b"*-1\r\n", b"  \n"] {
        let found = Parser::default().next(nothing, &mut Progress::default());
        assert_eq!(found, Ok(Found::Nothing(nothing.len())));
    }
}

#[test]
fn inline_commands_have_quotes_and_escapes() {
    let words = inline_words(br#"set "a b\x41\n" 'c\'d' e"#).expect("it is good");
    assert_eq!(words, [&b"set"[..], b"a bA\n", b"c'd", b"e"]);
    assert_eq!(inline_words(br#"set "a"#), Err(ProtocolError::Quotes));
    assert_eq!(inline_words(br#"set "a"b"#), Err(ProtocolError::Quotes));
}

#[test]
fn a_reply_ends_where_it_ends_in_every_cut() {
    for reply in [
        &b"+OK\r\n"[..],
        b":12\r\n",
        b"$-1\r\n",
        b"$5\r\na\r\nbc\r\n",
        b"*-1\r\n",
        b"*0\r\n",
        b"*2\r\n*1\r\n$1\r\na\r\n%1\r\n+a\r\n:1\r\n",
        b"|1\r\n+ttl\r\n:3\r\n*1\r\n#t\r\n",
        b">2\r\n+a\r\n_\r\n",
        b"=6\r\ntxt:ab\r\n",
        b"!3\r\nERR\r\n",
    ] {
        let mut scan = Scan::default();
        for end in 0..reply.len() {
            assert_eq!(scan.end(&reply[..end]), Ok(None), "{reply:?} {end}");
        }
        let more = [reply, b"+next\r\n"].concat();
        assert_eq!(scan.end(&more), Ok(Some(reply.len())));
    }
    assert!(Scan::default().end(b"?\r\n").is_err());
    let deep = b"*1\r\n".repeat(1_000_000);
    assert_eq!(
        Scan::default().end(&deep),
        Ok(None),
        "nesting takes no stack"
    );
    let many = b"*999999999999999999\r\n".repeat(100);
    assert!(
        Scan::default().end(&many).is_err(),
        "more than can be counted"
    );
}

#[test]
fn garbage_ends_in_an_error_or_is_waited_for_and_never_panics() {
    let mut random = fastrand::Rng::with_seed(7);
    let alphabet = b"*$+-:_#,(!=%~>|0123456789\r\n\r\nab";
    for _ in 0..200_000 {
        let length = random.usize(0..40);
        let bytes: Vec<u8> = (0..length)
            .map(|_| alphabet[random.usize(0..alphabet.len())])
            .collect();
        let mut parser = Parser::default();
        if let Ok(Found::Command(end) | Found::Inline(end) | Found::Nothing(end)) =
            parser.next(&bytes, &mut Progress::default())
        {
            assert!(end <= bytes.len() && end > 0);
        }
        if let Ok(Some(end)) = Scan::default().end(&bytes) {
            assert!(end <= bytes.len() && end > 0);
            let _ = (reply::integer(&bytes[..end]), reply::text(&bytes[..end]));
            let _ = reply::elements(&bytes[..end]);
        }
        let _ = inline_words(&bytes);
    }
}

#[test]
fn keys_stand_where_redis_says() {
    for (line, keys) in [
        ("get a", &["a"][..]),
        ("mset a 1 b 2", &["a", "b"]),
        ("del a b c", &["a", "b", "c"]),
        ("bitop and d a b", &["d", "a", "b"]),
        ("eval s 2 a b c", &["a", "b"]),
        ("eval s 0", &[]),
        ("zunionstore d 2 a b weights 1 2", &["d", "a", "b"]),
        ("xread count 1 streams a b 0 0", &["a", "b"]),
        ("xreadgroup group g c streams a 0", &["a"]),
        ("blpop a b 0", &["a", "b"]),
        ("object encoding a", &["a"]),
        ("lmpop 2 a b left", &["a", "b"]),
        ("georadius a 1 2 3 m store b", &["a", "b"]),
        ("ping", &[]),
    ] {
        assert_eq!(keys_of(line), keys, "{line}");
    }
}

#[test]
fn the_table_says_what_reads_and_what_writes() {
    let effect = |name: &str| {
        let at = commands().find(name.as_bytes()).expect(name);
        commands().all()[at].effect
    };
    assert_eq!(effect("GET"), Effect::Read);
    assert_eq!(effect("SET"), Effect::Write);
    assert_eq!(effect("publish"), Effect::Other);
    assert_eq!(effect("eval"), Effect::Other);
    assert!(commands().all().len() > 350);
    assert_eq!(commands().find(b"no such command"), None);
}

#[test]
fn tags_are_what_redis_cluster_takes_them_for() {
    for (key, part) in [
        ("a", "a"),
        ("{a}b", "a"),
        ("x{a}{b}", "a"),
        ("{}a", "{}a"),
        ("{a", "{a"),
        ("a}{b}", "b"),
        ("{{a}}", "{a"),
    ] {
        assert_eq!(tag(key.as_bytes()), part.as_bytes(), "{key}");
    }
}
