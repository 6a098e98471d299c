//! Servers as they should be, and servers that are not.

use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};

use transload_block::{BlockRead, ErrorKind, Memory, Result};
use transload_remote::{Credentials, Limits, Options, Remote, RemoteDisk, Stop, open};
use transload_testkit::{Fault, HttpServer, conformance};

use crate::{quick, sample};

fn disk(remote: Remote) -> RemoteDisk {
    match remote {
        Remote::Disk(disk) => disk,
        Remote::Stream(stream) => unreachable!("{stream:?} comes once"),
    }
}

fn read_all(device: &dyn BlockRead) -> Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(device.size()).unwrap()];
    let step = 300_000;
    for (index, piece) in bytes.chunks_mut(step).enumerate() {
        device.read_at(piece, (index * step) as u64)?;
    }
    Ok(bytes)
}

/// Opens and reads everything, however it comes.
fn fetch(url: &str, options: &Options) -> Result<Vec<u8>> {
    match open(url, options)? {
        Remote::Disk(disk) => read_all(&disk),
        Remote::Stream(mut stream) => {
            let mut bytes = Vec::new();
            let read = stream.read_to_end(&mut bytes);
            read.map_err(|error| error.downcast::<transload_block::Error>().unwrap())?;
            Ok(bytes)
        }
    }
}

#[test]
fn a_server_with_ranges_is_a_disk() {
    let (server, bytes) = (HttpServer::start(), sample(3_000_000));
    server.file("/disk.raw", bytes.clone());
    let disk = disk(open(&server.url("/disk.raw"), &quick()).unwrap());
    assert_eq!(disk.origin().etag.as_deref(), Some("\"first\""));
    assert_eq!(disk.origin().fingerprint().as_deref(), Some("3000000 \"first\""));
    conformance::read(&disk, &Memory::from(bytes.clone())).assert();
    let mut streamed = Vec::new();
    disk.stream().read_to_end(&mut streamed).unwrap();
    assert!(streamed == bytes);
}

#[test]
fn small_and_empty_files_are_whole() {
    let server = HttpServer::start();
    for (name, length) in [("/empty", 0), ("/one", 4), ("/block", 256 << 10), ("/more", (256 << 10) + 1)] {
        let bytes = if length == 0 { Vec::new() } else { sample(length) };
        server.file(name, bytes.clone());
        assert!(fetch(&server.url(name), &quick()).unwrap() == bytes, "{name}");
    }
}

#[test]
fn a_server_without_ranges_comes_once() {
    let (server, bytes) = (HttpServer::start(), sample(6 << 20));
    server.faulty("/length", bytes.clone(), Fault::NoRanges);
    server.faulty("/chunked", bytes.clone(), Fault::Chunked);
    server.faulty("/small", bytes[..9000].to_vec(), Fault::NoRanges);
    for path in ["/length", "/chunked"] {
        let remote = open(&server.url(path), &quick()).unwrap();
        assert!(matches!(remote, Remote::Stream(_)), "{remote:?}");
        assert!(fetch(&server.url(path), &quick()).unwrap() == bytes, "{path}");
    }
    // What is small enough is kept, and then it is a disk.
    assert!(read_all(&disk(open(&server.url("/small"), &quick()).unwrap())).unwrap() == bytes[..9000]);
}

#[test]
fn whatever_breaks_off_or_changes_is_an_error() {
    let (server, bytes) = (HttpServer::start(), sample(6 << 20));
    let cases = [
        ("/truncated", Fault::Truncated(5 << 20), "broke off"),
        ("/until-closed", Fault::UntilClosed, "does not say how long it is"),
        ("/other-range", Fault::OtherRange, "the server says that it sends bytes"),
        ("/short-range", Fault::ShortRange, "bytes"),
        ("/changing-tag", Fault::ChangingTag, "changed on the server"),
        ("/changes", Fault::ChangesAfter(2), "changed on the server"),
        ("/html", Fault::Page("text/html; charset=utf-8"), "a page (text/html)"),
        ("/html-as-bytes", Fault::Page("application/octet-stream"), "a page (HTML)"),
        ("/json", Fault::Page("application/json"), "a page (application/json)"),
        ("/gone", Fault::Status(410, usize::MAX), "answered 410 Gone"),
        ("/broken", Fault::Status(503, usize::MAX), "tried 3 times"),
        ("/silence", Fault::Silence, "tried 3 times"),
        ("/loop", Fault::Redirect("/loop".to_owned()), "more than 10 redirects"),
    ];
    for (path, fault, words) in cases {
        server.faulty(path, bytes.clone(), fault);
        let error = fetch(&server.url(path), &quick()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Network, "{path}: {error}");
        assert!(error.to_string().contains(words), "{path}: {error}");
    }
    let error = fetch(&server.url("/nothing"), &quick()).unwrap_err();
    assert!(error.to_string().contains("answered 404 Not Found"), "{error}");
}

#[test]
fn what_passes_is_borne() {
    let (server, bytes) = (HttpServer::start(), sample(5 << 20));
    server.faulty("/busy", bytes.clone(), Fault::Status(503, 2));
    server.faulty("/limit", bytes.clone(), Fault::Status(429, 2));
    // Each connection brings a little, and the next one goes on there.
    server.faulty("/resets", bytes.clone(), Fault::Resets(270_000));
    for path in ["/busy", "/limit", "/resets"] {
        assert!(fetch(&server.url(path), &quick()).unwrap() == bytes, "{path}");
    }
    assert!(server.sent() < 3 * (5 << 20) + (4 << 20), "{} bytes sent: what came was asked for again", server.sent());
}

#[test]
fn redirects_are_followed_and_their_end_is_remembered() {
    let (server, bytes) = (HttpServer::start(), sample(3 << 20));
    server.file("/real", bytes.clone());
    server.faulty("/second", "", Fault::Redirect("/real".to_owned()));
    server.faulty("/first", "", Fault::Redirect(server.url("/second")));
    let disk = disk(open(&server.url("/first"), &quick()).unwrap());
    assert!(read_all(&disk).unwrap() == bytes);
    let asked = server.log().iter().filter(|request| request.contains("GET /first")).count();
    assert_eq!(asked, 1, "the redirect is followed once");
    assert!(disk.origin().shown.ends_with("/first"));
}

#[test]
fn credentials_stay_with_their_host() {
    let (home, other) = (HttpServer::start(), HttpServer::start());
    home.file("/secret", sample(9000));
    home.require("Basic dXNlcjpwYXNz");
    let url = home.url("/secret").replace("http://", "http://user:pass@");
    assert_eq!(fetch(&url, &quick()).unwrap().len(), 9000);
    let error = fetch(&home.url("/secret"), &quick()).unwrap_err();
    assert!(error.to_string().contains("401") && error.remedy().is_some(), "{error}");
    let error = open(&home.url("/x").replace("http://", "http://user:pass@"), &quick()).unwrap_err();
    assert!(!error.to_string().contains("pass"), "{error}");

    other.file("/open", sample(9000));
    home.faulty("/away", "", Fault::Redirect(other.url("/open")));
    home.require("Bearer abc");
    let headers = vec![("authorization".to_owned(), "Bearer abc".to_owned())];
    let options = Options { credentials: Credentials { headers, ..Credentials::none() }, ..quick() };
    assert_eq!(fetch(&home.url("/away"), &options).unwrap().len(), 9000);
    assert!(home.log().iter().any(|request| request.to_lowercase().contains("bearer abc")));
    assert!(!other.log().iter().any(|request| request.to_lowercase().contains("authorization")), "{:?}", other.log());
    assert!(!format!("{options:?}").contains("abc"));
}

#[test]
fn tables_are_read_once_and_data_ahead_of_the_reader() {
    let (server, bytes) = (HttpServer::start(), sample(24 << 20));
    server.file("/disk", bytes.clone());
    server.delay(Duration::from_millis(20));
    let options = Options { limits: Limits { cache_bytes: 16 << 20, ..Limits::default() }, ..quick() };
    let disk = Arc::new(disk(open(&server.url("/disk"), &options).unwrap()));
    // A table that is looked at a thousand times.
    let before = server.requests();
    for index in 0..1000_usize {
        let mut entry = [0; 8];
        let at = (10 << 20) + index * 8;
        disk.read_at(&mut entry, at as u64).unwrap();
        assert_eq!(entry, bytes[at..at + 8]);
    }
    assert!(server.requests() - before < 12, "{} requests", server.requests() - before);
    // Samples all over it are no reason to read it all.
    let sent = server.sent();
    for place in 0..9_u64 {
        disk.read_at(&mut [0; 4096], place * ((10 * 256) << 10)).unwrap();
    }
    assert!(server.sent() - sent < 5 << 20, "{} bytes", server.sent() - sent);
    let before = server.requests();
    // From front to back: far less than one way there and back for each MiB.
    assert!(read_all(&*disk).unwrap() == bytes);
    let requests = server.requests() - before;
    assert!(requests < 60, "{requests} requests");
    // Many threads at random places.
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let (disk, bytes) = (Arc::clone(&disk), &bytes);
            scope.spawn(move || {
                let mut random = transload_testkit::Random::new(seed);
                for _ in 0..40 {
                    let range = random.range(bytes.len() as u64, 600_000);
                    let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
                    let mut found = vec![0; range.len()];
                    disk.read_at(&mut found, range.start as u64).unwrap();
                    assert!(found == bytes[range]);
                }
            });
        }
    });
}

#[test]
fn a_wish_to_stop_is_noticed() {
    let server = HttpServer::start();
    server.faulty("/silence", sample(1 << 20), Fault::Silence);
    let asked = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let seen = Arc::clone(&asked);
    let stop = Stop::when(move || seen.load(std::sync::atomic::Ordering::Relaxed));
    let options = Options { stop, limits: Limits::default(), ..quick() };
    let url = server.url("/silence");
    let started = Instant::now();
    let waiting = std::thread::spawn(move || open(&url, &options).unwrap_err());
    while server.requests() == 0 {
        std::thread::yield_now();
    }
    asked.store(true, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(waiting.join().unwrap().kind(), ErrorKind::Cancelled);
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn what_is_too_large_is_not_taken() {
    let server = HttpServer::start();
    server.file("/disk", sample(2 << 20));
    let limits = Limits { max_size: Some(1 << 20), ..quick().limits };
    let error = open(&server.url("/disk"), &Options { limits, ..quick() }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

#[test]
fn nobody_there_is_a_network_error() {
    let server = HttpServer::start();
    let url = server.url("/disk");
    drop(server);
    let error = open(&url, &quick()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network);
    assert!(error.to_string().contains("cannot connect"), "{error}");
    for wrong in ["http://", "ftp://h/x", "nonsense"] {
        assert_eq!(open(wrong, &quick()).unwrap_err().kind(), ErrorKind::InvalidInput, "{wrong}");
    }
}
