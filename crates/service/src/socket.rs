//! A socket that does not wait for ever for a client that reads nothing, and that lets a refused client hear why.
//!
//! A client that is refused while it sends has bytes under way that nobody reads. To close the socket then would reset the connection,
//! and the answer would be lost with it: [`Lingering`] ends the sending half and takes what still comes for a moment.

use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

/// A stream on which a write that makes no headway for a time is an error.
#[derive(Debug)]
pub(crate) struct Patient<S> {
    stream: S,
    patience: Duration,
    /// When patience is over; set while a write waits.
    deadline: Pin<Box<Sleep>>,
    waits: bool,
}

impl<S> Patient<S> {
    pub(crate) fn new(stream: S, patience: Duration) -> Self {
        Self { stream, patience, deadline: Box::pin(sleep(patience)), waits: false }
    }

    /// Notes whether a write got on, and ends it when it has not for too long.
    fn judge<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.waits = false;
            return polled;
        }
        if !self.waits {
            self.waits = true;
            self.deadline.as_mut().reset(Instant::now() + self.patience);
        }
        match self.deadline.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads nothing"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(context, bytes);
        this.judge(context, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(context, bytes);
        this.judge(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_flush(context);
        this.judge(context, polled)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_shutdown(context);
        this.judge(context, polled)
    }
}

/// A second hold on a socket, by which it is closed gently.
#[derive(Debug)]
pub(crate) struct Lingering(OwnedFd);

impl Lingering {
    /// Another hold on `stream`.
    pub(crate) fn of(stream: &TcpStream) -> io::Result<Self> {
        Ok(Self(rustix::io::fcntl_dupfd_cloexec(stream, 0)?))
    }

    /// Ends the sending half, takes what still comes for a moment, and lets go.
    pub(crate) async fn close(self) {
        /// What a client has under way at most when it is told to stop: the buffers of both kernels.
        const MOST: usize = 32 << 20;
        const TIME: Duration = Duration::from_secs(2);
        let Ok(mut stream) = TcpStream::from_std(self.0.into()) else { return };
        if stream.shutdown().await.is_err() {
            return;
        }
        let rest = async {
            let mut buffer = vec![0; 64 << 10];
            let mut total = 0;
            while let Ok(count @ 1..) = stream.read(&mut buffer).await {
                total += count;
                if total > MOST {
                    return;
                }
            }
        };
        // Who has not heard by then never will.
        let _ = tokio::time::timeout(TIME, rest).await;
    }
}
