//! Images that lie, and what each lie is answered with.

use transload_block::{BlockReadExt, ErrorKind};
use transload_image::properties;
use transload_testkit::Random;

use super::builder::{DOCTYPE, Image, Method, PACKED};
use super::read::{check, disk, open};

fn image() -> Image {
    Image::new(&disk(), 64, &[Method::Zlib])
}

/// The file with `bytes` at `at` of its trailer.
fn trailer(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut file = image().build();
    let start = file.len() - 512 + at;
    file[start..start + bytes.len()].copy_from_slice(bytes);
    file
}

/// The file with an entry changed.
fn entry(index: usize, change: impl Fn(&mut super::builder::Entry)) -> Vec<u8> {
    let mut image = image();
    change(&mut image.tables[0].1[index]);
    image.build()
}

/// The file with another property list.
fn list(text: &str) -> Vec<u8> {
    let whole = image().build();
    let mut trailer = whole[whole.len() - 512..].to_vec();
    let data = image().data;
    trailer[216..224].copy_from_slice(&(data.len() as u64).to_be_bytes());
    trailer[224..232].copy_from_slice(&(text.len() as u64).to_be_bytes());
    [data, text.as_bytes().to_vec(), trailer].concat()
}

#[test]
fn lies_are_refused_for_the_right_reason() {
    use ErrorKind::{Corrupt, NotThisFormat, TooLarge, Unsupported};
    let end = u64::MAX.to_be_bytes();
    let plist = |inside: &str| {
        list(&format!("{DOCTYPE}<plist><dict><key>resource-fork</key><dict>{inside}</dict></dict></plist>"))
    };
    let encrypted = [b"encrcdsa\0\0\0\x02".to_vec(), vec![0; 4096]].concat();
    let bomb = "<!DOCTYPE plist [<!ENTITY a \"aaaaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\">]><plist>&b;</plist>";
    let table: Vec<(&str, Vec<u8>, ErrorKind)> = vec![
        ("nothing", vec![], NotThisFormat),
        ("another version", trailer(4, &[0, 0, 0, 5]), Unsupported),
        ("encrypted", encrypted, Unsupported),
        ("the second segment", trailer(56, &[0, 0, 0, 2, 0, 0, 0, 2]), Unsupported),
        ("two segments", trailer(56, &[0, 0, 0, 1, 0, 0, 0, 2]), Unsupported),
        ("a list behind the file", trailer(216, &end), Corrupt),
        ("a list of 2^64 bytes", trailer(224, &end), Corrupt),
        ("a data fork behind the file", trailer(24, &end), Corrupt),
        ("no list", trailer(224, &[0; 8]), Corrupt),
        ("a list that is a chunk", trailer(216, &[0; 8]), Corrupt),
        ("fewer sectors", trailer(492, &7_u64.to_be_bytes()), Corrupt),
        ("2^64 sectors", trailer(492, &end), Corrupt),
        ("no plist", list("text"), Corrupt),
        ("an entity", list(bomb), Corrupt),
        ("no resource fork", list("<plist><dict/></plist>"), Corrupt),
        ("no blkx", plist(""), Corrupt),
        ("no data", plist("<key>blkx</key><array><dict/></array>"), Corrupt),
        ("no base64", plist("<key>blkx</key><array><dict><key>Data</key><data>!</data></dict></array>"), Corrupt),
        ("no table", plist("<key>blkx</key><array><dict><key>Data</key><data>bWlzaA==</data></dict></array>"), Corrupt),
        ("deeply nested", plist(&("<a>".repeat(200_000) + &"</a>".repeat(200_000))), Corrupt),
        ("many nodes", plist(&"<a/>".repeat(1_100_000)), Corrupt),
        ("57 MiB", plist(&" ".repeat(57 << 20)), TooLarge),
        ("an unknown method", entry(0, |entry| entry.kind = 0x8000_0009), Unsupported),
        ("a chunk behind the file", entry(0, |entry| entry.offset = 1 << 60), Corrupt),
        ("an offset that overflows", entry(0, |entry| entry.offset = u64::MAX), Corrupt),
        ("a length that overflows", entry(0, |entry| entry.length = u64::MAX), Corrupt),
        ("a sector that overflows", entry(0, |entry| entry.sector = u64::MAX), Corrupt),
        ("2^63 sectors", entry(0, |entry| entry.sectors = 1 << 63), Corrupt),
        ("65 MiB in a chunk", entry(0, |entry| entry.sectors = 133_120), Unsupported),
        ("overlapping", entry(1, |entry| entry.sector -= 1), Corrupt),
        ("raw and short", entry(0, |entry| entry.kind = 1), Corrupt),
    ];
    for (what, bytes, kind) in table {
        let error = open(bytes).map(drop).expect_err(what);
        assert_eq!(error.kind(), kind, "{what}: {error}");
    }
}

#[test]
fn what_no_chunk_holds_is_an_error_and_never_zeroes() {
    let bytes = entry(1, |entry| entry.sectors = 0);
    let layer = open(bytes.clone()).unwrap();
    assert_eq!(layer.device.read_vec(64 * 512 + 5, 1).unwrap_err().kind(), ErrorKind::Corrupt);
    assert!(layer.device.read_vec(0, 64 * 512).is_ok() && layer.device.read_vec(128 * 512, 512).is_ok());
    properties::device(&*layer.device);
    assert!(
        check(bytes).findings.iter().any(|finding| finding.message.contains("no chunk holds bytes 32768 to 65536"))
    );
}

#[test]
fn chunks_of_another_length_are_an_error() {
    for method in PACKED {
        for sectors in [-1_i64, 1] {
            let mut image = Image::new(&disk()[..64 * 512], 64, &[method]);
            image.tables[0].1[0].sectors = image.tables[0].1[0].sectors.checked_add_signed(sectors).unwrap();
            image.sectors += 1;
            let layer = open(image.build()).unwrap();
            assert_eq!(layer.device.read_vec(0, 512).unwrap_err().kind(), ErrorKind::Corrupt, "{method:?} {sectors}");
        }
        let mut image = Image::new(&disk()[..64 * 512], 64, &[method]);
        image.tables[0].1[0].length -= 9;
        let layer = open(image.build()).unwrap();
        assert_eq!(layer.device.read_vec(0, 512).unwrap_err().kind(), ErrorKind::Corrupt, "{method:?}, cut off");
    }
}

#[test]
fn damage_is_found_by_the_checksums() {
    let sound = Image::new(&disk(), 64, &[Method::Raw]);
    let mut damaged = sound.clone();
    damaged.data[70_000] ^= 1;
    let report = check(damaged.build());
    // The data fork's own checksum was made of the damaged bytes.
    assert_eq!(report.corruptions, 1, "{report:?}");
    assert!(report.findings[0].message.contains("table 0"), "{report:?}");
    let mut file = sound.build();
    file[70_000] ^= 1;
    let report = check(file);
    assert_eq!(report.corruptions, 2, "{report:?}");
    let mut other = sound;
    other.tables[0].2 ^= 1;
    assert_eq!(check(other.build()).corruptions, 1);
    assert!(check(trailer(360, &[0; 4])).findings[0].message.contains("master"));
}

#[test]
fn any_damage_ends_in_bytes_or_in_an_error() {
    let mut random = Random::new(21);
    for method in PACKED {
        for fork in [false, true] {
            let whole =
                Image { resource_fork: fork, ..Image::new(&disk()[..150_000 / 512 * 512], 64, &[method]) }.build();
            for _ in 0..40 {
                let mut bytes = whole.clone();
                for _ in 0..3 {
                    let at = usize::try_from(random.range(bytes.len() as u64, 1).start).unwrap();
                    bytes[at] = random.bytes(1)[0];
                }
                match open(bytes.clone()) {
                    Ok(layer) => {
                        properties::device(&*layer.device);
                        check(bytes);
                    }
                    Err(error) => assert!(
                        matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported | ErrorKind::NotThisFormat),
                        "{error}"
                    ),
                }
            }
        }
    }
}
