//! VMDKs that other makers wrote.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use transload_block::{BlockRead, ErrorKind};
use transload_image::{Access, OpenSettings, ReferenceGate, Source, detect, open};
use transload_testkit::witness::{self, qemu_img};

use crate::support::{Sample, corpus, digest, patterned_file};
use crate::{open_file, stream_file, vmdk};

fn vmdk_samples() -> Vec<Sample> {
    let samples = corpus().unwrap_or_default().into_iter();
    samples.filter(|sample| sample.format == "vmdk" || sample.name.ends_with(".vmdk")).collect()
}

#[test]
fn every_image_of_the_corpus_has_its_makers_content() {
    for sample in vmdk_samples() {
        let name = &sample.name;
        let source = Source::from_path(&sample.path, Access::ReadOnly).unwrap();
        let found = detect(source.bytes()).unwrap().unambiguous().unwrap();
        assert_eq!(found.name, sample.format, "{name}");
        let Some((size, sha256)) = &sample.content else {
            let error = open_file(&sample.path).unwrap_err();
            println!("{name}: {error}");
            let bare = sample.variant.starts_with("KDMV");
            let expected: &[_] = if name.contains("afl9") {
                &[ErrorKind::Corrupt]
            } else if bare {
                &[ErrorKind::Unsupported]
            } else {
                &[ErrorKind::Io]
            };
            assert!(expected.contains(&error.kind()), "{name}: {error}");
            continue;
        };
        let rebuilt = without_its_extent(&sample);
        let path = rebuilt.as_ref().map_or(sample.path.clone(), |(_, path)| path.clone());
        let opened = open_file(&path).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(opened.device.size(), *size, "{name}");
        assert_eq!(&digest(&*opened.device, 1 << 20).unwrap(), sha256, "{name}");
        let info = &opened.layers[0].info;
        println!("{name}: {}", info.warnings.join("; "));
        if sample.format == "vmdk" && *size <= 64 << 20 {
            assert_eq!(&digest(&*opened.device, 10_007).unwrap(), sha256, "{name} in odd steps");
        }
    }
}

/// Puts a descriptor together with the flat extent that the corpus left out: the bytes of its sparse sibling.
fn without_its_extent(sample: &Sample) -> Option<(TempDir, PathBuf)> {
    let (descriptor, extent) = [
        ("monolithicFlat.vmdk", "monolithicFlat-flat.vmdk"),
        ("twoGbMaxExtentFlat.vmdk", "twoGbMaxExtentFlat-f001.vmdk"),
    ]
    .into_iter()
    .find(|(descriptor, extent)| sample.name.ends_with(descriptor) && !sample.path.with_file_name(extent).exists())?;
    let folder = TempDir::new().unwrap();
    let sibling = open_file(&sample.path.with_file_name("monolithicSparse.vmdk")).unwrap();
    let mut bytes = vec![0; sibling.device.size() as usize];
    sibling.device.read_at(&mut bytes, 0).unwrap();
    fs::write(folder.path().join(extent), bytes).unwrap();
    let path = folder.path().join(descriptor);
    fs::copy(&sample.path, &path).unwrap();
    Some((folder, path))
}

#[test]
fn every_stream_of_the_corpus_has_its_makers_content() {
    let mut count = 0;
    for sample in vmdk_samples().into_iter().filter(|sample| sample.variant.contains("compress=1")) {
        let (size, sha256) = sample.content.clone().unwrap();
        let content = stream_file(&sample.path).unwrap_or_else(|error| panic!("{}: {error:?}", sample.name));
        if let Some(content) = content {
            assert_eq!(content.size(), size, "{}", sample.name);
            assert_eq!(digest(&content, 1 << 20).unwrap(), sha256, "{}", sample.name);
        }
        count += 1;
    }
    assert!(count > 5 || corpus().is_none());
}

#[test]
fn a_stream_that_is_cut_off_anywhere_is_an_error() {
    let folder = TempDir::new().unwrap();
    let cut = folder.path().join("cut.vmdk");
    for name in
        ["streamOptimized.vmdk", "streamOptimizedWithMarkers.vmdk", "openvmdk-stream.vmdk", "iotest-version3.vmdk"]
    {
        let Some(sample) = vmdk_samples().into_iter().find(|sample| sample.name.ends_with(name)) else { continue };
        let bytes = fs::read(&sample.path).unwrap();
        let sectors = bytes.len() / 512;
        for keep in (0..sectors).step_by(sectors / 97 + 1).map(|sector| sector * 512 + sector % 2 * 100) {
            fs::write(&cut, &bytes[..keep]).unwrap();
            let error = stream_file(&cut).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{name} cut at {keep}: {error}");
            // Random access opens what has its tables, and must fail where the data should be.
            let read = Source::from_path(&cut, Access::ReadOnly)
                .and_then(|source| open(source, &OpenSettings { format: Some(vmdk()), ..OpenSettings::default() }))
                .and_then(|opened| digest(&*opened.device, 1 << 20));
            let error = read.expect_err("cut off");
            assert!(
                matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotThisFormat),
                "{name} cut at {keep}: {error}"
            );
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn every_kind_that_qemu_img_makes() {
    let folder = TempDir::new().unwrap();
    let raw = folder.path().join("disk.raw");
    for (number, size) in [(0, 512), (1, 65_536 * 3 + 512), (2, 40 << 20), (3, (5 << 20) + 1536)] {
        patterned_file(&raw, size, number + 7);
        let expected = digest(&*Source::from_path(&raw, Access::ReadOnly).unwrap().bytes().clone(), 1 << 20).unwrap();
        for options in [
            "subformat=monolithicSparse",
            "subformat=monolithicFlat",
            "subformat=twoGbMaxExtentSparse",
            "subformat=twoGbMaxExtentFlat",
            "subformat=streamOptimized",
            "subformat=monolithicSparse,zeroed_grain=on",
            "subformat=monolithicSparse,hwversion=8,adapter_type=lsilogic",
        ] {
            let kind = options.split([',', '=']).nth(1).unwrap();
            let path = folder.path().join(format!("{kind}.vmdk"));
            qemu_img(["convert", "-f", "raw", "-O", "vmdk", "-o", options, text(&raw), text(&path)]);
            let opened = open_file(&path).unwrap_or_else(|error| panic!("{options}: {error:?}"));
            assert_eq!(opened.device.size(), size, "{options}");
            assert_eq!(digest(&*opened.device, 1 << 20).unwrap(), expected, "{options} of {size}");
            assert_eq!(digest(&*opened.device, 4099).unwrap(), expected, "{options} of {size} in odd steps");
            let info = &opened.layers[0].info;
            assert_eq!(info.variant.as_deref(), Some(kind));
            assert_eq!(info.warnings, [""; 0], "{options}");
            let described = (vmdk().describe.unwrap())(&opened.layers[0].source).unwrap();
            assert_eq!((described.virtual_size, &described.extents), (info.virtual_size, &info.extents));
            if kind == "streamOptimized" {
                let content = stream_file(&path).unwrap().unwrap();
                assert_eq!(digest(&content, 1 << 20).unwrap(), expected, "{options} of {size} as a stream");
            }
            for entry in fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()) {
                if entry != raw {
                    fs::remove_file(entry).unwrap();
                }
            }
        }
    }
}

#[test]
fn a_snapshot_of_qemu_img_is_read_with_its_parent() {
    let folder = TempDir::new().unwrap();
    let (raw, base, child) =
        (folder.path().join("disk.raw"), folder.path().join("base.vmdk"), folder.path().join("child.vmdk"));
    patterned_file(&raw, 3 << 20, 3);
    qemu_img(["convert", "-f", "raw", "-O", "vmdk", text(&raw), text(&base)]);
    qemu_img(["create", "-f", "vmdk", "-b", text(&base), "-F", "vmdk", text(&child)]);
    witness::must("qemu-io", ["-f", "vmdk", "-c", "write -P 0x5a 100k 200k", text(&child)]);
    let opened = open_file(&child).unwrap();
    assert_eq!(opened.layers.len(), 2);
    let flat = folder.path().join("flat.raw");
    qemu_img(["convert", "-f", "vmdk", "-O", "raw", text(&child), text(&flat)]);
    let expected = fs::read(&flat).unwrap();
    let mut read = vec![0; expected.len()];
    opened.device.read_at(&mut read, 0).unwrap();
    assert!(read == expected);
    // The parent changes behind the child's back.
    let bytes = fs::read(&base).unwrap();
    let at = bytes.windows(5).position(|window| window == b"\nCID=").unwrap() + 5;
    let mut changed = bytes.clone();
    changed[at..at + 8].copy_from_slice(b"0badcafe");
    fs::write(&base, &changed).unwrap();
    assert_eq!(open_file(&child).unwrap_err().kind(), ErrorKind::Corrupt);
    fs::remove_file(&base).unwrap();
    assert_eq!(open_file(&child).unwrap_err().kind(), ErrorKind::Io);
    // Alone it is not read, and described without its parent.
    let source = Source::from_path(&child, Access::ReadOnly).unwrap();
    assert!(open(source.clone(), &OpenSettings { gate: ReferenceGate::Deny, ..OpenSettings::default() }).is_err());
    let info = (vmdk().describe.unwrap())(&source).unwrap();
    assert!(info.backing_file.unwrap().ends_with("base.vmdk"));
}
