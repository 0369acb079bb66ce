//! Answers of several servers that become one.

use crate::wire::resp::disposition::Join;
use crate::wire::resp::{reply, write};

/// How the parts become one.
#[derive(Debug)]
pub(super) enum How {
    /// As all servers' answers do.
    Join(Join),
    /// MGET: for each key in order, its part and its place in that.
    Values(Vec<(u32, u32)>),
    /// Every part OK, or the first error.
    AllOk,
    /// SCAN of one server: it and how many there are.
    Cursor { server: u64, servers: u64 },
    /// What is said when all have answered, whatever they said.
    Fixed(Vec<u8>),
    /// Texts are put behind each other.
    Texts,
    /// The numbers of clients closed: OK if any was.
    Killed,
}

/// Parts of an answer under way.
#[derive(Debug)]
pub(super) struct Gather {
    how: How,
    left: usize,
    parts: Vec<Vec<u8>>,
    pub is_muted: bool,
}

impl Gather {
    pub fn new(how: How, parts: usize) -> Box<Self> {
        Box::new(Self {
            how,
            left: parts,
            parts: vec![Vec::new(); parts],
            is_muted: false,
        })
    }

    /// Takes a part; the whole answer when it was the last.
    pub fn take(&mut self, part: u32, answer: &[u8], is_resp3: bool) -> Option<Vec<u8>> {
        let place = self.parts.get_mut(part as usize)?;
        if !place.is_empty() {
            return None;
        }
        place.extend_from_slice(answer);
        self.left -= 1;
        (self.left == 0).then(|| self.whole(is_resp3))
    }

    fn whole(&mut self, is_resp3: bool) -> Vec<u8> {
        let parts = std::mem::take(&mut self.parts);
        if let How::Fixed(answer) = &mut self.how {
            return std::mem::take(answer);
        }
        if let How::Join(Join::AnyOk) = self.how {
            let ok = parts
                .iter()
                .find(|part| reply::kind(part) != reply::Kind::Error);
            return ok.or_else(|| parts.first()).cloned().unwrap_or_default();
        }
        let error = parts
            .iter()
            .find(|part| reply::kind(part) == reply::Kind::Error);
        if let Some(error) = error {
            return error.clone();
        }
        match &self.how {
            How::Values(order) => values(order, &parts),
            How::AllOk | How::Fixed(_) => b"+OK\r\n".to_vec(),
            How::Texts => texts(&parts),
            How::Killed if parts.iter().all(|part| reply::integer(part) == Some(0)) => {
                b"-ERR No such client\r\n".to_vec()
            }
            How::Killed => b"+OK\r\n".to_vec(),
            How::Cursor { server, servers } => cursor(&parts[0], *server, *servers),
            How::Join(join) => joined(*join, &parts, is_resp3),
        }
    }
}

fn values(order: &[(u32, u32)], parts: &[Vec<u8>]) -> Vec<u8> {
    let elements: Vec<_> = parts
        .iter()
        .map(|part| reply::elements(part).unwrap_or_default())
        .collect();
    let mut out = Vec::with_capacity(parts.iter().map(Vec::len).sum::<usize>() + 16);
    write::array(&mut out, order.len());
    for (part, place) in order {
        let part = elements.get(*part as usize);
        match part.and_then(|elements| elements.get(*place as usize)) {
            Some(element) => out.extend_from_slice(element),
            None => write::nil(&mut out, false),
        }
    }
    out
}

fn texts(parts: &[Vec<u8>]) -> Vec<u8> {
    let texts: Vec<_> = parts.iter().filter_map(|part| reply::text(part)).collect();
    let mut out = Vec::new();
    write::bulk(&mut out, &texts.concat());
    out
}

/// A cursor of lb is the server's own, times the number of servers, plus the server.
fn cursor(part: &[u8], server: u64, servers: u64) -> Vec<u8> {
    let elements = reply::elements(part).unwrap_or_default();
    let [cursor, keys] = elements[..] else {
        return part.to_vec();
    };
    let text = reply::text(cursor).and_then(|text| std::str::from_utf8(text).ok());
    let own: u128 = text.and_then(|text| text.parse().ok()).unwrap_or_default();
    let next = match own {
        0 if server + 1 == servers => 0,
        0 => u128::from(server) + 1,
        own => own * u128::from(servers) + u128::from(server),
    };
    let mut out = Vec::with_capacity(part.len() + 8);
    write::array(&mut out, 2);
    write::bulk(&mut out, next.to_string().as_bytes());
    out.extend_from_slice(keys);
    out
}

fn joined(join: Join, parts: &[Vec<u8>], is_resp3: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let numbers = || {
        parts
            .iter()
            .map(|part| reply::integer(part).unwrap_or_default())
    };
    let all = || {
        parts
            .iter()
            .flat_map(|part| reply::elements(part).unwrap_or_default())
    };
    match join {
        Join::Sum => write::integer(&mut out, numbers().sum()),
        Join::Least => write::integer(&mut out, numbers().min().unwrap_or_default()),
        Join::Greatest => write::integer(&mut out, numbers().max().unwrap_or_default()),
        Join::First | Join::AnyOk | Join::Scan => out.extend_from_slice(&parts[0]),
        Join::Concat => {
            write::array(&mut out, all().count());
            all().for_each(|element| out.extend_from_slice(element));
        }
        Join::Union => {
            let mut seen: Vec<&[u8]> = all().collect();
            seen.sort_unstable();
            seen.dedup();
            write::array(&mut out, seen.len());
            seen.iter()
                .for_each(|element| out.extend_from_slice(element));
        }
        Join::AllOnes => {
            let parts: Vec<_> = parts
                .iter()
                .map(|part| reply::elements(part).unwrap_or_default())
                .collect();
            let length = parts.iter().map(Vec::len).min().unwrap_or_default();
            write::array(&mut out, length);
            for at in 0..length {
                let is_everywhere = parts.iter().all(|part| part[at] == b":1\r\n");
                write::integer(&mut out, i64::from(is_everywhere));
            }
        }
        Join::SumPairs => sum_pairs(parts, &mut out),
        Join::Random => {
            let there: Vec<_> = parts.iter().filter(|part| !reply::is_nil(part)).collect();
            match there.as_slice() {
                [] => write::nil(&mut out, is_resp3),
                there => out.extend_from_slice(there[fastrand::usize(0..there.len())]),
            }
        }
    }
    out
}

fn sum_pairs(parts: &[Vec<u8>], out: &mut Vec<u8>) {
    let parts: Vec<_> = parts
        .iter()
        .map(|part| reply::elements(part).unwrap_or_default())
        .collect();
    let first = parts.first().map(Vec::as_slice).unwrap_or_default();
    write::array(out, first.len());
    for (at, name) in first.iter().enumerate() {
        if at % 2 == 0 {
            out.extend_from_slice(name);
        } else {
            let numbers = parts
                .iter()
                .filter_map(|part| reply::integer(part.get(at)?));
            write::integer(out, numbers.sum());
        }
    }
}
