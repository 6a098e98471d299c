//! The window and its verdicts; what each format is known by is tested beside the format.

use proptest::prelude::{any, prop};
use proptest::proptest;
use transload_block::Memory;

use super::*;

#[test]
fn the_window_never_reaches_outside() {
    let bytes = [1, 0, 0, 0, 2];
    let window = ProbeWindow { head: &bytes, tail: &bytes[2..], size: Some(5) };
    assert!(window.head_has(3, &[0, 2]));
    assert!(window.head_has(5, &[]));
    for offset in [4, 5, 6, usize::MAX] {
        assert!(!window.head_has(offset, &[0, 2]));
    }
    assert_eq!((window.le32(0), window.le32(1), window.le32(2)), (Some(1), Some(0x0200_0000), None));
    assert_eq!((window.le32(5), window.le32(usize::MAX)), (None, None));
    assert_eq!((window.last(3), window.last(1), window.last(0)), (Some(&bytes[2..]), Some(&bytes[4..]), Some(&[][..])));
    assert_eq!((window.last(4), window.last(usize::MAX)), (None, None));
}

#[test]
fn a_file_is_read_at_both_ends_and_no_further() {
    for size in [0, 1, 511, 4096, 4097, 65536, 65537, 200_000] {
        let mut bytes = vec![0; size];
        if size > 512 {
            bytes[size - 512..size - 500].copy_from_slice(b"koly\0\0\0\x04\0\0\x02\0");
        }
        let bytes: Arc<dyn BlockRead> = Arc::new(Memory::from(bytes));
        let expected = if size > 512 { "dmg" } else { "raw" };
        assert_eq!(detect(&bytes).unwrap().unambiguous().unwrap().name, expected, "{size}");
    }
}

#[test]
fn raw_is_what_is_left() {
    let window = ProbeWindow { head: b"some disk", tail: b"some disk", size: Some(9) };
    let detection = detect_window(&window);
    assert_eq!(detection.candidates, [FORMATS[FORMATS.len() - 1]]);
    assert_eq!(detection.unambiguous().unwrap().name, "raw");
}

proptest! {
    #[test]
    fn any_bytes_are_found_to_be_something(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        crate::properties::detection(&bytes);
        crate::properties::opening(&bytes);
    }

    #[test]
    fn any_stream_comes_back(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        crate::properties::raw_stream(&bytes);
    }
}
