//! Where the identifiers of a new image come from: the user's seed, or a sample of the guest's bytes.
//!
//! Only what the guest could read goes in, never times, names, threads, or where a file happens to have holes: the same
//! disk gives the same identifiers, also from another format.

use transload_block::{BlockRead, Payload, Result, is_all_zero};
use transload_image::IdSource;

use crate::feed::{StreamEnd, status};

/// Bytes in one sample.
const SAMPLE: u64 = 4096;

/// Identifiers from the user's seed.
pub(crate) fn from_seed(seed: &str) -> IdSource {
    IdSource::from_material(format!("transload seed {seed}").as_bytes())
}

/// Identifiers from the size of a disk, its first blocks, what stands at 1 MiB (where the first partition usually
/// begins) and samples spread evenly over the rest.
pub(crate) fn from_device(device: &dyn BlockRead) -> Result<IdSource> {
    const FRONT: u64 = 16;
    const SPREAD: u64 = 112;
    let size = device.size();
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"transload content");
    hasher.update(&size.to_le_bytes());
    let front = (0..FRONT).flat_map(|index| [index * SAMPLE, (1 << 20) + index * SAMPLE]);
    let spread = (1..SPREAD).map(|index| {
        let place = u128::from(size) * u128::from(index) / u128::from(SPREAD);
        let place = u64::try_from(place).unwrap_or(u64::MAX);
        place - place % SAMPLE
    });
    let mut sample = Vec::new();
    for offset in front.chain(spread).filter(|offset| *offset < size) {
        let end = size.min(offset.saturating_add(SAMPLE));
        let extent = status(device, offset..end)?;
        if extent.status.reads_zero() && extent.end() == end {
            continue;
        }
        sample.resize(usize::try_from(end - offset).unwrap_or(0), 0);
        device.read_at(&mut sample, offset)?;
        if !is_all_zero(&sample) {
            hasher.update(&offset.to_le_bytes());
            hasher.update(&sample);
        }
    }
    Ok(IdSource::from_material(hasher.finalize().as_bytes()))
}

/// Identifiers from the size of a stream, where it is known, and its first MiB as it came. What stands behind it cannot
/// be known when the target is begun.
pub(crate) fn from_stream(stream: &mut StreamEnd) -> Result<IdSource> {
    const FRONT: u64 = 1 << 20;
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"transload stream");
    hasher.update(&stream.stream().size().unwrap_or(u64::MAX).to_le_bytes());
    for unit in stream.peek(FRONT)? {
        hasher.update(&unit.offset.to_le_bytes());
        match &unit.payload {
            Payload::Zero => {}
            Payload::Plain(bytes) | Payload::Encoded { bytes, .. } => drop(hasher.update(bytes)),
        }
    }
    Ok(IdSource::from_material(hasher.finalize().as_bytes()))
}
