use std::io::Cursor;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use transload_block::{BlockWrite, ErrorKind, Memory, Result, Storage};
use transload_testkit::Corpus;

use super::*;

fn device(bytes: &[u8]) -> Memory {
    let device = Memory::new(0);
    device.set_size(bytes.len() as u64).unwrap();
    device.write_at(bytes, 0).unwrap();
    device
}

fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, payload) in members {
        bytes.extend(member_header(name, payload.len() as u64, 0).unwrap());
        bytes.extend(*payload);
        bytes.resize(bytes.len() + usize::try_from(padding(payload.len() as u64)).unwrap(), 0);
    }
    bytes.resize(bytes.len() + usize::try_from(end_padding(bytes.len() as u64)).unwrap(), 0);
    bytes
}

/// What a walk over a pipe finds: names and payloads.
fn streamed(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>> {
    let mut walk = Walk::new(FromReader(Cursor::new(bytes)));
    let mut found = Vec::new();
    while let Some(member) = walk.next_member()? {
        member.refuse_unsafe()?;
        found.push((member.name, walk.read_all(1 << 20)?));
    }
    Ok(found)
}

#[track_caller]
fn output(program: &str, package: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}; install the Debian package {package}"));
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, &input));
    let output = child.wait_with_output().unwrap();
    drop(writer.join());
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

const NAMES: [&str; 3] = ["Schöne Maschine ☃.ovf", "a b.mf", "Schöne Maschine ☃-disk1.vmdk"];

#[test]
fn gnu_tar_and_bsdtar_read_what_is_written() {
    let long = format!("{}.vmdk", "é".repeat(80));
    let members: Vec<(&str, &[u8])> =
        vec![(NAMES[0], b"one"), (NAMES[1], b""), (NAMES[2], &[7; 512]), (&long, &[8; 513])];
    let bytes = archive(&members);
    assert_eq!(bytes.len() % 10_240, 0);
    let names: String = members.iter().map(|(name, _)| format!("{name}\n")).collect();
    for (program, package) in [("tar", "tar"), ("bsdtar", "libarchive-tools")] {
        let mut list = vec!["-tf", "-"];
        list.extend((program == "tar").then_some("--quoting-style=literal"));
        assert_eq!(String::from_utf8(output(program, package, &list, &bytes)).unwrap(), names, "{program}");
        for (name, payload) in &members {
            assert!(output(program, package, &["-xOf", "-", name], &bytes) == *payload, "{program}: {name}");
        }
    }
}

#[test]
fn every_dialect_of_gnu_tar_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let long = format!("{}.vmdk", "x".repeat(150));
    for (name, bytes) in [("a.ovf", &b"<Envelope/>"[..]), (&long, &[9; 700]), ("ü ☃.mf", b"")] {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let path = folder.path().to_str().unwrap();
    for format in ["gnu", "pax", "oldgnu", "posix"] {
        let format = format!("--format={format}");
        let bytes = output("tar", "tar", &["-C", path, &format, "-cf", "-", "a.ovf", &long, "ü ☃.mf"], b"");
        let index = Index::read(&device(&bytes)).unwrap();
        let names: Vec<_> = index.members.iter().map(|member| member.name.as_str()).collect();
        assert_eq!(names, ["a.ovf", &long, "ü ☃.mf"], "{format}");
        for member in &index.members {
            let (start, end) = (member.offset, member.offset + member.size);
            let found = &bytes[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()];
            assert!(found == std::fs::read(folder.path().join(&member.name)).unwrap(), "{format}: {}", member.name);
        }
        assert_eq!(streamed(&bytes).unwrap().len(), 3);
        assert_eq!(index.members.iter().any(|member| member.pax), format.contains("pax") || format.contains("posix"));
    }
    let whole = output("tar", "tar", &["-C", path, "-cf", "-", "."], b"");
    let index = Index::read(&device(&whole)).unwrap();
    assert_eq!(index.member("a.ovf").unwrap().name, "./a.ovf");
    assert_eq!(index.descriptor().unwrap().plain_name(), "a.ovf");
}

#[test]
fn a_size_of_8_gib_is_in_base_256_and_gnu_tar_understands_it() {
    let size = USTAR_SIZE_LIMIT + 5;
    let mut header = member_header("big.vmdk", size, 0).unwrap();
    assert_eq!(header.len(), 512);
    assert_eq!(&header[124..136], [0x80, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 5]);
    let small = member_header("big.vmdk", USTAR_SIZE_LIMIT - 1, 0).unwrap();
    assert_eq!((&small[257..265], &small[124..136]), (&b"ustar\x0000"[..], &b"77777777777\0"[..]));
    // A sparse file of that size, which costs nothing to make and to read over.
    let file = tempfile::NamedTempFile::new().unwrap();
    header.resize(512, 0);
    std::fs::write(file.path(), &header).unwrap();
    file.as_file().set_len(512 + (size + padding(size)) + 1024).unwrap();
    let listed = output("tar", "tar", &["-tvf", file.path().to_str().unwrap()], b"");
    assert!(String::from_utf8_lossy(&listed).contains(&format!(" {size} ")), "{}", String::from_utf8_lossy(&listed));
    let block = transload_block::FileBlock::open(file.path(), false).unwrap();
    let index = Index::read(&block).unwrap();
    assert_eq!((index.members[0].size, index.members[0].base256, index.end.zero_blocks), (size, true, 2));
}

#[test]
fn what_is_hostile_is_refused_by_its_kind() {
    let sound = archive(&[("a.ovf", b"one"), ("b.vmdk", &[1; 600])]);
    let patched = |at: usize, bytes: &[u8]| {
        let mut copy = sound.clone();
        copy[at..at + bytes.len()].copy_from_slice(bytes);
        // The checksum of the first header, anew.
        copy[148..156].fill(b' ');
        let sum: u32 = copy[..512].iter().map(|byte| u32::from(*byte)).sum();
        copy[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        copy
    };
    let name = |name: &str| {
        let mut field = name.as_bytes().to_vec();
        field.resize(100, 0);
        patched(0, &field)
    };
    let cases = [
        ("parent", name("../a.ovf"), ErrorKind::Denied),
        ("parent inside", name("a/../../b"), ErrorKind::Denied),
        ("backslashes", name("..\\a.ovf"), ErrorKind::Denied),
        ("absolute", name("/etc/passwd"), ErrorKind::Denied),
        ("drive", name("C:\\a.ovf"), ErrorKind::Denied),
        ("address", name("http://a/b.ovf"), ErrorKind::Denied),
        ("no name", name(""), ErrorKind::Denied),
        ("newline", name("a\nb"), ErrorKind::Denied),
        ("twice", name("b.vmdk"), ErrorKind::Corrupt),
        ("twice, spelled otherwise", name("./b.vmdk"), ErrorKind::Corrupt),
        ("not UTF-8", patched(0, b"\xff"), ErrorKind::Unsupported),
        ("hard link", patched(156, b"1"), ErrorKind::Denied),
        ("symbolic link", patched(156, b"2"), ErrorKind::Denied),
        ("device", patched(156, b"3"), ErrorKind::Denied),
        ("pipe", patched(156, b"6"), ErrorKind::Denied),
        ("sparse", patched(156, b"S"), ErrorKind::Unsupported),
        ("huge", patched(124, b"77777777777\0"), ErrorKind::Corrupt),
        ("negative", patched(124, &[0xff; 12]), ErrorKind::Corrupt),
        ("2^63 - 1", patched(124, b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"), ErrorKind::Corrupt),
        ("no number", patched(124, b"12x"), ErrorKind::Corrupt),
        ("long name of nothing", patched(156, b"L")[..1024].to_vec(), ErrorKind::Corrupt),
        ("checksum", sound.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == 3)).collect(), ErrorKind::Corrupt),
        ("cut in a header", sound[..100].to_vec(), ErrorKind::Corrupt),
        ("cut in a payload", sound[..1600].to_vec(), ErrorKind::Corrupt),
    ];
    for (what, bytes, kind) in cases {
        let error = Index::read(&device(&bytes)).expect_err(what);
        assert_eq!(error.kind(), kind, "{what}: {error}");
        let error = streamed(&bytes).expect_err(what);
        // A stream does not know where it ends: what is too long for its reader is said before that.
        let kind = if matches!(what, "huge" | "2^63 - 1") { ErrorKind::TooLarge } else { kind };
        assert_eq!(error.kind(), kind, "{what}");
    }
    assert_eq!(Index::read(&device(&[0; 10_240])).unwrap_err().kind(), ErrorKind::NotThisFormat);
}

#[test]
fn a_long_list_of_members_ends() {
    let mut bytes = Vec::new();
    for index in 0..=MEMBERS_MAX {
        bytes.extend(member_header(&format!("{index}"), 0, 0).unwrap());
    }
    assert_eq!(Index::read(&device(&bytes)).unwrap_err().kind(), ErrorKind::TooLarge);
}

#[test]
fn pax_sparse_and_oversized_extensions_are_refused() {
    let extension = |records: &[u8], kind: u8| {
        let mut bytes = member_header("x", records.len() as u64, 0).unwrap();
        bytes[156] = kind;
        bytes[148..156].fill(b' ');
        let sum: u32 = bytes.iter().map(|byte| u32::from(*byte)).sum();
        bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes.extend(records);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes.extend(archive(&[("a.ovf", b"one")]));
        bytes
    };
    let cases = [
        (extension(b"22 GNU.sparse.major=1\n", b'x'), ErrorKind::Unsupported),
        (extension(b"10 size=x\n", b'x'), ErrorKind::Corrupt),
        (extension(b"28 size=9223372036854775807\n", b'x'), ErrorKind::Corrupt),
        (extension(b"10 path=b\n", b'g'), ErrorKind::Corrupt),
        (extension(b"16 path=../../b\n", b'x'), ErrorKind::Denied),
        (extension(&vec![b'x'; 70_000], b'L'), ErrorKind::TooLarge),
    ];
    for (bytes, kind) in cases {
        let error = Index::read(&device(&bytes)).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
    let named = Index::read(&device(&extension(b"14 path=b.ovf\n", b'x'))).unwrap();
    assert_eq!(named.members[0].name, "b.ovf");
}

#[test]
fn the_archives_of_other_makers_are_read() {
    let Some(corpus) = Corpus::get() else { return };
    let cases = [
        ("virtualbox-7.2.22/vbox-ovf10.ova", 4, "vbox-ovf10.ovf", 865_280),
        ("open-vmdk-0.3.13/openvmdk-sha512.ova", 3, "openvmdk-sha512.ovf", 806_912),
        ("glance/testserver.ova", 2, "testserver.ovf", 4),
        ("osv-scalibr/ova/testdata/valid.ova", 1, "valid.ovf", 479),
    ];
    for (path, members, descriptor, largest) in cases {
        let bytes = std::fs::read(corpus.folder.join(path)).unwrap();
        let index = Index::read(&device(&bytes)).unwrap();
        assert_eq!(index.members.len(), members, "{path}");
        assert_eq!(index.descriptor().unwrap().name, descriptor);
        assert_eq!(index.members.iter().skip(usize::from(members > 1)).map(|member| member.size).max(), Some(largest));
        let Some(manifest) = index.members.iter().find(|member| member.has_ending("mf")) else { continue };
        let slice = |member: &Member| {
            let start = usize::try_from(member.offset).unwrap();
            &bytes[start..start + usize::try_from(member.size).unwrap()]
        };
        let manifest = Manifest::parse(slice(manifest)).unwrap();
        assert!(!manifest.entries.is_empty());
        for entry in &manifest.entries {
            let mut hasher = entry.algorithm.hasher();
            hasher.update(slice(index.member(&entry.name).unwrap()));
            assert_eq!(hasher.finish(), entry.value, "{path}: {}", entry.name);
        }
    }
}

/// A key and a certificate, made by openssl.
fn key_and_certificate() -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let (key, certificate) = (folder.path().join("key.pem"), folder.path().join("cert.pem"));
    let arguments = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=Transload ☃"];
    let paths = ["-utf8", "-keyout", key.to_str().unwrap(), "-out", certificate.to_str().unwrap()];
    output("openssl", "openssl", &[&arguments[..], &paths].concat(), b"");
    (std::fs::read_to_string(key).unwrap(), std::fs::read_to_string(certificate).unwrap())
}

#[test]
fn openssl_verifies_what_is_signed() {
    let (key, certificate) = key_and_certificate();
    let signer = Signer::new(&key, &certificate).unwrap();
    let manifest = b"SHA256(a.ovf)= 00\n";
    for algorithm in [ManifestAlgorithm::Sha1, ManifestAlgorithm::Sha256, ManifestAlgorithm::Sha512] {
        let text = signer.sign("a.mf", algorithm, manifest).unwrap();
        assert_eq!(text.len(), signer.length("a.mf", algorithm));
        let file = SignatureFile::parse(text.as_bytes()).unwrap();
        file.verify(manifest).unwrap();
        assert_eq!(file.verify(b"another").unwrap_err().kind(), ErrorKind::Checksum);
        assert_eq!(file.subject(), "CN=Transload ☃");

        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("sig"), &file.entry.value).unwrap();
        std::fs::write(path("cert"), &certificate).unwrap();
        let public = output("openssl", "openssl", &["x509", "-in", &path("cert"), "-pubkey", "-noout"], b"");
        std::fs::write(path("pub"), public).unwrap();
        let function = format!("-{}", algorithm.name().to_lowercase());
        let arguments = ["dgst", &function, "-verify", &path("pub"), "-signature", &path("sig")];
        assert_eq!(output("openssl", "openssl", &arguments, manifest), b"Verified OK\n");
    }
}

#[test]
fn keys_that_do_not_fit_are_refused() {
    let ((key, certificate), (other, _)) = (key_and_certificate(), key_and_certificate());
    assert_eq!(Signer::new(&other, &certificate).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(Signer::new("", &certificate).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(Signer::new(&key, "").unwrap_err().kind(), ErrorKind::InvalidInput);
    let elliptic = output("openssl", "openssl", &["ecparam", "-name", "prime256v1", "-genkey", "-noout"], b"");
    let elliptic = String::from_utf8(elliptic).unwrap();
    assert_eq!(Signer::new(&elliptic, &certificate).unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(SignatureFile::parse(b"SHA256(a.mf)= 00\n").unwrap_err().kind(), ErrorKind::Corrupt);
    let broken = certificate.replace("MII", "AAA");
    let text = format!("SHA256(a.mf)= 00\n{broken}");
    assert_eq!(SignatureFile::parse(text.as_bytes()).unwrap_err().kind(), ErrorKind::Corrupt);
}

proptest! {
    /// Whatever the bytes are, reading ends, in an error or in members that lie inside the archive and in their order.
    #[test]
    fn any_bytes_are_read_or_refused(
        flips in prop::collection::vec((0_usize..4096, any::<u8>()), 0..12),
        cut in 0_usize..10_241,
    ) {
        let mut bytes = archive(&[("a.ovf", b"one"), ("a.mf", b"two"), ("d.vmdk", &[5; 1025])]);
        for (at, value) in flips {
            bytes[at] = value;
        }
        bytes.truncate(cut);
        fuzz::container(&bytes);
    }

    #[test]
    fn any_text_is_a_manifest_or_refused(text in "(SHA(1|256|2-256)? ?\\(a\\) ?= ?[0-9a-fA-F]{0,70}\r?\n?){0,4}") {
        fuzz::container(text.as_bytes());
    }
}
