//! Ethernet addresses.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use anyhow::{Context, Result, ensure};

/// A MAC address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// ff:ff:ff:ff:ff:ff.
    pub const BROADCAST: Mac = Mac([0xff; 6]);

    /// A locally administered address that shows the IPv4 address it belongs to, so that a capture
    /// can be read without a table: 10.0.1.11 has 02:00:0a:00:01:0b.
    pub fn of(address: Ipv4Addr) -> Mac {
        let [a, b, c, d] = address.octets();
        Mac([0x02, 0x00, a, b, c, d])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mac {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Mac> {
        let parts: Vec<&str> = text.trim().split(':').collect();
        ensure!(
            parts.len() == 6,
            "{text:?} is not a MAC address: six bytes wanted"
        );
        let mut bytes = [0; 6];
        for (byte, part) in bytes.iter_mut().zip(parts) {
            *byte = u8::from_str_radix(part, 16)
                .with_context(|| format!("{text:?} is not a MAC address"))?;
        }
        Ok(Mac(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_reads_back_what_it_prints() {
        let mac = Mac::of(Ipv4Addr::new(10, 0, 1, 11));
        assert_eq!(mac.to_string(), "02:00:0a:00:01:0b");
        assert_eq!(mac.to_string().parse::<Mac>().unwrap(), mac);
        assert!("02:00".parse::<Mac>().is_err());
    }
}
