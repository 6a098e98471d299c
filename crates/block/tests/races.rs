//! Copy-on-write of a chain under threads. Without its range lock, or without the share of it that readers hold, these
//! tests fail.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use transload_block::{
    BlockLimits, BlockRead, BlockReadExt, BlockWrite, Capabilities, Chain, Extent, Memory, Reserve, Result, ZeroMode,
};
use transload_testkit::disks::{Fill, content};
use transload_testkit::{Misbehaving, Overlay};

const UNIT: u64 = 65_536;
const UNITS: u64 = 6;
const STRIPE: u64 = 1000;

/// A layer that allocates a unit, and fills it some time later.
#[derive(Debug)]
struct Piecemeal(Overlay);

impl BlockRead for Piecemeal {
    fn size(&self) -> u64 {
        self.0.size()
    }

    fn limits(&self) -> BlockLimits {
        self.0.limits()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        self.0.read_at(buf, offset)
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        self.0.block_status(range)
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::none()
    }
}

impl BlockWrite for Piecemeal {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        self.0.reserve(offset..offset + buf.len() as u64)?;
        thread::sleep(Duration::from_millis(2));
        self.0.write_at(buf, offset)
    }

    fn write_zeroes_at(&self, range: Range<u64>, mode: ZeroMode) -> Result<()> {
        self.0.write_zeroes_at(range, mode)
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }
}

#[test]
fn partial_writes_into_one_unit_lose_nothing() {
    let bytes = content(0..UNIT * UNITS, Fill::Random);
    let below = Misbehaving::new(Arc::new(Memory::from(bytes.clone())));
    below.delay(Duration::from_millis(1));
    let top = Piecemeal(Overlay::new(UNIT * UNITS, 65_536));
    let chain = Chain::writable(Arc::new(top), vec![Arc::new(below)]);
    let at_once = Barrier::new(4);
    let half_copied = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 0..3_u64 {
            let (chain, at_once) = (&chain, &at_once);
            scope.spawn(move || {
                for unit in 0..UNITS {
                    at_once.wait();
                    chain.write_at(&[0xAA; 1000], unit * UNIT + writer * STRIPE).expect("a write inside the disk");
                }
            });
        }
        // Bytes that nobody writes are as they were, before, while and after their unit is copied.
        let (chain, at_once, bytes, half_copied) = (&chain, &at_once, &bytes, &half_copied);
        scope.spawn(move || {
            for unit in 0..UNITS {
                at_once.wait();
                for _ in 0..20 {
                    let start = unit * UNIT + 3 * STRIPE;
                    let found = chain.read_vec(start, STRIPE).expect("a read inside the disk");
                    let place = usize::try_from(start).expect("small");
                    // Not asserted here: the others would wait for this thread for ever.
                    half_copied.fetch_or(found != bytes[place..place + found.len()], Ordering::SeqCst);
                    thread::sleep(Duration::from_micros(300));
                }
            }
        });
    });
    assert!(!half_copied.into_inner(), "a unit was seen half copied");
    let mut expected = bytes;
    for unit in expected.chunks_mut(usize::try_from(UNIT).expect("small")) {
        unit[..3000].fill(0xAA);
    }
    let found = chain.read_vec(0, chain.size()).unwrap();
    assert!(found == expected, "differs at {:?}", found.iter().zip(&expected).position(|(a, b)| a != b));
}
