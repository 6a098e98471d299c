//! Every property holds for every seed, whole, cut and damaged.

use proptest::collection::vec;
use proptest::prelude::*;
use transload_block::Property;

use super::ALL;

#[test]
fn every_property_holds_for_every_seed() {
    for property in ALL {
        let seeds = (property.seeds)();
        assert!(!seeds.is_empty(), "{} has seeds", property.name);
        seeds.iter().for_each(|seed| (property.holds)(seed));
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
