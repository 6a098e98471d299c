//! Sockets: connections are taken, held to the limits, and let go when the service stops.
//!
//! The loop is here and not a framework's: how many connections there may be, how long a handshake or the head of a request may
//! take and how long a stopped service waits are limits of ours. HTTP/1.1 alone is spoken: nothing here gains from more streams on
//! a connection, and an HTTP/2 of one client could take as many turns as many clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt;
use transload::block::{Error, Result};

use crate::config::Config;
use crate::socket::{Lingering, Patient};
use crate::state::{App, Shared};
use crate::{routes, tls};

/// A service that listens.
pub struct Service {
    app: Shared,
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
}

/// What the head of a request may have, and what is read of a body at once.
const CONNECTION_BUFFER: usize = 128 << 10;

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("listener", &self.listener).field("tls", &self.tls.is_some()).finish_non_exhaustive()
    }
}

impl Service {
    /// Opens everything that `config` names, and listens.
    ///
    /// # Errors
    /// `Denied` when the address is not loopback and there is no token; `InvalidInput` when the configuration contradicts itself;
    /// what the operating system answers.
    pub async fn bind(config: Config) -> Result<Self> {
        let tls = config.tls.as_ref().map(tls::acceptor).transpose()?;
        let address = config.listen;
        let app = App::new(config).await?;
        let listener =
            TcpListener::bind(address).await.map_err(|error| Error::io(format!("listening on {address}"), error))?;
        let router = routes::router(&app);
        Ok(Self { app, listener, tls, router })
    }

    /// The address it listens on.
    ///
    /// # Errors
    /// What the operating system answers.
    pub fn address(&self) -> Result<SocketAddr> {
        self.listener.local_addr().map_err(|error| Error::io("the listening socket", error))
    }

    /// Whether a token is asked for.
    #[must_use]
    pub fn asks_for_tokens(&self) -> bool {
        !self.app.is_open
    }

    /// Serves until `shutdown` comes; then takes no more connections, lets requests end for as long as the configuration has
    /// it, and stops what is left.
    ///
    /// # Errors
    /// None at present: what is wrong with a connection ends that connection.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) -> Result<()> {
        let limits = self.app.config.limits.clone();
        let places = Arc::new(Semaphore::new(limits.connections.clamp(1, Semaphore::MAX_PERMITS)));
        let graceful = GracefulShutdown::new();
        let sweeping = tokio::spawn(sweep(Arc::clone(&self.app)));
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let taken = tokio::select! {
                () = &mut shutdown => break,
                taken = take(&self.listener, &places) => taken,
            };
            let (stream, peer, place) = match taken {
                Ok(taken) => taken,
                Err(error) => {
                    // Most often there are as many files open as may be; they are closed by and by.
                    tracing::warn!(%error, "a connection could not be taken");
                    self.app.metrics.connections_refused.with_label_values(&["accept"]).inc();
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let connection = Connection {
                app: Arc::clone(&self.app),
                router: self.router.clone(),
                peer,
                watcher: graceful.watcher(),
                _place: place,
            };
            tokio::spawn(connection.take(stream, self.tls.clone()));
        }
        sweeping.abort();
        drop(self.listener);
        tracing::info!(seconds = limits.grace.as_secs(), "stopping: requests may end");
        if tokio::time::timeout(limits.grace, graceful.shutdown()).await.is_err() {
            tracing::warn!("requests that did not end in time are broken off");
        }
        Ok(())
    }
}

/// Removes uploads whose time is over, every now and then.
async fn sweep(app: Shared) {
    const EVERY: Duration = Duration::from_secs(600);
    loop {
        match app.look(|app| routes::uploads::sweep(app)).await {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "uploads whose time was over"),
            Err(problem) => tracing::warn!(error = problem.message(), "uploads could not be removed"),
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// The next connection, when there is a place for one.
async fn take(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, peer, place))
}

/// One connection.
struct Connection {
    app: Shared,
    router: Router,
    peer: SocketAddr,
    watcher: hyper_util::server::graceful::Watcher,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    async fn take(self, stream: TcpStream, tls: Option<TlsAcceptor>) {
        let limits = &self.app.config.limits;
        let (time, patience) = (limits.head_time, limits.stall_time);
        let lingering = Lingering::of(&stream);
        match tls {
            None => self.serve(Patient::new(stream, patience)).await,
            Some(acceptor) => match tokio::time::timeout(time, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => self.serve(Patient::new(stream, patience)).await,
                _ => return self.app.metrics.connections_refused.with_label_values(&["tls"]).inc(),
            },
        }
        if let Ok(lingering) = lingering {
            lingering.close().await;
        }
    }

    async fn serve(self, stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let Self { app, router, peer, watcher, _place } = self;
        app.metrics.connections.inc();
        let handle = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            router.clone().oneshot(request.map(Body::new))
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(app.config.limits.head_time)
            .max_buf_size(CONNECTION_BUFFER)
            .serve_connection(TokioIo::new(stream), handle);
        if let Err(error) = watcher.watch(connection).await {
            tracing::debug!(%peer, %error, "a connection ended");
        }
        app.metrics.connections.dec();
    }
}
