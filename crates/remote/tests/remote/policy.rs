//! Which connections are made, with names that are looked up in a table: all servers are on the loopback interface.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use transload_block::ErrorKind;
use transload_remote::{Lookup, Options, Policy, Remote, open};
use transload_testkit::{Fault, HttpServer};

use crate::{quick, sample};

/// Names and their addresses; each time a name is asked for, the next of its answers.
#[derive(Debug, Default)]
struct Names {
    table: HashMap<&'static str, Vec<&'static str>>,
    asked: AtomicUsize,
    log: Mutex<Vec<String>>,
}

impl Lookup for Names {
    fn lookup(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        self.log.lock().unwrap().push(host.to_owned());
        let answers = self.table.get(host).ok_or_else(|| io::Error::other("no such name"))?;
        let turn = self.asked.fetch_add(1, Ordering::Relaxed).min(answers.len() - 1);
        Ok(answers[turn].split(' ').map(|address| address.parse().unwrap()).collect())
    }
}

fn options(policy: Policy, table: &[(&'static str, &[&'static str])]) -> (Options, Arc<Names>) {
    let table = table.iter().map(|(host, answers)| (*host, answers.to_vec())).collect();
    let names = Arc::new(Names { table, ..Names::default() });
    (Options { policy, lookup: Some(Arc::clone(&names) as Arc<dyn Lookup>), ..quick() }, names)
}

fn rules(texts: &[&str]) -> Vec<transload_remote::Rule> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn names_that_lead_inside_are_refused() {
    let server = HttpServer::start();
    server.file("/disk", sample(9000));
    let inside =
        ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fd00::1", "100.64.0.1", "0.0.0.0"];
    for address in inside {
        let (options, _) = options(Policy::Public, &[("evil.example", &[address])]);
        let error = open(&format!("http://evil.example:{}/disk", server.port()), &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{address}: {error}");
    }
    assert_eq!(server.requests(), 0);
    let error = open(&server.url("/disk"), &options(Policy::Public, &[]).0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!(server.requests(), 0);
}

#[test]
fn what_is_allowed_by_name_or_network_is_reached() {
    let server = HttpServer::start();
    server.file("/disk", sample(9000));
    let address: &[(&str, &[&str])] = &[("store.lab", &["127.0.0.1"])];
    let url = format!("http://store.lab:{}/disk", server.port());
    for policy in [Policy::Open, Policy::Allow(rules(&["store.lab"])), Policy::Only(rules(&["127.0.0.0/8"]))] {
        assert!(open(&url, &options(policy.clone(), address).0).is_ok(), "{policy:?}");
    }
    for policy in
        [Policy::Public, Policy::Allow(rules(&["other.lab", "10.0.0.0/8"])), Policy::Only(rules(&["8.8.8.0/24"]))]
    {
        let error = open(&url, &options(policy.clone(), address).0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{policy:?}");
    }
}

#[test]
fn a_name_with_two_faces_is_connected_to_where_it_was_checked() {
    let server = HttpServer::start();
    server.file("/disk", sample(9000));
    // Of several addresses, those that are not allowed are never tried: the server would have answered.
    let (mixed, _) = options(Policy::Only(rules(&["127.0.0.9"])), &[("mixed.example", &["127.0.0.1 127.0.0.9"])]);
    let error = open(&format!("http://mixed.example:{}/disk", server.port()), &mixed).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network, "{error}");
    assert_eq!(server.requests(), 0);
    // An answer that changes between two connections is checked again with each of them.
    server.file("/large", sample(3 << 20));
    let faces: &[&str] = &["127.0.0.2", "127.0.0.1"];
    let (rebound, names) = options(Policy::Only(rules(&["127.0.0.2"])), &[("rebound.example", faces)]);
    let url = format!("http://rebound.example:{}/large", server.port());
    let outcome = open(&url, &rebound).and_then(|remote| match remote {
        Remote::Disk(disk) => transload_block::BlockReadExt::read_vec(&disk, 2 << 20, 4096).map(drop),
        Remote::Stream(_) => Ok(()),
    });
    let error = outcome.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Denied | ErrorKind::Network), "{error}");
    assert!(names.log.lock().unwrap().len() > 1);
    assert_eq!(server.requests(), 0, "the server listens on 127.0.0.1 alone, which was never allowed");
}

#[test]
fn every_hop_is_checked() {
    let (first, second) = (HttpServer::start(), HttpServer::start());
    second.file("/disk", sample(9000));
    let port = second.port();
    let places = [
        format!("http://127.0.0.1:{port}/disk"),
        format!("http://2130706433:{port}/disk"),
        format!("http://0x7f.1:{port}/disk"),
        format!("http://[::ffff:127.0.0.1]:{port}/disk"),
        format!("http://inside.example:{port}/disk"),
        format!("//127.0.0.1:{port}/disk"),
        "http://169.254.169.254/latest/meta-data/".to_owned(),
        "file:///etc/passwd".to_owned(),
        "ftp://127.0.0.1/x".to_owned(),
    ];
    for place in places {
        first.faulty("/start", "", Fault::Redirect(place.clone()));
        let table: &[(&str, &[&str])] = &[("start.example", &["127.0.0.1"]), ("inside.example", &["127.0.0.1"])];
        let (options, _) = options(Policy::Allow(rules(&["start.example"])), table);
        let error = open(&format!("http://start.example:{}/start", first.port()), &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{place}: {error}");
    }
    assert_eq!(second.requests(), 0);
    // The same way, where the second name is allowed as well.
    first.faulty("/start", "", Fault::Redirect(format!("http://inside.example:{port}/disk")));
    let table: &[(&str, &[&str])] = &[("start.example", &["127.0.0.1"]), ("inside.example", &["127.0.0.1"])];
    let (options, _) = options(Policy::Allow(rules(&[".example"])), table);
    assert!(open(&format!("http://start.example:{}/start", first.port()), &options).is_ok());
}
