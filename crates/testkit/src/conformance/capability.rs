//! The sentences of the optional abilities.

use transload_block::{
    BlockRead, BlockReadExt, BlockStatus, EncodedRead, Error, ErrorKind, HostExtents, PositionedIo, read_full_at,
};
use transload_image::codec;

use super::{Sentence, Verdict, difference};
use crate::random::Random;

/// Longer units are not decoded: no format has them, and a suite is no allocation test.
const LONGEST_UNIT: u64 = 64 << 20;
const ROUNDS: u64 = 100;

/// Checks whatever abilities the device offers against its own bytes.
pub(super) fn check(device: &dyn BlockRead, verdict: &mut Verdict) {
    let abilities = device.capabilities();
    if let Some(encoded) = abilities.encoded {
        check_encoded(device, encoded, verdict);
    }
    if let Some(places) = abilities.host_extents {
        check_host_extents(device, places, verdict);
    }
}

fn check_encoded(device: &dyn BlockRead, encoded: &dyn EncodedRead, verdict: &mut Verdict) {
    let sentence = Sentence::EncodedIsTheUnit;
    let size = device.size();
    let unit_size = encoded.encoded_unit_size();
    if !verdict.check(sentence, (1..=LONGEST_UNIT).contains(&unit_size), || format!("units of {unit_size} bytes")) {
        return;
    }
    for offset in [size, u64::MAX] {
        let kind = encoded.read_encoded(offset, &mut Vec::new()).err().map(|error| error.kind());
        verdict
            .check(sentence, kind == Some(ErrorKind::OutOfRange), || format!("unit at {offset} of {size}: {kind:?}"));
    }
    let mut random = Random::new(size);
    let spread = (0..size).step_by(usize::try_from((size / ROUNDS).max(1)).unwrap_or(usize::MAX));
    let offsets: Vec<u64> = spread.chain((0..ROUNDS).map(|_| random.below(size))).filter(|at| *at < size).collect();
    for offset in offsets {
        let mut stored = vec![0xEE; 3];
        let unit = match encoded.read_encoded(offset, &mut stored) {
            Ok(Some(unit)) => unit,
            Ok(None) => continue,
            Err(error) => {
                verdict.check(sentence, false, || format!("unit at {offset}: {error}"));
                continue;
            }
        };
        let shape = unit.range.contains(&offset)
            && unit.range.start.is_multiple_of(unit_size)
            && unit.range.end <= size
            && (unit.range.end - unit.range.start == unit_size || unit.range.end == size);
        if !verdict.check(sentence, shape, || format!("{unit:?} for {offset}, units of {unit_size}, size {size}")) {
            continue;
        }
        let length = usize::try_from(unit.range.end - unit.range.start).expect("checked above");
        let mut decoded = vec![0; usize::try_from(unit_size).expect("checked above")];
        match codec::decode(unit.codec, &stored, &mut decoded) {
            Ok(count) => {
                let guest = device.read_vec(unit.range.start, length as u64);
                let same = guest.as_ref().is_ok_and(|guest| count >= length && decoded[..length] == guest[..]);
                verdict.check(sentence, same, || format!("{unit:?} decodes to {count} bytes, not those of the guest"));
            }
            Err(error) => {
                verdict.check(sentence, false, || format!("{unit:?}: {error}"));
            }
        }
        let status = device.block_status(offset..offset + 1).map(|extent| extent.status);
        verdict.check(Sentence::StatusIsTrue, matches!(status, Ok(BlockStatus::Data)), || {
            format!("{unit:?} is stored, and the status of {offset} is {status:?}")
        });
    }
}

fn check_host_extents(device: &dyn BlockRead, places: &dyn HostExtents, verdict: &mut Verdict) {
    let sentence = Sentence::HostExtentIsTrue;
    let size = device.size();
    for range in [0..0, size..size + 1, 0..size + 1, 5..u64::MAX] {
        let kind = places.host_extent(range.clone()).err().as_ref().map(Error::kind);
        verdict
            .check(sentence, kind == Some(ErrorKind::OutOfRange), || format!("place of {range:?} of {size}: {kind:?}"));
    }
    let mut random = Random::new(size);
    for _ in 0..ROUNDS {
        let range = random.range(size, size);
        if range.is_empty() {
            continue;
        }
        let extent = match places.host_extent(range.clone()) {
            Ok(extent) => extent,
            Err(error) => {
                verdict.check(sentence, false, || format!("place of {range:?}: {error}"));
                continue;
            }
        };
        let inside = extent.length > 0 && extent.length <= range.end - range.start;
        if !verdict.check(sentence, inside, || format!("{} bytes for {range:?}", extent.length)) {
            continue;
        }
        let Some(place) = extent.location else { continue };
        // The front and the back of the run; all of it may be terabytes.
        let length = extent.length.min(1 << 16);
        for skip in [0, extent.length - length] {
            let guest = device.read_vec(range.start + skip, length).unwrap_or_default();
            let mut host = vec![0; guest.len()];
            let file: &dyn PositionedIo = place.file;
            let answer = read_full_at(file, &mut host, place.offset + skip);
            verdict.check(sentence, answer.is_ok() && !host.is_empty() && host == guest, || {
                format!(
                    "{range:?} is not at {} of {}: {}",
                    place.offset,
                    place.path.display(),
                    difference(&host, &guest, 0)
                )
            });
        }
    }
}
