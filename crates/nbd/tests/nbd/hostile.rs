//! Clients and servers that lie, dribble, or vanish.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use transload_block::{BlockRead, ErrorKind, Memory};
use transload_nbd::{ConnectSettings, Export, NbdAddress, NbdDisk, Place, ServerLimits, properties};
use transload_testkit::Random;

use crate::support::Served;

const GREETING: usize = 18;

fn server() -> Served {
    let limits = ServerLimits { negotiation: Duration::from_millis(400), ..ServerLimits::default() };
    Served::with_limits(vec![Export::writable("", Arc::new(Memory::from(vec![7; 1 << 20])))], limits)
}

/// A client that has said its flags.
fn greeted(served: &Served) -> UnixStream {
    let mut line = UnixStream::connect(served.socket()).expect("a connection");
    line.set_read_timeout(Some(Duration::from_secs(10))).expect("a time limit");
    line.read_exact(&mut [0; GREETING]).expect("a greeting");
    line.write_all(&3_u32.to_be_bytes()).expect("flags");
    line
}

fn option(number: u32, data: &[u8]) -> Vec<u8> {
    let mut message = b"IHAVEOPT".to_vec();
    message.extend_from_slice(&number.to_be_bytes());
    message.extend_from_slice(&u32::try_from(data.len()).expect("short").to_be_bytes());
    message.extend_from_slice(data);
    message
}

/// A client in transmission, with simple replies.
fn begun(served: &Served) -> UnixStream {
    let mut line = greeted(served);
    line.write_all(&option(1, b"")).expect("an export");
    line.read_exact(&mut [0; 10]).expect("its size");
    line
}

fn request(flags: u16, command: u16, offset: u64, length: u32) -> Vec<u8> {
    let mut message = 0x2560_9513_u32.to_be_bytes().to_vec();
    message.extend_from_slice(&flags.to_be_bytes());
    message.extend_from_slice(&command.to_be_bytes());
    message.extend_from_slice(&77_u64.to_be_bytes());
    message.extend_from_slice(&offset.to_be_bytes());
    message.extend_from_slice(&length.to_be_bytes());
    message
}

/// The error number of the next simple reply.
fn error_of(line: &mut UnixStream) -> u32 {
    let mut reply = [0; 16];
    line.read_exact(&mut reply).expect("a reply");
    assert_eq!(&reply[..4], &0x6744_6698_u32.to_be_bytes());
    assert_eq!(&reply[8..], &77_u64.to_be_bytes());
    u32::from_be_bytes([reply[4], reply[5], reply[6], reply[7]])
}

/// Whether the server has closed the connection, after whatever it still had to say.
fn is_closed(line: &mut UnixStream) -> bool {
    let mut rest = Vec::new();
    match line.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

fn assert_alive(served: &Served) {
    let mut byte = [0];
    served.connect("").read_at(&mut byte, 1000).expect("the server lives");
}

#[test]
fn a_slow_negotiation_ends() {
    let served = server();
    let mut silent = UnixStream::connect(served.socket()).expect("a connection");
    silent.read_exact(&mut [0; GREETING]).expect("a greeting");
    let begin = Instant::now();
    // A byte now and then does not help.
    let mut dribbling = greeted(&served);
    for byte in option(7, &[0; 64]) {
        if dribbling.write_all(&[byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(is_closed(&mut dribbling) && is_closed(&mut silent));
    assert!(begin.elapsed() < Duration::from_secs(8));
    assert_alive(&served);
}

#[test]
fn options_that_lie_are_refused_or_end_the_talk() {
    let served = server();
    // A name of 4 GiB, an option of 1 MiB that is skipped, wrong counts, no UTF-8: each gets an answer.
    for (number, data) in [
        (7, [&u32::MAX.to_be_bytes()[..], b"x"].concat()),
        (7, vec![0; 1 << 20]),
        (7, [&1_u32.to_be_bytes()[..], &[0xff, 0, 0]].concat()),
        (7, [&0_u32.to_be_bytes()[..], &9_u16.to_be_bytes()].concat()),
        (10, [&0_u32.to_be_bytes()[..], &u32::MAX.to_be_bytes()].concat()),
        (9, vec![1, 2, 3]),
        (3, vec![1]),
        (8, vec![1]),
        (5, vec![]),
        (4_000_000_000, vec![]),
    ] {
        let mut line = greeted(&served);
        line.write_all(&option(number, &data)).expect("an option");
        let mut reply = [0; 20];
        line.read_exact(&mut reply).expect("a reply");
        assert!(reply[12] & 0x80 != 0, "option {number} is no error: {reply:?}");
    }
    // What has no way to be refused ends the connection.
    let mut nameless = greeted(&served);
    nameless.write_all(&option(1, b"nowhere")).expect("an option");
    assert!(is_closed(&mut nameless));
    let mut oldstyle = greeted(&served);
    oldstyle.write_all(&[0; 64]).expect("nonsense");
    assert!(is_closed(&mut oldstyle));
    assert_alive(&served);
}

#[test]
fn requests_that_lie_get_an_error_and_the_session_goes_on() {
    let served = server();
    let mut line = begun(&served);
    for (message, number) in [
        (request(0, 0, 1 << 20, 1), 22),
        (request(0, 0, u64::MAX, u32::MAX), 22),
        (request(0, 0, 0, 0), 22),
        (request(0, 4, (1 << 20) - 1, 2), 28),
        (request(0, 6, u64::MAX - 3, 4), 28),
        (request(0, 7, 0, 512), 22),
        (request(0, 99, 0, 0), 22),
        ([request(0, 1, (1 << 20) - 1, 2), vec![1, 2]].concat(), 28),
    ] {
        line.write_all(&message).expect("a request");
        assert_eq!(error_of(&mut line), number, "{message:?}");
    }
    line.write_all(&request(0, 0, 5, 4)).expect("a request");
    assert_eq!(error_of(&mut line), 0);
    let mut bytes = [0; 4];
    line.read_exact(&mut bytes).expect("data");
    assert_eq!(bytes, [7; 4]);
}

#[test]
fn payloads_of_gigabytes_end_the_session() {
    let served = server();
    let mut line = begun(&served);
    line.write_all(&request(0, 1, 0, u32::MAX)).expect("a request");
    assert!(is_closed(&mut line));
    let mut line = begun(&served);
    line.write_all(&[0; 28]).expect("nonsense");
    assert!(is_closed(&mut line));
    assert_alive(&served);
}

#[test]
fn clients_that_vanish_leave_nothing_behind() {
    let served = server();
    for round in 0..40_usize {
        let mut line = begun(&served);
        // In the middle of a header, of a payload, with replies outstanding.
        let message = [request(0, 1, 0, 4096), vec![7; 4096], request(0, 0, 0, 1 << 20)].concat();
        let sent = message.len() * round / 39;
        line.write_all(&message[..sent]).expect("a part of it");
    }
    assert_alive(&served);
    let begin = Instant::now();
    served.end().expect("a good end");
    assert!(begin.elapsed() < Duration::from_secs(5));
}

/// A server that says `script` to each client and hangs up.
fn scripted(script: Vec<u8>) -> ErrorKind {
    let folder = tempfile::tempdir().expect("a folder");
    let socket = folder.path().join("socket");
    let listener = UnixListener::bind(&socket).expect("a socket");
    let serving = std::thread::spawn(move || {
        let (mut line, _) = listener.accept().expect("a client");
        drop(line.write_all(&script));
        drop(line.shutdown(std::net::Shutdown::Write));
        drop(line.read_to_end(&mut Vec::new()));
    });
    let address = NbdAddress { place: Place::Unix(socket), export: "disk".to_owned(), tls: None };
    let kind = NbdDisk::connect(&address, &ConnectSettings::default()).expect_err("no server").kind();
    serving.join().expect("the script is said");
    kind
}

#[test]
fn servers_that_lie_are_network_errors() {
    let greeting = [&b"NBDMAGICIHAVEOPT"[..], &3_u16.to_be_bytes()].concat();
    assert_eq!(scripted(Vec::new()), ErrorKind::Network);
    assert_eq!(scripted(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()), ErrorKind::Network);
    assert_eq!(scripted([&b"NBDMAGIC"[..], &[0; 200]].concat()), ErrorKind::Unsupported);
    assert_eq!(scripted(greeting.clone()), ErrorKind::Network);
    let reply = |option: u32, kind: u32, length: u32| {
        let mut message = 0x0003_e889_0455_65a9_u64.to_be_bytes().to_vec();
        for word in [option, kind, length] {
            message.extend_from_slice(&word.to_be_bytes());
        }
        message
    };
    assert_eq!(scripted([greeting.clone(), reply(8, 1, 0)].concat()), ErrorKind::Network);
    assert_eq!(scripted([greeting.clone(), reply(11, 1, u32::MAX)].concat()), ErrorKind::Network);
    let endless = std::iter::repeat_n([reply(7, 3, 2), vec![0, 9]].concat(), 200).flatten();
    let unsupported = [reply(11, 1 << 31 | 1, 0), reply(8, 1 << 31 | 1, 0)].concat();
    assert_eq!(scripted([greeting, unsupported].concat().into_iter().chain(endless).collect()), ErrorKind::Network);
}

#[test]
fn anything_comes_to_an_end() {
    let mut random = Random::new(11);
    let flags = 3_u32.to_be_bytes();
    let structured = option(8, &[]);
    let context = option(
        10,
        &[&0_u32.to_be_bytes()[..], &1_u32.to_be_bytes(), &15_u32.to_be_bytes(), b"base:allocation"].concat(),
    );
    let go = option(7, &[0; 6]);
    for round in 0..300_u64 {
        let mut input = [&flags[..], &structured, &context, &go].concat();
        for command in 0..8 {
            input.extend(request(u16::try_from(round % 16).expect("small"), command, round * 4000, 3000));
        }
        // Broken in a few places.
        for _ in 0..round % 7 {
            let at =
                usize::try_from(random.range(input.len() as u64, 2).start.min(input.len() as u64 - 1)).expect("inside");
            input[at] ^= 1 << (round % 8);
        }
        properties::nbd_server(&input);
        let mut answer = [&b"NBDMAGICIHAVEOPT"[..], &3_u16.to_be_bytes()].concat();
        answer.extend(random.bytes(400));
        properties::nbd_client(&answer);
    }
}

#[test]
fn every_property_holds_for_its_seeds_and_parts_of_them() {
    for property in properties::ALL {
        for seed in (property.seeds)() {
            for end in (0..seed.len()).step_by(17).chain([seed.len()]) {
                (property.holds)(&seed[..end]);
            }
        }
    }
}
