//! NBD over TLS, with other makers' clients and servers on the other side.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use transload_block::{BlockRead, BlockReadExt, BlockWrite, ErrorKind, Memory};
use transload_nbd::{
    ConnectSettings, Export, NbdAddress, NbdDisk, Place, ServerLimits, ServerTls, TlsAddress, TlsMode,
};
use transload_testkit::{conformance, disks, witness};

use crate::peers::Running;
use crate::support::{Served, patchwork};

/// Makes an authority, and certificates for `localhost` and for a client, in the files that QEMU and libnbd look for.
fn certificates(folder: &Path) {
    let openssl = |arguments: &str| {
        let output = Command::new("openssl").current_dir(folder).args(arguments.split_whitespace()).output();
        let output = output.expect("openssl is needed to make certificates: install openssl");
        assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    };
    std::fs::write(folder.join("san"), "subjectAltName=DNS:localhost,IP:127.0.0.1\n").expect("a file");
    std::fs::write(folder.join("none"), "basicConstraints=CA:FALSE\n").expect("a file");
    openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca-key.pem -out ca-cert.pem -days 30 -subj /CN=authority");
    for (who, extension) in [("server", "san"), ("client", "none")] {
        openssl(&format!("req -newkey rsa:2048 -nodes -keyout {who}-key.pem -out {who}.csr -subj /CN={who}"));
        openssl(&format!(
            "x509 -req -in {who}.csr -CA ca-cert.pem -CAkey ca-key.pem -CAcreateserial -days 30 -out {who}-cert.pem -extfile {extension}"
        ));
    }
}

fn server(folder: &Path, checked: bool) -> ServerTls {
    let file = |name: &str| folder.join(name);
    let authority = file("ca-cert.pem");
    ServerTls::from_files(&file("server-cert.pem"), &file("server-key.pem"), checked.then_some(authority.as_path()))
        .expect("certificates")
}

fn over_tls(address: NbdAddress, certificates: &Path) -> NbdAddress {
    let tls = TlsAddress { certificates: Some(certificates.to_owned()), host_name: None };
    NbdAddress { tls: Some(tls), ..address }
}

fn connect(address: &NbdAddress) -> transload_block::Result<NbdDisk> {
    NbdDisk::connect(address, &ConnectSettings::default())
}

#[test]
fn both_sides_speak_tls_with_each_other() {
    let folder = tempfile::tempdir().expect("a folder");
    certificates(folder.path());
    let disk = patchwork(5_000_192, 31);
    let exports = vec![Export::writable("disk", Arc::new(disk.clone()))];
    let served = Served::with_tls(exports, ServerLimits::default(), server(folder.path(), true), TlsMode::Require);
    let client = connect(&over_tls(served.address("disk"), folder.path())).expect("a connection");
    assert!(client.connections() > 1);
    conformance::read(&client, &disk).assert();
    drop(client);
    let client = connect(&over_tls(served.address("disk"), folder.path())).expect("a connection");
    conformance::write(&client, 5).assert();
    // In the clear it tells nothing, not even its exports.
    let refused = connect(&served.address("disk")).expect_err("TLS comes first");
    assert_eq!(refused.kind(), ErrorKind::Denied, "{refused}");
    assert!(refused.remedy().is_some_and(|remedy| remedy.contains("nbds://")));
    drop(client);
    served.end().expect("a good end");
}

#[test]
fn strangers_are_refused() {
    let (folder, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    certificates(folder.path());
    certificates(other.path());
    let exports = || vec![Export::read_only("", Arc::new(Memory::new(4096)))];
    let limits = ServerLimits::default;
    let served = Served::with_tls(exports(), limits(), server(folder.path(), true), TlsMode::Require);
    // A server that our authority does not know, and one that is called otherwise.
    let error = connect(&over_tls(served.address(""), other.path())).expect_err("a stranger");
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    let mut elsewhere = over_tls(served.address(""), folder.path());
    elsewhere.tls.as_mut().expect("TLS").host_name = Some("elsewhere.example".to_owned());
    assert_eq!(connect(&elsewhere).expect_err("another's certificate").kind(), ErrorKind::Denied);
    // A client without a certificate, or with one of another authority.
    for file in ["client-cert.pem", "client-key.pem"] {
        std::fs::rename(other.path().join(file), folder.path().join(file)).expect("a file");
    }
    assert!(connect(&over_tls(served.address(""), folder.path())).is_err());
    for file in ["client-cert.pem", "client-key.pem"] {
        std::fs::remove_file(folder.path().join(file)).expect("a file");
    }
    assert!(connect(&over_tls(served.address(""), folder.path())).is_err());
    served.end().expect("a good end");
    // A server without TLS is not taken for one with it.
    let plain = Served::new(exports());
    let error = connect(&over_tls(plain.address(""), folder.path())).expect_err("no TLS");
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    // Where TLS is allowed, both are served.
    let both = Served::with_tls(exports(), limits(), server(folder.path(), false), TlsMode::Allow);
    assert_eq!(connect(&both.address("")).expect("in the clear").size(), 4096);
    assert_eq!(connect(&over_tls(both.address(""), folder.path())).expect("over TLS").size(), 4096);
}

#[test]
fn what_is_no_certificate_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    certificates(folder.path());
    let file = |name: &str| folder.path().join(name);
    std::fs::write(file("nonsense"), "nothing").expect("a file");
    for (certificate, key, kind) in [
        ("nonsense", "server-key.pem", ErrorKind::InvalidInput),
        ("server-cert.pem", "nonsense", ErrorKind::InvalidInput),
        ("server-cert.pem", "client-key.pem", ErrorKind::InvalidInput),
        ("missing", "server-key.pem", ErrorKind::Io),
    ] {
        let error = ServerTls::from_files(&file(certificate), &file(key), None).expect_err("it is wrong");
        assert_eq!(error.kind(), kind, "{certificate} {key}: {error}");
    }
}

#[test]
fn libnbd_and_qemu_are_served_over_tls() {
    let folder = tempfile::tempdir().expect("a folder");
    certificates(folder.path());
    let disk = patchwork(20_000_256, 33);
    let exports = vec![Export::writable("x", Arc::new(disk.clone()))];
    let served = Served::with_tls(exports, ServerLimits::default(), server(folder.path(), true), TlsMode::Require);
    let flat = served.folder().join("flat");
    disks::save(&disk, &flat);
    // libnbd: certificates by the address, the name of a socket's server said beside it.
    let address = over_tls(served.address("x"), folder.path());
    let uri = format!("{address}&tls-hostname=localhost");
    let info = witness::must("nbdinfo", ["--json", uri.as_str()]);
    assert!(info.contains("\"TLS\": true") && info.contains("20000256"), "{info}");
    let copy = served.folder().join("copy");
    witness::must("nbdcopy", [uri.as_str(), copy.to_str().expect("plain")]);
    assert!(std::fs::read(&copy).expect("the copy") == std::fs::read(&flat).expect("the disk"));
    // QEMU.
    let creds = format!("tls-creds-x509,id=tls0,endpoint=client,dir={}", folder.path().display());
    let image = format!(
        "driver=nbd,export=x,server.type=unix,server.path={},tls-creds=tls0,tls-hostname=localhost",
        served.socket().display()
    );
    let both = [
        "compare",
        "--object",
        &creds,
        "--image-opts",
        &format!("driver=raw,file.driver=file,file.filename={}", flat.display()),
        &image,
    ];
    witness::qemu_img(both);
    let other = served.folder().join("other");
    disks::save(&patchwork(20_000_256, 34), &other);
    let source = format!("driver=raw,file.driver=file,file.filename={}", other.display());
    witness::qemu_img([
        "convert",
        "--object",
        &creds,
        "-n",
        "--image-opts",
        "--target-image-opts",
        "-W",
        "-m",
        "8",
        &source,
        &image,
    ]);
    witness::qemu_img(["compare", "--object", &creds, "--image-opts", &source, &image]);
    served.end().expect("a good end");
}

#[test]
fn the_client_reads_and_writes_over_tls_what_qemu_and_nbdkit_serve() {
    let folder = tempfile::tempdir().expect("a folder");
    certificates(folder.path());
    let disk = patchwork(6_000_128, 35);
    let flat = folder.path().join("flat");
    disks::save(&disk, &flat);
    let socket = |name: &str| folder.path().join(name);
    let certificates = folder.path().display();
    let mut qemu = Command::new("qemu-nbd");
    qemu.args(["--object", &format!("tls-creds-x509,id=tls0,endpoint=server,verify-peer=on,dir={certificates}")])
        .args(["--tls-creds", "tls0", "-f", "raw", "-t", "-e", "8", "-x", "disk", "-k"])
        .arg(socket("qemu"))
        .arg(&flat);
    let mut nbdkit = Command::new("nbdkit");
    nbdkit
        .args(["-f", "--exit-with-parent", "--tls=require", &format!("--tls-certificates={certificates}"), "-U"])
        .arg(socket("nbdkit"))
        .args(["file", flat.to_str().expect("plain")]);
    for (name, export, mut command) in [("qemu", "disk", qemu), ("nbdkit", "", nbdkit)] {
        let server = Running::start(&mut command, &socket(name));
        let address = NbdAddress { place: Place::Unix(socket(name)), export: export.to_owned(), tls: None };
        let client = connect(&over_tls(address, folder.path())).expect("a connection");
        let (found, wanted) = (client.read_vec(0, client.size()), disk.read_vec(0, disk.size()));
        assert!(found.expect("bytes") == wanted.expect("bytes"), "{name}");
        client.write_at(b"over TLS", 77_777).expect("it is written");
        client.flush().expect("it is flushed");
        disk.write_at(b"over TLS", 77_777).expect("memory takes it");
        drop(client);
        drop(server);
    }
}
