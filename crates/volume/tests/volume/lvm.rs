//! A volume group that lvm2 made (see `testdata/README.md`): three physical volumes, one without metadata, one with two
//! copies, and a text that goes round the end of its area.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use transload_block::{
    BlockLimits, BlockRead, BlockReadExt, BlockStatus, BlockWrite, Capabilities, ErrorKind, Extent, Memory, Result,
    check_extent, check_range,
};
use transload_testkit::{conformance, witness};
use transload_volume::lvm::{Groups, Striped};
use transload_volume::{ReadSettings, Volumes};

use crate::support::Disk;

const SIZE: u64 = 48 << 20;
const EXTENT: u64 = 1 << 20;
/// Where the extents of each physical volume begin, as `pvs -o pe_start` says.
const FIRST_EXTENT: [u64; 3] = [64 << 10, 1 << 20, 64 << 10];

/// A disk whose bytes say where they are, but for what was written at its two ends.
#[derive(Debug)]
struct Marked {
    number: u64,
    head: Vec<u8>,
    tail: (u64, Vec<u8>),
}

/// The bytes of the extents of physical volume `number` in `range`, which is one of whole words.
fn marks(number: u64, range: Range<u64>) -> Vec<u8> {
    let word = |at: u64| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number).to_le_bytes();
    (range.start / 8..range.end / 8).flat_map(word).collect()
}

impl BlockRead for Marked {
    fn size(&self) -> u64 {
        SIZE
    }

    fn limits(&self) -> BlockLimits {
        BlockLimits::NONE
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len() as u64, SIZE)?;
        let end = offset + buf.len() as u64;
        let words = offset / 8 * 8..end.next_multiple_of(8);
        let skipped = usize::try_from(offset - words.start).expect("less than a word");
        buf.copy_from_slice(&marks(self.number, words)[skipped..skipped + buf.len()]);
        for (start, written) in [(0, &self.head), (self.tail.0, &self.tail.1)] {
            let both = offset.max(start)..end.min(start + written.len() as u64);
            if both.start < both.end {
                let index = |at: u64| usize::try_from(at).expect("a disk in memory");
                let from = &written[index(both.start - start)..index(both.end - start)];
                buf[index(both.start - offset)..index(both.end - offset)].copy_from_slice(from);
            }
        }
        Ok(())
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        let length = check_extent(&range, SIZE)?;
        Ok(Extent { offset: range.start, length, status: BlockStatus::Data })
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::none()
    }
}

/// A disk with a bit turned at each of a few places.
#[derive(Debug)]
struct Damaged {
    disk: Arc<dyn BlockRead>,
    places: Vec<u64>,
}

impl BlockRead for Damaged {
    fn size(&self) -> u64 {
        self.disk.size()
    }

    fn limits(&self) -> BlockLimits {
        self.disk.limits()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.disk.read_at(buf, offset)?;
        for place in self.places.iter().filter_map(|place| place.checked_sub(offset)) {
            if let Some(byte) = usize::try_from(place).ok().and_then(|place| buf.get_mut(place)) {
                *byte ^= 1;
            }
        }
        Ok(())
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        self.disk.block_status(range)
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::none()
    }
}

fn testdata(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../testdata/lvm").join(name);
    std::fs::read(path).expect("a specimen")
}

/// The disks as lvm2 left them.
fn disks() -> [Arc<dyn BlockRead>; 3] {
    let disk = |number, head: &str, tail: Option<&str>| {
        let tail = tail.map_or((SIZE, Vec::new()), |name| (50_266_112, testdata(name)));
        Arc::new(Marked { number, head: testdata(head), tail }) as Arc<dyn BlockRead>
    };
    [disk(0, "first.head", None), disk(1, "second.head", None), disk(2, "third.head", Some("third.tail"))]
}

/// The places of a volume, as `lvs --segments -o seg_pe_ranges,stripesize` says: runs of extents, each in stripes of so
/// many bytes over physical volumes from an extent on.
type Runs = &'static [(u64, u64, &'static [(usize, u64)])];

const VOLUMES: &[(&str, Runs)] = &[
    ("a", &[(8, EXTENT, &[(0, 0)]), (6, EXTENT, &[(0, 12)]), (5, EXTENT, &[(2, 6)])]),
    ("b", &[(4, EXTENT, &[(0, 8)])]),
    ("s2", &[(12, 64 << 10, &[(1, 0), (2, 0)])]),
    ("s3", &[(12, 4 << 10, &[(0, 18), (1, 6), (2, 11)])]),
];

/// What a volume holds, by the kernel's rule for stripes: chunk c is in stripe c mod n, at chunk c div n.
fn expected(runs: Runs) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (extents, stripe, places) in runs {
        for chunk in 0..extents * EXTENT / stripe {
            let (disk, first) = places[usize::try_from(chunk).expect("a specimen") % places.len()];
            let place = FIRST_EXTENT[disk] + first * EXTENT + chunk / places.len() as u64 * stripe;
            bytes.extend(marks(disk as u64, place..place + stripe));
        }
    }
    bytes
}

#[test]
fn volumes_are_where_lvm2_says() {
    let [first, second, third] = disks();
    // Given as three images, in another order than the text has them.
    let volumes = Volumes::scan(&second, &[third, first], ReadSettings::default()).unwrap();
    let [group] = volumes.groups().groups.as_slice() else { panic!("one group: {:?}", volumes.groups()) };
    assert_eq!((group.name.as_str(), group.extent_size, group.missing.len()), ("tlvg", EXTENT, 0));
    assert_eq!(group.uuid, "73rrOD-YBOY-AAOd-iAxL-z5Wn-UIDo-wZHtma");
    // Those that are not visible are no volumes.
    let names: Vec<_> = group.volumes.iter().map(|volume| (volume.name.as_str(), volume.kinds.join(","))).collect();
    let linear = String::from("linear");
    let striped = String::from("striped");
    let kinds = [("r", String::from("raid1")), ("zz", String::from("zero")), ("a", linear.clone()), ("b", linear)];
    assert_eq!(names, [&kinds[..], &[("s2", striped.clone()), ("s3", striped)]].concat());
    for (name, runs) in VOLUMES {
        let device = volumes.find(&format!("tlvg/{name}").parse().unwrap()).unwrap().device().unwrap();
        let wanted = expected(runs);
        assert_eq!(device.size(), wanted.len() as u64, "{name}");
        let mut found = vec![0; wanted.len()];
        device.read_at(&mut found, 0).unwrap();
        assert!(found == wanted, "{name}");
    }
    let zeroes = volumes.find(&"tlvg/zz".parse().unwrap()).unwrap().device().unwrap();
    assert_eq!(zeroes.block_status(0..3 << 20).unwrap().status, BlockStatus::Zero);
    let raid = volumes.find(&"tlvg/r".parse().unwrap()).unwrap().device().unwrap_err();
    assert_eq!(raid.kind(), ErrorKind::Unsupported);
    assert!(raid.to_string().contains("raid1"), "{raid}");
}

#[test]
fn striped_devices_keep_the_contract() {
    for (count, stripe, length) in [(1, 4096, 65_536), (2, 512, 40_000), (3, 4096, 70_000), (5, 65_536, 65_536 * 2)] {
        let parts: Vec<Arc<Memory>> = (0..count).map(|_| Arc::new(Memory::new(length))).collect();
        for (number, part) in parts.iter().enumerate() {
            let bytes = marks(number as u64, 0..length as u64 / 2);
            part.write_at(&bytes, 0).unwrap();
        }
        let devices = parts.iter().map(|part| Arc::clone(part) as Arc<dyn BlockRead>).collect();
        let device = Striped::new(devices, stripe).unwrap();
        let mut wanted = Vec::new();
        for chunk in 0..device.size() / stripe {
            let part = usize::try_from(chunk).unwrap() % count;
            wanted.extend(parts[part].read_vec(chunk / count as u64 * stripe, stripe).unwrap());
        }
        conformance::read(&device, &Memory::from(wanted)).assert();
    }
    let (one, other): (Arc<dyn BlockRead>, Arc<dyn BlockRead>) =
        (Arc::new(Memory::new(1024)), Arc::new(Memory::new(2048)));
    for (parts, stripe) in
        [(vec![], 512), (vec![Arc::clone(&one)], 500), (vec![Arc::clone(&one)], 0), (vec![one, other], 512)]
    {
        assert_eq!(Striped::new(parts, stripe).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn the_specimen_is_sound_by_lvm2_itself() {
    for (number, disk) in disks().iter().enumerate().filter(|(number, _)| *number != 1) {
        let file = Disk::new(SIZE);
        let mut head = vec![0; 64 << 10];
        disk.read_at(&mut head, 0).unwrap();
        file.writer().write_at(&head, 0).unwrap();
        let said = witness::must("pvck", ["--dump".as_ref(), "metadata".as_ref(), file.path.as_os_str()]);
        assert!(said.contains("vgname tlvg seqno 103") && said.contains("stripe_size = 128"), "{number}: {said}");
    }
}

#[test]
fn a_missing_physical_volume_takes_its_volumes_with_it() {
    let [first, _, third] = disks();
    let groups = Groups::find(&[first, third]).unwrap();
    let group = &groups.groups[0];
    assert_eq!(group.missing, ["dvmmYS-Ry5b-cJCP-iqP4-Ejh1-cb07-UL3BcI"]);
    for volume in &group.volumes {
        match volume.name.as_str() {
            "a" | "b" | "zz" => assert!(volume.device().is_ok(), "{}", volume.name),
            "r" => assert_eq!(volume.device().unwrap_err().kind(), ErrorKind::Unsupported),
            _ => {
                let error = volume.device().unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidInput);
                assert!(error.to_string().contains("dvmmYS") && error.remedy().is_some(), "{error}");
            }
        }
    }
}

#[test]
fn one_good_copy_of_the_text_is_enough() {
    let [first, second, third] = disks();
    let damaged = |disk: &Arc<dyn BlockRead>, places: &[u64]| {
        Arc::new(Damaged { disk: Arc::clone(disk), places: places.to_vec() }) as Arc<dyn BlockRead>
    };
    // The text of the first disk, and the header of the first copy on the third.
    let groups = Groups::find(&[damaged(&first, &[62_464]), Arc::clone(&second), damaged(&third, &[4100])]).unwrap();
    assert_eq!(groups.groups[0].volumes.len(), 6);
    assert_eq!(groups.failures.iter().map(|error| error.kind()).collect::<Vec<_>>(), [ErrorKind::Corrupt]);
    // No copy at all.
    let third = damaged(&third, &[4100, 50_266_116]);
    let groups = Groups::find(&[damaged(&first, &[62_464]), second, third]).unwrap();
    assert!(groups.groups.is_empty());
    assert_eq!(groups.failures.len(), 2);
}

#[test]
fn a_disk_that_is_there_twice_is_told() {
    let [first, second, third] = disks();
    let groups = Groups::find(&[Arc::clone(&first), first, second, third]).unwrap();
    assert!(groups.failures[0].to_string().contains("twice"), "{:?}", groups.failures);
    assert_eq!(groups.groups.len(), 1);
}
