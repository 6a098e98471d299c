//! Every property holds for every seed, whole, cut and damaged.

use super::ALL;

/// The same numbers each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % bound.max(1)
    }
}

#[test]
fn every_property_holds_for_every_seed() {
    for property in ALL {
        let seeds = (property.seeds)();
        assert!(!seeds.is_empty(), "{} has seeds", property.name);
        for seed in &seeds {
            (property.holds)(seed);
        }
    }
}

#[test]
fn every_property_holds_for_damaged_seeds() {
    let mut random = Random(1);
    for property in ALL {
        for seed in (property.seeds)() {
            for round in 0..12 {
                let mut bytes = seed.clone();
                if round % 4 == 3 {
                    bytes.truncate(random.below(bytes.len()));
                }
                for _ in 0..=round {
                    // Most damage goes where the structures are.
                    let bound = if random.below(3) == 0 { bytes.len() } else { bytes.len().min(1024) };
                    let at = random.below(bound);
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = [0, 1, 0xff, *byte ^ 1 << (round % 8)][random.below(4)];
                    }
                }
                (property.holds)(&bytes);
            }
        }
    }
}
