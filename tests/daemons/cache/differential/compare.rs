//! When two answers are the same.

use lb_tests::redis::Reply;

use super::generate::Words;

/// Times may differ by so much between two servers that are asked one after the other.
const SECONDS_MAX: i64 = 20;

/// Answers in no order.
const UNORDERED: [&str; 7] = [
    "SMEMBERS", "SINTER", "SUNION", "SDIFF", "KEYS", "HKEYS", "HVALS",
];

/// Whether they say the same.
pub(super) fn are_equal(words: &Words, one: &Reply, other: &Reply) -> bool {
    let name = words.first().map_or_else(String::new, |word| {
        String::from_utf8_lossy(word).to_uppercase()
    });
    match name.as_str() {
        "TTL" | "EXPIRETIME" => are_near(one, other, SECONDS_MAX),
        "PTTL" | "PEXPIRETIME" => are_near(one, other, SECONDS_MAX * 1000),
        "HGETALL" => pairs(one) == pairs(other),
        _ if UNORDERED.contains(&name.as_str()) => sorted(one) == sorted(other),
        // What was queued is in the answer, each in its place.
        "EXEC" => {
            let (one, other) = (one.parts(), other.parts());
            one.len() == other.len()
                && one.iter().zip(other).all(|(one, other)| {
                    one == other
                        || sorted(one) == sorted(other)
                        || are_near(one, other, SECONDS_MAX * 1000)
                })
        }
        _ => one == other,
    }
}

fn are_near(one: &Reply, other: &Reply, most: i64) -> bool {
    match (one, other) {
        (Reply::Integer(one), Reply::Integer(other)) if *one > most && *other > most => {
            (one - other).abs() <= most
        }
        _ => one == other,
    }
}

fn sorted(reply: &Reply) -> Vec<&Reply> {
    let mut parts: Vec<_> = reply.parts().iter().collect();
    if parts.is_empty() {
        return vec![reply];
    }
    parts.sort();
    parts
}

fn pairs(reply: &Reply) -> Vec<&[Reply]> {
    if reply.is_error() {
        return vec![std::slice::from_ref(reply)];
    }
    let mut pairs: Vec<_> = reply.parts().chunks(2).collect();
    pairs.sort();
    pairs
}
