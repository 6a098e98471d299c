//! Real images of other makers, by the digests of their guest bytes.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use transload_block::BlockRead;

use super::super::witness::run;
use crate::{OpenSettings, open_path};

/// The corpus, unpacked into the build folder once; `None` with a loud word where it is missing.
fn corpus() -> Option<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let packed = root.join("../shared/corpus");
    let Ok(manifest) = std::fs::read_to_string(packed.join("MANIFEST.tsv")) else {
        eprintln!("SKIPPED: no corpus of real images at {}", packed.display());
        return None;
    };
    let folder = root.join("target/corpus-qcow2");
    if !folder.join("plaso").exists() {
        // Unpacked under another name first: a test run that is broken off leaves no half of it.
        let fresh = root.join(format!("target/corpus-qcow2.{}", std::process::id()));
        std::fs::create_dir_all(&fresh).unwrap();
        let archive = packed.join("visible.tar.zst");
        let unpacked = run(
            "tar",
            &[
                "--zstd",
                "-xf",
                archive.to_str().unwrap(),
                "-C",
                fresh.to_str().unwrap(),
                "--wildcards",
                "*qcow2*",
                "*/virstoragetestdata/images/*",
            ],
        );
        assert!(unpacked.status.success(), "{unpacked:?}");
        if std::fs::rename(&fresh, &folder).is_err() {
            std::fs::remove_dir_all(&fresh).unwrap();
        }
    }
    Some((folder, manifest))
}

/// The digest of the guest's bytes, by a program that is not ours.
fn sha256(device: &dyn BlockRead) -> String {
    let mut program = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = program.stdin.take().unwrap();
    let (mut bytes, mut at) = (vec![0; 4 << 20], 0);
    while at < device.size() {
        let length = (device.size() - at).min(bytes.len() as u64);
        let part = &mut bytes[..usize::try_from(length).unwrap()];
        device.read_at(part, at).unwrap();
        input.write_all(part).unwrap();
        at += length;
    }
    drop(input);
    let output = program.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

#[test]
fn real_images_have_the_digests_of_the_manifest() {
    let Some((folder, manifest)) = corpus() else { return };
    let mut tested = 0;
    for line in manifest.lines().filter(|line| line.split('\t').nth(2) == Some("qcow2")) {
        let fields: Vec<_> = line.split('\t').collect();
        let (name, size, digest) = (fields[0], fields[4].parse::<u64>(), fields[5]);
        let (Ok(size), false) = (size, digest.is_empty()) else { continue };
        let device = open_path(&folder.join(name), &OpenSettings::default()).unwrap().device;
        assert_eq!(device.size(), size, "{name}");
        assert_eq!(sha256(&*device), digest, "{name}");
        tested += 1;
    }
    assert!(tested >= 10, "{tested} images");
}
