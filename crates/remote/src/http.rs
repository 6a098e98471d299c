//! What is behind `http://` and `https://`.
//!
//! The first request asks for the beginning, by range. What comes back says everything: whether there are ranges, how long the
//! file is, and by what it is known (RFC 9110 sections 8.8, 13.1.5, 14). A request of its own for the headers would fail where
//! an address is signed for one method alone.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, TryStreamExt};
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_RANGE,
    LAST_MODIFIED, RANGE, TRANSFER_ENCODING,
};
use reqwest::{Method, Response, Url};
use transload_block::{Error, ErrorKind, Result};

use crate::client::{Answer, Client, failure, refused};
use crate::fetch::{Attempt, Failure, Fetch, Patience, network};
use crate::runtime::wait;
use crate::{Limits, Options, Origin, Remote, RemoteDisk, RemoteStream, Upload, UploadSettings, shown};

/// What is asked for first: what formats are told by, and most of their tables' beginnings.
const HEAD: u64 = crate::cache::BLOCK;

/// A file that is no longer than this is read whole where the server knows no ranges.
const SMALL: u64 = 4 << 20;

/// Opens what is at `url`, written as `text`.
pub(crate) fn open(text: &str, url: Url, options: &Options) -> Result<Remote> {
    let client = Client::new(options)?;
    let (limits, stop, text) = (options.limits, options.stop.clone(), text.to_owned());
    let first = wait(async move { first_answer(client, text, url, &limits).await }, &options.stop)?;
    Ok(match first {
        First::Ranges { source, size, head } => {
            Remote::Disk(RemoteDisk::new(Arc::new(*source), size, &head, &limits, &stop))
        }
        First::Body { origin, response } => Remote::Stream(RemoteStream::of_body(origin, response, &stop)?),
    })
}

/// Writing to a plain server is not a thing that servers agree on.
pub(crate) fn create(_text: &str, url: &Url, _settings: &UploadSettings, _options: &Options) -> Result<Upload> {
    let text = format!("{}: an image cannot be written to a server by http", shown(url));
    Err(Error::new(ErrorKind::Unsupported, text)
        .with_remedy("write to an object store (s3://, gs://, az://), or to a file that you upload"))
}

enum First {
    Ranges { source: Box<HttpSource>, size: u64, head: Bytes },
    Body { origin: Origin, response: Response },
}

/// A file on a server that knows ranges.
#[derive(Debug)]
struct HttpSource {
    client: Client,
    /// The address as it was asked for: what the credentials are for, and where to begin anew.
    text: String,
    home: Url,
    /// Where the redirects led.
    place: Mutex<Url>,
    origin: Origin,
    size: u64,
}

async fn first_answer(client: Client, text: String, home: Url, limits: &Limits) -> Result<First> {
    let mut patience = Patience::new(limits);
    loop {
        match try_first(&client, &text, &home).await {
            Ok(first) => return Ok(first),
            Err(failure) => patience.bear(failure).await?,
        }
    }
}

async fn try_first(client: &Client, text: &str, home: &Url) -> Attempt<First> {
    let answer = client.send(Method::GET, text, home, home, &request_headers(&(0..HEAD), None)).await?;
    let Answer { response, url } = answer;
    let mut origin = origin(home, response.headers());
    match response.status().as_u16() {
        206 => {
            refuse_page(&origin).map_err(Failure::lasting)?;
            let told = content_range(response.headers())
                .filter(|told| told.range.start == 0 && told.range.end <= HEAD && told.range.end <= told.total);
            let Some(told) = told else { return Err(Failure::lasting(wrong_range(&origin, 0, response.headers()))) };
            origin.size = Some(told.total);
            let head = whole_body(&url, response, told.range.end).await?;
            refuse_html(&origin, &head).map_err(Failure::lasting)?;
            Ok(ranges(client, text, home, url, origin, told.total, head))
        }
        200 => {
            refuse_page(&origin).map_err(Failure::lasting)?;
            origin.size = content_length(response.headers());
            if let Some(size) = origin.size.filter(|size| *size <= SMALL) {
                let head = whole_body(&url, response, size).await?;
                refuse_html(&origin, &head).map_err(Failure::lasting)?;
                return Ok(ranges(client, text, home, url, origin, size, head));
            }
            if origin.size.is_none() && !response.headers().contains_key(TRANSFER_ENCODING) {
                let text = "the server does not say how long it is, so that one could not tell whether it broke off";
                return Err(Failure::lasting(network(&origin, text).with_remedy("download it first")));
            }
            Ok(First::Body { origin, response })
        }
        // Not even one byte is there.
        416 if unsatisfied_length(response.headers()) == Some(0) => {
            origin.size = Some(0);
            Ok(ranges(client, text, home, url, origin, 0, Bytes::new()))
        }
        _ => Err(refused(&url, &response)),
    }
}

fn ranges(client: &Client, text: &str, home: &Url, place: Url, origin: Origin, size: u64, head: Bytes) -> First {
    let (client, text, home) = (client.clone(), text.to_owned(), home.clone());
    let source = HttpSource { client, text, home, place: Mutex::new(place), origin, size };
    First::Ranges { source: Box::new(source), size, head }
}

fn origin(home: &Url, headers: &HeaderMap) -> Origin {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    Origin {
        shown: shown(home),
        size: None,
        etag: text(ETAG),
        last_modified: text(LAST_MODIFIED),
        content_type: text(CONTENT_TYPE),
    }
}

fn request_headers(range: &Range<u64>, if_range: Option<&str>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    // Ranges are to be of the file, not of a packed form of it.
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    let bytes = format!("bytes={}-{}", range.start, range.end - 1);
    headers.extend(HeaderValue::from_str(&bytes).ok().map(|value| (RANGE, value)));
    headers.extend(if_range.and_then(|mark| HeaderValue::from_str(mark).ok()).map(|value| (IF_RANGE, value)));
    headers
}

impl Fetch for HttpSource {
    fn origin(&self) -> &Origin {
        &self.origin
    }

    fn fetch(&self, range: Range<u64>) -> BoxFuture<'_, Attempt<BoxStream<'static, Attempt<Bytes>>>> {
        Box::pin(async move {
            let answer = self.ask(&range).await?;
            self.check(&range, &answer)?;
            let url = answer.url;
            let body = answer.response.bytes_stream().map_err(move |error| failure(&url, error, false));
            Ok(body.boxed())
        })
    }
}

impl HttpSource {
    /// Asks where the redirects led the last time, and from the start again where that is no longer good: a signed address
    /// expires.
    async fn ask(&self, range: &Range<u64>) -> Attempt<Answer> {
        let headers = request_headers(range, self.origin.strong_etag().or(self.origin.last_modified.as_deref()));
        let place = self.place.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let written = if place == self.home { self.text.clone() } else { place.to_string() };
        let answer = self.client.send(Method::GET, &written, &place, &self.home, &headers).await?;
        if place == self.home || !matches!(answer.response.status().as_u16(), 400 | 401 | 403 | 404 | 410) {
            return Ok(answer);
        }
        let answer = self.client.send(Method::GET, &self.text, &self.home, &self.home, &headers).await?;
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = answer.url.clone();
        Ok(answer)
    }

    /// Makes sure that an answer is the part of the file that was asked for, and of the same file.
    fn check(&self, range: &Range<u64>, answer: &Answer) -> Attempt<()> {
        let headers = answer.response.headers();
        let now = origin(&self.home, headers);
        match answer.response.status().as_u16() {
            206 => {}
            // The whole file instead of a part: what `If-Range` asks for when the file is another one.
            200 | 412 | 416 => return Err(Failure::lasting(self.changed(&now))),
            _ => return Err(refused(&answer.url, &answer.response)),
        }
        let other_etag = self.origin.etag.is_some() && now.etag.is_some() && now.etag != self.origin.etag;
        let other_time = self.origin.strong_etag().is_none()
            && now.last_modified.is_some()
            && now.last_modified != self.origin.last_modified;
        if other_etag || other_time {
            return Err(Failure::lasting(self.changed(&now)));
        }
        match content_range(headers) {
            Some(told) if told.total != self.size => Err(Failure::lasting(self.changed(&now))),
            Some(told) if told.range == *range => Ok(()),
            _ => Err(Failure::lasting(wrong_range(&self.origin, range.start, headers))),
        }
    }

    fn changed(&self, now: &Origin) -> Error {
        let mark = |origin: &Origin| {
            let mark = origin.etag.clone().or_else(|| origin.last_modified.clone());
            mark.map(|mark| format!(" ({mark})")).unwrap_or_default()
        };
        let text = format!("changed on the server while it was read: was{}, is{}", mark(&self.origin), mark(now));
        network(&self.origin, &text).with_remedy("begin again, when nobody writes to it")
    }
}

fn wrong_range(origin: &Origin, start: u64, headers: &HeaderMap) -> Error {
    let told = headers.get(CONTENT_RANGE).map_or("nothing".into(), |value| String::from_utf8_lossy(value.as_bytes()));
    network(origin, &format!("asked for bytes from {start} on, the server says that it sends {told}"))
}

/// What a server says that it sends: `Content-Range` (RFC 9110 section 14.4).
struct Told {
    range: Range<u64>,
    total: u64,
}

fn content_range(headers: &HeaderMap) -> Option<Told> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?.trim();
    let (unit, rest) = text.split_once(' ')?;
    let (range, total) = rest.trim().split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let range = first..last.checked_add(1)?;
    let total = total.trim().parse().ok()?;
    (unit.eq_ignore_ascii_case("bytes") && range.start < range.end && range.end <= total)
        .then_some(Told { range, total })
}

/// The length that a server names when a range has nothing in it: `Content-Range: bytes */LENGTH`.
fn unsatisfied_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_RANGE)?.to_str().ok()?.trim().strip_prefix("bytes")?.trim().strip_prefix("*/")?.parse().ok()
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}

/// The body of an answer, which must have `length` bytes.
async fn whole_body(url: &Url, response: Response, length: u64) -> Attempt<Bytes> {
    let mut bytes = BytesMut::new();
    let mut body = response.bytes_stream();
    while let Some(piece) = body.next().await {
        bytes.extend_from_slice(&piece.map_err(|error| failure(url, error, false))?);
        if bytes.len() as u64 > length {
            break;
        }
    }
    if bytes.len() as u64 == length {
        return Ok(bytes.freeze());
    }
    let text = format!("{}: {length} bytes were promised, {} came", shown(url), bytes.len());
    Err(Failure::passing(Error::new(ErrorKind::Network, text)))
}

/// What no image is sent as.
const PAGES: &[&str] = &["text/html", "application/xhtml+xml", "application/json", "application/problem+json"];

/// Refuses an answer that says of itself that it is for people or programs to read.
fn refuse_page(origin: &Origin) -> Result<()> {
    let kind = origin.content_type.as_deref().unwrap_or("").split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    if PAGES.contains(&kind.as_str()) { Err(page(origin, &kind)) } else { Ok(()) }
}

/// Refuses a page whatever it is called.
fn refuse_html(origin: &Origin, head: &[u8]) -> Result<()> {
    if is_html(head) { Err(page(origin, "HTML")) } else { Ok(()) }
}

/// Whether bytes are the beginning of a page.
pub(crate) fn is_html(head: &[u8]) -> bool {
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    [&b"<!doctype html"[..], b"<html"]
        .iter()
        .any(|begin| head.get(..begin.len()).is_some_and(|found| found.eq_ignore_ascii_case(begin)))
}

/// The error for a page where an image should be.
pub(crate) fn page(origin: &Origin, kind: &str) -> Error {
    network(origin, &format!("the server answered with a page ({kind}), not with an image"))
        .with_remedy("open the address in a browser: it may want a login, or have a link to the file")
}

#[cfg(test)]
mod tests {
    use super::{content_range, is_html, unsatisfied_length};
    use reqwest::header::{CONTENT_RANGE, HeaderMap, HeaderValue};

    fn headers(text: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_RANGE, HeaderValue::from_static(text));
        headers
    }

    #[test]
    fn what_a_server_says_that_it_sends_is_read_strictly() {
        let told = content_range(&headers("bytes 5-9/10")).unwrap();
        assert_eq!((told.range, told.total), (5..10, 10));
        for wrong in [
            "",
            "bytes",
            "bytes 5-9",
            "bytes 9-5/10",
            "bytes 5-9/*",
            "bytes 5-10/10",
            "items 5-9/10",
            "bytes -1-9/10",
            "bytes 0-18446744073709551615/18446744073709551615",
            "bytes 5-9/10, bytes 1-2/10",
        ] {
            assert!(content_range(&headers(wrong)).is_none(), "{wrong}");
        }
        assert_eq!(unsatisfied_length(&headers("bytes */0")), Some(0));
        assert_eq!(unsatisfied_length(&headers("bytes 0-0/1")), None);
    }

    #[test]
    fn pages_are_told_from_images() {
        for page in [&b"<!DOCTYPE html><html>"[..], b"\xef\xbb\xbf\r\n <HTML lang=en>", b"<!doctype HTML PUBLIC"] {
            assert!(is_html(page), "{page:?}");
        }
        for other in [&b"QFI\xfb"[..], b"", b"<", b"<?xml version='1.0'?><Envelope>", b"\0\0<html>"] {
            assert!(!is_html(other), "{other:?}");
        }
    }
}
