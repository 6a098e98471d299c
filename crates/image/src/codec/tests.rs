//! Streams of other makers, damaged ones, and every unit through every codec and back.

use proptest::prelude::{any, prop};
use proptest::{prop_assert, prop_assert_eq, proptest};

use super::*;

const TEXT: &[u8] = b"grain grain grain cluster";

/// By zlib's own library, at level 9.
const ZLIB: &[u8] = b"\x78\xda\x4b\x2f\x4a\xcc\xcc\x53\x48\x47\x22\x93\x73\x4a\x8b\x4b\x52\x8b\x00\x7a\x97\x09\x96";
/// The same, bare.
const DEFLATE: &[u8] = b"\x4b\x2f\x4a\xcc\xcc\x53\x48\x47\x22\x93\x73\x4a\x8b\x4b\x52\x8b\x00";
/// By the zstd program, from a pipe: no content size, a window descriptor, and a checksum.
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd\x04\x58\x9d\x00\x00\x68grain cluster\x01\x00\xe1\x4a\x11\x77\x22\x65\x81";

const VECTORS: [(Codec, &[u8]); 3] = [(Codec::Deflate, DEFLATE), (Codec::Zlib, ZLIB), (Codec::Zstd, ZSTD)];
const CODECS: [Codec; 3] = [Codec::Deflate, Codec::Zlib, Codec::Zstd];

fn corrupt(codec: Codec, stored: &[u8], room: usize) {
    let error = decode(codec, stored, &mut vec![0; room]).expect_err("damaged");
    assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    assert!(error.to_string().contains(&format!("{codec:?}")), "{error}");
}

/// Every point of the scale.
fn levels() -> Vec<Level> {
    LEVELS.map(|number| Level::number(number).unwrap()).chain([Level::FAST, Level::BALANCED, Level::MAX]).collect()
}

fn encoded(codec: Codec, level: Level, unit: &[u8]) -> Vec<u8> {
    let mut stored = Vec::new();
    assert!(Encoder::new(codec, level).unwrap().encode(unit, 2 * unit.len() + 1000, &mut stored).unwrap());
    stored
}

#[test]
fn streams_of_other_makers_decode() {
    for (codec, stored) in VECTORS {
        let mut unit = [0xff; TEXT.len()];
        assert_eq!(decode(codec, stored, &mut unit).unwrap(), TEXT.len());
        assert_eq!(unit, TEXT, "{codec:?}");
    }
    // A stored block, and a frame with a raw block and a content size of one byte.
    let mut unit = [0; 3];
    assert_eq!(decode(Codec::Zlib, b"\x78\x01\x01\x03\0\xfc\xffabc\x02\x4d\x01\x27", &mut unit).unwrap(), 3);
    assert_eq!(&unit, b"abc");
    let mut unit = [0; 3];
    assert_eq!(decode(Codec::Zstd, b"\x28\xb5\x2f\xfd\x20\x03\x19\0\0xyz", &mut unit).unwrap(), 3);
    assert_eq!(&unit, b"xyz");
}

#[test]
fn a_unit_may_hold_less_than_there_is_room_for() {
    for (codec, stored) in VECTORS {
        let mut unit = vec![0xff; 100];
        assert_eq!(decode(codec, stored, &mut unit).unwrap(), TEXT.len());
        assert_eq!(&unit[..TEXT.len()], TEXT);
    }
}

#[test]
fn a_unit_that_holds_more_than_there_is_room_for_is_corrupt() {
    for (codec, stored) in VECTORS {
        for room in [0, 1, TEXT.len() - 1] {
            corrupt(codec, stored, room);
        }
        // A bomb: a mebibyte in about a kilobyte.
        corrupt(codec, &encoded(codec, Level::MAX, &vec![0; 1 << 20]), 65536);
    }
}

#[test]
fn a_stream_that_breaks_off_anywhere_is_corrupt() {
    for (codec, stored) in VECTORS {
        for length in 0..stored.len() {
            corrupt(codec, &stored[..length], TEXT.len());
        }
    }
}

#[test]
fn padding_behind_the_stream_is_not_looked_at() {
    for (codec, stored) in VECTORS {
        for padding in [&[0; 512][..], &[0xff; 512], stored, b"\x50\x2a\x4d\x18"] {
            let mut unit = [0; TEXT.len()];
            assert_eq!(decode(codec, &[stored, padding].concat(), &mut unit).unwrap(), TEXT.len());
            assert_eq!(unit, TEXT, "{codec:?}");
        }
    }
}

#[test]
fn a_stream_ends_where_it_ends() {
    let unit: Vec<u8> = (0..65536_u32).map(|at| u8::try_from(at * at % 251).unwrap() & 0x3f).collect();
    for (codec, level) in [Codec::Deflate, Codec::Zstd]
        .into_iter()
        .flat_map(|codec| levels().into_iter().map(move |level| (codec, level)))
    {
        let stored = encoded(codec, level, &unit);
        for padding in [&[][..], &[0], &[0xff; 511], &stored] {
            let mut padded = [&stored, padding].concat();
            let mut back = vec![0; unit.len()];
            assert_eq!(decode_and_trim(codec, &mut padded, &mut back).unwrap(), unit.len());
            assert!(padded == stored && back == unit, "{codec:?} at {level}");
        }
        for length in [0, 1, stored.len() / 2, stored.len() - 1] {
            let error = decode_and_trim(codec, &mut stored[..length].to_vec(), &mut vec![0; unit.len()]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{codec:?} cut to {length}: {error}");
        }
        let error = decode_and_trim(codec, &mut stored.clone(), &mut vec![0; unit.len() - 1]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error}");
    }
}

#[test]
fn a_wrong_checksum_is_corrupt() {
    for (codec, stored) in [(Codec::Zlib, ZLIB), (Codec::Zstd, ZSTD)] {
        for back in 1..=4 {
            let mut stored = stored.to_vec();
            let at = stored.len() - back;
            stored[at] ^= 1;
            corrupt(codec, &stored, TEXT.len());
        }
    }
}

#[test]
fn headers_that_lie_are_corrupt() {
    // Method 7, a wrong check of the header, a preset dictionary.
    for header in [[0x77, 0x9c], [0x78, 0x9d], [0x78, 0xbb]] {
        corrupt(Codec::Zlib, &[&header, &ZLIB[2..]].concat(), TEXT.len());
    }
    // A reserved block type, a stored length that its complement contradicts, a distance before the start.
    for deflate in [&b"\x07"[..], b"\x01\x03\0\xfc\xfeabc", b"\x63\x00\x42\x00"] {
        corrupt(Codec::Deflate, deflate, TEXT.len());
    }
    // A content size of 8 EiB, a window of 2 TiB with no data, a reserved bit, a dictionary that nobody has.
    let frames: [&[u8]; 4] = [
        b"\x28\xb5\x2f\xfd\xe0\xff\xff\xff\xff\xff\xff\xff\x7f\x19\0\0xyz",
        b"\x28\xb5\x2f\xfd\x00\xff\x19\0\0xyz",
        b"\x28\xb5\x2f\xfd\x28\x03\x19\0\0xyz",
        b"\x28\xb5\x2f\xfd\x21\x07\x03\x19\0\0xyz",
    ];
    for frame in frames {
        corrupt(Codec::Zstd, frame, 3);
    }
}

#[test]
fn a_decoder_is_good_after_a_bad_unit() {
    let mut decoder = Decoder::new().unwrap();
    for (codec, stored) in VECTORS {
        let mut unit = [0; TEXT.len()];
        decoder.decode(codec, &stored[..stored.len() / 2], &mut unit).unwrap_err();
        decoder.decode(codec, stored, &mut unit).unwrap();
        assert_eq!(unit, TEXT);
    }
}

#[test]
fn an_encoder_keeps_to_the_limit() {
    let unit: Vec<u8> = (0..65536_u32).map(|at| u8::try_from(at.wrapping_mul(2_654_435_761) >> 24).unwrap()).collect();
    for (codec, level) in CODECS.into_iter().flat_map(|codec| levels().into_iter().map(move |level| (codec, level))) {
        let mut encoder = Encoder::new(codec, level).unwrap();
        let mut stored = vec![9; 7];
        assert!(encoder.encode(&unit, 70_000, &mut stored).unwrap());
        let length = stored.len();
        assert!(!encoder.encode(&unit, length / 2, &mut stored).unwrap(), "{codec:?} at {level}");
        assert!(!encoder.encode(&unit, 0, &mut stored).unwrap());
        assert!(encoder.encode(&[0; 65536], 1000, &mut stored).unwrap());
        assert!(stored.len() <= 1000);
        let mut back = vec![1; 65536];
        assert_eq!(decode(codec, &stored, &mut back).unwrap(), 65536);
        assert!(back.iter().all(|byte| *byte == 0));
    }
}

#[test]
fn the_same_unit_gives_the_same_bytes_whatever_came_before() {
    for codec in CODECS {
        for level in levels() {
            let mut encoder = Encoder::new(codec, level).unwrap();
            let (mut first, mut second) = (Vec::new(), Vec::new());
            encoder.encode(TEXT, 1000, &mut first).unwrap();
            encoder.encode(&[7; 100_000], 100_000, &mut second).unwrap();
            encoder.encode(TEXT, 1000, &mut second).unwrap();
            assert_eq!(first, second, "{codec:?} at {level}");
        }
    }
}

#[test]
fn a_level_outside_the_scale_is_the_callers_mistake() {
    for level in [0, 13, u32::MAX] {
        assert_eq!(Level::number(level).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    for text in ["", "0", "13", "-1", "Fast", "best", "4294967297"] {
        assert_eq!(text.parse::<Level>().unwrap_err().kind(), ErrorKind::InvalidInput, "{text:?}");
    }
    for level in levels() {
        assert_eq!(level.to_string().parse::<Level>().unwrap(), level);
    }
    assert_eq!(Level::NAMES.map(|name| name.parse::<Level>().unwrap()), [Level::FAST, Level::BALANCED, Level::MAX]);
}

#[test]
fn noise_is_stored_where_there_is_room_and_refused_where_there_is_none() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    for length in [16 << 10, 65535, 65536, 65537, 300_000] {
        let unit: Vec<u8> = (0..length).map(|_| noise()).collect();
        for (codec, around) in [(Codec::Deflate, 0), (Codec::Zlib, 6)] {
            for level in levels() {
                let mut encoder = Encoder::new(codec, level).unwrap();
                let mut stored = Vec::new();
                assert!(!encoder.encode(&unit, length - 1, &mut stored).unwrap(), "{codec:?} at {level}");
                let room = length + around + 5 * length.div_ceil(65535);
                assert!(encoder.encode(&unit, room, &mut stored).unwrap(), "{codec:?} of {length} at {level}");
                let mut back = vec![0; length];
                assert_eq!(decode(codec, &stored, &mut back).unwrap(), length);
                assert_eq!(back, unit, "{codec:?} of {length} at {level}");
            }
        }
    }
}

proptest! {
    #[test]
    fn every_unit_comes_back(
        unit in prop::collection::vec(prop::sample::select(vec![0, 0, 0, 1, 0xff]), 0..5000),
        level in prop::sample::select(levels()),
        which in 0..3_usize,
    ) {
        let codec = CODECS[which];
        let mut back = vec![0xee; unit.len()];
        prop_assert_eq!(decode(codec, &encoded(codec, level, &unit), &mut back).unwrap(), unit.len());
        prop_assert_eq!(back, unit);
    }

    #[test]
    fn any_bytes_decode_or_are_corrupt(stored in prop::collection::vec(any::<u8>(), 0..300), room in 0..300_usize) {
        crate::properties::codec(&stored, room);
    }

    #[test]
    fn a_damaged_stream_decodes_or_is_corrupt(which in 0..3_usize, at in 0..64_usize, bit in 0..8_u8) {
        let (codec, stored) = VECTORS[which];
        let mut stored = stored.to_vec();
        let at = at % stored.len();
        stored[at] ^= 1 << bit;
        let mut unit = [0; 64];
        if let Err(error) = decode(codec, &stored, &mut unit) {
            prop_assert!(error.kind() == ErrorKind::Corrupt);
        }
    }
}
