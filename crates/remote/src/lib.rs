//! Disk images at addresses: `http(s)://`, `s3://`, `gs://` and `az://`, as sources and as targets.
//!
//! ```text
//! open(address, options) ─► Remote::Disk(RemoteDisk)      any place, by ranges: a BlockRead
//!                        └► Remote::Stream(RemoteStream)   a server without ranges, once, from front to back: a Read
//! create(address, …) ─► Upload: Write ─► finish()          appears under its name then, and not before
//! ```
//!
//! Everything that a caller sees is synchronous, as in all of Transload; the requests run in a small runtime of the crate's own,
//! so that calls come from any thread, threads of another runtime included. What the address says of itself is pinned when it is
//! opened: its length and its entity tag. A source that changes while it is read, that breaks off, or that turns into an error
//! page is an error, never bytes.
//!
//! Which addresses may be connected to is the [`Policy`], checked for every connection after the name was resolved, and for
//! every redirect. How a source is read fast though every request takes long is in [`RemoteDisk`].
//!
//! The crate knows no image format. What the bytes are is found out above it.

mod cache;
mod checksum;
mod client;
mod disk;
mod fetch;
mod http;
mod object;
mod options;
mod origin;
pub mod policy;
mod runtime;
mod stream;
mod upload;

use std::fmt;
use std::sync::Arc;

use reqwest::Url;
use transload_block::{Error, ErrorKind, Result};

pub use checksum::{Checksum, ChecksumDigest, ChecksumKind, Checksummed};
pub use disk::RemoteDisk;
pub use options::{Credentials, Limits, Lookup, Options, Stop};
pub use origin::Origin;
pub use policy::{Policy, Rule};
pub use stream::RemoteStream;
pub use upload::{Upload, UploadSettings, UploadWriter};

/// Schemes that are understood.
const SCHEMES: &[&str] = &["http://", "https://", "s3://", "gs://", "az://"];

/// Whether `text` is meant as the address of something remote, well-formed or not.
#[must_use]
pub fn is_meant_by(text: &str) -> bool {
    let begins = |scheme: &&str| text.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme));
    SCHEMES.iter().any(begins)
}

/// What is at an address, opened for reading.
#[derive(Debug)]
pub enum Remote {
    /// It can be read at any place.
    Disk(RemoteDisk),
    /// It comes once, from front to back.
    Stream(RemoteStream),
}

impl Remote {
    /// What it says of itself.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        match self {
            Self::Disk(disk) => disk.origin(),
            Self::Stream(stream) => stream.origin(),
        }
    }
}

/// Opens what is at `address` for reading.
///
/// # Errors
/// `Denied` when the policy forbids an address on the way, a redirect included; `Network` when there is no answer, or the answer
/// is no file: an error, a page; `TooLarge` behind [`Limits::max_size`]; `InvalidInput` when it is no address; `Cancelled`.
pub fn open(address: &str, options: &Options) -> Result<Remote> {
    let url = parse(address)?;
    options.stop.check()?;
    let remote = match url.scheme() {
        "http" | "https" => http::open(address, url, options),
        _ => object::open(&url, options).map(Remote::Disk),
    }?;
    let (size, most) = (remote.origin().size, options.limits.max_size);
    if let (Some(size), Some(most)) = (size, most)
        && size > most
    {
        let text = format!("{}: {size} bytes, of which {most} are allowed", remote.origin().shown);
        return Err(Error::new(ErrorKind::TooLarge, text));
    }
    Ok(remote)
}

/// Begins to write what will be at `address`.
///
/// # Errors
/// `Denied` when the policy forbids the address, or something is there that may not be replaced; `Network`, `InvalidInput`,
/// `Cancelled`.
pub fn create(address: &str, settings: &UploadSettings, options: &Options) -> Result<Upload> {
    let url = parse(address)?;
    options.stop.check()?;
    match url.scheme() {
        "http" | "https" => http::create(address, &url, settings, options),
        _ => object::create(&url, settings, options),
    }
}

/// The name that a file at `address` would have: the last part of its path.
#[must_use]
pub fn file_name(address: &str) -> Option<String> {
    let url = parse(address).ok()?;
    let last = url.path_segments()?.rfind(|part| !part.is_empty())?;
    Some(percent_decoded(last))
}

fn parse(address: &str) -> Result<Url> {
    // A password in what was typed is not repeated in a message.
    let wrong = |why: &dyn fmt::Display| Error::new(ErrorKind::InvalidInput, format!("not an address: {why}"));
    let url = Url::parse(address).map_err(|error| wrong(&error))?;
    if !SCHEMES.iter().any(|scheme| scheme.strip_suffix("://") == Some(url.scheme())) {
        return Err(wrong(&format!("the scheme '{}' is not one of {}", url.scheme(), SCHEMES.join(", "))));
    }
    if url.host_str().is_none_or(str::is_empty) {
        return Err(wrong(&"it names no host"));
    }
    Ok(url)
}

/// An address as messages and logs may show it: without a password, and without what is behind the `?`, where keys are.
#[must_use]
pub fn shown(url: &Url) -> String {
    let host = url.host_str().unwrap_or("");
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let query = if url.query().is_some() { "?…" } else { "" };
    format!("{}://{host}{port}{}{query}", url.scheme(), url.path())
}

/// As [`shown`], of a text that may be no address.
#[must_use]
pub fn shown_text(address: &str) -> String {
    parse(address).map_or_else(|_| address.to_owned(), |url| shown(&url))
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let pair = (*first == b'%').then(|| tail.get(..2)).flatten();
        let value = pair.and_then(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
        bytes.push(value.unwrap_or(*first));
        rest = if value.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What delivers ranges of a source, shared by a disk and its streams.
type Fetcher = Arc<dyn fetch::Fetch>;
