//! Where an NBD server is, and which of its exports is meant: an NBD URI.
//!
//! `nbd://HOST[:PORT][/EXPORT]` and `nbd+unix:///[EXPORT]?socket=PATH`, as the NBD project's `doc/uri.md` has them; `nbds://` and
//! `nbds+unix://` are the same over TLS, with `tls-certificates=DIR` and `tls-hostname=NAME` behind the `?` as libnbd has them.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use transload_block::{Error, ErrorKind, Result};

use crate::tls::ClientTls;

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
    /// Who is trusted, where the address demands TLS.
    pub tls: Option<TlsAddress>,
}

/// What an address says of TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsAddress {
    /// The folder with `ca-cert.pem`, and perhaps `client-cert.pem` and `client-key.pem`; without it, whom the system trusts is trusted.
    pub certificates: Option<PathBuf>,
    /// Whom the server's certificate has to be for, where that is not the host of the address.
    pub host_name: Option<String>,
}

impl TlsAddress {
    /// Reads what the address names.
    pub(crate) fn trust(&self) -> Result<ClientTls> {
        self.certificates.as_deref().map_or_else(ClientTls::system, ClientTls::from_folder)
    }
}

impl NbdAddress {
    /// Whether `text` is meant as such an address, well-formed or not.
    #[must_use]
    pub fn is_meant_by(text: &str) -> bool {
        ["nbd://", "nbds://", "nbd+unix://", "nbds+unix://"].iter().any(|scheme| text.starts_with(scheme))
    }
}

impl NbdAddress {
    /// Whom the server's certificate has to be for. A socket in the file system belongs to this host.
    pub(crate) fn server_name(&self) -> String {
        let named = self.tls.as_ref().and_then(|tls| tls.host_name.clone());
        named.unwrap_or_else(|| match &self.place {
            Place::Unix(_) => "localhost".to_owned(),
            Place::Tcp(host, _) => host.clone(),
        })
    }
}

impl fmt::Display for NbdAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "nbds" } else { "nbd" };
        let export = encoded(&self.export, b"/");
        let mut parameters = Vec::new();
        match &self.place {
            Place::Unix(path) => {
                write!(f, "{scheme}+unix:///{export}")?;
                parameters.push(("socket", path.to_string_lossy()));
            }
            place @ Place::Tcp(..) => write!(f, "{scheme}://{place}/{export}")?,
        }
        let tls = self.tls.as_ref();
        parameters.extend(
            tls.and_then(|tls| tls.certificates.as_ref()).map(|path| ("tls-certificates", path.to_string_lossy())),
        );
        parameters
            .extend(tls.and_then(|tls| tls.host_name.as_ref()).map(|name| ("tls-hostname", name.as_str().into())));
        for (at, (name, value)) in parameters.iter().enumerate() {
            write!(f, "{}{name}={}", if at == 0 { '?' } else { '&' }, encoded(value, b"/"))?;
        }
        Ok(())
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
        let (transport, tls) = match scheme.strip_prefix("nbds") {
            Some(transport) => (transport, Some(TlsAddress::default())),
            None => (scheme.strip_prefix("nbd").unwrap_or("?"), None),
        };
        let parameters = Parameters::parse(query, tls).map_err(wrong)?;
        let place = match (transport, parameters.socket) {
            ("", None) => tcp(authority).map_err(wrong)?,
            ("", Some(_)) => return Err(wrong("a socket belongs to nbd+unix addresses")),
            ("+unix", Some(path)) if authority.is_empty() => Place::Unix(path),
            ("+unix", None) if authority.is_empty() => return Err(wrong("has no socket=PATH after '?'")),
            ("+unix", _) => {
                return Err(wrong("has a host where a socket is named: write nbd+unix:///EXPORT?socket=PATH"));
            }
            _ => return Err(wrong("is none of nbd://, nbds://, nbd+unix:// and nbds+unix://")),
        };
        Ok(Self { place, export, tls: parameters.tls })
    }
}

/// What stands behind the `?` of an address.
struct Parameters {
    socket: Option<PathBuf>,
    tls: Option<TlsAddress>,
}

impl Parameters {
    /// Reads `NAME=VALUE&…`; `tls` is there where the address is one with TLS.
    fn parse(query: &str, tls: Option<TlsAddress>) -> Result<Self, &'static str> {
        let mut this = Self { socket: None, tls };
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').ok_or("a parameter after '?' has no value")?;
            let value = decoded(value).filter(|value| !value.is_empty());
            let value = value.ok_or("the value of a parameter is empty or not UTF-8 with %XX escapes")?;
            match (name, &mut this.tls) {
                ("socket", _) => this.socket = Some(value.into()),
                ("tls-certificates", Some(tls)) => tls.certificates = Some(value.into()),
                ("tls-hostname", Some(tls)) => tls.host_name = Some(value),
                ("tls-certificates" | "tls-hostname", None) => return Err("TLS belongs to nbds:// and nbds+unix://"),
                // Whoever asks for no verification, or for ciphers of their own, is not to get something else.
                _ => return Err("a parameter after '?' is none of socket, tls-certificates and tls-hostname"),
            }
        }
        Ok(this)
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
            tls: None,
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
        assert_eq!(unix, NbdAddress { place: Place::Unix("/tmp/a?b".into()), export: "x".to_owned(), tls: None });
        assert_eq!(unix.to_string().parse::<NbdAddress>().unwrap(), unix);
        for (text, name, certificates) in [
            ("nbds://host/x", "host", None),
            ("nbds://[::1]:99/x?tls-certificates=/a%20b&tls-hostname=other", "other", Some("/a b")),
            ("nbds+unix:///x?socket=/s&tls-certificates=/c", "localhost", Some("/c")),
        ] {
            let address: NbdAddress = text.parse().unwrap();
            assert_eq!(address.server_name(), name, "{text}");
            assert_eq!(address.tls.as_ref().unwrap().certificates, certificates.map(PathBuf::from), "{text}");
            assert_eq!(address.to_string().parse::<NbdAddress>().unwrap(), address, "{text}");
        }
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
            "nbd://h?tls-hostname=x",
            "nbds://h?tls-verify-peer=false",
            "nbds://h?tls-hostname",
            "nbds://h?socket=/x",
            "http://h",
        ] {
            assert_eq!(text.parse::<NbdAddress>().unwrap_err().kind(), ErrorKind::InvalidInput, "{text}");
        }
    }
}
