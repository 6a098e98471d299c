//! Around every request: who asks, whether a foreign page made a browser ask, headers of the answer, a line in the log.
//!
//! - A token is asked for everywhere but where nothing is told: the page, the reference, the document, `/healthz`.
//! - Without tokens, on the loopback device, a browser is what has to be feared: any page may have it send requests here, and
//!   a name that resolves to 127.0.0.1 makes it believe that they are its own. Such a request has a foreign `Host`, a foreign
//!   `Origin`, or a browser's own word that it comes from another site; it is refused whatever it asks.
//! - There is no CORS: no header that would let a foreign page read an answer.

use std::net::SocketAddr;
use std::time::Instant;

use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::audit::Entry;
use crate::problem::{FailureKind, Problem};
use crate::routes::session;
use crate::state::{App, Shared};

/// Who asks: the name of the token, or nobody in particular.
#[derive(Clone, Debug)]
pub(crate) struct Caller(pub(crate) String);

/// What anybody may see: it tells nothing of this machine's disks.
const PUBLIC: &[&str] = &["/", "/healthz", "/openapi.json", "/docs", "/assets/{*path}", "/favicon.ico"];

/// Headers of every answer.
const SAFE: &[(&str, &str)] = &[
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), usb=()"),
];

/// The policy of pages: nothing from elsewhere, no code but files of the service.
pub(crate) const CONTENT_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; font-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Lets a request through, or not, and notes it.
pub(crate) async fn watch(State(app): State<Shared>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = app.request_id();
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map_or_else(String::new, |peer| peer.0.to_string());
    let route = request.extensions().get::<MatchedPath>().map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let caller = admit(&app, &method, &route, request.headers());
    let who = caller.as_ref().map_or_else(|_| "-".to_owned(), |caller| caller.0.clone());
    let mut response = match caller {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    };
    let failure = response.extensions_mut().remove::<FailureKind>().map(|kind| kind.0);
    let elapsed = started.elapsed();
    decorate(&mut response, &id);
    let status = response.status();
    app.metrics.requests.with_label_values(&[route.as_str(), method_label(&method), status.as_str()]).inc();
    app.metrics.request_seconds.with_label_values(&[route.as_str(), method_label(&method)]).observe(elapsed.as_secs_f64());
    // What asks every few seconds whether the service lives is no news.
    if !matches!(route.as_str(), "/healthz" | "/metrics" | "/assets/{*path}") || !status.is_success() {
        app.audit.note(&Entry {
            request: &id,
            who: &who,
            peer: &peer,
            method: method.as_str(),
            path: uri.path(),
            query: uri.query().map(redacted).as_deref(),
            status: status.as_u16(),
            failure: failure.as_deref(),
            milliseconds: u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX),
        });
    }
    response
}

/// A label that no client makes up.
fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        _ => "other",
    }
}

/// Who asks, if it is somebody who may.
fn admit(app: &App, method: &Method, route: &str, headers: &HeaderMap) -> Result<Caller, Problem> {
    refuse_foreign_page(app, headers)?;
    if PUBLIC.contains(&route) && (*method == Method::GET || *method == Method::HEAD) {
        return Ok(Caller("-".to_owned()));
    }
    if app.is_open && !app.tokens.any() {
        return Ok(Caller("local".to_owned()));
    }
    let token = bearer(headers).or_else(|| session::token(method, headers));
    token.and_then(|token| app.tokens.name_of(token)).map(Caller).ok_or_else(|| {
        app.metrics.unauthorized.inc();
        let what = if token.is_none() { "a token is needed" } else { "the token is not known" };
        Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", what)
            .with_remedy("send `Authorization: Bearer TOKEN`; `transload serve token add NAME` makes one")
    })
}

/// The token of `Authorization: Bearer TOKEN`.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let sent = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (_, token) = sent?.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))?;
    Some(token.trim())
}

/// Refuses what a page of another site had a browser send.
fn refuse_foreign_page(app: &App, headers: &HeaderMap) -> Result<(), Problem> {
    let refused = |why: &str| Err(Problem::new(StatusCode::FORBIDDEN, "denied", why));
    let text = |name: HeaderName| headers.get(name).map(HeaderValue::to_str);
    let host = match text(HOST) {
        Some(Ok(host)) => host,
        _ => return refused("the request has no Host"),
    };
    if app.is_open && !is_loopback_name(host) {
        return refused("the Host is not this machine's own, as after a name was rebound; a token would be needed");
    }
    match text(ORIGIN) {
        None => {}
        Some(Ok(origin)) if origin.split_once("://").is_some_and(|(_, from)| from.eq_ignore_ascii_case(host)) => {}
        Some(_) => return refused("the request comes from a page of another site"),
    }
    match text(HeaderName::from_static("sec-fetch-site")) {
        None | Some(Ok("same-origin" | "none")) => Ok(()),
        Some(_) => refused("the request comes from a page of another site"),
    }
}

/// Whether a `Host` names the loopback device, with any port.
fn is_loopback_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(name, _)| name),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Puts the headers on an answer that every answer has.
fn decorate(response: &mut Response, id: &str) {
    let headers = response.headers_mut();
    for (name, value) in SAFE {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers
        .entry(HeaderName::from_static("content-security-policy"))
        .or_insert(HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'; sandbox"));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert(HeaderName::from_static("x-request-id"), id);
    }
}

/// A query for the log: addresses without what stands before their host and behind their path, where keys and signatures are.
fn redacted(query: &str) -> String {
    let pair = |pair: &str| match pair.split_once('=') {
        Some(("url", address)) => format!("url={}", redacted_address(address)),
        _ => pair.to_owned(),
    };
    query.split('&').map(pair).collect::<Vec<_>>().join("&")
}

/// An address as it stands in a query, percent-encoded or not.
fn redacted_address(address: &str) -> String {
    let end = ["?", "%3F", "%3f", "#", "%23"].iter().filter_map(|mark| address.find(mark)).min();
    let front = &address[..end.unwrap_or(address.len())];
    let begin = ["://", "%3A%2F%2F", "%3a%2f%2f"].iter().find_map(|mark| Some(front.find(mark)? + mark.len())).unwrap_or(0);
    let host_end = ["/", "%2F", "%2f"].iter().filter_map(|mark| front[begin..].find(mark)).min();
    let host = &front[begin..host_end.map_or(front.len(), |end| begin + end)];
    let user = ["@", "%40"].iter().filter_map(|mark| Some(host.rfind(mark)? + mark.len())).max().unwrap_or(0);
    let rest = if end.is_some() { "?…" } else { "" };
    format!("{}{}{rest}", &front[..begin], &front[begin + user..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_the_loopback_device() {
        for host in ["localhost", "localhost:8080", "127.0.0.1:1", "127.9.9.9", "[::1]:80", "LOCALHOST:1"] {
            assert!(is_loopback_name(host), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io:80", "10.0.0.1", "", "[::2]", "0.0.0.0"] {
            assert!(!is_loopback_name(host), "{host}");
        }
    }

    #[test]
    fn secrets_of_addresses_are_not_logged() {
        for (query, logged) in [
            ("src=raw&url=https://u:p@h/a?sig=1", "src=raw&url=https://h/a?…"),
            ("url=https%3A%2F%2Fu%3Ap%40h%2Fa%3Fsig%3D1&name=b", "url=https%3A%2F%2Fh%2Fa?…&name=b"),
            ("path=a%40b", "path=a%40b"),
            ("url=https://h/a@b", "url=https://h/a@b"),
        ] {
            assert_eq!(redacted(query), logged);
        }
    }
}
