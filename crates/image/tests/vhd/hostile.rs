//! Images that are damaged, or made to do damage.

use std::sync::Arc;

use transload_block::{ErrorKind, Memory, Storage};
use transload_image::vhd::fuzz::fuzz_open;
use transload_testkit::Random;

use super::support::{MIB, bytes, check, open_bytes, sample, seal};

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// Changes both footers of a dynamic image.
fn footers(image: &mut [u8], at: usize, value: &[u8]) {
    let end = image.len() - 512;
    for start in [0, end] {
        put(image, start + at, value);
        seal(&mut image[start..start + 512], 64);
    }
}

#[test]
fn damage_is_named() {
    type Damage = fn(&mut Vec<u8>);
    let table: &[(Damage, ErrorKind, &str)] = &[
        (|image| footers(image, 60, &9_u32.to_be_bytes()), ErrorKind::Corrupt, "disk type 9"),
        (|image| footers(image, 48, &(2041_u64 << 30).to_be_bytes()), ErrorKind::TooLarge, "2040 GiB"),
        (|image| footers(image, 48, &513_u64.to_be_bytes()), ErrorKind::Corrupt, "513 bytes"),
        (|image| footers(image, 16, &u64::MAX.to_be_bytes()), ErrorKind::Corrupt, "dynamic header"),
        (|image| image[600] ^= 1, ErrorKind::Corrupt, "checksum"),
        (|image| header(image, 32, &3000_u32.to_be_bytes()), ErrorKind::Corrupt, "power of two"),
        (|image| header(image, 28, &1_u32.to_be_bytes()), ErrorKind::Corrupt, "too few"),
        (|image| header(image, 16, &u64::MAX.to_be_bytes()), ErrorKind::Corrupt, "table"),
        (|image| header(image, 24, &0x20000_u32.to_be_bytes()), ErrorKind::Unsupported, "version"),
    ];
    for (damage, kind, words) in table {
        let mut image = sample(6 * MIB, "");
        damage(&mut image);
        let error = open_bytes(image).unwrap_err();
        assert_eq!(error.kind(), *kind, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
    for sector in [0, 0xffff_fffe_u32] {
        let mut image = sample(6 * MIB, "");
        put(&mut image, 1536, &sector.to_be_bytes());
        let opened = open_bytes(image.clone()).unwrap();
        assert_eq!(opened.device.read_at(&mut [0; 512], 0).unwrap_err().kind(), ErrorKind::Corrupt);
        let storage: Arc<dyn Storage> = Arc::new(Memory::from(image));
        assert_eq!(check(&storage, true).unwrap().corruptions, 1);
    }
    let mut cut = sample(6 * MIB, "subformat=fixed");
    cut.drain(..512);
    assert_eq!(open_bytes(cut).unwrap_err().kind(), ErrorKind::Corrupt);
}

fn header(image: &mut [u8], at: usize, value: &[u8]) {
    put(image, 512 + at, value);
    seal(&mut image[512..1536], 36);
}

#[test]
fn one_sound_footer_is_enough_and_repair_writes_the_other() {
    let sound = sample(6 * MIB, "");
    let guest = bytes(&*open_bytes(sound.clone()).unwrap().device);
    let end = sound.len() - 512;
    let damages: [fn(&mut Vec<u8>, usize); 4] = [
        |image, _| image[100] ^= 1,
        |image, _| image[..512].fill(0),
        |image, end| image[end + 100] ^= 1,
        Vec::truncate,
    ];
    for damage in damages {
        let mut image = sound.clone();
        damage(&mut image, end);
        let opened = open_bytes(image.clone()).unwrap();
        assert_eq!(opened.layers[0].info.warnings.len(), 1, "{:?}", opened.layers[0].info.warnings);
        assert!(bytes(&*opened.device) == guest);
        let storage: Arc<dyn Storage> = Arc::new(Memory::from(image));
        assert!(!check(&storage, false).unwrap().is_clean());
        assert!(check(&storage, true).unwrap().is_clean());
        assert!(check(&storage, false).unwrap().findings.is_empty());
        assert!(bytes(&*storage)[..512] == sound[..512]);
    }
    let mut image = sound.clone();
    image[100] ^= 1;
    image[end + 100] ^= 1;
    assert_eq!(open_bytes(image).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn old_and_unusual_images_are_read() {
    // A footer of 511 bytes.
    for text in ["subformat=fixed", "subformat=dynamic"] {
        let mut image = sample(6 * MIB, text);
        let guest = bytes(&*open_bytes(image.clone()).unwrap().device);
        image.pop();
        let opened = open_bytes(image).unwrap();
        assert!(opened.layers[0].info.warnings.is_empty() && bytes(&*opened.device) == guest, "{text}");
    }
    // The maker decides whether the geometry counts, unless it is the largest there is.
    for (creator, geometry, size) in [
        (b"vpc ", [0, 100, 4, 17], 100 * 4 * 17 * 512),
        (b"qemu", [0, 100, 4, 17], 100 * 4 * 17 * 512),
        (b"qem2", [0, 100, 4, 17], 6 * MIB),
        (b"wa\0\0", [0, 100, 4, 17], 6 * MIB),
        (b"qemu", [0xff, 0xff, 16, 255], 6 * MIB),
        (b"vpc ", [0, 0, 0, 0], 6 * MIB),
    ] {
        let mut image = sample(6 * MIB, "");
        footers(&mut image, 28, creator);
        footers(&mut image, 56, &geometry);
        // The disk was larger once.
        footers(&mut image, 40, &(4 * MIB).to_be_bytes());
        assert_eq!(open_bytes(image).unwrap().device.size(), size, "{creator:?} {geometry:?}");
    }
    let mut saved = sample(6 * MIB, "");
    footers(&mut saved, 84, &[1]);
    assert_eq!(open_bytes(saved.clone()).unwrap().layers[0].info.details["saved-state"], "yes");
    let storage: Arc<dyn Storage> = Arc::new(Memory::from(saved));
    assert_eq!(super::support::resize(&storage, 9 * MIB, false).unwrap_err().kind(), ErrorKind::Unsupported);
}

/// A table of four gigabytes in a sparse file: a piece of it is read, and no more.
#[test]
fn a_table_of_a_billion_entries_takes_no_memory() {
    let mut image = sample(6 * MIB, "");
    image.truncate(1536);
    put(&mut image, 48, &(512_u64 << 30).to_be_bytes());
    seal(&mut image[..512], 64);
    header(&mut image, 32, &512_u32.to_be_bytes());
    header(&mut image, 28, &1_073_741_825_u32.to_be_bytes());
    let file = Memory::from(image);
    file.set_size(1536 + (4 << 30)).unwrap();
    let settings = transload_image::OpenSettings::default();
    let opened = transload_image::open(transload_image::Source::new(Arc::new(file)), &settings).unwrap();
    assert_eq!(opened.device.size(), 512 << 30);
    // Entries of zero put the blocks into the footer.
    assert_eq!(opened.device.read_at(&mut [0; 512], 256 << 30).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn changed_bytes_never_do_harm() {
    let mut random = Random::new(9);
    for text in ["subformat=dynamic", "subformat=fixed", "block_size=512k"] {
        let sound = sample(2 * MIB, text);
        fuzz_open(&sound);
        for _ in 0..150 {
            let mut image = sound.clone();
            let end = image.len() - 512;
            for _ in 0..=random.below(3) {
                let at = usize::try_from(random.below(2048)).unwrap();
                let at = if at < 1600 { at } else { end + at - 1600 };
                image[at] = u8::try_from(random.below(256)).unwrap();
            }
            if random.below(2) == 0 {
                seal(&mut image[..512], 64);
                seal(&mut image[512..1536], 36);
                seal(&mut image[end..], 64);
            }
            fuzz_open(&image);
        }
    }
}
