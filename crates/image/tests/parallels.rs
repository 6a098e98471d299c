//! Parallels bundles: split disks, plain and expanding images, snapshots; and descriptions that lie.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use transload_block::{BlockReadExt, ErrorKind, Memory, Result};
use transload_image::{Access, OpenSettings, Opened, OptionValues, ReferenceGate, Source, open_path, properties};
use transload_testkit::{Corpus, Random, conformance, disks, witness};

const CURRENT: &str = "{5fbaabe3-6958-40ff-92a7-860e329aab41}";
const MIDDLE: &str = "{11111111-2222-3333-4444-555555555555}";
const FIRST: &str = "{aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee}";
const NOBODY: &str = "{00000000-0000-0000-0000-000000000000}";
/// Sectors of a block.
const BLOCK: u64 = 64;

/// A storage in XML.
fn storage(start: u64, end: u64, images: &[(&str, &str, &str)]) -> String {
    let images: String = images
        .iter()
        .map(|(guid, kind, file)| format!("<Image><GUID>{guid}</GUID><Type>{kind}</Type><File>{file}</File></Image>"))
        .collect();
    format!("<Storage><Start>{start}</Start><End>{end}</End><Blocksize>{BLOCK}</Blocksize>{images}</Storage>")
}

/// A description as Parallels Desktop lays it out.
fn description(sectors: u64, parameters: &str, storages: &str, snapshots: &str) -> String {
    format!(
        "<?xml version='1.0' encoding='UTF-8'?>\n<Parallels_disk_image Version=\"1.0\">\n<Disk_Parameters>\
         <Disk_size>{sectors}</Disk_size><LogicSectorSize>512</LogicSectorSize>{parameters}</Disk_Parameters>\n\
         <StorageData>{storages}</StorageData>\n{snapshots}</Parallels_disk_image>\n"
    )
}

fn shots(shots: &[(&str, &str)]) -> String {
    let shots: String = shots
        .iter()
        .map(|(guid, parent)| format!("<Shot><GUID>{guid}</GUID><ParentGUID>{parent}</ParentGUID></Shot>"))
        .collect();
    format!("<Snapshots>{shots}</Snapshots>")
}

/// An expanding image of `disk` that has those blocks alone which `has` says.
fn expanding(disk: &[u8], extended: bool, has: impl Fn(u64) -> bool) -> Vec<u8> {
    let sectors = disk.len() as u64 / 512;
    let blocks = sectors.div_ceil(BLOCK);
    let bytes = usize::try_from(BLOCK * 512).expect("the test's own");
    // Farther behind the map than a run of blocks is long: dissect.hypervisor 3.18 takes a hole of N bytes in front of a block
    // at byte N of the file for a part of that block.
    let first = (64 + blocks * 4).next_multiple_of(BLOCK * 512) + (2 << 20);
    let mut map = Vec::new();
    let mut data = Vec::new();
    for index in 0..blocks {
        if !has(index) {
            map.extend(0_u32.to_le_bytes());
            continue;
        }
        let place = first + data.len() as u64;
        let scale = if extended { BLOCK * 512 } else { 512 };
        map.extend(u32::try_from(place / scale).expect("the test's own").to_le_bytes());
        let start = usize::try_from(index).expect("the test's own") * bytes;
        data.extend_from_slice(&disk[start..disk.len().min(start + bytes)]);
        data.resize(data.len().next_multiple_of(bytes), 0);
    }
    let mut file = if extended { b"WithouFreSpacExt" } else { b"WithoutFreeSpace" }.to_vec();
    for number in
        [2, 16, 1, u32::try_from(BLOCK).expect("the test's own"), u32::try_from(blocks).expect("the test's own")]
    {
        file.extend(number.to_le_bytes());
    }
    file.extend(sectors.to_le_bytes());
    file.extend([0; 4]);
    file.extend(u32::try_from(first / 512).expect("the test's own").to_le_bytes());
    file.resize(64, 0);
    file.extend(map);
    file.resize(usize::try_from(first).expect("the test's own"), 0);
    [file, data].concat()
}

fn settings(options: &str) -> OpenSettings {
    let specs = transload_image::parallels::FORMAT.open_options;
    let options =
        OptionValues::parse(specs, Some(options).filter(|options| !options.is_empty())).expect("the test's own");
    OpenSettings { options, ..OpenSettings::default() }
}

fn open(path: &Path, options: &str) -> Result<Opened> {
    open_path(path, &settings(options))
}

/// A bundle of three parts and three snapshots, and the disk in each of its states, the newest one first.
fn bundle(folder: &Path) -> (PathBuf, [Vec<u8>; 3]) {
    const PARTS: [(u64, u64); 3] = [(0, 640), (640, 1000), (1000, 2048)];
    let mut random = Random::new(3);
    let first = random.bytes(2048 * 512);
    let mut states = [first.clone(), first.clone(), first];
    let unit = usize::try_from(BLOCK * 512).expect("the test's own");
    let bundle = folder.join("disk.hdd");
    fs::create_dir(&bundle).expect("the test's own");
    let mut storages = String::new();
    for (part, (start, end)) in PARTS.into_iter().enumerate() {
        let bytes =
            usize::try_from(start * 512).expect("the test's own")..usize::try_from(end * 512).expect("the test's own");
        // Each snapshot changes other blocks.
        for at in bytes.clone().step_by(unit) {
            let (index, until) = ((at - bytes.start) / unit, bytes.end.min(at + unit));
            if index % 3 == 0 {
                let fresh = random.bytes(until - at);
                states[1][at..until].copy_from_slice(&fresh);
                states[0][at..until].copy_from_slice(&fresh);
            }
            if index % 4 == 1 {
                states[0][at..until].copy_from_slice(&random.bytes(until - at));
            }
        }
        let name = |kind: &str| format!("disk.hdd.{part}.{kind}.hds");
        let write = |kind: &str, bytes: &[u8]| fs::write(bundle.join(name(kind)), bytes).expect("the test's own");
        let base_is_plain = part == 1;
        let base = &states[2][bytes.clone()];
        write("first", &if base_is_plain { base.to_vec() } else { expanding(base, part == 2, |_| true) });
        write("middle", &expanding(&states[1][bytes.clone()], false, |index| index % 3 == 0));
        write("current", &expanding(&states[0][bytes], true, |index| index % 4 == 1));
        let kind = if base_is_plain { "Plain" } else { "Compressed" };
        storages += &storage(
            start,
            end,
            &[
                (FIRST, kind, &name("first")),
                (MIDDLE, "Compressed", &name("middle")),
                (CURRENT, "Compressed", &name("current")),
            ],
        );
    }
    let shots = shots(&[(FIRST, NOBODY), (MIDDLE, FIRST), (CURRENT, MIDDLE)]);
    fs::write(bundle.join("DiskDescriptor.xml"), description(2048, "<Padding>0</Padding>", &storages, &shots))
        .expect("the test's own");
    (bundle, states)
}

#[test]
fn every_snapshot_of_a_split_disk_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let (bundle, states) = bundle(folder.path());
    for (guid, state) in [("", &states[0]), (CURRENT, &states[0]), (MIDDLE, &states[1]), (FIRST, &states[2])] {
        let option = if guid.is_empty() { String::new() } else { format!("snapshot={guid}") };
        for path in [bundle.clone(), bundle.join("DiskDescriptor.xml")] {
            let opened = open(&path, &option).unwrap();
            conformance::read(&*opened.device, &Memory::from(state.clone())).assert();
            properties::device(&*opened.device);
            let info = &opened.layers[0].info;
            assert_eq!((info.virtual_size, info.variant.as_deref()), (2048 * 512, Some("bundle")));
        }
        let script = "
import sys, hashlib, pathlib
from dissect.hypervisor.disk.hdd import HDD
print(hashlib.sha256(HDD(pathlib.Path(sys.argv[1])).open(str(sys.argv[2]) or None).read()).hexdigest())";
        let theirs = witness::python(script, &[&bundle, Path::new(guid)]);
        assert_eq!(theirs.trim(), disks::sha256(&Memory::from(state.clone())), "dissect reads {guid}");
    }
    let info = transload_image::parallels::FORMAT.describe.unwrap();
    let info = info(&Source::from_path(&bundle, Access::ReadOnly).unwrap()).unwrap();
    assert_eq!((info.virtual_size, info.extents.len()), (2048 * 512, 9));
    assert!(info.details["snapshot-chain"].starts_with(CURRENT), "{info:?}");
    for wrong in ["snapshot={99999999-2222-3333-4444-555555555555}", "snapshot=before"] {
        assert_eq!(open(&bundle, wrong).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn an_image_of_its_maker_is_read_through_a_description() {
    let Some(corpus) = Corpus::get() else { return };
    let folder = tempfile::tempdir().unwrap();
    for entry in corpus.of_format("parallels") {
        let (Some(size), Some(digest)) = (entry.virtual_size, &entry.sha256) else { continue };
        let bundle = folder.path().join(entry.path.replace('/', "-"));
        fs::create_dir(&bundle).unwrap();
        fs::copy(corpus.file(entry), bundle.join("disk.0.hds")).unwrap();
        // Where the file once was, before the bundle was moved.
        let storages = storage(0, size / 512, &[(CURRENT, "Compressed", "/Users/somebody/disk.hdd/disk.0.hds")]);
        let text = description(size / 512, "", &storages, &shots(&[(CURRENT, NOBODY)]));
        fs::write(bundle.join("DiskDescriptor.xml"), text).unwrap();
        let opened = open(&bundle, "").unwrap();
        assert_eq!(disks::sha256(&*opened.device), *digest, "{}", entry.path);
    }
}

#[test]
fn names_go_through_the_gate() {
    let folder = tempfile::tempdir().unwrap();
    let bundle = folder.path().join("disk.hdd");
    fs::create_dir(&bundle).unwrap();
    fs::write(folder.path().join("outside"), [7; 512]).unwrap();
    fs::write(bundle.join("inside"), [8; 512]).unwrap();
    let write = |name: &str| {
        let storages = storage(0, 1, &[(CURRENT, "Plain", name)]);
        fs::write(bundle.join("DiskDescriptor.xml"), description(1, "", &storages, "")).unwrap();
    };
    for name in ["../outside", "/etc/passwd", "nbd://host/disk", "", "DiskDescriptor.xml/.."] {
        write(name);
        assert_eq!(open(&bundle, "").unwrap_err().kind(), ErrorKind::Denied, "{name}");
    }
    write("inside");
    assert_eq!(open(&bundle, "").unwrap().device.read_vec(0, 512).unwrap(), [8; 512]);
    let closed = OpenSettings { gate: ReferenceGate::Deny, ..settings("") };
    assert_eq!(open_path(&bundle, &closed).unwrap_err().kind(), ErrorKind::Denied);
    write("../outside");
    let open_wide = OpenSettings { gate: ReferenceGate::Allow(vec![folder.path().into()]), ..settings("") };
    assert_eq!(open_path(&bundle, &open_wide).unwrap().device.read_vec(0, 512).unwrap(), [7; 512]);
}

/// What each description is refused for.
fn lies() -> Vec<(&'static str, String, ErrorKind)> {
    use ErrorKind::{Corrupt, TooLarge, Unsupported};
    let plain = |end: u64| storage(0, end, &[(CURRENT, "Plain", "disk")]);
    let with = |sectors: u64, storages: &str| description(sectors, "", storages, "");
    let engine = "<Encryption><Engine>{d02ffb5c-6958-40ff-92a7-860e329aab41}</Engine></Encryption>";
    let two = storage(0, 4, &[(CURRENT, "Plain", "disk"), (FIRST, "Plain", "disk")]);
    let chain: Vec<String> = (0..20).map(|index| format!("{{{index:08x}-0000-0000-0000-0000000000ff}}")).collect();
    let links: Vec<_> = chain.windows(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect();
    let deep = shots(&[&[(CURRENT, chain[0].as_str())], links.as_slice()].concat());
    vec![
        ("no storage", with(0, ""), Corrupt),
        ("another size", with(5, &plain(4)), Corrupt),
        ("a gap", with(8, &(plain(4) + &storage(5, 8, &[(CURRENT, "Plain", "more")]))), Corrupt),
        ("backwards", with(0, &storage(4, 4, &[(CURRENT, "Plain", "disk")])), Corrupt),
        ("more than 64 bits", with(u64::MAX, &plain(u64::MAX)), Corrupt),
        ("a sign", with(4, &plain(4).replace("<End>4", "<End>+4")), Corrupt),
        ("no image", with(4, &storage(0, 4, &[])), Corrupt),
        ("two images and no snapshots", with(4, &two), Corrupt),
        ("one image twice", with(4, &storage(0, 4, &[(CURRENT, "Plain", "a"), (CURRENT, "Plain", "b")])), Corrupt),
        ("no such parent", description(4, "", &plain(4), &shots(&[(CURRENT, FIRST)])), Corrupt),
        ("its own parent", description(4, "", &plain(4), &shots(&[(CURRENT, FIRST), (FIRST, CURRENT)])), Corrupt),
        ("another top", description(4, "", &plain(4), &shots(&[(FIRST, NOBODY)])), Corrupt),
        ("20 snapshots", description(4, "", &plain(4), &deep), TooLarge),
        ("encrypted", description(4, engine, &plain(4), ""), Unsupported),
        ("padded", description(4, "<Padding>1</Padding>", &plain(4), ""), Unsupported),
        ("an unknown type", with(4, &plain(4).replace("Plain", "Packed")), Unsupported),
        ("no GUID", with(4, &plain(4).replace(CURRENT, "{5fbaabe3}")), Corrupt),
        ("not closed", with(4, &plain(4)).replace("</StorageData>", ""), Corrupt),
        ("a document type", format!("<!DOCTYPE a [<!ENTITY b \"c\">]>{}", with(4, &plain(4))), Corrupt),
        ("an entity", with(4, &plain(4).replace("disk", "&disk;")), Corrupt),
        ("deeply nested", with(4, &("<a>".repeat(100_000) + &"</a>".repeat(100_000))), Corrupt),
        ("many nodes", with(4, &("<a/>".repeat(500_000) + &plain(4))), Corrupt),
        (
            "many parts",
            with(4, &plain(4)).replace(
                "</StorageData>",
                &((4..4000).map(|at| storage(at, at + 1, &[(CURRENT, "Plain", "disk")])).collect::<String>()
                    + "</StorageData>"),
            ),
            TooLarge,
        ),
        ("9 MiB", with(4, &plain(4)) + &" ".repeat(9 << 20), TooLarge),
        ("short", with(5, &plain(5)), Corrupt),
    ]
}

#[test]
fn descriptions_that_lie_are_refused_for_the_right_reason() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("disk"), [7; 4 * 512]).unwrap();
    for (what, text, kind) in lies() {
        fs::write(folder.path().join("DiskDescriptor.xml"), &text).unwrap();
        let error = open(folder.path(), "").map(drop).expect_err(what);
        assert_eq!(error.kind(), kind, "{what}: {error}");
    }
}

#[test]
fn a_file_that_is_named_twice_and_one_that_is_another_image_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("disk"), [7; 4 * 512]).unwrap();
    let parts = |kind: &str, other: &str| {
        let first = storage(0, 2, &[(CURRENT, "Plain", "disk")]);
        description(4, "", &(first + &storage(2, 4, &[(CURRENT, kind, other)])), "")
    };
    for (kind, other, expected) in
        [("Plain", "disk", ErrorKind::Corrupt), ("Compressed", "more", ErrorKind::NotThisFormat)]
    {
        fs::write(folder.path().join("more"), [9; 1024]).unwrap();
        fs::write(folder.path().join("DiskDescriptor.xml"), parts(kind, other)).unwrap();
        let error = open(folder.path(), "").map(drop).unwrap_err();
        assert_eq!(error.kind(), expected, "{error}");
    }
    assert!(Source::new(Arc::new(Memory::from(parts("Plain", "more").into_bytes()))).path().is_none());
}
