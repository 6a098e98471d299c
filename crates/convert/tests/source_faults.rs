//! Read errors in the source, at every third one on its file: the conversion fails with them and leaves nothing.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::sync::Arc;
use transload_image::codec::Level;

use transload_block::{Error, ErrorKind, FileBlock, Memory, Result, Storage};
use transload_convert::{Compression, Input, Output, Report, Settings, convert};
use transload_image::{Format, OpenSettings, OptionValues, Source, open};
use transload_testkit::{Counted, Misbehaving, Random};

/// Kinds of sources and of targets, and whether they are compressed.
const KINDS: &[(&str, &str, bool)] = &[
    ("raw", "", false),
    ("qcow2", "cluster_size=16k", false),
    ("qcow2", "", true),
    ("vmdk", "subformat=monolithicSparse", false),
    ("vmdk", "subformat=streamOptimized", true),
    ("vhd", "block_size=512k", false),
    ("vhdx", "block_size=1M", false),
    ("vdi", "", false),
];

fn settings((name, options, compressed): (&str, &str, bool)) -> Settings {
    let format = Format::by_name(name).unwrap();
    let options = Some(options).filter(|text| !text.is_empty());
    Settings {
        options: OptionValues::parse(format.create_options, options).unwrap(),
        compression: compressed.then_some(Compression { kind: None, level: Level::FAST }),
        ..Settings::new(format)
    }
}

fn source(storage: Arc<dyn Storage>, format: &str) -> Result<Input> {
    let settings = OpenSettings { format: Format::by_name(format), cache_bytes: 4096, ..OpenSettings::default() };
    Ok(Input::Image(open(Source::new(storage), &settings)?))
}

/// An image of each kind, as bytes.
fn image(kind: (&str, &str, bool)) -> Memory {
    let mut disk = vec![0; 1 << 20];
    let noise = Random::new(5).bytes(400_000);
    disk[..300_000].copy_from_slice(&noise[..300_000]);
    disk[800_000..900_000].copy_from_slice(&noise[300_000..]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    let input = source(Arc::new(Memory::from(disk)), "raw").unwrap();
    convert(input, Output::Path(path.clone()), &settings(kind)).unwrap();
    assert!(FileBlock::open(&path, false).is_ok());
    Memory::from(fs::read(&path).unwrap())
}

#[test]
fn a_read_error_in_the_source_anywhere_is_reported_and_leaves_nothing() {
    for from in KINDS {
        let bytes = image(*from);
        for to in KINDS {
            for number in (0..).step_by(3) {
                let folder = tempfile::tempdir().unwrap();
                let storage = Arc::new(Misbehaving::new(Arc::new(bytes.clone())));
                storage.fail_at(Counted::Reads, number, ErrorKind::Io);
                let input = source(Arc::clone(&storage) as Arc<dyn Storage>, from.0);
                let attempt = |input| -> Result<Report> {
                    convert(input?, Output::Path(folder.path().join("out")), &settings(*to))
                };
                let answer = attempt(input);
                let left: Vec<_> =
                    fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
                let what = format!("{from:?} to {to:?}, read {number}");
                let kind = answer.as_ref().err().map(Error::kind);
                match kind {
                    None => {
                        assert!(number > 0 && left == ["out"], "{what}: {left:?}");
                        break;
                    }
                    Some(kind) => {
                        assert_eq!(kind, ErrorKind::Io, "{what}: {answer:?}");
                        assert!(left.is_empty(), "{what}: {left:?}");
                    }
                }
            }
        }
    }
}
