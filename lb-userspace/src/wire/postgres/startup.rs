//! The first packet of a connection, which has no tag.

use super::frame::text;

/// The longest first packet that PostgreSQL takes (`MAX_STARTUP_PACKET_LENGTH`).
pub const STARTUP_BYTES_MAX: usize = 10_000;

const PROTOCOL_3: u32 = 3 << 16;
const CANCEL: u32 = 80_877_102;
const TLS: u32 = 80_877_103;
const GSS: u32 = 80_877_104;

/// What a client wants with its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum First {
    /// TLS, if there is any.
    Tls,
    /// Encryption by Kerberos.
    Gss,
    /// To cancel what another connection does.
    Cancel {
        /// As BackendKeyData said.
        process: u32,
        /// As BackendKeyData said; four bytes before protocol 3.2, up to 256 since.
        secret: Vec<u8>,
    },
    /// To log in.
    Startup(Startup),
}

/// A login's parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Startup {
    /// The minor version of protocol 3 that the client wants.
    pub minor: u16,
    /// Names and values in their order.
    pub parameters: Vec<(String, String)>,
}

/// Why a first packet is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartupError {
    /// The length is impossible.
    #[error("invalid length of startup packet")]
    Length,
    /// Another protocol.
    #[error("unsupported frontend protocol {}.{}: server supports 3.0 to 3.2", version >> 16, version & 0xffff)]
    Version {
        /// As the packet said.
        version: u32,
    },
    /// The parameters are not pairs of texts.
    #[error("invalid startup packet layout: expected terminator as last byte")]
    Layout,
    /// A parameter is not UTF-8.
    #[error("a startup parameter is not valid UTF-8")]
    Encoding,
}

/// How many bytes follow the length of a first packet.
///
/// # Errors
/// If the length is impossible.
pub fn body_bytes(length: [u8; 4]) -> Result<usize, StartupError> {
    let length = u32::from_be_bytes(length) as usize;
    if (8..=STARTUP_BYTES_MAX).contains(&length) {
        Ok(length - 4)
    } else {
        Err(StartupError::Length)
    }
}

/// Reads a first packet, its length left out.
///
/// # Errors
/// If it is none.
pub fn first(body: &[u8]) -> Result<First, StartupError> {
    let (version, rest) = body.split_first_chunk().ok_or(StartupError::Length)?;
    match u32::from_be_bytes(*version) {
        TLS if rest.is_empty() => Ok(First::Tls),
        GSS if rest.is_empty() => Ok(First::Gss),
        CANCEL => {
            let (process, secret) = rest.split_first_chunk().ok_or(StartupError::Length)?;
            Ok(First::Cancel {
                process: u32::from_be_bytes(*process),
                secret: secret.to_vec(),
            })
        }
        version if version & !0xffff == PROTOCOL_3 => {
            let minor = u16::try_from(version & 0xffff).expect("sixteen bits are left");
            Ok(First::Startup(Startup {
                minor,
                parameters: parameters(rest)?,
            }))
        }
        version => Err(StartupError::Version { version }),
    }
}

fn parameters(mut rest: &[u8]) -> Result<Vec<(String, String)>, StartupError> {
    let owned =
        |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| StartupError::Encoding);
    let mut parameters = Vec::new();
    loop {
        let (name, after) = text(rest).ok_or(StartupError::Layout)?;
        if name.is_empty() {
            return if after.is_empty() {
                Ok(parameters)
            } else {
                Err(StartupError::Layout)
            };
        }
        let (value, after) = text(after).ok_or(StartupError::Layout)?;
        parameters.push((owned(name)?, owned(value)?));
        rest = after;
    }
}

impl Startup {
    /// The value of a parameter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.parameters.iter().rev();
        found
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// Writes the packet.
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&(PROTOCOL_3 | u32::from(self.minor)).to_be_bytes());
        for (name, value) in &self.parameters {
            for text in [name, value] {
                out.extend_from_slice(text.as_bytes());
                out.push(0);
            }
        }
        out.push(0);
        let length = u32::try_from(out.len() - start).expect("startup packets are short");
        out[start..start + 4].copy_from_slice(&length.to_be_bytes());
    }
}

/// The packet that asks a server for TLS.
#[must_use]
pub fn tls_request() -> [u8; 8] {
    let mut packet = [0, 0, 0, 8, 0, 0, 0, 0];
    packet[4..].copy_from_slice(&TLS.to_be_bytes());
    packet
}

/// The packet that asks a server to cancel what a connection does.
#[must_use]
pub fn cancel_request(process: u32, secret: &[u8]) -> Vec<u8> {
    let length = u32::try_from(12 + secret.len()).expect("secrets are short");
    let mut packet = length.to_be_bytes().to_vec();
    packet.extend_from_slice(&CANCEL.to_be_bytes());
    packet.extend_from_slice(&process.to_be_bytes());
    packet.extend_from_slice(secret);
    packet
}
