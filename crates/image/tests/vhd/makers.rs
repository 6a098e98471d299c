//! Images of Windows, Virtual PC, disk2vhd, VirtualBox and QEMU.

use std::path::Path;

use transload_block::ErrorKind;
use transload_image::{OpenSettings, ReferenceGate, open_path};
use transload_testkit::{Corpus, disks};

/// Larger than this, what holds nothing is not read.
const WHOLE_MAX: u64 = 1 << 30;

#[test]
fn images_of_other_makers_hold_what_others_find() {
    let Some(corpus) = Corpus::get() else { return };
    let mut seen = 0;
    for entry in corpus.of_format("vpc") {
        let path = corpus.file(entry);
        let opened = match (open_path(&path, &OpenSettings::default()), entry.virtual_size) {
            (opened, Some(_)) => opened.unwrap(),
            (Err(error), None) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt, "{}: {error}", entry.path);
                continue;
            }
            (Ok(_), None) => panic!("{}: nobody else reads it", entry.path),
        };
        assert_eq!(Some(opened.device.size()), entry.virtual_size, "{}", entry.path);
        assert!(opened.layers[0].info.warnings.is_empty(), "{:?}", opened.layers[0].info);
        seen += 1;
        // The child's digest in the table is libvhdi's, which takes sector 186 from the child though its bit is 0: the
        // parent's bytes there are those of a file that the child's directory lists. See the test below.
        let Some(sha256) = entry.sha256.as_ref().filter(|_| opened.layers.len() == 1) else { continue };
        if opened.device.size() <= WHOLE_MAX {
            assert_eq!(&disks::sha256(&*opened.device), sha256, "{}", entry.path);
        }
    }
    assert!(seen >= 10, "{seen}");
}

/// A child by Windows: each sector comes from it or from the parent as the bitmap says, the highest bit of a byte first.
#[test]
fn a_child_by_windows_shows_its_parent_sector_by_sector() {
    let Some(corpus) = Corpus::get() else { return };
    let (child, parent) =
        (corpus.folder.join("dfvfs/fat-differential.vhd"), corpus.folder.join("dfvfs/fat-parent.vhd"));
    let opened = open_path(&child, &OpenSettings::default()).unwrap();
    assert_eq!(opened.layers.len(), 2);
    let (child, parent) = (std::fs::read(&child).unwrap(), std::fs::read(&parent).unwrap());
    let block = 0x9f * 512;
    let (bitmap, data) = (&child[block..block + 512], &child[block + 512..]);
    // libvhdi shifts a byte of the bitmap to the bit it asks for and forgets to mask it, so that for it the sectors behind
    // the first set one of each eight are the child's too. Sector 186 is the one where that shows, and holds a file of
    // twelve bytes that the child's directory lists: the parent's bytes are the right ones.
    let (whole, theirs) = (disks::sha256(&*opened.device), corpus.entry("dfvfs/fat-differential.vhd").unwrap());
    let mut misread = vec![0; 8192 * 512];
    opened.device.read_at(&mut misread, 0).unwrap();
    misread[186 * 512..187 * 512].copy_from_slice(&data[186 * 512..187 * 512]);
    let misread = disks::sha256(&transload_block::Memory::from(misread));
    assert!(whole != misread && theirs.sha256.as_ref() == Some(&misread), "{whole}");
    let mut sector = [0; 512];
    for index in 0..8192_usize {
        opened.device.read_at(&mut sector, index as u64 * 512).unwrap();
        let own = index < 4096 && bitmap[index / 8] >> (7 - index % 8) & 1 == 1;
        let from = if own { data } else { &parent };
        assert!(sector == from[index * 512..][..512], "sector {index}");
    }
}

#[test]
fn a_parent_is_found_beside_its_child_and_must_be_the_one() {
    let Some(corpus) = Corpus::get() else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let copy = |from: &str, to: &str| std::fs::copy(corpus.folder.join("dfvfs").join(from), at(to)).unwrap();
    copy("fat-differential.vhd", "child.vhd");
    let open = |path: &Path| open_path(path, &OpenSettings::default());
    let error = open(&at("child.vhd")).unwrap_err();
    assert!(error.to_string().contains("fat-parent.vhd"), "{error}");
    copy("ntfs-fixed.vhd", "fat-parent.vhd");
    let error = open(&at("child.vhd")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains("5fa21a55-f394-aa4d-9958-1951a67d5540"), "{error}");
    copy("fat-parent.vhd", "fat-parent.vhd");
    assert_eq!(open(&at("child.vhd")).unwrap().layers.len(), 2);
    // Renamed, it is known by its id, of whatever else lies there; two of them are one too many.
    std::fs::rename(at("fat-parent.vhd"), at("renamed.vhd")).unwrap();
    copy("ntfs-fixed.vhd", "other.vhd");
    let found = open(&at("child.vhd")).unwrap();
    assert_eq!(found.layers[1].source.path().unwrap().file_name().unwrap(), "renamed.vhd");
    copy("fat-parent.vhd", "again.vhd");
    let error = open(&at("child.vhd")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    assert!(error.to_string().contains("again.vhd") && error.to_string().contains("renamed.vhd"), "{error}");
    let settings = OpenSettings { gate: ReferenceGate::Deny, ..OpenSettings::default() };
    assert_eq!(open_path(&at("child.vhd"), &settings).unwrap_err().kind(), ErrorKind::Denied);
}
