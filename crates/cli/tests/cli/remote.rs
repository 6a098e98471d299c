//! Images at addresses: read by every command, written to object stores, held to checksums, taken up again.

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};
use transload_testkit::{Corpus, Fault, HttpServer, ObjectServer};

use crate::run::{complaint, document, fail, noise, run, run_with_input, succeed, transload};

/// A disk with a boot sector's mark, data and zeroes.
fn disk() -> Vec<u8> {
    let mut bytes = noise(7 << 20);
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    bytes[1 << 20..3 << 20].fill(0);
    bytes
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A folder with the same disk in several formats, each also on a server.
fn images(folder: &Path, server: &HttpServer) {
    std::fs::write(folder.join("disk.raw"), disk()).unwrap();
    for name in ["disk.qcow2", "disk.vmdk", "disk.vhdx", "disk.raw.gz"] {
        succeed(folder, &["convert", "disk.raw", name, "-q"]);
    }
    succeed(folder, &["convert", "disk.raw", "stream.vmdk", "-o", "subformat=streamOptimized", "-q"]);
    for name in ["disk.raw", "disk.qcow2", "disk.vmdk", "disk.vhdx", "disk.raw.gz", "stream.vmdk"] {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        server.file(&format!("/{name}"), bytes.clone());
        server.faulty(&format!("/once/{name}"), bytes, Fault::NoRanges);
    }
}

#[test]
fn every_command_reads_an_address() {
    let (folder, server) = (tempfile::tempdir().unwrap(), HttpServer::start());
    let folder = folder.path();
    images(folder, &server);
    let digest = sha256(&disk());
    for name in ["disk.raw", "disk.qcow2", "disk.vmdk", "disk.vhdx", "disk.raw.gz", "stream.vmdk"] {
        let url = server.url(&format!("/{name}"));
        succeed(folder, &["convert", &url, "out.raw", "--force", "-q"]);
        assert_eq!(sha256(&std::fs::read(folder.join("out.raw")).unwrap()), digest, "{name}");
        succeed(folder, &["compare", &url, "disk.raw"]);
        assert!(succeed(folder, &["digest", &url]).starts_with(&digest), "{name}");
    }
    let url = server.url("/disk.qcow2");
    let info = document(folder, &["info", &url]);
    assert_eq!(
        (info["layers"][0]["format"].as_str(), info["layers"][0]["virtual-size"].as_u64()),
        (Some("qcow2"), Some(7 << 20))
    );
    succeed(folder, &["check", &url]);
    succeed(folder, &["measure", &url, "-O", "vmdk"]);
    let map = succeed(folder, &["map", &url]);
    assert_eq!(map.lines().filter(|line| line.contains(" data ")).count(), 2, "{map}");
    assert!(fail(folder, &["check", "--repair", &url], 1).contains("can be read, not changed"));
}

#[test]
fn a_server_without_ranges_is_read_once() {
    let (folder, server) = (tempfile::tempdir().unwrap(), HttpServer::start());
    let folder = folder.path();
    images(folder, &server);
    // Large enough that it is not kept in memory. What is packed does not say how long it will be.
    for (name, target) in [("disk.raw", "out.qcow2"), ("disk.raw.gz", "out.raw"), ("stream.vmdk", "out.vhdx")] {
        let url = server.url(&format!("/once/{name}"));
        succeed(folder, &["convert", &url, target, "-q"]);
        succeed(folder, &["compare", target, "disk.raw"]);
    }
    let url = server.url("/once/disk.qcow2");
    assert!(fail(folder, &["convert", &url, "not.raw"], 5).contains("--spool"));
    assert!(fail(folder, &["info", &url], 5).contains("knows no ranges"));
    succeed(folder, &["convert", "--spool", &url, "spooled.raw", "-q"]);
    succeed(folder, &["compare", "spooled.raw", "disk.raw"]);
    succeed(folder, &["digest", "--spool", &url]);
    assert!(!folder.join("not.raw").exists());
}

#[test]
fn what_is_no_disk_is_not_taken_for_one() {
    let (folder, server) = (tempfile::tempdir().unwrap(), HttpServer::start());
    let folder = folder.path();
    let untouched = |name: &str| assert!(!folder.join(name).exists() && litter(folder).is_empty(), "{name}");
    for (path, fault, code) in [
        ("/page", Fault::Page("text/html"), 9),
        ("/page-in-disguise", Fault::Page("application/octet-stream"), 9),
        ("/truncated", Fault::Truncated(6 << 20), 9),
        ("/forbidden", Fault::Status(403, usize::MAX), 9),
        ("/changing", Fault::ChangingTag, 9),
        ("/to-a-file", Fault::Redirect("file:///etc/passwd".to_owned()), 6),
    ] {
        server.faulty(path, disk(), fault);
        // Neither is what was declared raw.
        for declared in [&[][..], &["-f", "raw"]] {
            let url = server.url(path);
            fail(folder, &[&["convert", &url, "out.raw"], declared].concat(), code);
            untouched("out.raw");
        }
    }
    server.file("/words", noise(2 << 20));
    let said = fail(folder, &["convert", &server.url("/words"), "out.raw"], 2);
    assert!(said.contains("-f raw"), "{said}");
    untouched("out.raw");
    succeed(folder, &["convert", "-f", "raw", &server.url("/words"), "declared.raw", "-q"]);
    // What an image at an address names is not looked for here.
    std::fs::write(folder.join("base.raw"), disk()).unwrap();
    succeed(folder, &["create", "-O", "qcow2", "-o", "backing_file=base.raw,backing_fmt=raw", "top.qcow2", "7M"]);
    server.file("/top.qcow2", std::fs::read(folder.join("top.qcow2")).unwrap());
    fail(folder, &["convert", &server.url("/top.qcow2"), "out.raw"], 6);
}

/// What of an interrupted run is left.
fn litter(folder: &Path) -> Vec<String> {
    let names =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with('.')).collect()
}

#[test]
fn a_source_is_held_to_its_checksum() {
    let (folder, server) = (tempfile::tempdir().unwrap(), HttpServer::start());
    let folder = folder.path();
    images(folder, &server);
    let wrong = format!("sha256:{}", "0".repeat(64));
    for name in ["disk.raw", "disk.qcow2", "disk.vhdx", "disk.raw.gz", "stream.vmdk"] {
        let bytes = std::fs::read(folder.join(name)).unwrap();
        let right = format!("SHA256:{}", sha256(&bytes).to_uppercase());
        let mut sources = vec![server.url(&format!("/{name}")), name.to_owned()];
        if !matches!(name, "disk.qcow2" | "disk.vhdx") {
            sources.push(server.url(&format!("/once/{name}")));
        }
        for source in sources {
            succeed(folder, &["convert", "--checksum", &right, &source, "out.raw", "--force", "-q"]);
            succeed(folder, &["compare", "out.raw", "disk.raw"]);
            std::fs::remove_file(folder.join("out.raw")).unwrap();
            let said = fail(folder, &["convert", "--checksum", &wrong, &source, "out.raw"], 7);
            assert!(said.contains("must be sha256:0000"), "{said}");
            assert!(!folder.join("out.raw").exists() && litter(folder).is_empty(), "{source}: {:?}", litter(folder));
        }
    }
    let piped = |checksum: &str| run_with_input(folder, &["convert", "--checksum", checksum, "-", "out.raw"], &disk());
    assert_eq!(piped(&wrong).status.code(), Some(7));
    assert!(!folder.join("out.raw").exists());
    let output = piped(&format!("sha256:{}", sha256(&disk())));
    assert!(output.status.success(), "{}", complaint(&output));
    for malformed in ["sha256", "sha256:12", "crc32:00000000", &"0".repeat(64)] {
        fail(folder, &["convert", "--checksum", malformed, "disk.raw", "x.raw"], 2);
    }
}

#[test]
fn real_images_come_over_the_network_as_they_are() {
    let Some(corpus) = Corpus::get() else { return };
    let (folder, server) = (tempfile::tempdir().unwrap(), HttpServer::start());
    server.delay(Duration::from_millis(5));
    let mut seen = 0;
    for entry in &corpus.entries {
        let file = corpus.file(entry);
        let Some(digest) = &entry.sha256 else { continue };
        let Ok(length) = std::fs::metadata(&file).map(|metadata| metadata.len()) else { continue };
        if length > 6 << 20 || entry.virtual_size.is_none_or(|size| size > 64 << 20) {
            continue;
        }
        let local = run(folder.path(), &["digest", &file.to_string_lossy()]);
        if !local.status.success() || !String::from_utf8_lossy(&local.stdout).starts_with(digest.as_str()) {
            // A part of a set, or one that is declared rather than told.
            continue;
        }
        let path = format!("/{}", file.file_name().unwrap().to_string_lossy().replace([' ', '#', '%', '?'], "_"));
        server.file(&path, std::fs::read(&file).unwrap());
        let remote = run(folder.path(), &["digest", &server.url(&path)]);
        if !remote.status.success() && matches!(remote.status.code(), Some(2 | 6)) {
            // What a server's raw bytes have to look like, and what an image names, is asked elsewhere.
            continue;
        }
        assert!(String::from_utf8_lossy(&remote.stdout).starts_with(digest.as_str()), "{path}: {}", complaint(&remote));
        seen += 1;
        if seen == 12 {
            break;
        }
    }
    assert!(seen > 3, "{seen} images of the corpus were small enough");
}

/// The program with what the stores' clients are told by the environment.
fn with_store(folder: &Path, settings: &[(String, String)], arguments: &[&str]) -> Output {
    let mut command = transload(folder, arguments);
    for (name, value) in settings {
        command.env(name.to_uppercase(), value);
    }
    command.output().unwrap()
}

#[test]
fn a_conversion_goes_into_an_object_store() {
    let (folder, server) = (tempfile::tempdir().unwrap(), ObjectServer::s3());
    let folder = folder.path();
    let settings = server.s3_settings();
    let must = |arguments: &[&str]| {
        let output = with_store(folder, &settings, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", complaint(&output));
        output
    };
    std::fs::write(folder.join("disk.raw"), disk()).unwrap();
    let targets: [(&str, &[&str]); 6] = [
        ("disk.raw", &[]),
        ("disk.qcow2", &[]),
        ("packed.qcow2", &["-c"]),
        ("disk.vhdx", &["--verify"]),
        ("disk.vhd", &["-o", "subformat=fixed"]),
        ("disk.vmdk", &["-o", "subformat=streamOptimized"]),
    ];
    for (name, options) in targets {
        let address = format!("s3://testbucket/images/{name}");
        must(&[&["convert", "disk.raw", &address], options].concat());
        must(&["compare", &address, "disk.raw"]);
        // QEMU's own opinion of what arrived.
        must(&["convert", "-f", "raw", &address, name, "-O", "raw", "--force", "-q"]);
        let format = name.rsplit('.').next().unwrap().replace("vhd", "vpc").replace("vpcx", "vhdx");
        let compared = Command::new("qemu-img")
            .current_dir(folder)
            .args(["compare", "-f", &format, "-F", "raw", name, "disk.raw"])
            .output()
            .expect("qemu-img is needed as a witness: install qemu-utils");
        // A fixed VHD is as long as its geometry, or says its own size: content is what counts.
        assert!(
            compared.status.success(),
            "{name}: {}{}",
            complaint(&compared),
            String::from_utf8_lossy(&compared.stdout)
        );
        let again = with_store(folder, &settings, &[&["convert", "disk.raw", &address], options].concat());
        assert_eq!(again.status.code(), Some(6), "{}", complaint(&again));
        if name == "disk.raw" {
            std::fs::write(folder.join("disk.raw"), disk()).unwrap();
        }
    }
    let length = std::fs::metadata(folder.join("disk.vhd")).unwrap().len();
    assert!(length.is_multiple_of(512));
    // A source that fails half way leaves nothing under the name, and no parts.
    let http = HttpServer::start();
    http.faulty("/broken", disk(), Fault::Truncated(6 << 20));
    let output =
        with_store(folder, &settings, &["convert", "-f", "raw", &http.url("/broken"), "s3://testbucket/broken.raw"]);
    assert_eq!(output.status.code(), Some(9), "{}", complaint(&output));
    assert!(!server.s3_contents().contains("broken"), "{}", server.s3_contents());
}

#[test]
fn an_ova_goes_to_a_store_and_comes_back() {
    let (folder, server) = (tempfile::tempdir().unwrap(), ObjectServer::s3());
    let folder = folder.path();
    let settings = server.s3_settings();
    let must = |arguments: &[&str]| {
        let output = with_store(folder, &settings, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", complaint(&output));
    };
    std::fs::write(folder.join("disk.raw"), disk()).unwrap();
    let address = "s3://testbucket/vm.ova";
    must(&["export", "--disk", "disk.raw", "--cpus", "1", "--memory", "512M", "-o", address]);
    must(&["validate", address]);
    must(&["info", address]);
    must(&["import", address, "-o", "vm", "--to", "raw"]);
    let made = std::fs::read_dir(folder.join("vm")).unwrap().map(|entry| entry.unwrap().path());
    let made = made.filter(|path| path.extension().is_some_and(|ending| ending == "raw")).collect::<Vec<_>>();
    assert_eq!(made.len(), 1, "{made:?}");
    must(&["compare", "disk.raw", &made[0].to_string_lossy()]);
}

#[test]
fn a_killed_conversion_goes_on_where_it_was() {
    const SIZE: usize = 160 << 20;
    let (folder, server) = (tempfile::tempdir().unwrap(), HttpServer::start());
    let folder = folder.path();
    let mut bytes = noise(1 << 20).repeat(SIZE >> 20);
    bytes[510..512].copy_from_slice(&[0x55, 0xaa]);
    for (number, piece) in bytes.chunks_mut(1 << 20).enumerate() {
        piece[..8].copy_from_slice(&number.to_le_bytes());
    }
    std::fs::write(folder.join("disk.raw"), &bytes).unwrap();
    server.file("/disk.raw", bytes);
    server.delay(Duration::from_millis(300));
    let url = server.url("/disk.raw");
    let arguments = ["convert", "--resume", &url, "out.qcow2"];
    let mut child = transload(folder, &arguments).stderr(Stdio::null()).spawn().unwrap();
    let checkpoint = folder.join(".out.qcow2.resume/transload.checkpoint");
    let started = Instant::now();
    while !checkpoint.exists() {
        assert!(started.elapsed() < Duration::from_secs(240) && child.try_wait().unwrap().is_none());
        thread::sleep(Duration::from_millis(20));
    }
    // SIGKILL: nothing is cleaned up.
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!folder.join("out.qcow2").exists());
    server.delay(Duration::ZERO);
    let before = server.sent();
    let output = run(folder, &arguments);
    assert!(output.status.success(), "{}", complaint(&output));
    assert!(complaint(&output).contains("went on at"), "{}", complaint(&output));
    let sent = server.sent() - before;
    assert!(sent < (SIZE as u64) - (16 << 20), "{sent} bytes were read again");
    assert!(litter(folder).is_empty(), "{:?}", litter(folder));
    succeed(folder, &["compare", "out.qcow2", "disk.raw"]);
    let check = Command::new("qemu-img").current_dir(folder).args(["check", "out.qcow2"]).output();
    let check = check.expect("qemu-img is needed as a witness: install qemu-utils");
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
}

#[test]
fn a_checkpoint_of_another_source_is_not_gone_on_with() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("disk.raw"), disk()).unwrap();
    let hidden = folder.join(".out.qcow2.resume");
    std::fs::create_dir(&hidden).unwrap();
    std::fs::write(hidden.join("transload.checkpoint"), "transload checkpoint 1\nsomething else\n0\n").unwrap();
    std::fs::write(hidden.join("out.qcow2"), "what was there").unwrap();
    let output = run(folder, &["convert", "--resume", "--verify", "--digest", "sha256", "disk.raw", "out.qcow2"]);
    assert!(output.status.success(), "{}", complaint(&output));
    assert!(complaint(&output).contains("began anew"), "{}", complaint(&output));
    assert!(String::from_utf8_lossy(&output.stdout).starts_with(&sha256(&disk())));
    succeed(folder, &["compare", "out.qcow2", "disk.raw"]);
    assert!(litter(folder).is_empty());
    for refused in [
        &["convert", "--resume", "-c", "disk.raw", "x.qcow2"][..],
        &["convert", "--resume", "disk.raw", "x.vmdk", "-o", "subformat=streamOptimized"],
    ] {
        assert!(fail(folder, refused, 5).contains("taken up again"), "{refused:?}");
    }
    fail(folder, &["convert", "--resume", "-", "x.raw"], 2);
}
