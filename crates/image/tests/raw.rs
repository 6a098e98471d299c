//! Raw against the block contract, on files and in memory.

use std::sync::Arc;

use transload_block::{Memory, Storage};
use transload_image::{Access, Format, OpenSettings, Source, open, open_path};
use transload_testkit::conformance;

fn settings(access: Access) -> OpenSettings {
    OpenSettings { format: Format::by_name("raw"), access, ..OpenSettings::default() }
}

#[test]
fn a_raw_file_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    for size in [1, 513, 65536, 300_001] {
        let bytes: Vec<u8> = (0..size).map(|at: u32| u8::try_from(at % 251).unwrap()).collect();
        std::fs::write(&path, &bytes).unwrap();
        let opened = open_path(&path, &settings(Access::ReadOnly)).unwrap();
        conformance::read(opened.device.as_ref(), &Memory::from(bytes)).assert();
        let opened = open_path(&path, &settings(Access::ReadWrite)).unwrap();
        conformance::write(opened.layers[0].writer.as_deref().unwrap(), u64::from(size)).assert();
    }
}

#[test]
fn a_raw_disk_in_memory_keeps_the_contract() {
    let storage: Arc<dyn Storage> = Arc::new(Memory::from(vec![3; 200_003]));
    let opened = open(Source::writable(storage), &settings(Access::ReadWrite)).unwrap();
    conformance::write(opened.layers[0].writer.as_deref().unwrap(), 7).assert();
}
