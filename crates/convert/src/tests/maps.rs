use std::sync::Arc;

use transload_block::{BlockRead, FileBlock};
use transload_image::{Layer, Opened, Source};

use super::fakes::{Disk, UNIT, layer};
use crate::{Cancel, MapEntry, map};

fn entries(layers: Vec<Disk>) -> Vec<(u64, u64, usize, bool, bool)> {
    entries_of(layers.into_iter().map(|disk| layer(Arc::new(disk))).collect())
}

fn entries_of(layers: Vec<Layer>) -> Vec<(u64, u64, usize, bool, bool)> {
    let device: Arc<dyn BlockRead> = Arc::new(Disk { size: layers[0].device.size(), ..Disk::default() });
    let mut found = Vec::new();
    map(&Opened { device, layers }, &Cancel::default(), |entry: MapEntry| {
        assert_eq!((entry.data, entry.zero), (entry.present, !entry.present));
        found.push((entry.start / UNIT, entry.length / UNIT, entry.depth, entry.present, entry.compressed));
        Ok(())
    })
    .unwrap();
    found
}

fn disk(units: u64, data: &[u64]) -> Disk {
    let units_of_data = data.iter().map(|index| (*index, vec![1; 65536])).collect();
    Disk { size: units * UNIT, units: units_of_data, ..Disk::default() }
}

#[test]
fn depth_tells_the_layer_that_decides() {
    let top = disk(32, &[4, 5]);
    let base = disk(16, &[0, 5, 6]);
    assert_eq!(
        entries(vec![top, base]),
        [
            (0, 1, 1, true, false),
            (1, 3, 1, false, false),
            (4, 2, 0, true, false),
            (6, 1, 1, true, false),
            (7, 9, 1, false, false),
            // The base ends here: nothing below the top one reaches further.
            (16, 16, 0, false, false),
        ]
    );
}

#[test]
fn what_stands_nowhere_is_compressed_in_a_file_that_compresses() {
    let image = || layer(Arc::new(Disk { encoded: true, ..disk(4, &[1]) }));
    let file = tempfile::NamedTempFile::new().unwrap();
    let source = Source::new(Arc::new(FileBlock::open(file.path(), false).unwrap()));
    let found = entries_of(vec![Layer { source, ..image() }]);
    assert_eq!(found, [(0, 1, 0, false, false), (1, 1, 0, true, true), (2, 2, 0, false, false)]);
    // Of an image that is in no file nothing stands in one, compressed or not.
    assert_eq!(entries_of(vec![image()])[1], (1, 1, 0, true, false));
}

#[test]
fn an_empty_disk_has_no_entries() {
    assert!(entries(vec![disk(0, &[])]).is_empty());
}
