//! Everything that reads RESP, in this process.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

use anyhow::Result;
use fastrand::Rng;
use lb_tests::redis::encode;
use lb_tests::scale;
use lb_userspace::wire::resp::command::{Found, Parser, Progress, inline_words};
use lb_userspace::wire::resp::commands::commands;
use lb_userspace::wire::resp::error::ProtocolError;
use lb_userspace::wire::resp::keys::{each_key, tag};
use lb_userspace::wire::resp::reply::{self, Scan};

use super::{dialect, shown, until};

/// Inputs between two looks at the clock.
const BATCH: usize = 256;

/// What clients send.
pub(super) fn commands_of_clients() -> Vec<Vec<u8>> {
    let lines = [
        "PING",
        "SET a value EX 100",
        "MSET a 1 b 2 c 3",
        "MGET a b {c}d e",
        "EVAL return{KEYS[1],ARGV[1]} 2 {a}b {a}c d",
        "ZUNIONSTORE {a}b 2 {a}c {a}d WEIGHTS 1 2",
        "XREADGROUP GROUP g c COUNT 1 STREAMS {a}x {a}y > 0",
        "SORT a BY {a}* GET # STORE {a}b",
        "MIGRATE host 6379 a 0 100 KEYS a b",
        "HELLO 3 AUTH user word SETNAME name",
        "SCAN 17 MATCH a* COUNT 3",
    ];
    let array = |line: &&str| {
        let mut bytes = Vec::new();
        encode(&mut bytes, &line.split(' ').collect::<Vec<_>>());
        bytes
    };
    let mut all: Vec<Vec<u8>> = lines.iter().map(array).collect();
    all.push(all.concat());
    all.push(b"SET \"a key\" 'a \\'value' \r\nGET \"a\\x20key\"\n\r\nPING\r\n".to_vec());
    let mut long = Vec::new();
    encode(&mut long, &[&b"SET"[..], b"a", &[b'x'; 3000]]);
    all.push(long);
    all
}

/// What servers answer.
pub(super) fn answers_of_servers() -> Vec<Vec<u8>> {
    let pieces: [&[u8]; 12] = [
        b"+OK\r\n",
        b"-ERR no\r\n",
        b":42\r\n",
        b"$5\r\nvalue\r\n",
        b"$-1\r\n",
        b"*3\r\n:1\r\n*2\r\n+a\r\n$-1\r\n*0\r\n",
        b"%2\r\n+a\r\n:1\r\n+b\r\n~1\r\n,1.5\r\n",
        b"|1\r\n+ttl\r\n:3\r\n$1\r\na\r\n",
        b"=7\r\ntxt:abc\r\n",
        b">3\r\n+message\r\n+news\r\n+today\r\n",
        b"!5\r\nERR x\r\n",
        b"_\r\n",
    ];
    let mut all: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
    all.push(pieces.concat());
    all.push([&b"*1\r\n".repeat(500)[..], b":1\r\n"].concat());
    all
}

#[test]
fn codecs_hold_whatever_they_read() -> Result<()> {
    let seed = scale::seed()?;
    let mut random = Rng::with_seed(seed);
    let (clients, servers) = (commands_of_clients(), answers_of_servers());
    let end = until(Duration::from_secs(3), Duration::from_secs(600));
    let mut inputs = 0_u64;
    while Instant::now() < end {
        for _ in 0..BATCH {
            let is_client = random.bool();
            let input =
                dialect::RESP.mutated(&mut random, if is_client { &clients } else { &servers });
            let cut = random.usize(0..=input.len());
            check(&input, cut, seed);
            inputs += 1;
        }
    }
    println!("{inputs} inputs without a finding (LB_TEST_SEED={seed})");
    Ok(())
}

#[test]
fn codecs_hold_for_what_is_valid() {
    for input in commands_of_clients().iter().chain(&answers_of_servers()) {
        for cut in 0..input.len() {
            check(input, cut, 0);
        }
    }
}

/// Each input is read as commands and as answers: nobody knows what the other end is.
fn check(input: &[u8], cut: usize, seed: u64) {
    let read = || {
        as_commands(input, cut);
        as_answers(input, cut);
    };
    if let Err(panic) = catch_unwind(AssertUnwindSafe(read)) {
        eprintln!("cut at {cut} (LB_TEST_SEED={seed}): {}", shown(input));
        resume_unwind(panic);
    }
}

/// What was found in a stream of commands, and how it ended.
type Read = (Vec<Vec<Vec<u8>>>, Option<ProtocolError>);

fn as_commands(input: &[u8], cut: usize) {
    let whole = all_commands(&[input]);
    let (one, two) = input.split_at(cut);
    assert_eq!(
        all_commands(&[one, two]),
        whole,
        "in pieces it is something else"
    );
    for words in &whole.0 {
        // What is written again is read as the same.
        let mut again = Vec::new();
        encode(&mut again, words);
        assert_eq!(all_commands(&[&again]), (vec![words.clone()], None));
    }
}

fn all_commands(pieces: &[&[u8]]) -> Read {
    let (mut parser, mut progress) = (Parser::default(), Progress::default());
    let (mut buffer, mut found) = (Vec::new(), Vec::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match parser.next(&buffer, &mut progress) {
                Ok(Found::Command(length)) => {
                    assert!(length <= buffer.len(), "more than there is");
                    let words = parser.words.iter().map(|word| word.of(&buffer).to_vec());
                    found.push(words.collect());
                    keys(&parser, &buffer);
                    buffer.drain(..length);
                }
                Ok(Found::Inline(length)) => {
                    match inline_words(buffer[..length].trim_ascii_end()) {
                        Ok(words) => found.push(words),
                        Err(error) => return (found, Some(error)),
                    }
                    buffer.drain(..length);
                }
                Ok(Found::Nothing(length)) => {
                    assert!(length > 0, "it would be found for ever");
                    buffer.drain(..length);
                }
                Ok(Found::Partial(needs)) => {
                    assert!(needs > buffer.len(), "it has what it needs");
                    break;
                }
                Err(error) => return (found, Some(error)),
            }
        }
    }
    (found, None)
}

/// Whatever the words are: looking for their keys ends, and finds words.
fn keys(parser: &Parser, buffer: &[u8]) {
    let Some(first) = parser.words.first() else {
        return;
    };
    let name = first.of(buffer).to_ascii_lowercase();
    let Some(at) = commands().find(&name) else {
        return;
    };
    let _ = each_key(&commands().all()[at], buffer, &parser.words, |at, _| {
        let key = parser.words[at].of(buffer);
        assert!(tag(key).len() <= key.len());
    });
}

fn as_answers(input: &[u8], cut: usize) {
    let (mut scan, mut again) = (Scan::default(), Scan::default());
    let whole = scan.end(input);
    if let Ok(None) | Err(_) = again.end(&input[..cut]) {
        let resumed = again.end(input);
        assert_eq!(
            resumed.ok().flatten(),
            whole.ok().flatten(),
            "in pieces it is something else"
        );
    }
    let Ok(Some(length)) = whole else {
        return;
    };
    let answer = &input[..length];
    let _ = (
        reply::kind(answer),
        reply::integer(answer),
        reply::text(answer),
    );
    for element in reply::elements(answer).unwrap_or_default() {
        assert_eq!(Scan::default().end(element), Ok(Some(element.len())));
    }
}
