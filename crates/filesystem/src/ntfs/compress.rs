//! Compressed values: units of sixteen clusters, each stored as it is, as nothing, or as LZNT1 in fewer clusters.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use transload_block::{
    BlockLimits, BlockRead, BlockReadExt, BlockStatus, Capabilities, Extent, Result, check_extent, check_range,
};

use crate::fields::{corrupt, in_memory};
use crate::mapped::{MappedFile, Runs};

/// Bytes that are compressed with one window.
const CHUNK: usize = 4096;

/// A compressed value.
#[derive(Debug)]
pub(super) struct Compressed {
    /// The clusters, as if nothing were compressed.
    stored: MappedFile,
    size: u64,
    valid: u64,
    unit: u64,
    /// The unit that was unpacked last.
    last: Mutex<Option<(u64, Arc<Vec<u8>>)>>,
}

impl Compressed {
    pub(super) fn new(device: Arc<dyn BlockRead>, runs: Runs, size: u64, valid: u64, unit: u64) -> Result<Self> {
        let held = size.checked_next_multiple_of(unit).ok_or_else(|| corrupt("NTFS: a compressed value overflows"))?;
        let stored = MappedFile::new(device, runs, held, u64::MAX)?;
        Ok(Self { stored, size, valid, unit, last: Mutex::default() })
    }

    /// How many bytes of a unit are on the device; they stand at its start.
    fn held(&self, start: u64) -> Result<u64> {
        let first = self.stored.block_status(start..start + self.unit)?;
        if first.status != BlockStatus::Data {
            return Ok(0);
        }
        let mut end = first.end();
        while end < start + self.unit {
            let next = self.stored.block_status(end..start + self.unit)?;
            if next.status != BlockStatus::Data {
                break;
            }
            end = next.end();
        }
        Ok(end - start)
    }

    fn unpacked(&self, start: u64) -> Result<Arc<Vec<u8>>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, bytes)) = &*last
            && *at == start
        {
            return Ok(Arc::clone(bytes));
        }
        let length = in_memory(self.unit, 512 << 20, "a compressed unit")?;
        let held = self.held(start)?;
        let bytes = if held == self.unit {
            self.stored.read_vec(start, held)?
        } else {
            unpack(&self.stored.read_vec(start, held)?, length)?
        };
        let bytes = Arc::new(bytes);
        *last = Some((start, Arc::clone(&bytes)));
        Ok(bytes)
    }
}

impl BlockRead for Compressed {
    fn size(&self) -> u64 {
        self.size
    }

    fn limits(&self) -> BlockLimits {
        BlockLimits { granularity: 1, ..self.stored.limits() }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len() as u64, self.size)?;
        let (mut rest, mut at) = (buf, offset);
        while !rest.is_empty() {
            let start = at - at % self.unit;
            let within = at - start;
            let count = usize::try_from(self.unit - within).unwrap_or(usize::MAX).min(rest.len());
            let (now, later) = rest.split_at_mut(count);
            if at >= self.valid || self.held(start)? == 0 {
                now.fill(0);
            } else {
                let bytes = self.unpacked(start)?;
                let within = usize::try_from(within).unwrap_or_default();
                now.copy_from_slice(&bytes[within..within + count]);
                let valid = usize::try_from(self.valid - at).unwrap_or(usize::MAX).min(count);
                now[valid..].fill(0);
            }
            rest = later;
            at += count as u64;
        }
        Ok(())
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        check_extent(&range, self.size)?;
        let start = range.start - range.start % self.unit;
        let end = (start + self.unit).min(range.end);
        let is_hole = self.held(start)? == 0;
        let status = if is_hole { BlockStatus::Hole } else { BlockStatus::Data };
        Ok(Extent { offset: range.start, length: end - range.start, status })
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::default()
    }
}

/// Unpacks LZNT1 ([MS-XCA] 2.5) into `length` bytes; what the stream does not say is zero.
pub(super) fn unpack(packed: &[u8], length: usize) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(length.min(1 << 20));
    let mut rest = packed;
    while out.len() < length {
        let Some((header, tail)) = rest.split_first_chunk::<2>() else { break };
        let header = u16::from_le_bytes(*header);
        if header == 0 {
            break;
        }
        let size = usize::from(header & 0xFFF) + 1;
        let chunk = tail.get(..size).ok_or_else(|| corrupt(format!("LZNT1: a chunk of {size} bytes is cut off")))?;
        let start = out.len();
        if header & 0x8000 == 0 {
            out.extend_from_slice(chunk);
        } else {
            unpack_chunk(chunk, &mut out, start)?;
        }
        // A chunk stands for 4096 bytes, whatever it holds.
        let end = (start + CHUNK).min(length);
        if out.len() > start + CHUNK {
            return Err(corrupt(format!("LZNT1: a chunk holds {} bytes", out.len() - start)));
        }
        out.resize(end.max(out.len().min(length)), 0);
        rest = &tail[size..];
    }
    out.resize(length, 0);
    Ok(out)
}

fn unpack_chunk(chunk: &[u8], out: &mut Vec<u8>, start: usize) -> Result<()> {
    let mut at = 0;
    while at < chunk.len() {
        let flags = chunk[at];
        at += 1;
        for bit in 0..8 {
            if at >= chunk.len() {
                break;
            }
            if flags >> bit & 1 == 0 {
                out.push(chunk[at]);
                at += 1;
            } else {
                let pair = chunk.get(at..at + 2).ok_or_else(|| corrupt("LZNT1: a reference is cut off"))?;
                let token = u16::from_le_bytes([pair[0], pair[1]]);
                at += 2;
                copy_back(token, out, start)?;
            }
            if out.len() - start > CHUNK {
                return Err(corrupt("LZNT1: a chunk holds more than 4096 bytes"));
            }
        }
    }
    Ok(())
}

/// Repeats earlier bytes of the chunk. How many bits of the token say how far back grows with the place in the chunk.
fn copy_back(token: u16, out: &mut Vec<u8>, start: usize) -> Result<()> {
    let done = out.len() - start;
    let mut shift = 12;
    while done > 1 << (16 - shift) {
        shift -= 1;
    }
    let back = usize::from(token >> shift) + 1;
    let length = usize::from(token & ((1 << shift) - 1)) + 3;
    if back > done {
        return Err(corrupt(format!("LZNT1: {back} bytes back where {done} are")));
    }
    for _ in 0..length {
        out.push(out[out.len() - back]);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_specification_is_unpacked() {
        // [MS-XCA] 3.3: "F# F# G A A G F# E D D E F# F# E E" twice.
        let packed = [
            0x38, 0xb0, 0x88, 0x46, 0x23, 0x20, 0x00, 0x20, 0x47, 0x20, 0x41, 0x00, 0x10, 0xa2, 0x47, 0x01, 0xa0, 0x45,
            0x20, 0x44, 0x00, 0x08, 0x45, 0x01, 0x50, 0x79, 0x00, 0xc0, 0x45, 0x20, 0x05, 0x24, 0x13, 0x88, 0x05, 0xb4,
            0x02, 0x4a, 0x44, 0xef, 0x03, 0x58, 0x02, 0x8c, 0x09, 0x16, 0x01, 0x48, 0x45, 0x00, 0xbe, 0x00, 0x9e, 0x00,
            0x04, 0x01, 0x18, 0x90, 0x00,
        ];
        let expected = b"F# F# G A A G F# E D D E F# F# E E F# F# G A A G F# E D D E F# E D D E E F# D E F# G F# D E F# G F# E D E A F# F# G A A G F# E D D E F# E D D\0";
        assert_eq!(unpack(&packed, expected.len()).unwrap(), expected);
        assert!(unpack(&packed[..20], 200).is_err());
        assert_eq!(unpack(&[], 5).unwrap(), [0; 5]);
    }
}
