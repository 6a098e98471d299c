//! Which addresses may be connected to.
//!
//! ```text
//! address ──► Policy::check_url ──► name resolved ──► Policy::permits(host, ip) ──► connect to exactly those ips
//!   ▲  scheme, spelling of the host                     everything else is dropped           │
//!   └──────────────────────────── Location of a redirect ◄──────────────────────────────────┘
//! ```
//!
//! What is checked is what is connected to: the client gets no name that it could look up a second time, only the addresses
//! that passed. A name that answers with a public address first and a private one later therefore wins nothing.
//!
//! Addresses inside others are unfolded first: IPv4 in IPv6 (`::ffff:a.b.c.d`), NAT64 and 6to4. What is public stands in the
//! registries of special-purpose addresses of IANA (RFC 6890 and what followed); whatever is not plainly public is not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use reqwest::Url;
use transload_block::{Error, ErrorKind, Result};

/// Which addresses may be connected to, whether they were asked for or a redirect leads there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// All of them: the caller is the person at whose machine it runs. A redirect from a public address to one that is
    /// not is refused nevertheless, as is one from https to http.
    #[default]
    Open,
    /// Public addresses alone: no loopback, no private or link-local network, no metadata service. For addresses that
    /// others send.
    Public,
    /// Public addresses, and these.
    Allow(Vec<Rule>),
    /// These and no others.
    Only(Vec<Rule>),
}

/// A host or network that a [`Policy`] names.
///
/// Written as `images.example.org`, `.example.org` for every host below it, `192.0.2.7`, `10.1.0.0/16`, `fd12::/48`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A host by its name, whatever addresses it has.
    Host(String),
    /// All hosts whose name ends in this, which begins with a dot.
    Below(String),
    /// A network: an address and how many of its leading bits count.
    Network(IpAddr, u8),
}

impl FromStr for Rule {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| Error::new(ErrorKind::InvalidInput, format!("allowed address '{text}': {why}"));
        let (network, prefix) = text.split_once('/').map_or((text, None), |(network, bits)| (network, Some(bits)));
        let bare = network.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse::<IpAddr>() {
            let most = if address.is_ipv4() { 32 } else { 128 };
            let bits = prefix.map_or(Ok(most), str::parse::<u8>).ok().filter(|bits| *bits <= most);
            return bits
                .map(|bits| Self::Network(address, bits))
                .ok_or_else(|| wrong("a prefix has 0 to 32 or 128 bits"));
        }
        let name = text.trim_end_matches('.').to_ascii_lowercase();
        let is_name = |name: &str| {
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        };
        match name.strip_prefix('.') {
            Some(rest) if is_name(rest) => Ok(Self::Below(name)),
            None if is_name(&name) => Ok(Self::Host(name)),
            _ => Err(wrong("is neither a host's name, nor an address, nor a network")),
        }
    }
}

impl Rule {
    fn permits(&self, host: &str, address: IpAddr) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        match self {
            Self::Host(name) => host == *name,
            Self::Below(suffix) => host.ends_with(suffix.as_str()),
            Self::Network(network, bits) => in_network(unfold(address), *network, *bits),
        }
    }
}

impl Policy {
    /// Whether a connection to `address`, which is what `host` stands for, is permitted.
    #[must_use]
    pub fn permits(&self, host: &str, address: IpAddr) -> bool {
        let named = |rules: &[Rule]| rules.iter().any(|rule| rule.permits(host, address));
        match self {
            Self::Open => true,
            Self::Public => is_public(address),
            Self::Allow(rules) => is_public(address) || named(rules),
            Self::Only(rules) => named(rules),
        }
    }

    /// Checks what can be told without a connection: the scheme, how the host is spelled, and the address where the host
    /// is one. `text` is the address as it was written, `url` what it was understood as.
    ///
    /// # Errors
    /// `Denied` when it is not permitted; `InvalidInput` when it has no host or is not http or https.
    pub fn check_url(&self, text: &str, url: &Url) -> Result<()> {
        if !matches!(url.scheme(), "http" | "https") {
            let text = format!("{}: is neither http nor https", crate::shown(url));
            return Err(Error::new(ErrorKind::InvalidInput, text));
        }
        let host = url
            .host()
            .ok_or_else(|| Error::new(ErrorKind::InvalidInput, format!("{}: has no host", crate::shown(url))))?;
        let Some(address) = literal(url) else { return Ok(()) };
        if *self != Self::Open && address.is_ipv4() && !is_spelled_plainly(text, &host.to_string()) {
            let text = format!("{}: the host is an address in disguise, {address}", crate::shown(url));
            return Err(Error::new(ErrorKind::Denied, text).with_remedy("write it as four decimal numbers"));
        }
        if self.permits(&host.to_string(), address) {
            return Ok(());
        }
        Err(self.denied(&host.to_string(), &[address]))
    }

    /// Keeps of `addresses`, for which `host` stands, those that are permitted.
    ///
    /// # Errors
    /// `Denied` when none is left.
    pub fn filter(&self, host: &str, addresses: Vec<IpAddr>) -> Result<Vec<IpAddr>> {
        let (kept, refused): (Vec<_>, Vec<_>) = addresses.into_iter().partition(|ip| self.permits(host, *ip));
        if kept.is_empty() { Err(self.denied(host, &refused)) } else { Ok(kept) }
    }

    fn denied(&self, host: &str, refused: &[IpAddr]) -> Error {
        let which = match refused {
            [] => "no address".to_owned(),
            [first, ..] => format!("{first}, {}", kind_of(*first)),
        };
        let only =
            if matches!(self, Self::Only(_)) { "is not among the hosts that are allowed" } else { "is not allowed" };
        Error::new(ErrorKind::Denied, format!("{host} ({which}) {only}"))
            .with_remedy("have whoever runs this allow the host or its network")
    }
}

/// The address that a URL has in place of a name.
pub(crate) fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Whether the host of the address `text` stands there as it is understood: `127.1`, `0x7f000001` and `2130706433` are all
/// understood as `127.0.0.1`, and nobody writes them so without a purpose.
fn is_spelled_plainly(text: &str, host: &str) -> bool {
    let rest = text.trim_start().split_once("//").map_or(text, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or(rest);
    let place = authority.rsplit_once('@').map_or(authority, |(_, place)| place);
    place.split(':').next() == Some(host)
}

/// The address that is really meant by one that holds another.
fn unfold(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let [a, b, c, d, e, f, g, h] = v6.segments();
    let v4 = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)));
    match [a, b, c, d, e, f] {
        // IPv4-mapped (RFC 4291), NAT64 (RFC 6052).
        [0, 0, 0, 0, 0, 0xffff] | [0x64, 0xff9b, 0, 0, 0, 0] => v4(g, h),
        // 6to4 (RFC 3056).
        [0x2002, ..] => v4(b, c),
        _ => address,
    }
}

/// Whether an address is one of the public network.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match unfold(address) {
        IpAddr::V4(v4) => special_v4(v4).is_none(),
        IpAddr::V6(v6) => special_v6(v6).is_none(),
    }
}

/// What kind of address it is, for messages.
fn kind_of(address: IpAddr) -> &'static str {
    let special = match unfold(address) {
        IpAddr::V4(v4) => special_v4(v4),
        IpAddr::V6(v6) => special_v6(v6),
    };
    special.unwrap_or("a public address")
}

/// Networks of IPv4 that are not public: the address, its prefix, and what they are.
const SPECIAL_V4: &[([u8; 4], u8, &str)] = &[
    ([0, 0, 0, 0], 8, "this network"),
    ([10, 0, 0, 0], 8, "a private network"),
    ([100, 64, 0, 0], 10, "a network behind a carrier's NAT"),
    ([127, 0, 0, 0], 8, "loopback"),
    // Metadata services of clouds among them.
    ([169, 254, 0, 0], 16, "link-local"),
    ([172, 16, 0, 0], 12, "a private network"),
    ([192, 0, 0, 0], 24, "a protocol's address"),
    ([192, 0, 2, 0], 24, "an example"),
    ([192, 88, 99, 0], 24, "a relay of 6to4"),
    ([192, 168, 0, 0], 16, "a private network"),
    ([198, 18, 0, 0], 15, "a network for measurements"),
    ([198, 51, 100, 0], 24, "an example"),
    ([203, 0, 113, 0], 24, "an example"),
    ([224, 0, 0, 0], 4, "multicast"),
    ([240, 0, 0, 0], 4, "reserved"),
    // Public by its number, and yet the metadata service of Azure, reached from inside its machines.
    ([168, 63, 129, 16], 32, "a metadata service"),
];

fn special_v4(address: Ipv4Addr) -> Option<&'static str> {
    let inside = |(network, bits, _): &&([u8; 4], u8, &str)| {
        in_network(IpAddr::V4(address), IpAddr::V4(Ipv4Addr::from(*network)), *bits)
    };
    SPECIAL_V4.iter().find(inside).map(|(_, _, kind)| *kind)
}

fn special_v6(address: Ipv6Addr) -> Option<&'static str> {
    let segments = address.segments();
    match segments {
        _ if address.is_loopback() => Some("loopback"),
        _ if address.is_unspecified() => Some("no address"),
        [0xfe80..=0xfebf, ..] => Some("link-local"),
        [0xfec0..=0xfeff, ..] => Some("site-local"),
        [0xfc00..=0xfdff, ..] => Some("a private network"),
        [0xff00..=0xffff, ..] => Some("multicast"),
        // Protocols' own, Teredo and benchmarks among them (RFC 2928).
        [0x2001, 0..=0x1ff, ..] => Some("a protocol's address"),
        [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => Some("an example"),
        // Nothing else was ever given out (RFC 4291 section 2.4).
        [0x2000..=0x3fff, ..] => None,
        _ => Some("reserved"),
    }
}

fn in_network(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let same = |address: u128, network: u128, length: u32| {
        let low = length - u32::from(bits).min(length);
        address.checked_shr(low).unwrap_or(0) == network.checked_shr(low).unwrap_or(0)
    };
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => same(u32::from(address).into(), u32::from(network).into(), 32),
        (IpAddr::V6(address), IpAddr::V6(network)) => same(address.into(), network.into(), 128),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
