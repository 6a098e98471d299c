//! TLS for either side: who proves to be whom, with what files, and the encrypted line that two threads use at once.
//!
//! ```text
//! ServerTls::from_files(certificate, key, authority)    clients check the certificate; with an authority, theirs are checked too
//! ClientTls::from_folder(folder) / ::system()           ca-cert.pem, client-cert.pem, client-key.pem, as QEMU and libnbd have them
//! ```
//!
//! Protocol and ciphers are rustls' own choice: TLS 1.3 and 1.2, nothing that is broken. Keys are PEM files: PKCS#8, PKCS#1 or SEC1.

use std::fmt;
use std::fs;
use std::io::{self, IoSlice, Read, Write};
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::net::{SendFlags, send};
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ClientConnection, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ServerConnection, WebPkiClientVerifier};
use rustls::{ClientConfig, Connection, RootCertStore, ServerConfig};
use transload_block::{Error, ErrorKind, Result};

/// What a server proves itself with, and by whom clients have to be vouched for.
#[derive(Clone)]
pub struct ServerTls(Arc<ServerConfig>);

/// By whom servers have to be vouched for, and what the client proves itself with.
#[derive(Clone)]
pub struct ClientTls(Arc<ClientConfig>);

/// Whether clients may do without TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// They learn nothing and get nothing before TLS.
    #[default]
    Require,
    /// They choose.
    Allow,
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls").finish_non_exhaustive()
    }
}

impl ServerTls {
    /// Reads the server's certificate, with those between it and its authority behind it, and its key. Where `authority` is given,
    /// clients have to show a certificate that it vouches for.
    ///
    /// # Errors
    /// `Io` when a file cannot be read; `InvalidInput` when it does not hold what it should, or key and certificate do not belong
    /// together.
    pub fn from_files(certificate: &Path, key: &Path, authority: Option<&Path>) -> Result<Self> {
        let chain = certificates(certificate)?;
        let secret = private_key(key)?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong("TLS", error))?;
        let builder = match authority {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let roots = Arc::new(roots(authority)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider())
                    .build()
                    .map_err(|error| wrong(authority.display(), error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder
            .with_single_cert(chain, secret)
            .map_err(|error| wrong(format_args!("{} and {}", certificate.display(), key.display()), error))?;
        // A session is not resumed: connections are few and long.
        config.send_tls13_tickets = 0;
        Ok(Self(Arc::new(config)))
    }

    pub(crate) fn accept(&self) -> io::Result<Connection> {
        ServerConnection::new(Arc::clone(&self.0)).map(Connection::Server).map_err(io::Error::other)
    }
}

impl ClientTls {
    /// Trusts whom the system trusts, and shows no certificate.
    ///
    /// # Errors
    /// `InvalidInput` when the system trusts nobody.
    pub fn system() -> Result<Self> {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "TLS: the system has no certificate authorities")
                .with_remedy("name a folder with a ca-cert.pem: nbds://HOST/EXPORT?tls-certificates=DIR"));
        }
        Self::build(roots, None)
    }

    /// Trusts the authorities in `ca-cert.pem` of `folder`, and shows the certificate in `client-cert.pem`, whose key is in
    /// `client-key.pem`, where they are there.
    ///
    /// # Errors
    /// As [`ServerTls::from_files`].
    pub fn from_folder(folder: &Path) -> Result<Self> {
        let roots = roots(&folder.join("ca-cert.pem"))?;
        let (certificate, key) = (folder.join("client-cert.pem"), folder.join("client-key.pem"));
        let own = certificate.exists().then(|| Ok::<_, Error>((certificates(&certificate)?, private_key(&key)?)));
        Self::build(roots, own.transpose()?)
    }

    fn build(
        roots: RootCertStore,
        own: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    ) -> Result<Self> {
        let verifier: Arc<dyn ServerCertVerifier> =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
                .build()
                .map_err(|error| wrong("TLS: the certificate authorities", error))?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong("TLS", error))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder
                .with_client_auth_cert(chain, key)
                .map_err(|error| wrong("TLS: the client's certificate", error))?,
        };
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Self(Arc::new(config)))
    }

    /// The beginning of a connection with the server that is called `name`.
    pub(crate) fn connect(&self, name: &str) -> Result<Connection> {
        let server = ServerName::try_from(name.to_owned())
            .map_err(|error| wrong(format_args!("TLS: '{}' is no name of a server", name.escape_debug()), error))?;
        let connection = ClientConnection::new(Arc::clone(&self.0), server).map_err(|error| wrong("TLS", error))?;
        Ok(Connection::Client(connection))
    }
}

/// The one crypto provider, named here so that nothing depends on one that the process has installed.
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn wrong(what: impl fmt::Display, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::InvalidInput, what.to_string()).with_source(error)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|error| Error::io(path.display().to_string(), error))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    let found = found.map_err(|error| wrong(path.display(), error))?;
    if found.is_empty() {
        return Err(Error::new(ErrorKind::InvalidInput, format!("{}: no certificate in PEM", path.display())));
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| wrong(path.display(), error))
}

fn roots(path: &Path) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| wrong(path.display(), error))?;
    }
    Ok(roots)
}

/// Bytes that are encrypted before they are sent: many records, so that the system is called seldom.
const PLAIN: usize = 256 << 10;
/// Bytes that are taken from the socket at a time.
const SEALED: usize = 256 << 10;

/// An encrypted line. One thread may read while another writes.
///
/// Locks, in this order: `incoming` or `outgoing` before `state`. `state` is held for arithmetic alone, never while the socket is
/// waited for: a peer that does not read before we read would stand still for ever otherwise.
pub(crate) struct Tls {
    state: Mutex<Connection>,
    /// What came from the socket; held by whoever reads.
    incoming: Mutex<Sealed>,
    /// What goes to the socket; held by whoever writes, so that records leave in the order in which they were sealed.
    outgoing: Mutex<Vec<u8>>,
}

/// Bytes from the socket that were not opened yet: the state takes a record or two at a time.
#[derive(Default)]
struct Sealed {
    bytes: Vec<u8>,
    rest: Range<usize>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// Shakes hands over `socket`.
    pub(crate) fn shake_hands(mut connection: Connection, socket: &mut (impl Read + Write)) -> io::Result<Self> {
        connection.set_buffer_limit(Some(PLAIN));
        while connection.is_handshaking() {
            connection.complete_io(socket)?;
        }
        // The last flight of the side that ends it.
        while connection.wants_write() {
            connection.write_tls(socket)?;
        }
        Ok(Self { state: Mutex::new(connection), incoming: Mutex::default(), outgoing: Mutex::default() })
    }

    /// Reads as `Read::read`. A peer that goes without a good-bye is at its end: NBD's messages say how long they are.
    pub(crate) fn read(&self, mut socket: impl Read, buf: &mut [u8]) -> io::Result<usize> {
        let mut incoming = lock(&self.incoming);
        let Sealed { bytes, rest } = &mut *incoming;
        loop {
            let mut state = lock(&self.state);
            match state.reader().read(buf) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                other => return other,
            }
            if rest.start >= rest.end {
                drop(state);
                bytes.resize(SEALED, 0);
                *rest = 0..socket.read(bytes)?;
                state = lock(&self.state);
            }
            // At the end of the stream this tells the state so, with no bytes.
            rest.start += state.read_tls(&mut &bytes[rest.clone()])?;
            state.process_new_packets().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        }
    }

    /// Writes as `Write::write_vectored`: what is taken is also sent.
    pub(crate) fn write(&self, mut socket: impl Write, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut outgoing = lock(&self.outgoing);
        let taken = {
            let mut state = lock(&self.state);
            let taken = state.writer().write_vectored(parts)?;
            seal(&mut state, &mut outgoing)?;
            taken
        };
        let sent = socket.write_all(&outgoing);
        outgoing.clear();
        sent.map(|()| taken)
    }

    /// Says good-bye, if that can be done without waiting.
    pub(crate) fn say_good_bye(&self, socket: BorrowedFd<'_>) {
        let Ok(mut outgoing) = self.outgoing.try_lock() else { return };
        let Ok(mut state) = self.state.try_lock() else { return };
        state.send_close_notify();
        if seal(&mut state, &mut outgoing).is_ok() {
            // A peer that is gone already does not miss it.
            let _ = send(socket, &outgoing, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        }
        outgoing.clear();
    }
}

/// Puts what is to be sent behind `outgoing`.
fn seal(state: &mut Connection, outgoing: &mut Vec<u8>) -> io::Result<()> {
    while state.wants_write() {
        state.write_tls(outgoing)?;
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
