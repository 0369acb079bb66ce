//! Single values: from a TOML value to a Rust type, or what is wrong with it. No value knows its
//! key, its place in the file, or other values.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    time::Duration,
};

use toml::de::DeValue;

use super::{
    duration::{DurationError, parse_duration},
    suggest::{list, shown},
    words::Word,
};

/// What is wrong with a value, and what would be right.
#[derive(Debug)]
pub(super) struct Mistake {
    pub(super) wrong: String,
    pub(super) right: String,
}

impl Mistake {
    pub(super) fn new(wrong: impl Into<String>, right: impl Into<String>) -> Self {
        Self {
            wrong: wrong.into(),
            right: right.into(),
        }
    }

    /// A value of another type than the key wants.
    pub(super) fn kind(value: &DeValue<'_>, right: impl Into<String>) -> Self {
        let kind = match value {
            DeValue::String(text) => format!("is the string {}", shown(text)),
            DeValue::Integer(number) => format!("is the number {}", clip(number.as_str())),
            DeValue::Float(number) => format!("is the number {}", clip(number.as_str())),
            DeValue::Boolean(truth) => format!("is {truth}"),
            DeValue::Datetime(_) => "is a date or time".to_owned(),
            DeValue::Array(_) => "is an array".to_owned(),
            DeValue::Table(_) => "is a table".to_owned(),
        };
        Self::new(kind, right)
    }
}

fn clip(number: &str) -> String {
    number.chars().take(32).collect()
}

/// A type that one TOML value can be read into.
pub(super) trait FromToml: Sized {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Mistake>;
}

impl FromToml for String {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Mistake> {
        value
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| Mistake::kind(value, "write a string in quotes"))
    }
}

impl FromToml for bool {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Mistake> {
        value
            .as_bool()
            .ok_or_else(|| Mistake::kind(value, "write true or false, without quotes"))
    }
}

impl FromToml for i64 {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Mistake> {
        let DeValue::Integer(number) = value else {
            return Err(Mistake::kind(value, "write a whole number, without quotes"));
        };
        Self::from_str_radix(number.as_str(), number.radix())
            .map_err(|_| Mistake::kind(value, "write a number nearer to 0"))
    }
}

impl FromToml for f64 {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Mistake> {
        let wrong = || Mistake::kind(value, "write a number such as 0.1, without quotes");
        let digits = match value {
            DeValue::Float(number) => number.as_str(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
            _ => return Err(wrong()),
        };
        digits.parse().map_err(|_| wrong())
    }
}

impl FromToml for Duration {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Mistake> {
        let example =
            "write a whole number and a unit (ms, s, m, h, d) in quotes, such as \"100ms\"";
        let text = match value {
            DeValue::String(text) => text,
            DeValue::Integer(number) if number.radix() == 10 => {
                let number = clip(number.as_str());
                let right =
                    format!("write it with its unit in quotes: \"{number}ms\" or \"{number}s\"");
                return Err(Mistake::new(format!("is {number} without a unit"), right));
            }
            _ => return Err(Mistake::kind(value, example)),
        };
        parse_duration(text).map_err(|error| {
            let text = text.trim();
            let right = match error {
                DurationError::NoUnit => {
                    format!(
                        "write {} or {}",
                        shown(&format!("{text}ms")),
                        shown(&format!("{text}s"))
                    )
                }
                _ => example.to_owned(),
            };
            Mistake::new(format!("{} {error}", shown(text)), right)
        })
    }
}

impl FromToml for IpAddr {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Mistake> {
        let example = "write an IP address in quotes, such as \"10.0.1.11\" or \"2001:db8::11\"";
        let text = value
            .as_str()
            .ok_or_else(|| Mistake::kind(value, example))?;
        let wrong = || format!("{} is not an IP address", shown(text));
        text.parse().map_err(|_| {
            // What is an address with something around it can be said exactly.
            if let Ok(socket) = text.parse::<SocketAddr>() {
                return Mistake::new(wrong(), format!("leave the port out: \"{}\"", socket.ip()));
            }
            if let Ok(network) = text.parse::<ipnet::IpNet>() {
                let right = format!("leave the prefix length out: \"{}\"", network.addr());
                return Mistake::new(wrong(), right);
            }
            let inner = text.trim().trim_start_matches('[').trim_end_matches(']');
            match inner.parse::<Self>() {
                Ok(address) => Mistake::new(wrong(), format!("write \"{address}\"")),
                Err(_)
                    if text.starts_with(|c: char| c.is_ascii_alphabetic())
                        && !text.contains(':') =>
                {
                    Mistake::new(wrong(), format!("names are not looked up; {example}"))
                }
                Err(_) => Mistake::new(wrong(), example),
            }
        })
    }
}

impl FromToml for SocketAddr {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Mistake> {
        let example = "write IP:port in quotes, such as \"127.0.0.1:9180\" or \"[::1]:9180\"";
        let text = value
            .as_str()
            .ok_or_else(|| Mistake::kind(value, example))?;
        match text.parse::<Self>() {
            Ok(socket) if socket.port() == 0 => {
                Err(Mistake::new(format!("{} has port 0", shown(text)), example))
            }
            Ok(socket) => Ok(socket),
            Err(_) => Err(Mistake::new(
                format!("{} is not IP:port", shown(text)),
                example,
            )),
        }
    }
}

impl<W: Word> FromToml for W {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Mistake> {
        let Some(word) = value.as_str() else {
            return Err(Mistake::kind(value, format!("write {}", list(W::WORDS))));
        };
        word.parse()
            .map_err(|unknown: super::UnknownWord| Mistake::new(unknown.wrong, unknown.right))
    }
}

/// The port of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Port {
    /// Every port of the VIP that no other service names.
    Any,
    /// This port, 1 to 65535.
    Number(u16),
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.pad("any"),
            Self::Number(number) => f.pad(&number.to_string()),
        }
    }
}

impl FromToml for Port {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Mistake> {
        let right = "write a number from 1 to 65535 without quotes, or \"any\"";
        match value {
            DeValue::String(word) if word == "any" => Ok(Self::Any),
            DeValue::Integer(_) => i64::from_toml(value)
                .ok()
                .and_then(|number| u16::try_from(number).ok())
                .filter(|&number| number != 0)
                .map(Self::Number)
                .ok_or_else(|| Mistake::kind(value, right)),
            _ => Err(Mistake::kind(value, right)),
        }
    }
}

/// HTTP status codes that count as good: ranges within 100 to 599, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusRanges(Vec<RangeInclusive<u16>>);

impl StatusRanges {
    /// The ranges, as written.
    pub fn ranges(&self) -> impl Iterator<Item = &RangeInclusive<u16>> {
        self.0.iter()
    }

    /// Whether an answer with this status is good.
    #[must_use]
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|range| range.contains(&status))
    }
}

/// What HAProxy takes for good: success and redirection.
impl Default for StatusRanges {
    fn default() -> Self {
        Self(vec![200..=399])
    }
}

impl From<RangeInclusive<u16>> for StatusRanges {
    fn from(range: RangeInclusive<u16>) -> Self {
        Self(vec![range])
    }
}

impl fmt::Display for StatusRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, range) in self.0.iter().enumerate() {
            let comma = if position == 0 { "" } else { ", " };
            match (range.start(), range.end()) {
                (from, to) if from == to => write!(f, "{comma}{from}")?,
                (from, to) => write!(f, "{comma}{from}-{to}")?,
            }
        }
        Ok(())
    }
}

impl FromToml for StatusRanges {
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Mistake> {
        match value {
            DeValue::Array(ranges) if ranges.iter().len() == 0 => Err(Mistake::new(
                "is empty: no answer would be good",
                "write [200] or leave it out",
            )),
            DeValue::Array(ranges) => ranges
                .iter()
                .map(|range| status_range(range.get_ref()))
                .collect::<Result<_, _>>()
                .map(Self),
            _ => status_range(value).map(Self::from),
        }
    }
}

fn status_range(value: &DeValue<'_>) -> Result<RangeInclusive<u16>, Mistake> {
    let digits = match value {
        DeValue::String(text) => text.as_ref(),
        DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
        _ => "",
    };
    let (from, to) = digits.split_once('-').unwrap_or((digits, digits));
    match (from.trim().parse(), to.trim().parse()) {
        (Ok(from), Ok(to)) if 100 <= from && from <= to && to <= 599 => Ok(from..=to),
        _ => Err(Mistake::kind(
            value,
            "write HTTP status codes: 200, \"200-299\" or [200, 204]",
        )),
    }
}
