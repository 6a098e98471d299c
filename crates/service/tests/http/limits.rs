//! Clients that are slow, many, or lie.

use std::fs;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use transload_testkit::witness;

use crate::server::Server;

fn head(server: &Server, name: &str, length: &str) -> String {
    format!("POST /upload?src=raw&dst=raw&name={name} HTTP/1.1\r\nHost: {}\r\n{length}\r\n\r\n", server.address)
}

#[test]
fn a_head_that_dribbles_in_is_not_waited_for() {
    let server = Server::with(|config| config.limits.head_time = Duration::from_millis(600));
    let mut stream = server.connect();
    let began = Instant::now();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n").unwrap();
    let mut ended = false;
    for letter in b"x-slow: loris" {
        std::thread::sleep(Duration::from_millis(100));
        if stream.write_all(&[*letter]).is_err() {
            ended = true;
            break;
        }
    }
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    assert!(ended || read.is_err() || !answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn slow_lorises_do_not_keep_others_out() {
    let server = Server::with(|config| {
        config.limits.connections = 8;
        config.limits.head_time = Duration::from_millis(700);
    });
    let mut held: Vec<_> = (0..40).map(|_| server.connect()).collect();
    for stream in &mut held {
        stream.write_all(b"GET / HT").unwrap();
    }
    assert_eq!(server.get("/healthz").status, 200);
}

#[test]
fn a_body_that_stalls_or_dribbles_is_given_up() {
    let server = Server::with(|config| {
        config.limits.stall_time = Duration::from_secs(1);
        config.limits.least_rate = 1024;
    });
    let mut stalled = server.connect();
    stalled.write_all(head(&server, "stalled.raw", "Content-Length: 1000000").as_bytes()).unwrap();
    stalled.write_all(&[1; 5000]).unwrap();
    let mut dribbling = server.connect();
    dribbling.write_all(head(&server, "dribbling.raw", "Transfer-Encoding: chunked").as_bytes()).unwrap();
    for _ in 0..30 {
        std::thread::sleep(Duration::from_millis(100));
        if dribbling.write_all(b"1\r\nx\r\n").is_err() {
            break;
        }
    }
    let mut answer = String::new();
    // Whether the reason comes through is the network's to say.
    let _ = stalled.read_to_string(&mut answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 502"), "{answer}");
    Server::until(|| server.get("/v1/jobs?state=failed").json()["jobs"].as_array().is_some_and(|jobs| jobs.len() == 2));
    assert!(Server::names(&server.root()).is_empty());
}

#[test]
fn a_content_length_that_lies_makes_no_image() {
    let server = Server::with(|config| {
        config.limits.upload = 1 << 20;
        config.limits.stall_time = Duration::from_secs(1);
    });
    // Shorter than said: the client ends its half.
    let mut short = server.connect();
    short.write_all(head(&server, "short.raw", "Content-Length: 8192").as_bytes()).unwrap();
    short.write_all(&[1; 4096]).unwrap();
    short.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    let _ = short.read_to_string(&mut answer);
    assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    // Longer than said: what is behind is no part of the body.
    let long = [head(&server, "long.raw", "Content-Length: 4096\r\nConnection: close").as_bytes(), &[1; 4096], &[2; 64]].concat();
    let answer = server.raw(&long);
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert_eq!(fs::read(server.root().join("long.raw")).unwrap(), vec![1; 4096]);
    // Larger than is taken: told before it comes, or when it is too much.
    let answer = server.raw(head(&server, "large.raw", "Content-Length: 99999999999").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let big = server.folder.path().join("big.raw");
    fs::write(&big, vec![1; 2 << 20]).unwrap();
    let answer = server.curl("/upload?src=raw&dst=raw&name=chunked.raw", &["-X", "POST", "-H", "transfer-encoding: chunked", "-T", &big.to_string_lossy()]);
    assert_eq!((answer.status, answer.kind().as_str()), (413, "too-large"));
    // Two of them, or one beside chunks, are refused by the reader of requests.
    for lengths in ["Content-Length: 1\r\nContent-Length: 2", "Content-Length: -1", "Content-Length: 0x10", "Content-Length: 99999999999999999999999", "Content-Length: 4\r\nTransfer-Encoding: chunked"] {
        let answer = server.raw(format!("{}5\r\nhello\r\n0\r\n\r\n", head(&server, "two.raw", &format!("{lengths}\r\nConnection: close"))).as_bytes());
        let refused = answer.starts_with("HTTP/1.1 4") || answer.is_empty();
        let as_chunks = lengths.contains("chunked") && answer.starts_with("HTTP/1.1 201");
        assert!(refused || as_chunks, "{lengths}: {answer}");
    }
    let left = Server::names(&server.root());
    assert!(left == ["long.raw"] || left == ["long.raw", "two.raw"], "{left:?}");
}

#[test]
fn a_disk_that_is_too_large_is_refused_however_small_its_file() {
    let server = Server::with(|config| config.limits.disk = 1 << 30);
    let image = server.root().join("huge.qcow2");
    witness::create(&image, "qcow2", "", 64 << 40);
    let answer = server.get("/export?path=huge.qcow2&dst=raw");
    assert_eq!((answer.status, answer.kind().as_str()), (413, "too-large"));
    let answer = server.post_file("/upload?dst=raw&name=huge.raw", &image);
    assert_eq!((answer.status, answer.kind().as_str()), (413, "too-large"));
    // A bomb: a gibibyte and a half of zeroes in a megabyte and a half.
    let bomb = server.folder.path().join("bomb.gz");
    witness::must("sh", ["-c", &format!("head -c 1610612736 /dev/zero | gzip -1 > {}", bomb.display())]);
    let answer = server.post_file("/upload?dst=raw&name=bomb.raw", &bomb);
    assert_eq!((answer.status, answer.kind().as_str()), (413, "too-large"), "{answer:?}");
    assert_eq!(Server::names(&server.root()), ["huge.qcow2"]);
}

#[test]
fn what_has_to_be_stored_has_a_limit() {
    let server = Server::with(|config| config.limits.spool = 1 << 20);
    let image = server.folder.path().join("disk.vdi");
    let plain = server.folder.path().join("disk.raw");
    fs::write(&plain, vec![7; 4 << 20]).unwrap();
    witness::convert(&plain, "raw", &image, "vdi", "");
    let answer = server.post_file("/upload?dst=raw&name=disk.raw", &image);
    assert_eq!((answer.status, answer.kind().as_str()), (507, "no-space"), "{answer:?}");
    fs::copy(&plain, server.root().join("plain.raw")).unwrap();
    let answer = server.get("/export?path=plain.raw&src=raw&dst=vhdx");
    assert_eq!((answer.status, answer.kind().as_str()), (507, "no-space"));
    assert!(Server::names(&server.state().join("spool")).is_empty());
    let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
    assert!(metrics.contains("transload_spool_bytes 0"), "{metrics}");
}

#[test]
fn requests_wait_for_their_turn_and_not_for_ever() {
    let server = Server::with(|config| {
        config.limits.conversions = 1;
        config.limits.queue_time = Duration::from_millis(300);
    });
    let mut first = server.connect();
    first.write_all(head(&server, "first.raw", "Content-Length: 1000000").as_bytes()).unwrap();
    Server::until(|| String::from_utf8_lossy(&server.get("/metrics").body).contains("transload_conversions_active 1"));
    let source = server.folder.path().join("source.raw");
    fs::write(&source, vec![1; 4096]).unwrap();
    let answer = server.post_file("/upload?src=raw&dst=raw&name=second.raw", &source);
    assert_eq!((answer.status, answer.kind().as_str()), (503, "busy"));
    assert!(answer.headers.to_ascii_lowercase().contains("retry-after: "), "{}", answer.headers);
    first.write_all(&vec![1; 1_000_000]).unwrap();
    Server::until(|| server.post_file("/upload?src=raw&dst=raw&name=second.raw", &source).status == 201);
}

#[test]
fn many_uploads_at_once_all_arrive() {
    const COUNT: usize = 24;
    let server = Server::with(|config| config.limits.conversions = 4);
    let source = server.folder.path().join("source.raw");
    let bytes: Vec<u8> = (0..1_u32 << 20).map(|index| (index / 1000).to_le_bytes()[0]).collect();
    fs::write(&source, bytes).unwrap();
    std::thread::scope(|scope| {
        for index in 0..COUNT {
            let (server, source) = (&server, &source);
            scope.spawn(move || {
                let answer = server.post_file(&format!("/upload?src=raw&dst=qcow2&name={index}.qcow2"), source);
                assert_eq!(answer.status, 201, "{answer:?}");
            });
        }
    });
    assert_eq!(Server::names(&server.root()).len(), COUNT);
    let first = fs::read(server.root().join("0.qcow2")).unwrap();
    assert!((1..COUNT).all(|index| fs::read(server.root().join(format!("{index}.qcow2"))).unwrap() == first));
}

#[test]
fn stopping_lets_requests_end() {
    let mut server = Server::with(|config| config.limits.grace = Duration::from_secs(20));
    let mut stream = server.connect();
    stream.write_all(head(&server, "last.raw", "Content-Length: 100000").as_bytes()).unwrap();
    stream.write_all(&[1; 50_000]).unwrap();
    Server::until(|| String::from_utf8_lossy(&server.get("/metrics").body).contains("transload_conversions_active 1"));
    let root = server.root();
    let rest = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        stream.write_all(&[1; 50_000]).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    });
    server.stop();
    assert!(rest.join().unwrap().starts_with("HTTP/1.1 201"));
    assert_eq!(fs::read(root.join("last.raw")).unwrap().len(), 100_000);
}
