//! How large a disk will be when it is compressed, by a sample.

use transload_block::{BlockRead, BlockReadExt, BlockStatus, Codec, Result, is_all_zero};
use transload_convert::Cancel;
use transload_image::codec::{Encoder, Level};

/// What a disk is expected to come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Estimate {
    /// Bytes of the disk that are not known to be zero.
    pub data: u64,
    /// Bytes that they will be compressed, about.
    pub packed: u64,
}

/// A grain of a streamOptimized VMDK.
const GRAIN: u64 = 64 << 10;
/// What a grain is padded to, and the marker before it.
const SECTOR: usize = 512;
const MARKER: usize = 12;
/// Grains that are looked at, spread evenly over the data: some milliseconds of work.
const SAMPLES: u64 = 96;

/// Estimates from `device`'s map and a sample of its data.
///
/// # Errors
/// What the device answers; `Cancelled`.
pub fn estimate(device: &dyn BlockRead, level: Level, cancel: &Cancel) -> Result<Estimate> {
    let mut data = 0;
    for extent in device.extents() {
        cancel.check()?;
        let extent = extent?;
        if extent.status == BlockStatus::Data {
            data += extent.length;
        }
    }
    if data == 0 {
        return Ok(Estimate::default());
    }
    let step = (data / SAMPLES).max(GRAIN);
    let mut encoder = Encoder::new(Codec::Zlib, level)?;
    let (mut plain, mut packed, mut stored) = (0_u64, 0_u64, Vec::new());
    let (mut seen, mut wanted) = (0, 0);
    for extent in device.extents() {
        cancel.check()?;
        let extent = extent?;
        if extent.status != BlockStatus::Data {
            continue;
        }
        while wanted < seen + extent.length {
            let at = extent.offset + (wanted - seen);
            let at = at - at % GRAIN;
            let bytes = device.read_vec(at, GRAIN.min(device.size() - at))?;
            plain += bytes.len() as u64;
            if !is_all_zero(&bytes) {
                let fits = encoder.encode(&bytes, bytes.len(), &mut stored)?;
                let length = if fits { stored.len() } else { bytes.len() };
                packed += (length + MARKER).next_multiple_of(SECTOR) as u64;
            }
            wanted += step;
        }
        seen += extent.length;
    }
    let packed = u128::from(data) * u128::from(packed) / u128::from(plain.max(1));
    Ok(Estimate { data, packed: u64::try_from(packed).unwrap_or(u64::MAX) })
}
