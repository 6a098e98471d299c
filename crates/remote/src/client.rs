//! The HTTP client: connects only where the policy lets it, and follows redirects one by one.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode, Url};
use tokio::task::spawn_blocking;
use transload_block::{Error, ErrorKind, Result};

use crate::fetch::{Attempt, Failure};
use crate::options::SystemLookup;
use crate::policy::{is_public, literal};
use crate::{Lookup, Options, Policy, shown};

/// Redirects that are followed for one request.
const MOST_HOPS: usize = 10;

/// Looks names up and lets through what the policy permits. The client connects to what it is given here, and to nothing else.
struct Guard {
    policy: Policy,
    lookup: Arc<dyn Lookup>,
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let (policy, lookup, host) = (self.policy.clone(), Arc::clone(&self.lookup), name.as_str().to_owned());
        Box::pin(async move {
            let looked_up = spawn_blocking(move || {
                let addresses = lookup.lookup(&host).map_err(|error| {
                    Error::new(ErrorKind::Network, format!("{host}: no address")).with_source(error)
                })?;
                policy.filter(&host, addresses)
            });
            let addresses = looked_up.await.map_err(|error| io::Error::other(error.to_string()))??;
            Ok(Box::new(addresses.into_iter().map(|ip| SocketAddr::new(ip, 0))) as Addrs)
        })
    }
}

/// A client under a policy.
#[derive(Clone)]
pub(crate) struct Client {
    policy: Policy,
    client: reqwest::Client,
    /// For a redirect from a public address under a policy that is open otherwise.
    public: reqwest::Client,
    headers: HeaderMap,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("policy", &self.policy).finish_non_exhaustive()
    }
}

/// An answer, and the address that gave it.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Response,
    pub(crate) url: Url,
}

impl Client {
    pub(crate) fn new(options: &Options) -> Result<Self> {
        let public = if options.policy == Policy::Open { Policy::Public } else { options.policy.clone() };
        Ok(Self {
            policy: options.policy.clone(),
            client: build(&options.policy, options)?,
            public: build(&public, options)?,
            headers: headers(options)?,
        })
    }

    /// Asks for what is at `from`, going wherever the answers lead. `text` is `from` as it was written; `home` is the address
    /// that the credentials are for.
    pub(crate) async fn send(
        &self,
        method: Method,
        text: &str,
        from: &Url,
        home: &Url,
        headers: &HeaderMap,
    ) -> Attempt<Answer> {
        let (mut text, mut url) = (text.to_owned(), from.clone());
        let mut came_from_public = false;
        for _ in 0..=MOST_HOPS {
            let strict = came_from_public && self.policy == Policy::Open;
            let (policy, client) = if strict { (&Policy::Public, &self.public) } else { (&self.policy, &self.client) };
            let checked = policy.check_url(&text, &url).map_err(|error| explain(error, strict));
            checked.map_err(Failure::lasting)?;
            let mut request = client.request(method.clone(), url.clone()).headers(headers.clone());
            if url.origin() == home.origin() {
                request = request.headers(self.headers.clone());
            }
            let response = request.send().await.map_err(|error| failure(&url, error, strict))?;
            if !is_redirect(response.status()) {
                return Ok(Answer { response, url });
            }
            came_from_public = response.remote_addr().is_some_and(|address| is_public(address.ip()))
                || literal(&url).is_some_and(is_public);
            (text, url) = next_hop(&url, &response).map_err(Failure::lasting)?;
        }
        let text = format!("{}: more than {MOST_HOPS} redirects", shown(from));
        Err(Failure::lasting(Error::new(ErrorKind::Network, text)))
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Where a redirect leads.
fn next_hop(url: &Url, response: &Response) -> Result<(String, Url)> {
    let wrong = |why: &str| Error::new(ErrorKind::Network, format!("{}: redirect {why}", shown(url)));
    let location = response.headers().get(LOCATION).ok_or_else(|| wrong("without a place to go to"))?;
    let location = location.to_str().map_err(|_| wrong("to a place that is no text"))?;
    let next = url.join(location).map_err(|error| wrong(&format!("to a place that is no address: {error}")))?;
    if !matches!(next.scheme(), "http" | "https") {
        let text = format!("{}: redirect to '{}:', which is neither http nor https", shown(url), next.scheme());
        return Err(Error::new(ErrorKind::Denied, text));
    }
    if url.scheme() == "https" && next.scheme() == "http" {
        let text = format!("{}: redirect from https to {}, which is not encrypted", shown(url), shown(&next));
        return Err(
            Error::new(ErrorKind::Denied, text).with_remedy("ask for that address yourself if you trust the network")
        );
    }
    // A place relative to this one has this one's host, which was checked as it was written.
    let written = if location.contains("//") { location.to_owned() } else { next.to_string() };
    Ok((written, next))
}

fn explain(error: Error, redirected: bool) -> Error {
    if redirected && error.kind() == ErrorKind::Denied {
        return error
            .context("redirect from a public address to one that is not")
            .with_remedy("ask for that address yourself if you trust it");
    }
    error
}

/// What went wrong with a request, told from what the client says.
pub(crate) fn failure(url: &Url, error: reqwest::Error, redirected: bool) -> Failure {
    let error = error.without_url();
    let mut cause: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(inner) = cause {
        if let Some(own) = inner.downcast_ref::<Error>()
            && own.kind() == ErrorKind::Denied
        {
            let context = own.to_string();
            let context = context.strip_prefix("denied: ").unwrap_or(&context).to_owned();
            let denied = Error::new(ErrorKind::Denied, format!("{}: {context}", shown(url)));
            let denied = own.remedy().into_iter().fold(denied, Error::with_remedy);
            return Failure::lasting(explain(denied, redirected));
        }
        cause = inner.source();
    }
    let what = if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "cannot connect"
    } else {
        "the connection failed"
    };
    // A builder's or a decoder's fault is ours, and stays.
    let again = !error.is_builder() && !is_certificate(&error);
    let error = Error::new(ErrorKind::Network, format!("{}: {what}", shown(url))).with_source(innermost(&error));
    Failure { error, again, after: None }
}

/// Whether a certificate was not accepted: trying again changes nothing.
fn is_certificate(error: &reqwest::Error) -> bool {
    let mut cause: Option<&(dyn StdError + 'static)> = Some(error);
    while let Some(inner) = cause {
        if inner.to_string().contains("invalid peer certificate") {
            return true;
        }
        cause = inner.source();
    }
    false
}

/// The last cause alone, which says what happened; those around it say in which layer of the client.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut last = error;
    while let Some(inner) = last.source() {
        last = inner;
    }
    last.to_string()
}

/// What an answer that is neither the bytes nor a redirect means.
pub(crate) fn refused(url: &Url, response: &Response) -> Failure {
    let status = response.status();
    let reason = status.canonical_reason().map(|reason| format!(" {reason}")).unwrap_or_default();
    let text = format!("{}: the server answered {}{reason}", shown(url), status.as_u16());
    let error = Error::new(ErrorKind::Network, text);
    let error = match status.as_u16() {
        401 | 403 => error.with_remedy("give a user and password in the address, or an address that is signed"),
        404 | 410 => error.with_remedy("check the address"),
        _ => error,
    };
    let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let again = status.is_server_error() && status.as_u16() != 501 || matches!(status.as_u16(), 408 | 425 | 429);
    Failure { error, again, after: after.map(Duration::from_secs) }
}

/// A client under `policy`.
pub(crate) fn build(policy: &Policy, options: &Options) -> Result<reqwest::Client> {
    let lookup = options.lookup.clone().unwrap_or_else(|| Arc::new(SystemLookup));
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("transload/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .dns_resolver(Arc::new(Guard { policy: policy.clone(), lookup }))
        // Requests in parallel are to have connections of their own.
        .http1_only()
        .connect_timeout(options.limits.connect)
        .read_timeout(options.limits.idle)
        .pool_max_idle_per_host(options.limits.parallel.max(1))
        .tcp_nodelay(true);
    // A proxy looks names up itself: what it connects to could not be checked.
    if *policy != Policy::Open || options.lookup.is_some() {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| Error::new(ErrorKind::Io, "HTTP client").with_source(error))
}

fn headers(options: &Options) -> Result<HeaderMap> {
    let mut map = HeaderMap::new();
    for (name, value) in &options.credentials.headers {
        let wrong = || Error::new(ErrorKind::InvalidInput, format!("header '{name}': not a header line"));
        let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        let mut value = HeaderValue::from_str(value).map_err(|_| wrong())?;
        value.set_sensitive(true);
        map.append(key, value);
    }
    Ok(map)
}
