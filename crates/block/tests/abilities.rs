//! What wrappers forward of the abilities of the devices in them.

use std::sync::Arc;

use transload_block::{
    BlockRead, BlockReadExt, BlockWrite, Capabilities, Chain, Codec, Concat, FileBlock, Memory, Slice, Storage,
    ZeroMode,
};
use transload_testkit::disks::{Fill, content, save};
use transload_testkit::{Overlay, Packed, conformance};

const UNIT: u32 = 65_536;

/// Text with a hole in it: 10 units, the last one partial.
fn text() -> Memory {
    let disk = Memory::from(content(0..600_000, Fill::Text));
    disk.write_zeroes_at(65_536..2 * 65_536, ZeroMode::Unmap).expect("inside");
    disk
}

fn packed(disk: &Memory, unit: u32) -> Arc<Packed> {
    Arc::new(Packed::new(disk, unit, Codec::Deflate).expect("a codec that writes"))
}

/// How many units are handed out in their stored form.
fn encoded_units(device: &dyn BlockRead) -> usize {
    let Some(encoded) = device.capabilities().encoded else { return 0 };
    let unit = usize::try_from(encoded.encoded_unit_size()).expect("small");
    let offsets = (0..device.size()).step_by(unit);
    offsets.filter(|offset| encoded.read_encoded(*offset, &mut Vec::new()).expect("a unit").is_some()).count()
}

#[test]
fn chains_pass_on_units_that_show_whole() {
    let disk = text();
    let below = packed(&disk, UNIT);
    assert_eq!(encoded_units(&*below), 9);
    let chain = Chain::new(vec![Arc::clone(&below) as Arc<dyn BlockRead>]);
    conformance::read(&chain, &disk).assert();
    assert_eq!(encoded_units(&chain), 9);

    // A write of one sector on top takes that unit away; a zeroed sector takes another.
    let top = Arc::new(Overlay::new(600_000, 512));
    top.write_at(&[1; 512], 3 * 65_536 + 1024).unwrap();
    top.write_zeroes_at(4 * 65_536..4 * 65_536 + 512, ZeroMode::Unmap).unwrap();
    let expected = disk.clone();
    expected.write_at(&[1; 512], 3 * 65_536 + 1024).unwrap();
    expected.write_zeroes_at(4 * 65_536..4 * 65_536 + 512, ZeroMode::Unmap).unwrap();
    let chain = Chain::new(vec![Arc::clone(&top) as Arc<dyn BlockRead>, Arc::clone(&below) as Arc<dyn BlockRead>]);
    conformance::read(&chain, &expected).assert();
    assert_eq!(encoded_units(&chain), 7);

    // A longer disk on top: the last unit below is short, and its rest is not what it decodes to.
    let long = Chain::new(vec![Arc::new(Overlay::new(900_000, 4096)), Arc::clone(&below) as Arc<dyn BlockRead>]);
    let mut longer = disk.to_vec();
    longer.resize(900_000, 0);
    conformance::read(&long, &Memory::from(longer)).assert();
    assert_eq!(encoded_units(&long), 8);

    // Units of two sizes: those of the upper layer count.
    let upper = packed(&Memory::from(content(0..65_536, Fill::Text)), 4096);
    let mixed = Chain::new(vec![upper, below]);
    assert_eq!(encoded_units(&mixed), 16);
    conformance::read(&mixed, &Memory::from(content(0..65_536, Fill::Text))).assert();
}

#[test]
fn slices_and_concats_pass_on_units_on_their_grid() {
    let disk = text();
    let below = packed(&disk, UNIT);
    for (window, units) in [(0..600_000, 9), (65_536..600_000, 8), (65_536..300_000, 3), (512..600_000, 0)] {
        let slice = Slice::new(Arc::clone(&below) as Arc<dyn BlockRead>, window.clone()).unwrap();
        let expected = Memory::from(disk.read_vec(window.start, window.end - window.start).unwrap());
        conformance::read(&slice, &expected).assert();
        assert_eq!(encoded_units(&slice), units, "{window:?}");
    }
    let whole = packed(&Memory::from(content(0..131_072, Fill::Text)), UNIT);
    let parts = || [Arc::clone(&whole) as Arc<dyn BlockRead>, Arc::clone(&below) as Arc<dyn BlockRead>];
    let joined = |bytes: [Vec<u8>; 2]| Memory::from(bytes.concat());
    let forwards = Concat::new(parts().into()).unwrap();
    conformance::read(&forwards, &joined([content(0..131_072, Fill::Text), disk.to_vec()])).assert();
    assert_eq!(encoded_units(&forwards), 11);
    // Behind a part with a short unit, nothing is on the grid; and the short unit itself has bytes of the next part.
    let backwards = Concat::new(parts().into_iter().rev().collect()).unwrap();
    conformance::read(&backwards, &joined([disk.to_vec(), content(0..131_072, Fill::Text)])).assert();
    assert_eq!(encoded_units(&backwards), 8);
}

#[test]
fn places_in_files_are_found_through_wrappers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    let disk = text();
    save(&disk, &path);
    let file: Arc<dyn BlockRead> = Arc::new(FileBlock::open(&path, false).unwrap());
    let top = Arc::new(Overlay::new(700_000, 4096));
    top.write_at(&[1; 4096], 8192).unwrap();
    let chain = Arc::new(Chain::new(vec![top as Arc<dyn BlockRead>, Arc::clone(&file)]));
    let slice = Arc::new(Slice::new(chain as Arc<dyn BlockRead>, 4096..650_000).unwrap());
    let joined = Concat::new(vec![slice, Arc::clone(&file)]).unwrap();
    let places = joined.capabilities().host_extents.expect("a file is beneath");
    let place = |at: u64| places.host_extent(at..joined.size()).unwrap();
    assert_eq!(place(0).location.unwrap().offset, 4096);
    assert_eq!(place(0).length, 4096);
    assert!(place(4096).location.is_none(), "the overlay's bytes are in memory");
    assert_eq!(place(8192).location.unwrap().offset, 12_288);
    assert_eq!(place(645_904 + 5).location.unwrap().offset, 5);
    let expected = Memory::from(joined.read_vec(0, joined.size()).unwrap());
    conformance::read(&joined, &expected).assert();
}

#[test]
fn a_reservation_in_a_chain_keeps_what_is_below() {
    let disk = text();
    let chain = Chain::writable(Arc::new(Overlay::new(600_000, UNIT)), vec![Arc::new(disk.clone())]);
    chain.capabilities().reserve.expect("an overlay reserves").reserve(100_000..300_000).unwrap();
    chain.write_at(&vec![7; 200_000], 100_000).unwrap();
    disk.write_at(&vec![7; 200_000], 100_000).unwrap();
    conformance::write(&chain, 1).assert();
    let reader = Chain::new(vec![Arc::new(disk)]);
    assert!(matches!(reader.capabilities(), Capabilities { reserve: None, encoded: None, .. }));
}

#[test]
fn a_device_that_is_written_forwards_its_resize_to_nobody() {
    let disk = Arc::new(Memory::new(1000));
    let slice = Slice::writable(Arc::clone(&disk) as Arc<dyn BlockWrite>, 100..900).unwrap();
    disk.set_size(500).unwrap();
    assert_eq!(slice.size(), 800);
    assert!(slice.write_at(&[1; 10], 500).is_err());
}
