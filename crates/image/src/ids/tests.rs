//! Identifiers are the same for ever: images that were made before must come out the same again.

use super::*;

fn hex(bytes: [u8; 16]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn identifiers_are_pinned() {
    let ids = IdSource::from_material(b"seed");
    assert_eq!(hex(ids.bytes("vmdk cid")), "61dfc2284d21ea5e5818923557ec32b2");
    assert_eq!(hex(ids.uuid("vmdk uuid")), "ee1c635a05f54b3383a52da55232a0eb");
}

#[test]
fn they_differ_by_material_and_by_purpose() {
    let (one, two) = (IdSource::from_material(b"1"), IdSource::from_material(b"2"));
    assert_ne!(one.bytes("a"), two.bytes("a"));
    assert_ne!(one.bytes("a"), one.bytes("b"));
    assert_eq!(one.bytes("a"), IdSource::from_material(b"1").bytes("a"));
}

#[test]
fn uuids_say_their_version_and_variant() {
    for seed in 0..100_u8 {
        let uuid = IdSource::from_material(&[seed]).uuid("x");
        assert_eq!((uuid[6] >> 4, uuid[8] >> 6), (4, 2));
    }
}
