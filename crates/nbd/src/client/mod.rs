//! The client: a disk that a server offers, as a device like any other.
//!
//! ```text
//! NbdDisk ──► one or more links ──► request, wait for the reply: whoever waits first reads the line for all who wait
//! ```
//!
//! Requests of several threads share a link, and do not wait for each other's answers. Where the server says that its
//! connections see the same disk, more links are opened.

mod device;
#[doc(hidden)]
pub(crate) mod fuzz;
mod handshake;
mod link;

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use transload_block::{Error, ErrorKind, Extent, RangeLock, Result};

use crate::protocol::{MAX_PAYLOAD, command, transmission};
use crate::tls::ClientTls;
use crate::transport::{Hurried, Line, broken, protocol_error};
use crate::{NbdAddress, Place, TlsAddress};
use handshake::Offer;
use link::Link;

/// How to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectSettings {
    /// How long connecting and agreeing may take, each.
    pub patience: Duration,
    /// How long the server may be silent while an answer is due.
    pub silence: Duration,
    /// Connections at most, where the server allows several.
    pub connections: usize,
    /// Refuse to write, whatever the server allows.
    pub read_only: bool,
}

impl Default for ConnectSettings {
    fn default() -> Self {
        Self { patience: Duration::from_secs(30), silence: Duration::from_secs(120), connections: 4, read_only: false }
    }
}

/// A disk that an NBD server offers.
///
/// Any number of threads may use it at once. When the connection breaks, every request fails with `Network`, that under way
/// and all later ones; nothing is repeated behind the caller's back.
pub struct NbdDisk {
    address: NbdAddress,
    links: Vec<Link>,
    next: AtomicUsize,
    offer: Offer,
    read_only: bool,
    /// Requests whose ends are not where the server wants them are made whole under this lock.
    whole: RangeLock,
    /// What the server said of the blocks ahead, beyond what was asked: for the question that comes next.
    ahead: Mutex<Vec<Extent>>,
}

impl fmt::Debug for NbdDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NbdDisk")
            .field("address", &self.address.to_string())
            .field("links", &self.links.len())
            .field("offer", &self.offer)
            .finish_non_exhaustive()
    }
}

impl NbdDisk {
    /// Connects to the export that `address` names.
    ///
    /// # Errors
    /// `Network` when nobody answers, in time, in the protocol's words; `InvalidInput` when there is no such export; `Denied`
    /// when the server refuses, demands TLS, or is not whom a trusted certificate is for.
    pub fn connect(address: &NbdAddress, settings: &ConnectSettings) -> Result<Self> {
        let tls = address.tls.as_ref().map(TlsAddress::trust).transpose().map_err(|error| error.context(address))?;
        let dial = |address, settings| dial(address, settings, tls.as_ref());
        let (first, offer) = dial(address, settings)?;
        let mut links = vec![first];
        if offer.has(transmission::CAN_MULTI_CONN) {
            while links.len() < settings.connections {
                // One is enough: a server that has room for no more is no reason to fail.
                let Ok((link, again)) = dial(address, settings) else { break };
                if again != offer {
                    break;
                }
                links.push(link);
            }
        }
        let read_only = settings.read_only || offer.has(transmission::READ_ONLY);
        Ok(Self {
            address: address.clone(),
            links,
            next: AtomicUsize::new(0),
            offer,
            read_only,
            whole: RangeLock::new(),
            ahead: Mutex::default(),
        })
    }

    /// The address it was connected to.
    #[must_use]
    pub fn address(&self) -> &NbdAddress {
        &self.address
    }

    /// Whether it refuses writes.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// The connections that it uses.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.links.len()
    }

    /// The link for the next request.
    fn link(&self) -> &Link {
        &self.links[self.next.fetch_add(1, Ordering::Relaxed) % self.links.len()]
    }

    fn ahead(&self) -> MutexGuard<'_, Vec<Extent>> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes of one request at most: what the server takes, and what this side has buffers for.
    fn longest(&self) -> u64 {
        u64::from(self.offer.maximum.min(MAX_PAYLOAD).min(4 << 20).max(self.offer.minimum))
    }

    /// `range` widened to what the server takes.
    fn widened(&self, range: &Range<u64>) -> Range<u64> {
        let unit = u64::from(self.offer.minimum);
        let end = range.end.next_multiple_of(unit).min(self.offer.size);
        range.start / unit * unit..end
    }

    fn failed(&self, error: Error) -> Error {
        error.context(&self.address)
    }

    fn refuse_writing(&self) -> Result<()> {
        if !self.read_only {
            return Ok(());
        }
        Err(Error::new(ErrorKind::ReadOnly, format!("{}: the export is read-only", self.address)))
    }
}

impl Drop for NbdDisk {
    fn drop(&mut self) {
        for link in &self.links {
            // A good-bye that does not arrive is as good as none.
            drop(link.say(command::DISCONNECT));
            link.hang_up();
        }
    }
}

/// Connects once and agrees on the export.
fn dial(address: &NbdAddress, settings: &ConnectSettings, tls: Option<&ClientTls>) -> Result<(Link, Offer)> {
    let connection = tls.map(|tls| tls.connect(&address.server_name())).transpose()?;
    let line = Line::connect(&address.place, settings.patience).map_err(|error| match &address.place {
        Place::Unix(path) => Error::io(format!("{}: connect", path.display()), error),
        place @ Place::Tcp(..) => broken(place, "connect", error),
    })?;
    let mut hurried = Hurried::new(line, settings.patience);
    let offer =
        handshake::negotiate(&mut hurried, &address.export, connection).map_err(|error| error.context(address))?;
    let line = hurried.relax().map_err(|error| broken(address, "negotiation", error))?;
    line.set_patience(Some(settings.silence)).map_err(|error| broken(address, "negotiation", error))?;
    if offer.size > i64::MAX as u64 {
        return protocol_error(format_args!("{address}: a disk of {} bytes", offer.size));
    }
    let cutter = {
        let line = line.clone();
        crate::transport::Cutter::new(move || line.hang_up())
    };
    Ok((Link::new(Box::new(line.clone()), Box::new(line), offer.dialect, cutter), offer))
}
