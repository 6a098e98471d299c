//! An HTTP server that misbehaves on command: the counterpart of a client that must notice.
//!
//! It binds a port of the loopback interface and stops when it is dropped. Every connection has a thread; requests are answered
//! one after the other, as HTTP/1.1 has it.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use transload_block::{BlockRead, Memory};

/// What is wrong with a file of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// Ranges are not known: the whole file, with its length.
    NoRanges,
    /// The same in chunks, without a length.
    Chunked,
    /// The same until the connection is closed: nobody can tell whether that was the end.
    UntilClosed,
    /// The whole file is promised, and the connection closed after so many bytes.
    Truncated(u64),
    /// An answer to a range begins elsewhere than it was asked for, and says so.
    OtherRange,
    /// An answer says that it is the range, and sends fewer bytes than that, properly ended.
    ShortRange,
    /// The entity tag changes with every answer.
    ChangingTag,
    /// The file is another one after so many answers: its tag changes, and `If-Range` is honoured.
    ChangesAfter(usize),
    /// A connection is reset after so many bytes of a body, every time.
    Resets(u64),
    /// The first so many requests are answered with this status.
    Status(u16, usize),
    /// An answer that leads elsewhere.
    Redirect(String),
    /// A page instead of the file, with status 200.
    Page(&'static str),
    /// Nothing is ever sent behind the head of the answer.
    Silence,
}

/// One file of the server.
struct Entry {
    content: Arc<dyn BlockRead>,
    fault: Fault,
    answers: AtomicUsize,
}

struct Shared {
    files: Mutex<HashMap<String, Arc<Entry>>>,
    delay: Mutex<Duration>,
    authorization: Mutex<Option<String>>,
    requests: AtomicUsize,
    sent: AtomicU64,
    /// What every request asked for, in order: method, path and the header lines.
    log: Mutex<Vec<String>>,
    stopped: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
}

/// A server on the loopback interface.
pub struct HttpServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

impl fmt::Debug for HttpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpServer").field("address", &self.address).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Default for HttpServer {
    fn default() -> Self {
        Self::start()
    }
}

impl HttpServer {
    /// Starts a server without files.
    ///
    /// # Panics
    /// When no port can be bound.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port of the loopback interface");
        let address = listener.local_addr().expect("the port that was bound");
        let shared = Arc::new(Shared {
            files: Mutex::default(),
            delay: Mutex::default(),
            authorization: Mutex::default(),
            requests: AtomicUsize::new(0),
            sent: AtomicU64::new(0),
            log: Mutex::default(),
            stopped: AtomicBool::new(false),
            connections: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            for connection in listener.incoming() {
                if serving.stopped.load(Ordering::Acquire) {
                    return;
                }
                let Ok(connection) = connection else { continue };
                lock(&serving.connections).extend(connection.try_clone());
                let shared = Arc::clone(&serving);
                // A client that goes away in the middle is no failure of the server's.
                thread::spawn(move || drop(shared.serve(&connection)));
            }
        });
        Self { address, shared, listener: Some(thread) }
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The address of `path`, which begins with a slash.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Serves `content` at `path`.
    pub fn file(&self, path: &str, content: impl Into<Vec<u8>>) {
        self.faulty(path, content, Fault::None);
    }

    /// Serves `content` at `path`, in a way that is not as it should be.
    pub fn faulty(&self, path: &str, content: impl Into<Vec<u8>>, fault: Fault) {
        self.device(path, Arc::new(Memory::from(content.into())), fault);
    }

    /// Serves the bytes of a device at `path`.
    pub fn device(&self, path: &str, content: Arc<dyn BlockRead>, fault: Fault) {
        let entry = Entry { content, fault, answers: AtomicUsize::new(0) };
        lock(&self.shared.files).insert(path.to_owned(), Arc::new(entry));
    }

    /// Lets `delay` pass before every answer: the way there and back.
    pub fn delay(&self, delay: Duration) {
        *lock(&self.shared.delay) = delay;
    }

    /// Answers 401 to whoever does not send this value of `Authorization`.
    pub fn require(&self, authorization: &str) {
        *lock(&self.shared.authorization) = Some(authorization.to_owned());
    }

    /// Requests that came so far.
    #[must_use]
    pub fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Bytes of files sent so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.shared.sent.load(Ordering::Relaxed)
    }

    /// What was asked for, a request with its header lines each.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        lock(&self.shared.log).clone()
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        // Wakes the listener up; both calls fail only where there is nothing left to end.
        drop(TcpStream::connect(self.address));
        for connection in lock(&self.shared.connections).drain(..) {
            drop(connection.shutdown(std::net::Shutdown::Both));
        }
        if let Some(listener) = self.listener.take() {
            drop(listener.join());
        }
    }
}

/// What a request asks for.
struct Request {
    head_only: bool,
    path: String,
    range: Option<(u64, Option<u64>)>,
    if_range: Option<String>,
    authorization: Option<String>,
}

impl Shared {
    fn serve(&self, connection: &TcpStream) -> io::Result<()> {
        connection.set_nodelay(true)?;
        let mut reader = BufReader::new(connection.try_clone()?);
        while let Some(request) = self.read(&mut reader)? {
            self.requests.fetch_add(1, Ordering::Relaxed);
            thread::sleep(*lock(&self.delay));
            if !self.answer(&request, connection)? {
                connection.shutdown(std::net::Shutdown::Both)?;
                return Ok(());
            }
        }
        Ok(())
    }

    fn read(&self, reader: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
        let mut text = String::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(None);
            }
            if line == "\r\n" {
                break;
            }
            text.push_str(&line);
        }
        lock(&self.log).push(text.clone());
        let mut words = text.split(' ');
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let header = |name: &str| {
            text.lines().find_map(|line| {
                let (key, value) = line.split_once(':')?;
                key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        let range = header("range").and_then(|range| {
            let (first, last) =
                range.strip_prefix("bytes=")?.split_once('-').map(|(a, b)| (a.to_owned(), b.to_owned()))?;
            Some((first.parse().ok()?, last.parse().ok()))
        });
        Ok(Some(Request {
            head_only: method == "HEAD",
            path: target.split('?').next().unwrap_or_default().to_owned(),
            range,
            if_range: header("if-range"),
            authorization: header("authorization"),
        }))
    }

    /// Answers, and says whether the connection goes on.
    fn answer(&self, request: &Request, mut out: &TcpStream) -> io::Result<bool> {
        let entry = lock(&self.files).get(&request.path).cloned();
        let Some(entry) = entry else { return plain(out, "404 Not Found", "text/plain", "", "no such file") };
        if lock(&self.authorization).as_ref().is_some_and(|wanted| request.authorization.as_ref() != Some(wanted)) {
            return plain(out, "401 Unauthorized", "text/plain", "WWW-Authenticate: Basic\r\n", "who are you?");
        }
        let number = entry.answers.fetch_add(1, Ordering::Relaxed);
        let size = entry.content.size();
        let tag = match entry.fault {
            Fault::ChangingTag => format!("\"{number}\""),
            Fault::ChangesAfter(answers) if number >= answers => "\"second\"".to_owned(),
            _ => "\"first\"".to_owned(),
        };
        match &entry.fault {
            Fault::Status(status, times) if number < *times => {
                return plain(out, &format!("{status} Failed"), "text/plain", "Retry-After: 0\r\n", "sorry");
            }
            Fault::Redirect(place) => {
                return plain(out, "302 Found", "text/plain", &format!("Location: {place}\r\n"), "");
            }
            Fault::Page(kind) => {
                let page = "<!DOCTYPE html>\n<html><title>Please log in</title></html>\n";
                return plain(out, "200 OK", kind, "", page);
            }
            Fault::NoRanges | Fault::Truncated(_) => {
                write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nETag: {tag}\r\n\r\n")?;
                let most = if let Fault::Truncated(most) = entry.fault { most } else { size };
                return Ok(self.send(&entry, 0..size.min(most), request, out)? && most >= size);
            }
            Fault::UntilClosed => {
                write!(out, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
                self.send(&entry, 0..size, request, out)?;
                return Ok(false);
            }
            Fault::Chunked => return self.send_chunked(&entry, &tag, request, out),
            _ => {}
        }
        let matches = request.if_range.as_ref().is_none_or(|mark| *mark == tag);
        let Some((first, last)) = request.range.filter(|_| matches) else {
            write!(out, "HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nETag: {tag}\r\nAccept-Ranges: bytes\r\n\r\n")?;
            return self.send(&entry, 0..size, request, out);
        };
        if first >= size {
            let range = format!("Content-Range: bytes */{size}\r\n");
            return plain(out, "416 Range Not Satisfiable", "text/plain", &range, "");
        }
        let mut range = first..last.map_or(size, |last| last.saturating_add(1)).min(size);
        if entry.fault == Fault::OtherRange && range.start > 0 {
            range = range.start - 1..range.end - 1;
        }
        let promised = range.end - range.start;
        if entry.fault == Fault::ShortRange {
            range.end = range.start + promised / 2;
        }
        write!(
            out,
            "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: bytes {}-{}/{size}\r\nETag: {tag}\r\n\r\n",
            range.end - range.start,
            range.start,
            range.start + promised - 1,
        )?;
        match entry.fault {
            Fault::Resets(most) if range.end - range.start > most => {
                self.send(&entry, range.start..range.start + most, request, out)?;
                Ok(false)
            }
            Fault::Silence => {
                out.flush()?;
                while !self.stopped.load(Ordering::Acquire) {
                    thread::sleep(Duration::from_millis(10));
                }
                Ok(false)
            }
            _ => self.send(&entry, range, request, out),
        }
    }

    fn send(
        &self,
        entry: &Entry,
        range: std::ops::Range<u64>,
        request: &Request,
        mut out: &TcpStream,
    ) -> io::Result<bool> {
        const STEP: u64 = 1 << 20;
        let mut at = range.start;
        let mut buffer = Vec::new();
        while at < range.end && !request.head_only {
            let length = STEP.min(range.end - at);
            buffer.resize(usize::try_from(length).unwrap_or_default(), 0);
            entry.content.read_at(&mut buffer, at).map_err(io::Error::other)?;
            out.write_all(&buffer)?;
            self.sent.fetch_add(length, Ordering::Relaxed);
            at += length;
        }
        Ok(true)
    }

    fn send_chunked(&self, entry: &Entry, tag: &str, request: &Request, mut out: &TcpStream) -> io::Result<bool> {
        const STEP: u64 = 100_000;
        write!(out, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nETag: {tag}\r\n\r\n")?;
        let size = entry.content.size();
        for start in (0..size).step_by(100_000) {
            let range = start..size.min(start + STEP);
            write!(out, "{:x}\r\n", range.end - range.start)?;
            self.send(entry, range, request, out)?;
            out.write_all(b"\r\n")?;
        }
        out.write_all(b"0\r\n\r\n")?;
        Ok(true)
    }
}

fn plain(mut out: &TcpStream, status: &str, kind: &str, headers: &str, body: &str) -> io::Result<bool> {
    let length = body.len();
    write!(out, "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{headers}\r\n{body}")?;
    Ok(true)
}
