//! NTFS, filled by ntfs-3g.

use std::fs;
use std::process::Command;

use transload_filesystem::{FileSystemExt, Follow};
use transload_testkit::witness::must;

use crate::compare::{Rules, assert_same, open};
use crate::mount::{self, Mount};
use crate::tree::{self, Limits};

const RULES: Rules = Rules { unix: false, time: Some(100), attributes: true };

#[test]
fn trees_by_ntfs_3g_are_read() {
    if !mount::is_root() {
        eprintln!("SKIPPED: mounting needs root");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (name, options) in [("4k", vec!["-c", "4096"]), ("512", vec!["-c", "512"]), ("64k", vec!["-c", "65536"])] {
        eprintln!("{name}");
        let image = folder.path().join(name);
        fs::File::create(&image).unwrap().set_len(96 << 20).unwrap();
        let text = image.display().to_string();
        must("mkntfs", ["-q", "-F", "-L", "a label"].into_iter().chain(options).chain([text.as_str()]));
        {
            let Some(mount) = Mount::ntfs(&image) else { return };
            tree::make(&mount.folder, Limits { unix: true, attributes: true, many: 1200 });
            make_compressed(&mount.folder);
            make_fragmented(&mount.folder);
        }
        let Some(mount) = Mount::ntfs(&image) else { return };
        let filesystem = open(&image);
        assert_eq!((filesystem.info().label.as_str(), filesystem.info().version.as_str()), ("a label", "NTFS 3.1"));
        assert_same(&*filesystem, &mount.folder, RULES);
        let found = filesystem.resolve(b"/NAMES/upper", Follow::All).unwrap();
        assert_eq!(filesystem.stat(found.id).unwrap().size, 5);
        drop(mount);
        fs::remove_file(image).unwrap();
    }
}

/// A folder whose files are compressed: text, noise and holes.
fn make_compressed(root: &std::path::Path) {
    let folder = root.join("compressed");
    fs::create_dir(&folder).unwrap();
    // FILE_ATTRIBUTE_COMPRESSED on the folder; what is made in it inherits it.
    let status =
        Command::new("setfattr").args(["-n", "system.ntfs_attrib_be", "-v", "0x00000800"]).arg(&folder).status();
    assert!(status.expect("setfattr is needed: install attr").success());
    let text: Vec<u8> = (0..200_000_u32).flat_map(|number| format!("{} ", number % 977).into_bytes()).collect();
    fs::write(folder.join("text"), &text).unwrap();
    fs::write(folder.join("zeroes"), vec![0; 300_000]).unwrap();
    fs::copy(root.join("large"), folder.join("noise")).unwrap();
    fs::write(folder.join("small"), b"a few bytes").unwrap();
}

/// A file in so many pieces that its record needs others.
fn make_fragmented(root: &std::path::Path) {
    use std::os::unix::fs::FileExt;
    let (one, other) = (root.join("fragmented"), root.join("between"));
    let (one, other) = (fs::File::create(one).unwrap(), fs::File::create(other).unwrap());
    for round in 0..600_u64 {
        let piece = vec![u8::try_from(round % 251).unwrap(); 4096];
        one.write_all_at(&piece, round * 3 * 4096).unwrap();
        other.write_all_at(&piece, round * 2 * 4096).unwrap();
    }
}
