//! Where an NBD server is, and which of its exports is meant: an NBD URI.
//!
//! `nbd://HOST[:PORT][/EXPORT]` and `nbd+unix:///[EXPORT]?socket=PATH`, as the NBD project's `doc/uri.md` has them.
//! `nbds://` and `nbds+unix://`, the same over TLS, are known by name and refused.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use transload_block::{Error, ErrorKind, Result};

/// The port that IANA has assigned to NBD.
pub const DEFAULT_PORT: u16 = 10809;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A socket in the file system.
    Unix(PathBuf),
    /// A host's name or address, and a port.
    Tcp(String, u16),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// A server and one of its exports.
///
/// ```
/// use transload_nbd::{NbdAddress, Place};
///
/// let address: NbdAddress = "nbd://backup.example/disk%201".parse()?;
/// assert_eq!(address.place, Place::Tcp("backup.example".into(), 10809));
/// assert_eq!(address.export, "disk 1");
/// let address: NbdAddress = "nbd+unix:///?socket=/run/nbd.sock".parse()?;
/// assert_eq!(address.place, Place::Unix("/run/nbd.sock".into()));
/// # Ok::<_, transload_block::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NbdAddress {
    /// Where the server is.
    pub place: Place,
    /// The export's name; the empty one is the server's default.
    pub export: String,
}

impl NbdAddress {
    /// Whether `text` is meant as such an address, well-formed or not.
    #[must_use]
    pub fn is_meant_by(text: &str) -> bool {
        ["nbd://", "nbds://", "nbd+unix://", "nbds+unix://"].iter().any(|scheme| text.starts_with(scheme))
    }
}

impl fmt::Display for NbdAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Unix(path) => {
                let socket = encoded(&path.to_string_lossy(), b"/");
                write!(f, "nbd+unix:///{}?socket={socket}", encoded(&self.export, b"/"))
            }
            place @ Place::Tcp(..) => write!(f, "nbd://{place}/{}", encoded(&self.export, b"/")),
        }
    }
}

impl FromStr for NbdAddress {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| Error::new(ErrorKind::InvalidInput, format!("address '{text}': {why}"));
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("has no '://'"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, export) = rest.split_once('/').unwrap_or((rest, ""));
        let export = decoded(export).ok_or_else(|| wrong("the export's name is not UTF-8 with %XX escapes"))?;
        match scheme {
            "nbd" if query.is_empty() => Ok(Self { place: tcp(authority).map_err(wrong)?, export }),
            "nbd" => Err(wrong("parameters after '?' belong to nbd+unix addresses")),
            "nbd+unix" if authority.is_empty() => Ok(Self { place: unix(query).map_err(wrong)?, export }),
            "nbd+unix" => Err(wrong("has a host where a socket is named: write nbd+unix:///EXPORT?socket=PATH")),
            "nbds" | "nbds+unix" => Err(Error::new(ErrorKind::Unsupported, format!("address '{text}': NBD over TLS"))
                .with_remedy("connect through a tunnel (ssh -L, stunnel) and name its end here")),
            _ => Err(wrong("is neither nbd:// nor nbd+unix://")),
        }
    }
}

/// `HOST`, `HOST:PORT`, `[IPV6]` or `[IPV6]:PORT`.
fn tcp(authority: &str) -> Result<Place, &'static str> {
    if authority.contains('@') {
        return Err("NBD has no user names");
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or("the bracket of the IPv6 address is not closed")?;
            (
                host,
                if after.is_empty() {
                    None
                } else {
                    Some(after.strip_prefix(':').ok_or("something stands behind ']'")?)
                },
            )
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if host.is_empty() {
        return Err("names no host");
    }
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or("the port is not a number from 1 to 65535")?,
    };
    Ok(Place::Tcp(host.to_owned(), port))
}

/// The socket in `socket=PATH`.
fn unix(query: &str) -> Result<Place, &'static str> {
    let path = query.strip_prefix("socket=").ok_or("has no socket=PATH after '?'")?;
    let path = decoded(path).filter(|path| !path.is_empty()).ok_or("the socket's path is empty or not UTF-8")?;
    Ok(Place::Unix(path.into()))
}

/// Resolves `%XX`; `None` when the result is no UTF-8 or an escape is broken.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

/// Escapes what is neither unreserved (RFC 3986) nor in `besides`.
fn encoded(text: &str, besides: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || besides.contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        let tcp = |host: &str, port, export: &str| NbdAddress {
            place: Place::Tcp(host.to_owned(), port),
            export: export.to_owned(),
        };
        for (text, address) in [
            ("nbd://host", tcp("host", 10809, "")),
            ("nbd://host:99/a%20b", tcp("host", 99, "a b")),
            ("nbd://[::1]:99/x/y", tcp("::1", 99, "x/y")),
            ("nbd://[::1]", tcp("::1", 10809, "")),
        ] {
            let parsed: NbdAddress = text.parse().unwrap();
            assert_eq!(parsed, address, "{text}");
            assert_eq!(parsed.to_string().parse::<NbdAddress>().unwrap(), address, "{text}");
        }
        let unix: NbdAddress = "nbd+unix:///x?socket=/tmp/a%3Fb".parse().unwrap();
        assert_eq!(unix, NbdAddress { place: Place::Unix("/tmp/a?b".into()), export: "x".to_owned() });
        assert_eq!(unix.to_string().parse::<NbdAddress>().unwrap(), unix);
    }

    #[test]
    fn what_is_no_address_is_said() {
        for text in [
            "nbd://",
            "nbd://:1",
            "nbd://h:0",
            "nbd://h:x",
            "nbd://h:70000",
            "nbd://[::1",
            "nbd://[::1]x",
            "nbd://u@h",
            "nbd://h?socket=/x",
            "nbd+unix:///x",
            "nbd+unix://h/x?socket=/y",
            "nbd+unix:///?socket=",
            "nbd://h/%zz",
            "nbd://h/%ff",
            "nbd://h/%+1",
            "http://h",
        ] {
            assert_eq!(text.parse::<NbdAddress>().unwrap_err().kind(), ErrorKind::InvalidInput, "{text}");
        }
        assert_eq!("nbds://h".parse::<NbdAddress>().unwrap_err().kind(), ErrorKind::Unsupported);
    }
}
