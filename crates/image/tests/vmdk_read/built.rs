//! VMDKs of the kinds that no tool at hand writes, built byte by byte, and compared with what they were built from.

use std::fs;

use tempfile::TempDir;
use transload_block::{BlockRead, BlockStatus, ErrorKind, Memory};
use transload_image::{Access, ContentId, OpenSettings, Opened, ReferenceGate, Source, open};

use crate::builder::{Built, Hosted, SeGrain, cowd, descriptor, sesparse};
use crate::{open_file, vmdk};

/// A folder with files in it.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = TempDir::new().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

/// The statuses of a device, neighbours of one kind joined.
fn map(device: &dyn BlockRead) -> Vec<(u64, BlockStatus)> {
    let mut map: Vec<(u64, BlockStatus)> = Vec::new();
    let mut at = 0;
    while at < device.size() {
        let extent = device.block_status(at..device.size()).unwrap();
        match map.last_mut() {
            Some((length, status)) if *status == extent.status => *length += extent.length,
            _ => map.push((extent.length, extent.status)),
        }
        at = extent.end();
    }
    map
}

/// Whether the bytes of `range`, and no others around it by chance, are `byte`.
fn assert_bytes(device: &dyn BlockRead, range: std::ops::Range<u64>, byte: u8) {
    let mut buf = vec![!byte; (range.end - range.start) as usize];
    device.read_at(&mut buf, range.start).unwrap();
    assert!(buf.iter().all(|found| *found == byte), "{range:?} is full of {byte:#x}");
}

#[test]
fn extents_of_every_kind_in_one_descriptor() {
    let mut hosted = Hosted::new(24);
    hosted.data = vec![(1, 0xa1)];
    let cowd = cowd(100, 16, &[(6, 0xc6), (0, 0xc0)]);
    let sesparse = sesparse(40_000, &[(0, SeGrain::Zero), (1, SeGrain::Stored(5000, 0x51)), (4097, SeGrain::Unmapped)]);
    let flat: Vec<u8> = [[0xf0; 512], [0xf1; 512], [0xf2; 512]].concat();
    let text = descriptor(
        "custom",
        "parentCID=00000001\nparentFileNameHint=\"p.vmdk\"\n",
        &[
            "RW 20 SPARSE \"h \"q\" ü.vmdk\"",
            "RW 2 FLAT \"flat.bin\" 1",
            "RW 5 ZERO",
            "RDONLY 100 VMFSSPARSE \"c.vmdk\"",
            "RW 0 FLAT \"absent\" 0",
            "RW 40000 SESPARSE \"s.vmdk\"",
            "NOACCESS 1 ZERO",
            "RW 1 VMFS \"flat.bin\" 0",
        ],
    );
    let folder = folder(&[
        ("d.vmdk", text.as_bytes()),
        ("h \"q\" ü.vmdk", &hosted.build().file.0),
        ("c.vmdk", &cowd),
        ("s.vmdk", &sesparse.0),
        ("flat.bin", &flat),
    ]);
    let source = Source::from_path(&folder.path().join("d.vmdk"), Access::ReadOnly).unwrap();
    let settings = OpenSettings { chain: false, ..OpenSettings::default() };
    let opened = open(source, &settings).unwrap();
    let device = &*opened.layers[0].device;
    assert_eq!(device.size(), (20 + 2 + 5 + 100 + 40_000 + 1 + 1) * 512);
    let s = 512;
    assert_bytes(device, 0..8 * s, 0);
    assert_bytes(device, 8 * s..16 * s, 0xa1);
    assert_bytes(device, 20 * s..21 * s, 0xf1);
    assert_bytes(device, 21 * s..22 * s, 0xf2);
    assert_bytes(device, 27 * s..43 * s, 0xc0);
    assert_bytes(device, (27 + 96) * s..127 * s, 0xc6);
    assert_bytes(device, (127 + 8) * s..(127 + 16) * s, 0x51);
    assert_bytes(device, (127 + 40_001) * s..(127 + 40_002) * s, 0xf0);
    use BlockStatus::{Data, Hole, Zero};
    let joined = [
        (8 * s, Hole),
        (8 * s, Data),
        (4 * s, Hole),
        (2 * s, Data),
        (5 * s, Zero),
        (16 * s, Data),
        (80 * s, Hole),
        (4 * s, Data),
        (8 * s, Zero),
        (8 * s, Data),
        ((4097 - 2) * 8 * s, Hole),
        (8 * s, Zero),
        ((40_000 - 4098 * 8) * s, Hole),
        (s, Zero),
        (s, Data),
    ];
    assert_eq!(map(device), joined);
    let info = &opened.layers[0].info;
    assert_eq!(info.extents.len(), 8);
    assert_eq!(info.extents[2].file, None);
    assert_eq!(info.cluster_size, Some(8192));
    let parent = opened.layers[0].parent.as_ref().unwrap();
    assert_eq!(parent.names, ["p.vmdk"]);
    assert_eq!(parent.content_id, Some(ContentId::VmdkCid(1)));
}

#[test]
fn a_second_extent_is_never_dropped() {
    let text = descriptor("twoGbMaxExtentFlat", "", &["RW 1 FLAT \"a\" 0", "RW 1 FLAT \"b\" 0"]);
    let folder = folder(&[("d.vmdk", text.as_bytes()), ("a", &[1; 512])]);
    let path = folder.path().join("d.vmdk");
    assert_eq!(open_file(&path).unwrap_err().kind(), ErrorKind::Io);
    fs::write(folder.path().join("b"), [2; 511]).unwrap();
    assert_eq!(open_file(&path).unwrap_err().kind(), ErrorKind::Corrupt);
    fs::write(folder.path().join("b"), [2; 512]).unwrap();
    let device = open_file(&path).unwrap().device;
    assert_eq!(device.size(), 1024);
    assert_bytes(&*device, 512..1024, 2);
}

#[test]
fn the_extent_line_rules_over_the_header() {
    let mut hosted = Hosted::monolithic(24, "");
    hosted.data = vec![(2, 9)];
    hosted.descriptor = Some(descriptor("monolithicSparse", "", &["RW 20 SPARSE \"renamed since.vmdk\""]));
    let folder = folder(&[("d.vmdk", &hosted.build().file.0)]);
    let path = folder.path().join("d.vmdk");
    let opened = open_file(&path).unwrap();
    assert_eq!(opened.device.size(), 20 * 512);
    assert_bytes(&*opened.device, 16 * 512..20 * 512, 9);
    assert!(opened.layers[0].info.warnings.is_empty(), "rounding is not worth a word");
    // More than the header can hold is another matter.
    hosted.descriptor = Some(descriptor("monolithicSparse", "", &["RW 25 SPARSE \"d.vmdk\""]));
    fs::write(&path, &hosted.build().file.0).unwrap();
    assert_eq!(open_file(&path).unwrap_err().kind(), ErrorKind::Corrupt);
    // Much less is said.
    hosted.descriptor = Some(descriptor("monolithicSparse", "", &["RW 3 SPARSE \"d.vmdk\""]));
    fs::write(&path, &hosted.build().file.0).unwrap();
    assert_eq!(open_file(&path).unwrap().layers[0].info.warnings.len(), 1);
}

#[test]
fn grains_and_tables_of_every_size() {
    for (grain, gtes) in [(1, 128), (2, 512), (64, 1024), (128, 512), (2048, 256), (1 << 15, 8192)] {
        let mut hosted = Hosted::monolithic(grain * u64::from(gtes) + grain / 2 + 1, "");
        (hosted.grain, hosted.gtes) = (grain, gtes);
        hosted.descriptor =
            Some(descriptor("monolithicSparse", "", &[&format!("RW {} SPARSE \"d\"", hosted.capacity)]));
        // The last grain of the first table, and the one that is alone in the second and not whole.
        hosted.data = vec![(u64::from(gtes) - 1, 3), (gtes.into(), 4)];
        let folder = folder(&[("d.vmdk", &hosted.build().file.0)]);
        let device = open_file(&folder.path().join("d.vmdk")).unwrap().device;
        let bytes = grain * 512;
        let second = u64::from(gtes) * bytes;
        assert_bytes(&*device, second - bytes..second, 3);
        assert_bytes(&*device, second..device.size(), 4);
        assert_eq!(
            map(&*device),
            [(second - bytes, BlockStatus::Hole), (bytes + device.size() - second, BlockStatus::Data)]
        );
        assert_eq!(u64::from(device.limits().granularity), bytes);
    }
}

#[test]
fn zeroed_grains_are_opaque() {
    let mut hosted = Hosted::monolithic(32, "");
    (hosted.version, hosted.flags, hosted.zeroed) = (2, 7, vec![1]);
    let open_built = |hosted: &Hosted| {
        let folder = folder(&[("d.vmdk", &hosted.build().file.0)]);
        open_file(&folder.path().join("d.vmdk")).unwrap().device
    };
    let s = 512;
    let expected = [(8 * s, BlockStatus::Hole), (8 * s, BlockStatus::Zero), (16 * s, BlockStatus::Hole)];
    assert_eq!(map(&*open_built(&hosted)), expected);
    // Without the flag the entry would be a grain in the descriptor.
    hosted.flags = 3;
    let device = open_built(&hosted);
    assert_eq!(device.read_at(&mut [0; 512], 8 * s).unwrap_err().kind(), ErrorKind::Corrupt);
}

/// Damages a built disk and says what opening it gives: the warning, if any, or the error's kind.
fn damaged(damage: impl FnOnce(&mut Built)) -> Result<Vec<String>, ErrorKind> {
    let mut hosted = Hosted::monolithic(3 * 512 * 8, "");
    hosted.data = vec![(0, 1), (600, 2), (1200, 3)];
    let mut built = hosted.build();
    damage(&mut built);
    let folder = folder(&[("d.vmdk", &built.file.0)]);
    let opened = open_file(&folder.path().join("d.vmdk")).map_err(|error| error.kind())?;
    for (grain, byte) in hosted.data {
        assert_bytes(&*opened.device, grain * 4096..(grain + 1) * 4096, byte);
    }
    Ok(opened.layers[0].info.warnings.clone())
}

#[test]
fn the_redundant_directory_when_the_first_is_broken() {
    assert_eq!(damaged(|_| ()).unwrap(), [""; 0]);
    type Damage = fn(&mut Built);
    let first: [Damage; 4] = [
        |built| built.file.u64(56, 0),
        |built| built.file.u64(56, u64::MAX - 1),
        |built| built.file.u32(built.directory + 4, 0x00ff_ffff),
        |built| built.file.u32(built.directory + 8, 0),
    ];
    for (index, damage) in first.into_iter().enumerate() {
        let warnings = damaged(damage).unwrap();
        assert!(
            warnings.len() == 1 && warnings[0].contains("redundant grain directory is used"),
            "{index}: {warnings:?}"
        );
    }
    let warnings = damaged(|built| built.file.u32(built.redundant, 0xffff_0000)).unwrap();
    assert!(warnings[0].contains("the redundant grain directory is broken"), "{warnings:?}");
    let both = damaged(|built| {
        built.file.u32(built.directory, 0xffff_0000);
        built.file.u32(built.redundant, 0xffff_0000);
    });
    assert_eq!(both.unwrap_err(), ErrorKind::Corrupt);
}

#[test]
fn an_extent_that_was_not_closed_is_dirty() {
    let mut built = Hosted::monolithic(8, "").build();
    built.file.put(72, &[1]);
    let folder = folder(&[("d.vmdk", &built.file.0)]);
    let opened = open_file(&folder.path().join("d.vmdk")).unwrap();
    assert!(opened.layers[0].info.dirty);
    assert!((vmdk().describe.unwrap())(&opened.layers[0].source).unwrap().dirty);
}

#[test]
fn a_descriptor_is_found_by_content_and_opened_in_its_encoding() {
    let mut text =
        b"\r\n# by hand\r\nVersion = 1\r\nencoding=\"Shift_JIS\"\r\ncreatetype = vmfs\r\nrw 1 vmfs \"".to_vec();
    text.extend_from_slice(b"\x83\x5c.vmdk\" 0\r\n");
    text.resize(text.len().next_multiple_of(512), 0);
    let folder = folder(&[("d.bin", &text), ("ソ.vmdk", &[7; 512])]);
    let opened = open_file(&folder.path().join("d.bin")).unwrap();
    assert_bytes(&*opened.device, 0..512, 7);
    assert_eq!(opened.layers[0].info.details["encoding"], "Shift_JIS");
}

#[test]
fn a_raw_disk_with_the_words_of_another_format_is_raw() {
    let text = descriptor("vmfs", "", &["RW 1 VMFS \"x\""]);
    let kdm = [b"KDM".as_slice(), &[0; 509], b"KDMV\x01\0\0\0", &[0; 4096]].concat();
    let no_version = [b"KDMV\0\0\0\0".as_slice(), &[0; 4096]].concat();
    let then_data = [text.as_bytes(), &[0; 512], &[1; 512]].concat();
    // A title would say that it is a descriptor, however long it is.
    let long = [text.trim_start_matches("# Disk DescriptorFile\n").as_bytes(), &vec![0; 2 << 20]].concat();
    let comment = b"# Disk DescriptorFile\nis what this text is about\n".to_vec();
    for bytes in [kdm, no_version, then_data, long, comment, b"version=1\ncolour=\"red\"\n".to_vec()] {
        let source: std::sync::Arc<dyn BlockRead> = std::sync::Arc::new(Memory::from(bytes));
        let found = transload_image::detect(&source).unwrap().unambiguous().unwrap();
        assert_eq!(found.name, "raw");
    }
}

#[test]
fn a_parent_is_never_left_out() {
    let child = |lines: &str| {
        let mut hosted = Hosted::monolithic(16, lines);
        hosted.data = vec![(1, 0xcc)];
        hosted.build().file.0
    };
    let mut base = Hosted::monolithic(16, "");
    base.data = vec![(0, 0xbb), (1, 0xba)];
    let base = base.build().file.0;
    let uuid = "ddb.uuid.image=\"a4311bef-3782-4693-bbd6-f46756822a7c\"\n";
    let mut named = Hosted::monolithic(16, uuid);
    named.data = vec![(0, 0xbb)];
    let named = named.build().file.0;
    let open_child = |lines: &str, parent: &[u8]| -> Result<Opened, (ErrorKind, String)> {
        let folder = folder(&[("child.vmdk", &child(lines)), ("base.vmdk", parent)]);
        let opened = open_file(&folder.path().join("child.vmdk")).map_err(|error| (error.kind(), error.to_string()))?;
        assert_eq!(opened.layers.len(), 2);
        assert_bytes(&*opened.device, 0..4096, 0xbb);
        assert_bytes(&*opened.device, 4096..8192, 0xcc);
        Ok(opened)
    };
    // By name, wherever it was, and by identity.
    open_child("parentCID=12345678\nparentFileNameHint=\"base.vmdk\"\n", &base).unwrap();
    open_child("parentCID=12345678\nparentFileNameHint=\"/vmfs/volumes/5f-1/vm/base.vmdk\"\n", &base).unwrap();
    open_child("parentCID=12345678\nparentFileNameHint=\"C:\\Users\\me\\base.vmdk\"\n", &base).unwrap();
    open_child("parentCID=12345678\n", &base).unwrap();
    // As VirtualBox does it: no CID, no name, a UUID.
    let by_uuid = "ddb.uuid.parent=\"a4311bef-3782-4693-bbd6-f46756822a7c\"\n";
    open_child(by_uuid, &named).unwrap();
    assert!(open_child(by_uuid, &base).is_err(), "no file answers to the UUID");
    // A parent that is another, and links that contradict themselves.
    let wrong = open_child("parentCID=12345679\nparentFileNameHint=\"base.vmdk\"\n", &base).unwrap_err();
    assert_eq!(wrong.0, ErrorKind::Corrupt, "{}", wrong.1);
    let contradiction = open_child("parentFileNameHint=\"base.vmdk\"\n", &base).unwrap_err();
    assert_eq!(contradiction.0, ErrorKind::Corrupt, "{}", contradiction.1);
    // A gate that is shut.
    let folder = folder(&[("child.vmdk", &child("parentCID=12345678\n")), ("base.vmdk", &base)]);
    let source = Source::from_path(&folder.path().join("child.vmdk"), Access::ReadOnly).unwrap();
    let shut = OpenSettings { gate: ReferenceGate::Deny, ..OpenSettings::default() };
    assert_eq!(open(source, &shut).unwrap_err().kind(), ErrorKind::Denied);
}

#[test]
fn a_child_of_many_gigabytes_is_mapped_at_once() {
    let mut hosted = Hosted::monolithic(1 << 30, "");
    hosted.grain = 128;
    let built = hosted.build();
    let folder = folder(&[("d.vmdk", &built.file.0)]);
    let device = open_file(&folder.path().join("d.vmdk")).unwrap().device;
    assert_eq!(map(&*device), [(512 << 30, BlockStatus::Hole)]);
}

#[test]
fn bytes_are_found_where_they_stand_in_their_files() {
    let mut hosted = Hosted::new(64);
    hosted.data = vec![(1, 1), (2, 2), (4, 4)];
    let text = descriptor("custom", "", &["RW 64 SPARSE \"h\"", "RW 2 FLAT \"f\" 3"]);
    let folder = folder(&[("d.vmdk", text.as_bytes()), ("h", &hosted.build().file.0), ("f", &[9; 5 * 512])]);
    let device = open_file(&folder.path().join("d.vmdk")).unwrap().device;
    let host = device.capabilities().host_extents.unwrap();
    let mut at = 0;
    while at < device.size() {
        let extent = host.host_extent(at..device.size()).unwrap();
        if let Some(location) = extent.location {
            use std::os::unix::fs::FileExt;
            let (mut direct, mut through) = (vec![0; extent.length as usize], vec![0; extent.length as usize]);
            location.file.read_exact_at(&mut direct, location.offset).unwrap();
            device.read_at(&mut through, at).unwrap();
            assert_eq!(direct, through);
        } else {
            assert!(device.block_status(at..at + extent.length).unwrap().status.reads_zero());
        }
        at += extent.length;
    }
}
