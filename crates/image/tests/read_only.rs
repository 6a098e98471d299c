//! Formats that are only read: images of their makers by the digests of the table, and the same bytes damaged.

use std::sync::Arc;

use transload_block::{BlockReadExt, Codec, ErrorKind, Memory};
use transload_image::{
    Access, Format, OpenRequest, OpenSettings, OptionValues, ReferenceGate, Source, codec, open_path, properties,
};
use transload_testkit::{Corpus, Random, conformance, disks, witness};

const FORMATS: [&str; 5] = ["qed", "qcow", "parallels", "bochs", "cloop"];

fn open_bytes(format: &str, bytes: Vec<u8>) -> transload_block::Result<transload_image::Layer> {
    let source = Source::new(Arc::new(Memory::from(bytes)));
    let (gate, options) = (&ReferenceGate::Deny, &OptionValues::default());
    let open = Format::by_name(format).and_then(|format| format.open).expect("a format that is read");
    open(OpenRequest { source, gate, options, access: Access::ReadOnly, cache_bytes: 1 << 20 })
}

#[test]
fn images_of_the_corpus_have_the_digests_of_the_table() {
    let Some(corpus) = Corpus::get() else { return };
    for format in FORMATS {
        let mut tested = 0;
        for entry in corpus.of_format(format) {
            let Some(digest) = &entry.sha256 else { continue };
            let opened = open_path(&corpus.file(entry), &OpenSettings::default()).unwrap();
            assert_eq!(disks::sha256(&*opened.device), *digest, "{}", entry.path);
            properties::device(&*opened.device);
            tested += 1;
        }
        assert!(tested >= 1, "{format}");
    }
}

#[test]
fn what_qemu_makes_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let (raw, path) = (folder.path().join("disk.raw"), folder.path().join("disk"));
    let disk = Memory::new((5 << 20) + 1536);
    let bytes = Random::new(5).bytes(700_000);
    for at in [0, 1_400_000, 4 << 20] {
        transload_block::BlockWrite::write_at(&disk, &bytes, at).unwrap();
    }
    disks::save(&disk, &raw);
    for (format, options) in [("qed", ""), ("qed", "cluster_size=4k"), ("qcow", ""), ("parallels", "")] {
        witness::convert(&raw, "raw", &path, format, options);
        let opened = open_path(&path, &OpenSettings::default()).unwrap();
        assert_eq!(opened.layers[0].format.name, format);
        let found = opened
            .device
            .read_vec(0, disk.read_vec(0, opened.device.size().min((5 << 20) + 1536)).unwrap().len() as u64);
        assert!(found.unwrap() == disk.read_vec(0, (5 << 20) + 1536).unwrap(), "{format} {options}");
    }
}

#[test]
fn a_deflated_cluster_of_qcow_is_read() {
    // Two clusters of 4 KiB, the first deflated at byte 8192, the second where nothing is.
    let mut unit = vec![7; 4096];
    unit[..100].copy_from_slice(&Random::new(1).bytes(100));
    let mut stored = Vec::new();
    let mut encoder = codec::Encoder::new(Codec::Deflate, codec::Level::default()).unwrap();
    assert!(encoder.encode(&unit, 4096, &mut stored).unwrap());
    let mut file = b"QFI\xfb\0\0\0\x01".to_vec();
    file.resize(24, 0);
    file.extend_from_slice(&8192_u64.to_be_bytes());
    file.extend_from_slice(&[12, 9, 0, 0, 0, 0, 0, 0]);
    file.extend_from_slice(&48_u64.to_be_bytes());
    file.extend_from_slice(&512_u64.to_be_bytes());
    file.resize(512, 0);
    file.extend_from_slice(&((1 << 63) | (stored.len() as u64) << 51 | 8192).to_be_bytes());
    file.resize(8192, 0);
    file.extend_from_slice(&stored);
    let layer = open_bytes("qcow", file).unwrap();
    unit.resize(8192, 0);
    conformance::read(&*layer.device, &Memory::from(unit)).assert();
}

/// Sectors of one extent here and there, some of them in runs across words of the bitmap, and an extent without a place.
#[test]
fn the_sectors_of_a_bochs_image_are_those_of_its_bitmap() {
    const EXTENT: usize = 256 << 10;
    let (mut file, mut random) = (b"Bochs Virtual HD Image\0".to_vec(), Random::new(8));
    file.resize(32, 0);
    file.extend(b"Redolog\0");
    file.resize(48, 0);
    file.extend(b"Growing\0");
    file.resize(64, 0);
    for number in [0x0001_0000_u32, 512, 3, 512, u32::try_from(EXTENT).unwrap()] {
        file.extend(number.to_le_bytes());
    }
    file.extend((3 * EXTENT as u64 - 512).to_le_bytes());
    file.resize(512, 0);
    // The extents stand behind the catalog, the last one of the disk first.
    file.extend([1_u32, u32::MAX, 0].map(u32::to_le_bytes).concat());
    let mut disk = vec![0; 3 * EXTENT];
    for extent in [2, 0] {
        let bitmap: Vec<u8> =
            (0..64).map(|byte| [0xff, 0, 0xff, 0x3c][byte / 5 % 4] ^ random.bytes(1)[0] & 1).collect();
        file.extend(&bitmap);
        file.resize(file.len() + 448, 0);
        let data = random.bytes(EXTENT);
        for sector in (0..512).filter(|sector| bitmap[sector / 8] >> (sector % 8) & 1 == 1) {
            let at = sector * 512;
            disk[extent * EXTENT + at..][..512].copy_from_slice(&data[at..at + 512]);
        }
        file.extend(data);
    }
    disk.truncate(3 * EXTENT - 512);
    let layer = open_bytes("bochs", file).unwrap();
    conformance::read(&*layer.device, &Memory::from(disk)).assert();
    properties::device(&*layer.device);
}

#[test]
fn damaged_images_end_in_an_error_or_in_bytes() {
    let Some(corpus) = Corpus::get() else { return };
    let mut random = Random::new(11);
    for format in FORMATS {
        let entry =
            corpus.of_format(format).min_by_key(|entry| std::fs::metadata(corpus.file(entry)).unwrap().len()).unwrap();
        let mut whole = std::fs::read(corpus.file(entry)).unwrap();
        whole.truncate(256 << 10);
        for _ in 0..150 {
            let mut bytes = whole.clone();
            for _ in 0..2 {
                let within = if random.bytes(1)[0] < 160 { 200 } else { bytes.len() as u64 };
                let range = random.range(within, 4);
                let noise = random.bytes(usize::try_from(range.end - range.start).unwrap());
                bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()]
                    .copy_from_slice(&noise);
            }
            match open_bytes(format, bytes) {
                Ok(layer) => properties::device(&*layer.device),
                Err(error) => assert!(
                    matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported | ErrorKind::NotThisFormat),
                    "{format}: {error}"
                ),
            }
        }
        for length in [0, 20, 47] {
            assert!(open_bytes(format, whole[..length].to_vec()).is_err(), "{format} {length}");
        }
    }
}
