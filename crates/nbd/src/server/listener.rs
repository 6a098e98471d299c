//! Where the server waits for clients, and how it is told to stop.

use std::fs;
use std::io::{self, Write};
use std::net::{TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use transload_block::Result;

use super::{in_use, os};
use crate::Place;
use crate::transport::{Line, Socket};

/// Tells a server to stop. Any thread may, any number of times; servers that begin later stop at once.
#[derive(Debug)]
pub struct Stop {
    bell: UnixStream,
    ear: UnixStream,
}

impl Stop {
    /// A switch that nobody has turned.
    ///
    /// # Errors
    /// `Io` or `TooLarge` when there are no descriptors left.
    pub fn new() -> Result<Self> {
        let (bell, ear) = UnixStream::pair().map_err(|error| os("a pair of sockets", error))?;
        for end in [&bell, &ear] {
            end.set_nonblocking(true).map_err(|error| os("a pair of sockets", error))?;
        }
        Ok(Self { bell, ear })
    }

    /// Asks to stop.
    pub fn stop(&self) {
        // A full socket has been rung already.
        drop((&self.bell).write(&[1]));
    }

    /// Whether it was asked to.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        let mut ready = [PollFd::new(&self.ear, PollFlags::IN)];
        matches!(poll(&mut ready, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1..))
    }
}

/// A socket that clients connect to.
#[derive(Debug)]
pub struct Listener {
    socket: Waiting,
    /// The socket's file and its identity, removed again at the end.
    file: Option<(PathBuf, u64, u64)>,
}

#[derive(Debug)]
enum Waiting {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Listener {
    /// Begins to listen at `place`. A socket in the file system that nobody listens on any more is replaced; it is removed
    /// when the listener is dropped.
    ///
    /// # Errors
    /// `Denied` when somebody listens there, or something else than a socket stands there; what the operating system
    /// answers.
    pub fn bind(place: &Place) -> Result<Self> {
        match place {
            Place::Unix(path) => Self::unix(path),
            Place::Tcp(host, port) => Self::tcp(host, *port),
        }
    }

    fn unix(path: &Path) -> Result<Self> {
        let name = path.display();
        if let Ok(metadata) = fs::symlink_metadata(path) {
            if !metadata.file_type().is_socket() {
                return Err(in_use(format!("{name}: exists and is no socket")));
            }
            match UnixStream::connect(path) {
                Ok(_) => return Err(in_use(format!("{name}: somebody listens there"))),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    fs::remove_file(path).map_err(|error| os(format!("{name}: left over from before"), error))?;
                }
                Err(error) => return Err(os(name.to_string(), error)),
            }
        }
        let listener = UnixListener::bind(path).map_err(|error| os(format!("{name}: listen"), error))?;
        let metadata = fs::symlink_metadata(path).map_err(|error| os(name.to_string(), error))?;
        let file = Some((path.to_owned(), metadata.dev(), metadata.ino()));
        listener.set_nonblocking(true).map_err(|error| os(name.to_string(), error))?;
        Ok(Self { socket: Waiting::Unix(listener), file })
    }

    fn tcp(host: &str, port: u16) -> Result<Self> {
        let place = Place::Tcp(host.to_owned(), port);
        let fail = |error: io::Error| match error.kind() {
            io::ErrorKind::AddrInUse => in_use(format!("{place}: somebody listens there")),
            _ => os(format!("{place}: listen"), error),
        };
        let addresses: Vec<_> = (host, port).to_socket_addrs().map_err(fail)?.collect();
        let listener = TcpListener::bind(addresses.as_slice()).map_err(fail)?;
        listener.set_nonblocking(true).map_err(fail)?;
        Ok(Self { socket: Waiting::Tcp(listener), file: None })
    }

    /// Where clients connect: with the port that the system chose where port 0 was asked for.
    ///
    /// # Errors
    /// What the operating system answers.
    pub fn place(&self) -> Result<Place> {
        match (&self.socket, &self.file) {
            (Waiting::Tcp(listener), _) => {
                let address = listener.local_addr().map_err(|error| os("the listening socket", error))?;
                Ok(Place::Tcp(address.ip().to_string(), address.port()))
            }
            (Waiting::Unix(_), Some((path, ..))) => Ok(Place::Unix(path.clone())),
            (Waiting::Unix(_), None) => Ok(Place::Unix(PathBuf::new())),
        }
    }

    /// The next client, or `None` when `stop` says so.
    pub(crate) fn accept(&self, stop: &Stop) -> Result<Option<Line>> {
        loop {
            let mut ready =
                [PollFd::from_borrowed_fd(self.descriptor(), PollFlags::IN), PollFd::new(&stop.ear, PollFlags::IN)];
            match poll(&mut ready, None) {
                Err(Errno::INTR) => continue,
                Err(error) => return Err(os("waiting for clients", error)),
                Ok(_) if !ready[1].revents().is_empty() => return Ok(None),
                Ok(_) => {}
            }
            match self.accept_socket().and_then(Line::new) {
                Ok(line) => return Ok(Some(line)),
                Err(error) if is_passing(&error) => {}
                Err(error) if is_out_of_files(&error) => {
                    // The clients that are there will go; the one that waits is served then.
                    std::thread::sleep(Duration::from_millis(50));
                }
                Err(error) => return Err(os("a new client", error)),
            }
        }
    }

    fn accept_socket(&self) -> io::Result<Socket> {
        match &self.socket {
            Waiting::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(false)?;
                Ok(Socket::Unix(stream))
            }
            Waiting::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                stream.set_nonblocking(false)?;
                rustix::net::sockopt::set_socket_keepalive(&stream, true)?;
                Ok(Socket::Tcp(stream))
            }
        }
    }

    fn descriptor(&self) -> BorrowedFd<'_> {
        match &self.socket {
            Waiting::Unix(listener) => listener.as_fd(),
            Waiting::Tcp(listener) => listener.as_fd(),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let Some((path, device, inode)) = &self.file else { return };
        // Another server may have put its own socket there by now.
        if fs::symlink_metadata(path).is_ok_and(|now| (now.dev(), now.ino()) == (*device, *inode)) {
            drop(fs::remove_file(path));
        }
    }
}

/// A client that was gone before it was welcomed, or a wake-up for nothing.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock
            | io::ErrorKind::Interrupted
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    )
}

fn is_out_of_files(error: &io::Error) -> bool {
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
