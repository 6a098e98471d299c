//! Object stores by other makers: what is written arrives whole or not at all, and what is read is what is there.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use transload_block::{BlockRead, ErrorKind, Memory};
use transload_remote::{Credentials, Limits, Options, Remote, RemoteDisk, Stop, UploadSettings, create, open};
use transload_testkit::{ObjectServer, conformance};

use crate::{quick, sample};

fn options(settings: Vec<(String, String)>) -> Options {
    let limits = Limits { part_bytes: 5 << 20, ..quick().limits };
    Options { limits, credentials: Credentials { object_store: settings, ..Credentials::none() }, ..quick() }
}

fn disk(address: &str, options: &Options) -> RemoteDisk {
    match open(address, options).unwrap() {
        Remote::Disk(disk) => disk,
        Remote::Stream(stream) => unreachable!("{stream:?} comes once"),
    }
}

fn put(address: &str, bytes: &[u8], force: bool, options: &Options) -> transload_block::Result<u64> {
    let upload = create(address, &UploadSettings { force, expected: None }, options)?;
    let mut writer = upload.writer();
    for piece in bytes.chunks(999_999) {
        writer.write_all(piece).unwrap();
    }
    upload.finish()
}

/// The life of an object in any store.
fn life(address: &str, options: &Options) {
    let bytes = sample((12 << 20) + 5);
    assert_eq!(put(address, &bytes, false, options).unwrap(), bytes.len() as u64);
    let found = disk(address, options);
    assert_eq!(found.size(), bytes.len() as u64);
    assert!(found.origin().fingerprint().is_some());
    let mut all = vec![0; bytes.len()];
    found.read_at(&mut all, 0).unwrap();
    assert!(all == bytes);
    // Neither a small object nor a large one replaces it without leave.
    for length in [100, 6 << 20] {
        let error = put(address, &sample(length), false, options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    }
    // An upload that is given up leaves what was there.
    let upload = create(address, &UploadSettings { force: true, expected: None }, options).unwrap();
    upload.writer().write_all(&vec![1; 11 << 20]).unwrap();
    drop(upload);
    assert_eq!(disk(address, options).size(), bytes.len() as u64);
    // What changes while it is read is no longer the same.
    let small = sample(3_000_000);
    put(address, &small, true, options).unwrap();
    let error = found.read_at(&mut all[..10], 9 << 20).err();
    assert!(error.is_none_or(|error| error.kind() == ErrorKind::Network));
    conformance::read(&disk(address, options), &Memory::from(small)).assert();
    let missing = open(&format!("{address}.not"), options).unwrap_err();
    assert!(missing.to_string().ends_with("not found"), "{missing}");
}

#[test]
fn s3_keeps_what_it_is_given() {
    let server = ObjectServer::s3();
    let options = options(server.s3_settings());
    life("s3://testbucket/folder/disk%20one.raw", &options);
    assert_eq!(server.s3_contents(), "folder/disk one.raw\n", "nothing else is left, no upload that was begun either");
    let error = open("s3://testbucket/", &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    let error = open("s3://no-such-bucket/x", &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Network, "{error}");
}

#[test]
fn what_changes_in_the_store_is_noticed() {
    let server = ObjectServer::s3();
    let options = options(server.s3_settings());
    let bytes = sample(9 << 20);
    put("s3://testbucket/disk", &bytes, false, &options).unwrap();
    let opened = disk("s3://testbucket/disk", &options);
    let mut other = bytes.clone();
    other[8 << 20] ^= 1;
    put("s3://testbucket/disk", &other, true, &options).unwrap();
    let error = opened.read_at(&mut [0; 10], 8 << 20).unwrap_err();
    assert!(error.to_string().contains("changed in the store"), "{error}");
}

#[test]
fn googles_store_keeps_what_it_is_given() {
    let server = ObjectServer::s3();
    let options = options(server.gcs_settings());
    let bytes = sample((7 << 20) + 1);
    put("gs://testbucket/disk.raw", &bytes, false, &options).unwrap();
    let found = disk("gs://testbucket/disk.raw", &options);
    conformance::read(&found, &Memory::from(bytes)).assert();
    let error = put("gs://testbucket/disk.raw", &sample(10), false, &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
}

#[test]
fn azure_keeps_what_it_is_given() {
    let server = ObjectServer::azure();
    let options = options(server.azure_settings());
    life("az://testbucket/folder/disk.vhd", &options);
    // The same blob by a signed address.
    let Remote::Disk(signed) = open(&server.azure_url("folder/disk.vhd"), &quick()).unwrap() else { unreachable!() };
    assert_eq!(signed.size(), 3_000_000);
    assert!(!signed.origin().shown.contains("sig="), "{}", signed.origin().shown);
}

#[test]
fn an_upload_that_is_stopped_leaves_no_parts() {
    let server = ObjectServer::s3();
    let asked = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&asked);
    let stop = Stop::when(move || seen.load(Ordering::Relaxed));
    let options = Options { stop, ..options(server.s3_settings()) };
    let upload = create("s3://testbucket/disk", &UploadSettings::default(), &options).unwrap();
    let mut writer = upload.writer();
    writer.write_all(&sample(6 << 20)).unwrap();
    assert_eq!(server.s3_contents(), "disk\n", "a part is there, unseen");
    asked.store(true, Ordering::Relaxed);
    assert_eq!(upload.finish().unwrap_err().kind(), ErrorKind::Cancelled);
    assert_eq!(server.s3_contents(), "");
    assert!(writer.write_all(&[1]).is_err());
}
