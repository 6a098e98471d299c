//! Every property holds for every seed, whole, cut and damaged.

use proptest::collection::vec;
use proptest::prelude::*;
use transload_block::{ErrorKind, Property};

use super::{ALL, physical_volume};
use crate::lvm::Groups;

#[test]
fn every_property_holds_for_every_seed() {
    for property in ALL {
        let seeds = (property.seeds)();
        assert!(!seeds.is_empty(), "{} has seeds", property.name);
        seeds.iter().for_each(|seed| (property.holds)(seed));
    }
}

/// The groups on a physical volume with this text.
fn groups(text: &str) -> Groups {
    let disk = transload_block::Memory::from(physical_volume(text.as_bytes()));
    Groups::find(&[std::sync::Arc::new(disk)]).expect("memory can be read")
}

/// A group of 64 extents of 4096 bytes, and a volume with these segments.
fn text(segments: &str) -> String {
    format!(
        "vg {{ id = \"G\" seqno = 1 extent_size = 8 physical_volumes {{ pv0 {{ id = \
         \"AAAAAA-AAAA-AAAA-AAAA-AAAA-AAAA-AAAAAA\" pe_start = 3000 pe_count = 64 }} }} logical_volumes {{ v {{ id = \"V\" \
         status = [\"VISIBLE\"] {segments} }} }} }}"
    )
}

#[test]
fn volumes_that_lie_are_refused_and_the_group_is_there() {
    use ErrorKind::{Corrupt, Unsupported};
    let segment = |start: &str, count: &str, rest: &str| {
        format!("segment1 {{ start_extent = {start} extent_count = {count} {rest} }} ")
    };
    let linear = |start: &str, count: &str, place: &str| {
        segment(start, count, &format!("type = \"striped\" stripe_count = 1 stripes = [{place}]"))
    };
    let striped = |count: &str, width: &str, size: &str, places: &str| {
        segment(
            "0",
            count,
            &format!("type = \"striped\" stripe_count = {width} stripe_size = {size} stripes = [{places}]"),
        )
    };
    let sound = linear("0", "4", "\"pv0\", 0");
    assert_eq!(groups(&text(&sound)).groups[0].volumes[0].device().unwrap().size(), 16_384);
    let cases = [
        ("extents that the physical volume has not", linear("0", "4", "\"pv0\", 61"), Corrupt),
        ("extents without end", linear("0", "9223372036854775807", "\"pv0\", 0"), Corrupt),
        ("a place before the first", linear("0", "4", "\"pv0\", -1"), Corrupt),
        ("a place at the end of 64 bits", linear("0", "4", "\"pv0\", 9223372036854775807"), Corrupt),
        ("a gap in front", linear("1", "4", "\"pv0\", 0"), Corrupt),
        ("an overlap", [sound.clone(), linear("2", "4", "\"pv0\", 8")].concat(), Corrupt),
        ("a segment of nothing", linear("0", "0", "\"pv0\", 0"), Corrupt),
        ("a place without a number", linear("0", "4", "\"pv0\""), Corrupt),
        ("places in the wrong order", linear("0", "4", "0, \"pv0\""), Corrupt),
        ("a physical volume of no name", linear("0", "4", "\"pv9\", 0"), Unsupported),
        ("stripes that do not come out", striped("5", "2", "2", "\"pv0\", 0, \"pv0\", 8"), Corrupt),
        ("stripes of nothing", striped("4", "2", "0", "\"pv0\", 0, \"pv0\", 8"), Corrupt),
        ("stripes of three sectors", striped("4", "2", "3", "\"pv0\", 0, \"pv0\", 8"), Corrupt),
        ("stripes without end", striped("4", "2", "9223372036854775807", "\"pv0\", 0, \"pv0\", 8"), Corrupt),
        ("a width of millions", striped("4", "4000000", "2", "\"pv0\", 0, \"pv0\", 8"), Corrupt),
        ("a thin volume", segment("0", "1", "type = \"thin\""), Unsupported),
        ("a type that nobody knows", segment("0", "1", "type = \"x\\n\""), Unsupported),
    ];
    for (name, segments, kind) in cases {
        let found = groups(&text(&segments));
        // What does not even fit into 64 bits takes the group with it.
        let error = match found.groups.first() {
            Some(group) => group.volumes[0].device().unwrap_err(),
            None => transload_block::Error::new(found.failures[0].kind(), found.failures[0].to_string()),
        };
        assert_eq!(error.kind(), kind, "{name}: {error}");
    }
}

#[test]
fn groups_that_lie_are_refused() {
    let sound = text("");
    let cases = [
        ("extents of nothing", sound.replace("extent_size = 8", "extent_size = 0")),
        ("extents without end", sound.replace("extent_size = 8", "extent_size = 9223372036854775807")),
        ("no number", sound.replace("seqno = 1", "")),
        ("a number in quotes", sound.replace("seqno = 1", "seqno = \"1\"")),
        ("a physical volume at the end of 64 bits", sound.replace("pe_start = 3000", "pe_start = 9223372036854775807")),
        ("a name that leaves the group", sound.replace("v {", "../v {")),
        ("a name of blanks", sound.replace("vg {", "- {")),
        ("an end in the middle", sound[..sound.len() - 2].to_owned()),
    ];
    for (name, text) in cases {
        let found = groups(&text);
        assert!(found.groups.is_empty(), "{name}: {:?}", found.groups);
        assert_eq!(found.failures[0].kind(), ErrorKind::Corrupt, "{name}: {:?}", found.failures);
    }
}

fn damaged(property: &Property, seed: usize, cut: usize, damage: &[(usize, u8)]) {
    let seeds = (property.seeds)();
    let mut bytes = seeds[seed % seeds.len()].clone();
    bytes.truncate(bytes.len().saturating_sub(cut / 8));
    for (at, value) in damage {
        // Most damage goes where the structures are.
        let bound = if at % 3 == 0 { bytes.len() } else { bytes.len().min(1536) };
        if let Some(byte) = bytes.get_mut(at / 3 % bound.max(1)) {
            *byte = *value;
        }
    }
    (property.holds)(&bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_property_holds_for_damaged_seeds(
        (property, seed, cut) in (0..ALL.len(), any::<usize>(), 0..4096_usize),
        damage in vec((any::<usize>(), prop_oneof![Just(0), Just(1), Just(0xff), any::<u8>()]), 0..12),
    ) {
        damaged(&ALL[property], seed, if cut < 2048 { 0 } else { cut }, &damage);
    }
}
