//! Uploads, exports and imports in one pass.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;
use transload_testkit::{Corpus, witness};

use crate::server::Server;

/// A raw disk of `size` bytes with some data in it.
fn raw(path: &Path, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    for (index, piece) in bytes.chunks_mut(4096).enumerate().filter(|(index, _)| index % 7 != 0) {
        let mut state = index as u64 + 1;
        for byte in piece {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            *byte = (state >> 33).to_le_bytes()[0];
        }
    }
    fs::write(path, &bytes).expect("a part of the test's own setting");
    bytes
}

fn sha256(path: &Path) -> String {
    witness::must("sha256sum", [path]).split(' ').next().expect("a part of the test's own setting").to_owned()
}

/// The SHA-256 of what a guest sees in an image, as QEMU reads it.
fn guest_sha256(server: &Server, image: &Path, format: &str) -> String {
    let plain = server.folder.path().join("plain.raw");
    witness::convert(image, format, &plain, "raw", "");
    sha256(&plain)
}

#[test]
fn an_upload_becomes_every_format_and_qemu_reads_what_was_sent() {
    let server = Server::start();
    let source = server.folder.path().join("source.raw");
    raw(&source, 3 << 20);
    let expected = sha256(&source);
    for format in ["qcow2", "vmdk", "vhd", "vhdx", "vdi", "raw"] {
        let answer = server.post_file(&format!("/upload?dst={format}&name=out/{format}.img"), &source);
        assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
        let done = answer.json();
        assert_eq!(done["output"], format!("out/{format}.img"));
        assert_eq!(done["capacityBytes"], 3 << 20, "{done}");
        assert_eq!((done["sourceFormat"].as_str(), done["format"].as_str()), (Some("raw"), Some(format)));
        assert_eq!(done["digest"]["hex"], expected);
        assert!(done["writtenBytes"].as_u64().unwrap() > 1 << 20 && done["elapsedSeconds"].is_number());
        let image = server.root().join(format!("out/{format}.img"));
        assert_eq!(guest_sha256(&server, &image, format), expected, "{format}");
    }
    assert_eq!(Server::names(&server.root().join("out")).len(), 6);
    assert!(Server::names(&server.state().join("spool")).is_empty());
}

#[test]
fn a_form_is_taken_and_its_file_names_the_image() {
    let server = Server::start();
    let source = server.folder.path().join("web disk.raw");
    raw(&source, 1 << 20);
    let form = format!("file=@{}", source.display());
    let answer = server.curl("/upload?dst=qcow2", &["-F", &form]);
    assert_eq!((answer.status, answer.json()["output"].as_str()), (201, Some("web disk.qcow2")));
    let answer = server.curl("/upload?dst=qcow2&name=b.qcow2&size=1048576", &["-F", &form]);
    assert_eq!(answer.status, 201, "{:?}", answer.json());
    let answer = server.curl("/upload?dst=qcow2&name=c.qcow2&size=1048575", &["-F", &form]);
    assert_eq!((answer.status, answer.kind().as_str()), (413, "too-large"));
    let answer = server.curl("/upload?dst=qcow2&name=c.qcow2", &["-F", "other=1"]);
    assert_eq!((answer.status, answer.kind().as_str()), (400, "invalid-input"));
    assert_eq!(guest_sha256(&server, &server.root().join("b.qcow2"), "qcow2"), sha256(&source));
    assert_eq!(Server::names(&server.root()), ["b.qcow2", "web disk.qcow2"]);
}

#[test]
fn real_images_go_up_and_come_down_with_the_digest_of_the_table() {
    let Some(corpus) = Corpus::get() else { return };
    const MOST: u64 = 64 << 20;
    let server = Server::start();
    let mut done = 0;
    for format in ["qcow2", "vmdk", "vhd", "vhdx", "vdi"] {
        let small = |entry: &&transload_testkit::corpus::Entry| {
            let length = fs::metadata(corpus.file(entry)).map_or(u64::MAX, |file| file.len());
            entry.sha256.is_some() && entry.virtual_size.is_some_and(|size| size <= MOST) && length <= MOST
        };
        for entry in corpus.of_format(format).filter(small).take(3) {
            let (file, name) = (corpus.file(entry), format!("{format}-{done}.raw"));
            let answer = server.post_file(&format!("/upload?src={format}&dst=raw&name={name}"), &file);
            if answer.status != 201 {
                // Images that hang from others, or use what is not handled, are in the table too.
                assert!(
                    ["unsupported", "denied", "corrupt"].contains(&answer.kind().as_str()),
                    "{}: {answer:?}",
                    entry.path
                );
                continue;
            }
            assert_eq!(answer.json()["digest"]["hex"].as_str(), entry.sha256.as_deref(), "{}", entry.path);
            let back = server.folder.path().join("back.qcow2");
            let answer = server.curl(&format!("/export?path={name}&dst=qcow2"), &["-o", &back.to_string_lossy()]);
            assert_eq!((answer.status, answer.code), (200, 0), "{}", entry.path);
            assert_eq!(Some(guest_sha256(&server, &back, "qcow2")), entry.sha256, "{}", entry.path);
            done += 1;
        }
    }
    assert!(done >= 5, "{done} images of the corpus were small enough");
}

#[test]
fn an_export_streams_every_format_and_names_the_download() {
    let server = Server::start();
    let source = server.root().join("disk a.raw");
    raw(&source, 2 << 20);
    let expected = sha256(&source);
    for format in ["raw", "qcow2", "vmdk", "vhd", "vhdx", "vdi"] {
        let file: PathBuf = server.folder.path().join("download");
        let route = format!("/export?path=disk%20a.raw&src=raw&dst={format}");
        let answer = server.curl(&route, &["-o", &file.to_string_lossy()]);
        assert_eq!((answer.status, answer.code), (200, 0), "{format}: {}", answer.headers);
        assert!(answer.headers.contains("attachment; filename=\"disk_a."), "{}", answer.headers);
        assert!(answer.headers.contains("x-transload-capacity-bytes: 2097152"), "{}", answer.headers);
        assert_eq!(guest_sha256(&server, &file, format), expected, "{format}");
    }
    let head = server.curl("/export?path=disk%20a.raw&dst=qcow2", &["-I"]);
    assert_eq!((head.status, head.body.len()), (200, head.headers.len()));
    assert!(Server::names(&server.state().join("spool")).is_empty());
}

#[test]
fn an_error_after_the_first_byte_breaks_the_connection_off_and_is_in_the_list() {
    let server = Server::start();
    let (plain, packed) = (server.folder.path().join("plain.raw"), server.root().join("packed.qcow2"));
    raw(&plain, 24 << 20);
    witness::qemu_img(
        [&b"convert"[..], b"-c", b"-f", b"raw", b"-O", b"qcow2"]
            .map(|word| {
                use std::os::unix::ffi::OsStrExt;
                std::ffi::OsStr::from_bytes(word)
            })
            .into_iter()
            .chain([plain.as_os_str(), packed.as_os_str()]),
    );
    // The last packed clusters are damaged; the first are sound.
    let mut bytes = fs::read(&packed).unwrap();
    let from = bytes.len() - (2 << 20);
    let to = from + (80 << 10);
    bytes[from..to].fill(0xA5);
    fs::write(&packed, bytes).unwrap();
    let answer = server.get("/export?path=packed.qcow2&dst=raw");
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    assert_eq!(answer.code, 18, "curl calls it partial");
    assert!(answer.body.len() < 24 << 20);
    let jobs = server.get("/v1/jobs?state=failed").json();
    assert_eq!(jobs["jobs"][0]["streamed"], true, "{jobs}");
    assert_eq!(jobs["jobs"][0]["request"]["source"]["path"], "packed.qcow2");
    assert!(jobs["jobs"][0]["error"]["message"].as_str().unwrap().contains("compressed cluster"), "{jobs}");
    assert!(!jobs.to_string().contains(&*server.root().to_string_lossy()), "the host's folders are told: {jobs}");
    let metrics = String::from_utf8(server.get("/metrics").body).unwrap();
    assert!(metrics.contains("transload_conversions_total{outcome=\"corrupt\",route=\"/export\"} 1"), "{metrics}");
}

#[test]
fn a_failure_before_the_first_byte_has_its_own_status() {
    let server = Server::start();
    fs::write(server.root().join("broken.qcow2"), b"QFI\xfb\0\0\0\x03 and nothing more").unwrap();
    let answer = server.get("/export?path=broken.qcow2&dst=raw");
    assert_eq!((answer.status, answer.code), (422, 0));
    assert_eq!(answer.kind(), "corrupt");
    assert_eq!(server.get("/export?path=missing&dst=raw").status, 404);
    assert_eq!(server.get("/export?path=broken.qcow2&dst=nonsense").status, 400);
    assert_eq!(server.get("/export?dst=raw").kind(), "invalid-input");
}

#[test]
fn an_upload_that_breaks_off_leaves_nothing() {
    let server = Server::start();
    let mut stream = server.connect();
    write!(
        stream,
        "POST /upload?src=raw&dst=raw&name=half.raw HTTP/1.1\r\nHost: {}\r\nContent-Length: 8388608\r\n\r\n",
        server.address
    )
    .unwrap();
    stream.write_all(&vec![7; 4 << 20]).unwrap();
    drop(stream);
    Server::until(|| server.get("/v1/jobs?state=failed").json()["jobs"].as_array().is_some_and(|jobs| jobs.len() == 1));
    Server::until(|| Server::names(&server.root()).is_empty());
    let jobs = server.get("/v1/jobs").json();
    assert_eq!(jobs["jobs"][0]["error"]["kind"], "network", "{jobs}");
}

#[test]
fn a_declared_format_is_never_doubted_and_an_ambiguous_body_is_refused() {
    let server = Server::start();
    let image = server.folder.path().join("disk.qcow2");
    witness::create(&image, "qcow2", "", 1 << 20);
    let answer = server.post_file("/upload?src=raw&dst=raw&name=as-raw.img", &image);
    assert_eq!(answer.json()["capacityBytes"], fs::metadata(&image).unwrap().len());
    assert_eq!(fs::read(server.root().join("as-raw.img")).unwrap(), fs::read(&image).unwrap());
    let answer = server.post_file("/upload?src=vmdk&dst=raw&name=as-vmdk.img", &image);
    assert_eq!((answer.status, answer.kind().as_str()), (422, "not-this-format"));
    let answer = server.post_file("/upload?dst=raw&name=detected.img", &image);
    assert_eq!(answer.json()["sourceFormat"], "qcow2");
    // A fixed VHD looks like a raw disk until its last sector.
    let fixed = server.folder.path().join("fixed.vhd");
    witness::create(&fixed, "vhd", "subformat=fixed", 1 << 20);
    let answer = server.post_file("/upload?dst=raw&name=fixed.img", &fixed);
    assert_eq!((answer.status, answer.kind().as_str()), (400, "invalid-input"), "{answer:?}");
    assert!(answer.json()["error"]["remedy"].as_str().unwrap().contains("src"));
    assert_eq!(server.post_file("/upload?src=vhd&dst=raw&name=fixed.img", &fixed).status, 201);
    assert_eq!(Server::names(&server.root()), ["as-raw.img", "detected.img", "fixed.img"]);
}

#[test]
fn compressed_bodies_are_unpacked_on_the_way() {
    let server = Server::start();
    let plain = server.folder.path().join("disk.raw");
    raw(&plain, 2 << 20);
    let expected = sha256(&plain);
    for (program, ending) in [("gzip", "gz"), ("xz", "xz"), ("zstd", "zst")] {
        let plain = plain.to_string_lossy().into_owned();
        witness::must(program, ["-kf", &plain]);
        let packed = PathBuf::from(format!("{plain}.{ending}"));
        for target in ["raw", "qcow2"] {
            let answer = server.post_file(&format!("/upload?dst={target}&name={ending}.{target}"), &packed);
            assert_eq!(answer.status, 201, "{ending}: {:?}", answer.json());
            assert_eq!(answer.json()["digest"]["hex"], expected, "{ending} {target}");
        }
    }
    // What is inside has to be read at any place: it is stored, and unpacked there.
    let image = server.folder.path().join("inner.qcow2");
    witness::convert(&plain, "raw", &image, "qcow2", "");
    witness::must("gzip", ["-kf", &*image.to_string_lossy()]);
    let answer = server.post_file("/upload?dst=raw&name=inner.raw", &image.with_extension("qcow2.gz"));
    assert_eq!(answer.json()["digest"]["hex"], expected, "{:?}", answer.json());
}

#[test]
fn a_target_that_is_there_is_replaced_only_when_asked() {
    let server = Server::start();
    let source = server.folder.path().join("source.raw");
    raw(&source, 1 << 20);
    fs::write(server.root().join("there.qcow2"), b"precious").unwrap();
    let answer = server.post_file("/upload?name=there.qcow2", &source);
    assert_eq!((answer.status, answer.kind().as_str()), (409, "conflict"));
    assert_eq!(fs::read(server.root().join("there.qcow2")).unwrap(), b"precious");
    assert_eq!(server.post_file("/upload?name=there.qcow2&force=true", &source).status, 201);
    assert_ne!(fs::read(server.root().join("there.qcow2")).unwrap(), b"precious");
}

#[test]
fn an_import_fetches_an_address_that_the_policy_lets_it() {
    let origin = Server::start();
    raw(&origin.root().join("disk.raw"), 2 << 20);
    let here = "127.0.0.0/8".parse().unwrap();
    let server = Server::with(|config| config.addresses = transload::remote::Policy::Allow(vec![here]));
    let from = origin.url("/v1/files/content?path=disk.raw").replace('?', "%3F").replace('&', "%26");
    let answer = server.get(&format!("/import?url={from}&src=raw&name=in/disk.qcow2"));
    assert_eq!(answer.status, 201, "{:?}", answer.json());
    assert_eq!(answer.json()["digest"]["hex"], sha256(&origin.root().join("disk.raw")));
    let answer = server.curl(&format!("/import?url={from}&src=raw&dst=vmdk&name=two.vmdk"), &["-X", "POST"]);
    assert_eq!(answer.status, 201, "{:?}", answer.json());
    // A page is no disk.
    let page = origin.url("/docs");
    let answer = server.get(&format!("/import?url={page}&name=page.qcow2"));
    assert!(answer.status >= 400, "{:?}", answer.json());
    assert_eq!(Server::names(&server.root()), ["in", "two.vmdk"]);
}

#[test]
fn bytes_are_the_same_whatever_way_they_came() {
    let server = Server::start();
    let source = server.folder.path().join("source.raw");
    raw(&source, 5 << 20);
    let chunked = server.curl(
        "/upload?src=raw&dst=qcow2&name=chunked.qcow2",
        &["-X", "POST", "-H", "transfer-encoding: chunked", "-T", &source.to_string_lossy()],
    );
    let sized = server.post_file("/upload?src=raw&dst=qcow2&name=sized.qcow2", &source);
    let without_time = |mut value: Value| {
        value["elapsedSeconds"] = Value::Null;
        value["output"] = Value::Null;
        value
    };
    assert_eq!(without_time(chunked.json()), without_time(sized.json()));
    assert_eq!(guest_sha256(&server, &server.root().join("chunked.qcow2"), "qcow2"), sha256(&source));
    let mut body = Vec::new();
    fs::File::open(server.root().join("sized.qcow2")).unwrap().read_to_end(&mut body).unwrap();
    assert!(server.get("/v1/files/content?path=sized.qcow2").body == body);
}
