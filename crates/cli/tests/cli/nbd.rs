//! `transload nbd`, seen by other makers' clients, and NBD addresses as images.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::run::{complaint, document, fail, succeed, transload};

/// A disk with something on it.
fn disk(folder: &Path, name: &str) {
    let mut bytes = vec![0; 3_000_320];
    for (at, byte) in bytes.iter_mut().enumerate().skip(700_000).take(900_000) {
        *byte = u8::try_from(at % 251).expect("small");
    }
    std::fs::write(folder.join(name), bytes).expect("a file");
}

/// A server, and the address that it printed.
struct Serving {
    child: Child,
    address: String,
}

impl Serving {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut child = transload(folder, &[&["nbd"], arguments].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program");
        let mut address = String::new();
        let stdout = child.stdout.take().expect("a pipe");
        BufReader::new(stdout).read_line(&mut address).expect("the address");
        Self { child, address: address.trim_end().to_owned() }
    }

    /// Ends it as an operator would, and returns what it said.
    fn end(mut self) -> String {
        let killed = Command::new("kill").arg(self.child.id().to_string()).status().expect("kill");
        assert!(killed.success());
        let mut said = String::new();
        self.child.stderr.take().expect("a pipe").read_to_string(&mut said).expect("text");
        let status = self.child.wait().expect("an end");
        assert_eq!(status.code(), Some(0), "{said}");
        said
    }
}

fn qemu_img(folder: &Path, arguments: &[&str]) {
    let output = Command::new("qemu-img").current_dir(folder).args(arguments).output();
    let output = output.expect("qemu-img is needed as a witness: install qemu-utils");
    assert!(output.status.success(), "{arguments:?}: {}", complaint(&output));
}

/// Has QEMU do `commands` to the export at `address`.
fn qemu_io(folder: &Path, address: &str, commands: &[&str]) {
    let mut io = Command::new("qemu-io");
    io.current_dir(folder).args(["-f", "raw"]);
    for command in commands {
        io.args(["-c", command]);
    }
    let output = io.arg(address).output().expect("qemu-io is needed as a witness: install qemu-utils");
    assert!(output.status.success(), "{}", complaint(&output));
}

#[test]
fn a_disk_is_served_written_and_left_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    disk(folder, "disk.raw");
    succeed(folder, &["convert", "-q", "disk.raw", "disk.qcow2"]);
    let serving = Serving::start(folder, &["--listen", "127.0.0.1:0", "--name", "x", "disk.qcow2"]);
    qemu_img(folder, &["compare", "-F", "raw", "-f", "raw", "disk.raw", &serving.address]);
    qemu_io(folder, &serving.address, &["write -P 9 4096 65536", "flush"]);
    let said = serving.end();
    assert!(said.contains("connected to 'x'"), "{said}");
    qemu_img(folder, &["check", "disk.qcow2"]);
    let mut bytes = std::fs::read(folder.join("disk.raw")).expect("the disk");
    bytes[4096..69632].fill(9);
    std::fs::write(folder.join("disk.raw"), bytes).expect("the disk");
    qemu_img(folder, &["compare", "disk.raw", "disk.qcow2"]);
}

#[test]
fn an_overlay_takes_the_writes() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    disk(folder, "disk.raw");
    let before = std::fs::read(folder.join("disk.raw")).expect("the disk");
    for round in ["1", "2"] {
        let serving = Serving::start(folder, &["-q", "--socket", "nbd.sock", "--overlay", "changes.qcow2", "disk.raw"]);
        let write = format!("write -P {round} {round}00000 4096");
        qemu_io(folder, &serving.address, &[&write]);
        assert_eq!(serving.end(), "");
    }
    assert!(std::fs::read(folder.join("disk.raw")).expect("the disk") == before, "the image stays as it is");
    qemu_img(folder, &["check", "changes.qcow2"]);
    let mut expected = before;
    expected[100_000..104_096].fill(1);
    expected[200_000..204_096].fill(2);
    std::fs::write(folder.join("expected.raw"), expected).expect("a file");
    qemu_img(folder, &["compare", "expected.raw", "changes.qcow2"]);
    disk(folder, "other.raw");
    let said = fail(folder, &["nbd", "--socket", "s", "--overlay", "changes.qcow2", "other.raw"], 2);
    assert!(said.contains("no overlay of"), "{said}");
}

#[test]
fn an_export_is_an_image_for_every_command() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    disk(folder, "disk.raw");
    succeed(folder, &["convert", "-q", "-c", "disk.raw", "disk.qcow2"]);
    // As it stands in the file: the client finds a qcow2 in the export.
    let file = Serving::start(folder, &["-q", "-r", "-f", "raw", "--socket", "file.sock", "disk.qcow2"]);
    let info = document(folder, &["info", &file.address]);
    assert_eq!(info["layers"][0]["format"], "qcow2", "{info}");
    succeed(folder, &["convert", "-q", &file.address, "copy.vmdk"]);
    qemu_img(folder, &["compare", "disk.raw", "copy.vmdk"]);
    let disk = Serving::start(folder, &["-q", "-r", "--socket", "disk.sock", "disk.qcow2"]);
    let digest = succeed(folder, &["digest", &disk.address, "disk.raw"]);
    let digests: Vec<_> = digest.lines().map(|line| &line[..64]).collect();
    assert_eq!(digests[0], digests[1], "{digest}");
    succeed(folder, &["compare", &disk.address, "disk.raw"]);
    succeed(folder, &["map", &disk.address]);
    let missing = fail(folder, &["info", "nbd+unix:///nowhere?socket=none"], 1);
    assert!(missing.contains("none"), "{missing}");
    fail(folder, &["info", "nbd://"], 2);
    // Whom the server's socket is not for is not spoken to in the clear.
    let wanted = format!("{}&tls-certificates=nowhere", file.address.replace("nbd+unix", "nbds+unix"));
    fail(folder, &["info", &wanted], 1);
    file.end();
    disk.end();
}

#[test]
fn an_export_is_a_target() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    disk(folder, "disk.raw");
    succeed(folder, &["convert", "-q", "disk.raw", "disk.qcow2"]);
    succeed(folder, &["create", "target.vhdx", "4M"]);
    let target = Serving::start(folder, &["-q", "--socket", "target.sock", "target.vhdx"]);
    let copy = ["convert", "-q", "disk.qcow2", "-O", "raw", &target.address];
    fail(folder, &copy, 6);
    succeed(folder, &[&copy[..], &["--force", "--verify"]].concat());
    // What was written before shows nowhere, also where the new disk is zero.
    let zeroes = std::fs::File::create(folder.join("zeroes.raw")).expect("a file");
    zeroes.set_len(4 << 20).expect("a size");
    succeed(folder, &["convert", "-q", "--force", "zeroes.raw", "-O", "raw", &target.address]);
    succeed(folder, &["compare", &target.address, "zeroes.raw"]);
    succeed(folder, &[&copy[..], &["--force"]].concat());
    target.end();
    let mut bytes = std::fs::read(folder.join("disk.raw")).expect("the disk");
    bytes.resize(4 << 20, 0);
    std::fs::write(folder.join("disk.raw"), bytes).expect("the disk");
    qemu_img(folder, &["compare", "disk.raw", "target.vhdx"]);
    succeed(folder, &["create", "small.raw", "1M"]);
    let small = Serving::start(folder, &["-q", "--socket", "small.sock", "small.raw"]);
    fail(folder, &["convert", "-q", "--force", "disk.qcow2", "-O", "raw", &small.address], 8);
    small.end();
    let read_only = Serving::start(folder, &["-q", "-r", "--socket", "small.sock", "small.raw"]);
    fail(folder, &["convert", "-q", "--force", "disk.qcow2", "-O", "raw", &read_only.address], 1);
    read_only.end();
}

#[test]
fn what_cannot_be_written_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    disk(folder, "disk.raw");
    succeed(folder, &["convert", "-q", "-o", "subformat=streamOptimized", "disk.raw", "disk.vmdk"]);
    let said = fail(folder, &["nbd", "--socket", "s", "disk.vmdk"], 5);
    assert!(said.contains("--read-only") && said.contains("--overlay"), "{said}");
    fail(folder, &["nbd", "disk.raw"], 2);
    fail(folder, &["nbd", "--socket", "a", "--listen", "b", "disk.raw"], 2);
    fail(folder, &["nbd", "--socket", "disk.raw", "disk.raw"], 6);
}

#[test]
fn a_disk_is_served_over_tls() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    disk(folder, "disk.raw");
    std::fs::write(folder.join("san"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").expect("a file");
    for arguments in [
        "req -x509 -newkey rsa:2048 -nodes -keyout ca-key.pem -out ca-cert.pem -days 30 -subj /CN=authority",
        "req -newkey rsa:2048 -nodes -keyout server-key.pem -out server.csr -subj /CN=server",
        "x509 -req -in server.csr -CA ca-cert.pem -CAkey ca-key.pem -CAcreateserial -out server-cert.pem -extfile san",
    ] {
        let output = Command::new("openssl").current_dir(folder).args(arguments.split(' ')).output();
        assert!(output.expect("openssl is needed: install openssl").status.success(), "{arguments}");
    }
    let tls = ["--tls-certificate", "server-cert.pem", "--tls-key", "server-key.pem"];
    let arguments = [&["-q", "-r", "--listen", "127.0.0.1:0", "disk.raw"][..], &tls].concat();
    let serving = Serving::start(folder, &arguments);
    assert!(serving.address.starts_with("nbds://127.0.0.1:"), "{}", serving.address);
    let address = format!("{}?tls-certificates={}", serving.address, folder.display());
    let said = fail(folder, &["info", &serving.address.replace("nbds", "nbd")], 6);
    assert!(said.contains("demands TLS"), "{said}");
    // Nobody whom the system trusts has vouched for it.
    fail(folder, &["info", &serving.address], 6);
    succeed(folder, &["compare", &address, "disk.raw"]);
    qemu_img(
        folder,
        &[
            "compare",
            "--object",
            "tls-creds-x509,id=t,endpoint=client,dir=.",
            "--image-opts",
            "driver=raw,file.driver=file,file.filename=disk.raw",
            &format!(
                "driver=raw,file.driver=nbd,file.server.type=inet,file.server.host=127.0.0.1,file.server.port={},file.tls-creds=t",
                serving.address.trim_end_matches('/').rsplit(':').next().expect("a port")
            ),
        ],
    );
    serving.end();
    let both =
        Serving::start(folder, &[&["-q", "-r", "--tls", "allow", "--socket", "s", "disk.raw"][..], &tls].concat());
    assert!(both.address.starts_with("nbd+unix://"), "{}", both.address);
    succeed(folder, &["compare", &both.address, "disk.raw"]);
    both.end();
    fail(
        folder,
        &["nbd", "--socket", "s", "--tls-certificate", "disk.raw", "--tls-key", "server-key.pem", "disk.raw"],
        2,
    );
}
