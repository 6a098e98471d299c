//! FAT, filled by mtools.

use std::fs;
use std::path::Path;
use std::process::Command;

use transload_testkit::witness::{must, said};

use crate::compare::{Rules, assert_same, open};
use crate::tree::{self, Limits};

const SETS: &[(&str, u64, &[&str])] = &[
    ("fat12", 16 << 20, &["-F", "12", "-s", "16"]),
    ("fat16", 64 << 20, &["-F", "16"]),
    ("fat32", 80 << 20, &["-F", "32", "-s", "1"]),
    ("fat32-4k-sectors", 300 << 20, &["-F", "32", "-S", "4096", "-s", "1"]),
];

#[test]
fn trees_by_mtools_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    tree::make(&source, Limits { unix: false, attributes: false, many: 200 });
    for (name, size, options) in SETS {
        eprintln!("{name}");
        let image = folder.path().join(name);
        fs::File::create(&image).unwrap().set_len(*size).unwrap();
        let text = image.display().to_string();
        must("mkfs.fat", options.iter().copied().chain(["-n", "LABEL", "-i", "12345678", text.as_str()]));
        fill(&image, &source);
        let filesystem = open(&image);
        assert_eq!((filesystem.info().label.as_str(), filesystem.info().uuid.as_deref()), ("LABEL", Some("1234-5678")));
        assert_same(&*filesystem, &source, Rules { unix: false, time: None, attributes: false });
        fs::remove_file(image).unwrap();
    }
}

/// Copies what is in `source` to the root folder.
fn fill(image: &Path, source: &Path) {
    let mut arguments = vec!["-s".to_owned(), "-m".to_owned(), "-i".to_owned(), image.display().to_string()];
    let mut names: Vec<_> = fs::read_dir(source).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    arguments.extend(names.iter().map(|path| path.display().to_string()));
    arguments.push("::/".to_owned());
    let output = Command::new("mcopy").args(arguments).env("LC_ALL", "C.UTF-8").output();
    let output = output.expect("mcopy is needed: install mtools");
    assert!(output.status.success(), "{}", said(&output));
}
