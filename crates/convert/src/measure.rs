//! What a disk holds, as a list, and how large it would be in another format.

use transload_block::{BlockRead, BlockStatus, Error, ErrorKind, Extent, Result};
use transload_image::{Format, Measure, MeasureRequest, OptionValues};

use crate::Cancel;
use crate::feed::status;

/// Says how many bytes an image of `format` with `options` needs for what `device` holds.
///
/// # Errors
/// `Unsupported` when the format cannot say; `Cancelled`; what the device and the format answer.
pub fn measure(
    device: &dyn BlockRead,
    format: &'static Format,
    options: &OptionValues,
    cancel: &Cancel,
) -> Result<Measure> {
    let Some(measure) = format.measure else {
        return Err(Error::new(ErrorKind::Unsupported, format!("measuring {}", format.name)));
    };
    let extents = survey(device, cancel)?;
    measure(MeasureRequest { size: device.size(), options, extents: &extents })
}

/// What `device` holds: `Data` and `Zero` in turn, ascending and complete.
///
/// The list is bounded. Where a disk has more extents than it may hold, the shortest runs of zeroes count as data, so
/// that what is `Zero` in the list is always zero.
pub(crate) fn survey(device: &dyn BlockRead, cancel: &Cancel) -> Result<Vec<Extent>> {
    /// 24 MiB of extents.
    const MOST: usize = 1 << 20;
    let size = device.size();
    let mut extents: Vec<Extent> = Vec::new();
    let mut shortest = 1;
    let mut offset = 0;
    while offset < size {
        cancel.check()?;
        let extent = status(device, offset..size)?;
        offset = extent.end();
        let status = if extent.status.reads_zero() { BlockStatus::Zero } else { BlockStatus::Data };
        push(&mut extents, Extent { status, ..extent });
        while extents.len() > MOST {
            shortest *= 2;
            coarsen(&mut extents, shortest);
        }
    }
    Ok(extents)
}

/// Adds an extent, joined to the last one if that has the same status.
fn push(extents: &mut Vec<Extent>, next: Extent) {
    match extents.last_mut() {
        Some(last) if last.status == next.status => last.length += next.length,
        _ => extents.push(next),
    }
}

/// Turns zeroes shorter than `shortest` into data. The last extent stays: it may still grow.
fn coarsen(extents: &mut Vec<Extent>, shortest: u64) {
    let old = std::mem::take(extents);
    let last = old.len().saturating_sub(1);
    for (index, mut extent) in old.into_iter().enumerate() {
        if index < last && extent.length < shortest {
            extent.status = BlockStatus::Data;
        }
        push(extents, extent);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(offset: u64, length: u64, status: BlockStatus) -> Extent {
        Extent { offset, length, status }
    }

    #[test]
    fn coarsening_only_turns_zeroes_into_data_and_stays_complete() {
        use BlockStatus::{Data, Zero};
        let mut extents = vec![
            extent(0, 5, Data),
            extent(5, 1, Zero),
            extent(6, 1, Data),
            extent(7, 9, Zero),
            extent(16, 1, Data),
            extent(17, 1, Zero),
        ];
        coarsen(&mut extents, 4);
        assert_eq!(extents, [extent(0, 7, Data), extent(7, 9, Zero), extent(16, 1, Data), extent(17, 1, Zero)]);
    }
}
