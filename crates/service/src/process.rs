//! The service as a whole process: a runtime of its own, until a signal ends it.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use transload::block::{Error, Result};
use transload::convert::remove_partial_outputs;

use crate::{Config, Service};

/// What is told once the service listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready {
    /// Where.
    pub address: SocketAddr,
    /// Whether a token is asked for.
    pub asks_for_tokens: bool,
    /// Whether TLS is spoken.
    pub speaks_tls: bool,
}

/// Serves until SIGINT or SIGTERM comes; then requests may end for as long as the configuration has it, and what is left is
/// stopped and cleaned up. A second signal ends the process at once.
///
/// # Errors
/// As [`Service::bind`].
pub fn serve(config: Config, ready: impl FnOnce(Ready)) -> Result<()> {
    /// How long threads may take to notice that they are to stop.
    const STOPPING: Duration = Duration::from_secs(10);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("serve")
        .build()
        .map_err(|error| Error::io("the runtime of the service", error))?;
    let speaks_tls = config.tls.is_some();
    let served = runtime.block_on(async {
        let service = Service::bind(config).await?;
        let fail = |error| Error::io("signal handlers", error);
        let mut interrupt = signal(SignalKind::interrupt()).map_err(fail)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(fail)?;
        ready(Ready { address: service.address()?, asks_for_tokens: service.asks_for_tokens(), speaks_tls });
        let (first, asked) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            let mut either = async || {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            };
            either().await;
            // Nobody listens when the service has ended by itself.
            let _ = first.send(());
            either().await;
            remove_partial_outputs();
            std::process::exit(130);
        });
        service
            .run(async {
                // A sender that is gone has been told to stop as well.
                let _ = asked.await;
            })
            .await
    });
    runtime.shutdown_timeout(STOPPING);
    remove_partial_outputs();
    served
}
