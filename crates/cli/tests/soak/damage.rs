//! The properties of any bytes, over their seeds with random damage: what the fuzz targets do, without an instrumented build.

use std::panic::{AssertUnwindSafe, catch_unwind};

use transload::image::properties;
use transload_testkit::Random;

use crate::clock;

#[test]
#[ignore = "long: cargo xtask soak"]
fn damaged_bytes_hold_every_property() {
    let starts: Vec<_> = properties::ALL.iter().map(|property| (property, (property.seeds)())).collect();
    let mut inputs = 0_u64;
    for seed in clock::seeds(20) {
        let mut random = Random::new(seed);
        for (property, starts) in &starts {
            let start = &starts[usize::try_from(random.below(starts.len() as u64)).unwrap()];
            let input = damaged(start, &mut random);
            let held = catch_unwind(AssertUnwindSafe(|| (property.holds)(&input)));
            assert!(held.is_ok(), "{} does not hold: seed {seed}", property.name);
            inputs += 1;
        }
    }
    eprintln!("{inputs} inputs held");
}

/// `bytes` with a few numbers changed, parts doubled or left out, or the end cut off.
fn damaged(bytes: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=random.below(6) {
        if bytes.is_empty() {
            break;
        }
        let at = usize::try_from(random.below(bytes.len() as u64)).unwrap();
        let end = bytes.len().min(at + usize::try_from(random.below(9)).unwrap());
        match random.below(6) {
            0 => bytes[at] = bytes[at].wrapping_add(1),
            1 => bytes[at..end].fill(0xff),
            2 => bytes[at..end].fill(0),
            3 => {
                let noise = random.bytes(end - at);
                bytes[at..end].copy_from_slice(&noise);
            }
            4 => {
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            _ => bytes.truncate(at),
        }
    }
    bytes
}
