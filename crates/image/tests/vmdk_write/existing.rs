//! Images that exist: written again, checked, repaired, hung from a parent.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use transload_block::ErrorKind;
use transload_image::{
    Access, CheckReport, CheckRequest, CreateRequest, IdSource, OpenSettings, Opened, ReferenceGate, Source, open,
};

use crate::folder::{Folder, VMDK, parse};
use crate::witness;

fn source(path: &Path, access: Access) -> Source {
    Source::from_path(path, access).unwrap()
}

fn opened(path: &Path, access: Access) -> transload_block::Result<Opened> {
    open(source(path, access), &OpenSettings { access, ..OpenSettings::default() })
}

fn check(path: &Path, repair: bool) -> CheckReport {
    let access = if repair { Access::ReadWrite } else { Access::ReadOnly };
    VMDK.check.unwrap()(CheckRequest { source: source(path, access), gate: &ReferenceGate::SameDirectory, repair })
        .unwrap()
}

fn messages(report: &CheckReport) -> String {
    report.findings.iter().map(|finding| format!("{:?}: {}\n", finding.kind, finding.message)).collect()
}

fn assert_clean(path: &Path) {
    let report = check(path, false);
    assert!(report.findings.is_empty(), "{}: {}", path.display(), messages(&report));
}

fn qemu_img(arguments: &[&str]) {
    let output = Command::new("qemu-img").args(arguments).output().expect("qemu-img is needed: install qemu-utils");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn sample(folder: &Folder, options: &str) {
    let image = folder.create(100 << 20, options).unwrap();
    image.write_at(&[1; 200_000], 1000).unwrap();
    image.write_at(&[2; 200_000], 70 << 20).unwrap();
    image.finish().unwrap();
}

fn raw(folder: &Folder, size: u64, writes: &[(u64, u8, usize)]) -> std::path::PathBuf {
    let path = folder.folder().join("raw");
    let file = fs::File::create(&path).unwrap();
    file.set_len(size).unwrap();
    for (offset, byte, length) in writes {
        file.write_all_at(&vec![*byte; *length], *offset).unwrap();
    }
    path
}

#[test]
fn writing_again_changes_the_cid_once_and_keeps_the_rest() {
    for kind in ["monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat", "vmfs"] {
        let folder = Folder::new("disk.vmdk");
        sample(&folder, &format!("subformat={kind}"));
        let cid = |path: &Path| opened(path, Access::ReadOnly).unwrap().layers[0].content_ids[0];
        let before = cid(&folder.path());
        let untouched = fs::read(folder.path()).unwrap();
        drop(opened(&folder.path(), Access::ReadWrite).unwrap());
        assert!(untouched == fs::read(folder.path()).unwrap(), "opening alone changes nothing");

        let image = opened(&folder.path(), Access::ReadWrite).unwrap();
        let writer = image.layers[0].writer.clone().unwrap();
        writer.write_at(&[3; 100_000], 20 << 20).unwrap();
        let during = cid(&folder.path());
        writer.write_at(&[4; 10], 500).unwrap();
        writer.finish().unwrap();
        assert!(before != during && during == cid(&folder.path()), "{kind}");
        assert_clean(&folder.path());
        let writes = [(1000, 1, 200_000), (70 << 20, 2, 200_000), (20 << 20, 3, 100_000), (500, 4, 10)];
        witness::judge(&folder.path(), &raw(&folder, 100 << 20, &writes), 100 << 20);
    }
}

#[test]
fn an_image_of_qemu_img_is_written_into() {
    for kind in ["monolithicSparse", "twoGbMaxExtentSparse", "monolithicFlat"] {
        let folder = Folder::new("disk.vmdk");
        let path = folder.path();
        let size = (100 << 20) + 512_u64;
        let source = raw(&folder, size, &[(0, 9, 100_000), (size - 700, 8, 700)]);
        let name = path.to_str().unwrap();
        let option = format!("subformat={kind}");
        qemu_img(&["convert", "-f", "raw", "-O", "vmdk", "-o", &option, source.to_str().unwrap(), name]);
        assert_clean(&path);
        let image = opened(&path, Access::ReadWrite).unwrap();
        let writer = image.layers[0].writer.clone().unwrap();
        writer.write_at(&[7; 1 << 20], 50 << 20).unwrap();
        writer.write_at(&[6; 100], size - 100).unwrap();
        writer.finish().unwrap();
        assert_clean(&path);
        let writes = [(0, 9, 100_000), (size - 700, 8, 700), (50 << 20, 7, 1 << 20), (size - 100, 6, 100)];
        witness::judge(&path, &raw(&folder, size, &writes), size);
    }
}

#[test]
fn what_is_made_here_is_clean() {
    for options in ["", "zeroed_grain=on", "subformat=twoGbMaxExtentSparse", "subformat=vmfs"] {
        let folder = Folder::new("disk.vmdk");
        sample(&folder, options);
        assert_clean(&folder.path());
    }
    for layout in ["front", "footer"] {
        let folder = Folder::new("disk.vmdk");
        let data = |offset: u64, grain: &mut [u8]| {
            grain.fill(3);
            offset >> 16 & 3 == 1
        };
        folder.stream(&data, (40 << 20) + 700, &format!("layout={layout}")).unwrap();
        let report = check(&folder.path(), false);
        assert!(report.findings.is_empty(), "{}", messages(&report));
        assert_eq!((report.allocated_units, report.compressed_units, report.total_units), (160, 160, 641));
    }
}

#[test]
fn an_empty_disk_of_64_tib_is_checked_in_a_few_seconds() {
    let folder = Folder::new("disk.vmdk");
    folder.create(64 << 40, "").unwrap().finish().unwrap();
    let started = std::time::Instant::now();
    assert_clean(&folder.path());
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

fn patch(path: &Path, offset: u64, bytes: &[u8]) {
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

fn number(path: &Path, offset: u64) -> u64 {
    let mut bytes = [0; 4];
    fs::File::open(path).unwrap().read_exact_at(&mut bytes, offset).unwrap();
    u32::from_le_bytes(bytes).into()
}

#[test]
fn either_copy_of_the_tables_is_restored_from_the_other() {
    let (rgd, gd) = (21 * 512, (21 + 1 + 4 * 4) * 512);
    let writes = [(1000, 1, 200_000), (70 << 20, 2, 200_000)];
    type Damage = fn(&Path, u64, u64);
    let damages: [(&str, Damage); 5] = [
        ("redundant table zeroed", |path, rgd, _| patch(path, number(path, rgd) * 512, &[0; 2048])),
        ("redundant entry lost", |path, rgd, _| patch(path, rgd + 8, &u32::MAX.to_le_bytes())),
        ("first table of noise", |path, _, gd| patch(path, number(path, gd) * 512, &[0xee; 2048])),
        ("first entry lost", |path, _, gd| patch(path, gd + 8, &u32::MAX.to_le_bytes())),
        ("first entry emptied", |path, _, gd| patch(path, gd + 8, &[0; 4])),
    ];
    for (what, damage) in damages {
        let folder = Folder::new("disk.vmdk");
        sample(&folder, "");
        damage(&folder.path(), rgd, gd);
        let report = check(&folder.path(), false);
        assert_eq!((report.corruptions, report.corruptions_fixed), (1, 0), "{what}: {}", messages(&report));
        let report = check(&folder.path(), true);
        assert_eq!((report.corruptions, report.corruptions_fixed), (1, 1), "{what}: {}", messages(&report));
        assert_clean(&folder.path());
        witness::judge(&folder.path(), &raw(&folder, 100 << 20, &writes), 100 << 20);
    }
}

#[test]
fn what_a_crash_leaves_is_found_and_mended() {
    let folder = Folder::new("disk.vmdk");
    let image = folder.create(100 << 20, "").unwrap();
    image.write_at(&[1; 65536], 0).unwrap();
    image.flush().unwrap();
    image.write_at(&[2; 65536], 65536).unwrap();
    drop(image);
    let report = check(&folder.path(), false);
    assert!(report.corruptions == 0 && report.leaks == 2, "{}", messages(&report));
    let report = check(&folder.path(), true);
    assert_eq!(report.leaks_fixed, 2, "{}", messages(&report));
    assert_clean(&folder.path());
    witness::judge(&folder.path(), &raw(&folder, 100 << 20, &[(0, 1, 65536)]), 100 << 20);
}

#[test]
fn two_grains_at_one_place_are_found() {
    let folder = Folder::new("disk.vmdk");
    sample(&folder, "");
    let path = folder.path();
    for directory in [21 * 512, (21 + 1 + 16) * 512] {
        let table = number(&path, directory) * 512;
        patch(&path, table + 40, &u32::try_from(number(&path, table)).unwrap().to_le_bytes());
    }
    let report = check(&path, true);
    assert_eq!((report.corruptions, report.corruptions_fixed), (1, 0), "{}", messages(&report));
    assert!(report.findings[0].message.contains("grain 10"), "{}", messages(&report));
}

#[test]
fn a_stream_that_importers_refuse_is_found() {
    let made = |damage: &dyn Fn(&Path, u64)| {
        let folder = Folder::new("disk.vmdk");
        let data = |offset: u64, grain: &mut [u8]| {
            grain.fill((offset >> 16).to_le_bytes()[0] | 1);
            true
        };
        folder.stream(&data, 10 << 16, "").unwrap();
        let length = fs::metadata(folder.path()).unwrap().len();
        damage(&folder.path(), length);
        messages(&check(&folder.path(), false))
    };
    let resize = |path: &Path, length: u64| OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
    assert_eq!(made(&|_, _| ()), "");
    assert!(made(&|path, length| resize(path, length - 512)).contains("end-of-stream marker is missing"));
    assert!(made(&|path, length| resize(path, length + 512)).contains("512 bytes follow"));
    assert!(made(&|path, length| patch(path, length - 1024 + 20, &[0xff; 20])).contains("grain 9"));
    assert!(made(&|path, length| patch(path, length - 1024, &[1])).contains("its marker says sector"));
}

#[test]
fn a_child_remembers_its_parents_cid_and_qemu_reads_both() {
    for zeroed in ["off", "on"] {
        let folder = Folder::new("child.vmdk");
        let parent_folder = Folder::new("parent.vmdk");
        sample(&parent_folder, "");
        let parent = folder.folder().join("parent.vmdk");
        fs::copy(parent_folder.path(), &parent).unwrap();
        let opened_parent = opened(&parent, Access::ReadOnly).unwrap();
        let child = VMDK.create.unwrap()(CreateRequest {
            files: &folder,
            size: 100 << 20,
            options: &parse(&format!("backing_file=parent.vmdk,zeroed_grain={zeroed}")),
            ids: &IdSource::from_material(b"child"),
            backing: Some(&opened_parent.layers[0]),
            cache_bytes: 1 << 20,
        })
        .unwrap();
        child.write_at(&[5; 65536], 65536).unwrap();
        child.write_zeroes_at(70 << 20..(70 << 20) + 131_072, transload_block::ZeroMode::Unmap).unwrap();
        child.finish().unwrap();
        let writes = [(1000, 1, 200_000), (70 << 20, 2, 200_000), (65536, 5, 65536), (70 << 20, 0, 131_072)];
        witness::judge(&folder.path(), &raw(&folder, 100 << 20, &writes), 100 << 20);
        assert_clean(&folder.path());
        // The parent is written behind the child's back.
        let again = opened(&parent, Access::ReadWrite).unwrap();
        let writer = again.layers[0].writer.clone().unwrap();
        writer.write_at(&[1], 0).unwrap();
        writer.finish().unwrap();
        assert!(opened(&folder.path(), Access::ReadOnly).is_err());
    }
}

#[test]
fn what_cannot_be_written_is_refused() {
    let folder = Folder::new("disk.vmdk");
    folder
        .stream(
            &|_, grain: &mut [u8]| {
                grain.fill(1);
                true
            },
            1 << 20,
            "",
        )
        .unwrap();
    assert_eq!(opened(&folder.path(), Access::ReadWrite).unwrap_err().kind(), ErrorKind::Unsupported);
}
