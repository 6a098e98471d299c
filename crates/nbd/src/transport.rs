//! A connection as two halves that different threads use: one reads, one writes, and either may be cut off from outside.

use std::fmt::{self, Debug};
use std::io::{self, Cursor, IoSlice, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use rustls::Connection;
use transload_block::{Error, ErrorKind, Result};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::Place;
use crate::tls::Tls;

/// A connected socket.
#[derive(Debug)]
pub(crate) enum Socket {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// A socket that several threads and the halves of a connection share; encrypted from some moment on, where that was agreed.
#[derive(Clone, Debug)]
pub(crate) struct Line(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    socket: Socket,
    tls: OnceLock<Tls>,
}

impl Line {
    pub(crate) fn new(socket: Socket) -> io::Result<Self> {
        if let Socket::Tcp(stream) = &socket {
            // Requests and replies are whole messages; waiting for more only adds latency.
            stream.set_nodelay(true)?;
        }
        Ok(Self(Arc::new(Shared { socket, tls: OnceLock::new() })))
    }

    /// Connects to `place`, trying each address of a host for at most `timeout`.
    pub(crate) fn connect(place: &Place, timeout: Duration) -> io::Result<Self> {
        match place {
            Place::Unix(path) => Self::new(Socket::Unix(UnixStream::connect(path)?)),
            Place::Tcp(host, port) => {
                let mut failure = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
                for address in (host.as_str(), *port).to_socket_addrs()? {
                    match TcpStream::connect_timeout(&address, timeout) {
                        Ok(stream) => return Self::new(Socket::Tcp(stream)),
                        Err(error) => failure = error,
                    }
                }
                Err(failure)
            }
        }
    }

    /// Ends the connection for both sides; whoever waits on it is woken.
    pub(crate) fn hang_up(&self) {
        if let Some(tls) = self.0.tls.get() {
            tls.say_good_bye(self.0.socket.as_fd());
        }
        // The other side may have been faster.
        drop(match &self.0.socket {
            Socket::Unix(stream) => stream.shutdown(Shutdown::Both),
            Socket::Tcp(stream) => stream.shutdown(Shutdown::Both),
        });
    }

    /// Sets how long one read or write may wait; for ever when `None`.
    pub(crate) fn set_patience(&self, patience: Option<Duration>) -> io::Result<()> {
        match &self.0.socket {
            Socket::Unix(stream) => {
                stream.set_read_timeout(patience)?;
                stream.set_write_timeout(patience)
            }
            Socket::Tcp(stream) => {
                stream.set_read_timeout(patience)?;
                stream.set_write_timeout(patience)
            }
        }
    }
}

impl Read for Line {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self.0.tls.get() {
            Some(tls) => tls.read(&self.0.socket, buf),
            None => (&self.0.socket).read(buf),
        }
    }
}

impl Write for Line {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buf)])
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.0.tls.get() {
            Some(tls) => tls.write(&self.0.socket, parts),
            None => (&self.0.socket).write_vectored(parts),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
}

impl Read for &Socket {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match *self {
            Socket::Unix(stream) => (&mut &*stream).read(buf),
            Socket::Tcp(stream) => (&mut &*stream).read(buf),
        }
    }
}

impl Write for &Socket {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match *self {
            Socket::Unix(stream) => (&mut &*stream).write(buf),
            Socket::Tcp(stream) => (&mut &*stream).write(buf),
        }
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match *self {
            Socket::Unix(stream) => (&mut &*stream).write_vectored(parts),
            Socket::Tcp(stream) => (&mut &*stream).write_vectored(parts),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A line that a negotiation goes over, which may agree on TLS.
pub(crate) trait Negotiable: Read + Write {
    /// Encrypts everything from here on, in both directions.
    fn start_tls(&mut self, connection: Connection) -> io::Result<()>;
}

/// A line on which everything together has to be done by a moment in time, however slowly the other side dribbles.
#[derive(Debug)]
pub(crate) struct Hurried {
    line: Line,
    deadline: Instant,
}

impl Hurried {
    pub(crate) fn new(line: Line, time: Duration) -> Self {
        Self { line, deadline: Instant::now() + time }
    }

    /// The line again, without a deadline.
    pub(crate) fn relax(self) -> io::Result<Line> {
        self.line.set_patience(None)?;
        Ok(self.line)
    }

    fn hurry(&self) -> io::Result<()> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the negotiation took too long"));
        }
        self.line.set_patience(Some(left))
    }
}

impl Negotiable for Hurried {
    fn start_tls(&mut self, connection: Connection) -> io::Result<()> {
        let tls = Tls::shake_hands(connection, self)?;
        let fresh = self.line.0.tls.set(tls);
        fresh.map_err(|_| io::Error::other("TLS was begun twice"))
    }
}

impl Read for Hurried {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.hurry()?;
        self.line.read(buf)
    }
}

impl Write for Hurried {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.hurry()?;
        self.line.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A line whose other end says what it was given and listens to anything: for properties of what may come in.
#[derive(Clone)]
pub(crate) struct Script(Arc<Mutex<Cursor<Vec<u8>>>>);

impl Script {
    pub(crate) fn new(said: &[u8]) -> Self {
        Self(Arc::new(Mutex::new(Cursor::new(said.to_vec()))))
    }
}

impl Negotiable for Script {
    fn start_tls(&mut self, _: Connection) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Read for Script {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).read(buf)
    }
}

impl Write for Script {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One half of a connection, whatever it is made of.
pub(crate) type ReadHalf = Box<dyn Read + Send>;
/// The other half.
pub(crate) type WriteHalf = Box<dyn Write + Send>;

/// Ends a connection from outside.
#[derive(Clone)]
pub(crate) struct Cutter(Arc<dyn Fn() + Send + Sync>);

impl Cutter {
    pub(crate) fn new(cut: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(cut))
    }

    pub(crate) fn cut(&self) {
        (self.0)();
    }
}

impl Debug for Cutter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cutter").finish_non_exhaustive()
    }
}

/// Reads one of the protocol's headers.
pub(crate) fn receive<T: FromBytes + IntoBytes>(from: &mut (impl Read + ?Sized)) -> io::Result<T> {
    let mut header = T::new_zeroed();
    from.read_exact(header.as_mut_bytes())?;
    Ok(header)
}

/// Sends `head` and then `body`, in one call of the operating system where it takes them whole.
pub(crate) fn send(
    to: &mut (impl Write + ?Sized),
    head: &(impl IntoBytes + Immutable + ?Sized),
    body: &[u8],
) -> io::Result<()> {
    let head = head.as_bytes();
    let mut sent = 0;
    while sent < head.len() {
        let parts = [IoSlice::new(&head[sent..]), IoSlice::new(body)];
        match to.write_vectored(&parts) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    to.write_all(&body[sent - head.len()..])
}

/// Reads and forgets `length` bytes.
pub(crate) fn skip(from: &mut (impl Read + ?Sized), length: u64) -> io::Result<()> {
    let skipped = io::copy(&mut from.take(length), &mut io::sink())?;
    if skipped == length { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// An error of kind `Network` about the connection to `who`.
pub(crate) fn broken(who: &impl fmt::Display, doing: &str, error: io::Error) -> Error {
    let error = match error.kind() {
        // What a socket with a time limit answers when it has passed.
        io::ErrorKind::WouldBlock => io::Error::new(io::ErrorKind::TimedOut, "no answer in time"),
        io::ErrorKind::UnexpectedEof => io::Error::new(error.kind(), "the connection was closed"),
        _ => error,
    };
    Error::new(ErrorKind::Network, format!("{who}: {doing}")).with_source(error)
}

/// An error about what the other side sent.
pub(crate) fn protocol_error<T>(what: impl fmt::Display) -> Result<T> {
    Err(Error::new(ErrorKind::Network, format!("NBD: {what}")))
}
