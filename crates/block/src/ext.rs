//! Conveniences for every device, written in terms of the contract.

use std::iter::FusedIterator;
use std::ops::Range;

use crate::{BlockRead, Error, ErrorKind, Extent, Result, check_range, check_span};

/// What can be done with every [`BlockRead`], trait objects included.
pub trait BlockReadExt: BlockRead {
    /// Reads `length` bytes at `offset` into a new buffer.
    ///
    /// # Errors
    /// As [`read_at`](BlockRead::read_at), before anything is allocated; `TooLarge` when there is no memory for it.
    fn read_vec(&self, offset: u64, length: u64) -> Result<Vec<u8>> {
        check_range(offset, length, self.size())?;
        let mut bytes = zeroed(length)?;
        self.read_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// The extents of the whole device in order, neighbours of the same status merged: no two in a row are alike.
    fn extents(&self) -> Extents<'_, Self> {
        Extents { device: self, ahead: None, at: 0, end: self.size(), failure: None }
    }

    /// The extents of `range`, as [`extents`](Self::extents).
    ///
    /// # Errors
    /// `OutOfRange` when `range` is reversed or reaches behind the device. An empty range has no extents.
    fn extents_in(&self, range: Range<u64>) -> Result<Extents<'_, Self>> {
        check_span(&range, self.size())?;
        Ok(Extents { device: self, ahead: None, at: range.start, end: range.end, failure: None })
    }
}

impl<D: BlockRead + ?Sized> BlockReadExt for D {}

/// The extents of a device; ends after the first error.
#[derive(Debug)]
pub struct Extents<'a, D: ?Sized> {
    device: &'a D,
    /// Asked for and found different from what was being merged.
    ahead: Option<Extent>,
    at: u64,
    end: u64,
    /// Found while an extent was being merged, which is handed out first.
    failure: Option<Error>,
}

impl<D: BlockRead + ?Sized> Extents<'_, D> {
    fn ask(&mut self) -> Option<Result<Extent>> {
        if self.at >= self.end {
            return None;
        }
        let asked = self.at..self.end;
        let answer = self.device.block_status(asked.clone()).and_then(|extent| {
            if extent.offset == asked.start && extent.length > 0 && extent.length <= asked.end - asked.start {
                return Ok(extent);
            }
            // A driver's mistake, which would have the caller go round for ever or skip bytes.
            let (offset, length) = (extent.offset, extent.length);
            Err(Error::new(
                ErrorKind::InvalidInput,
                format!("the device answered {length} bytes at {offset} to a question for the status of {asked:?}"),
            ))
        });
        self.at = answer.as_ref().map_or(self.end, Extent::end);
        Some(answer)
    }
}

impl<D: BlockRead + ?Sized> Iterator for Extents<'_, D> {
    type Item = Result<Extent>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.failure.take() {
            return Some(Err(error));
        }
        let mut merged = match self.ahead.take() {
            Some(extent) => extent,
            None => match self.ask()? {
                Ok(extent) => extent,
                Err(error) => return Some(Err(error)),
            },
        };
        loop {
            match self.ask() {
                Some(Ok(next)) if next.status == merged.status => merged.length += next.length,
                Some(Ok(next)) => {
                    self.ahead = Some(next);
                    break;
                }
                Some(Err(error)) => {
                    self.failure = Some(error);
                    break;
                }
                None => break,
            }
        }
        Some(Ok(merged))
    }
}

impl<D: BlockRead + ?Sized> FusedIterator for Extents<'_, D> {}

/// Whether all bytes are zero; `true` for none. Runs at the speed of memory, and stops within a kibibyte of the first byte
/// that is not zero.
#[must_use]
pub fn is_all_zero(bytes: &[u8]) -> bool {
    const BLOCK: usize = 1024;
    static ZEROES: [u8; BLOCK] = [0; BLOCK];
    // Text and tables begin with something: most data is told from zeroes by its first bytes.
    if bytes.iter().take(16).any(|byte| *byte != 0) {
        return false;
    }
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    let block_is_zero = |block: &[u8; BLOCK]| {
        if cfg!(debug_assertions) {
            // Without optimisation the C library's comparison is a hundred times faster than the loop below.
            *block == ZEROES
        } else {
            // No early exit within the block: the compiler makes vector instructions of it, whatever the C library.
            block.iter().fold(0, |all, byte| all | byte) == 0
        }
    };
    blocks.iter().all(block_is_zero) && rest.iter().all(|byte| *byte == 0)
}

/// A buffer of `length` zeroes, or an error where there is no room for it.
pub(crate) fn zeroed(length: u64) -> Result<Vec<u8>> {
    let too_large = || Error::new(ErrorKind::TooLarge, format!("no memory for a buffer of {length} bytes"));
    let length = usize::try_from(length).map_err(|_| too_large())?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(length).map_err(|_| too_large())?;
    bytes.resize(length, 0);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BlockStatus, BlockWrite, Memory, Storage, ZeroMode};

    #[test]
    fn a_single_byte_is_found_wherever_it_is() {
        for length in [0, 1, 15, 16, 17, 1023, 1024, 1025, 4096, 5000] {
            let mut bytes = vec![0; length];
            assert!(is_all_zero(&bytes), "{length}");
            for at in 0..length {
                bytes[at] = 0x80;
                assert!(!is_all_zero(&bytes), "{length} {at}");
                bytes[at] = 0;
            }
        }
    }

    #[test]
    fn extents_merge_neighbours() {
        let disk = Memory::new(0);
        disk.set_size(3 << 40).unwrap();
        disk.write_at(&vec![1; 300_000], 1 << 30).unwrap();
        disk.write_zeroes_at((1 << 30)..(1 << 30) + 131_072, ZeroMode::KeepAllocated).unwrap();
        let extents: Vec<_> = disk.extents().map(Result::unwrap).collect();
        assert_eq!(
            extents.iter().map(|extent| extent.status).collect::<Vec<_>>(),
            [BlockStatus::Zero, BlockStatus::Data, BlockStatus::Zero]
        );
        assert_eq!(extents.last().unwrap().end(), 3 << 40);
        assert_eq!(disk.extents_in(5..5).unwrap().count(), 0);
        assert_eq!(disk.read_vec((3 << 40) - 2, 3).unwrap_err().kind(), ErrorKind::OutOfRange);
        assert_eq!(disk.read_vec((1 << 30) + 299_999, 2).unwrap(), [1, 0]);
    }
}
