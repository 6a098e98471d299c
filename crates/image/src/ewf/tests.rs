//! What needs no file.

use super::set::segment_name;

#[test]
fn names_count_as_encase_counts() {
    for (number, name) in [
        (2, "disk.E02"),
        (99, "disk.E99"),
        (100, "disk.EAA"),
        (125, "disk.EAZ"),
        (126, "disk.EBA"),
        (775, "disk.EZZ"),
        (776, "disk.FAA"),
        (14971, "disk.ZZZ"),
    ] {
        assert_eq!(segment_name("disk.E01", number).as_deref(), Some(name), "{number}");
        assert_eq!(
            segment_name("disk.e01", number),
            Some(name.replace(&name[5..], &name[5..].to_lowercase())),
            "{number}"
        );
    }
    assert_eq!(segment_name("disk.E01", 14972), None);
    assert_eq!(segment_name("a.b.s01", 3).as_deref(), Some("a.b.s03"));
    for name in ["disk", "disk.E02", "disk.raw", "disk.é01", ".001", ""] {
        assert_eq!(segment_name(name, 2), None, "{name}");
    }
}
