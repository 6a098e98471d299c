//! The device: what the block contract asks for, in requests.

use std::ops::Range;

use transload_block::{
    BlockLimits, BlockRead, BlockStatus, BlockWrite, Capabilities, Error, ErrorKind, Extent, Result, Storage, ZeroMode,
    check_extent, check_range, check_span,
};

use super::NbdDisk;
use super::link::{Answer, Request};
use crate::protocol::{Dialect, STATE_ZERO, command, command_flag, transmission};
use crate::transport::protocol_error;

/// The bytes of one request that has no payload: all servers take as many, and none is busy for long.
const WITHOUT_PAYLOAD: u64 = 1 << 30;

impl NbdDisk {
    fn call(&self, command: u16, flags: u16, range: &Range<u64>, payload: &[u8], answer: Answer<'_>) -> Result<()> {
        let request = Request { command, flags, offset: range.start, length: range.end - range.start };
        self.link().call(request, payload, answer).map_err(|error| self.failed(error))
    }

    /// Reads a range that suits the server.
    fn read_suiting(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let longest = usize::try_from(self.longest()).unwrap_or(usize::MAX);
        let mut at = offset;
        for piece in buf.chunks_mut(longest) {
            let range = at..at + piece.len() as u64;
            at = range.end;
            self.call(command::READ, 0, &range, &[], Answer::Bytes(piece))?;
        }
        Ok(())
    }

    /// Writes a range that suits the server.
    fn write_suiting(&self, buf: &[u8], offset: u64) -> Result<()> {
        let longest = usize::try_from(self.longest()).unwrap_or(usize::MAX);
        let mut at = offset;
        for piece in buf.chunks(longest) {
            let range = at..at + piece.len() as u64;
            at = range.end;
            self.call(command::WRITE, 0, &range, piece, Answer::Nothing)?;
        }
        Ok(())
    }

    /// Writes a range whose ends do not suit the server: its ends are read first.
    fn write_ragged(&self, buf: &[u8], range: &Range<u64>) -> Result<()> {
        let wide = self.widened(range);
        let _alone = self.whole.lock(wide.clone());
        // Only the blocks at the ends hold bytes of others; but one buffer for all of it is simpler and seldom large.
        let mut whole = vec![0; usize::try_from(wide.end - wide.start).unwrap_or(usize::MAX)];
        self.read_suiting(&mut whole, wide.start)?;
        let begin = usize::try_from(range.start - wide.start).unwrap_or(usize::MAX);
        whole[begin..begin + buf.len()].copy_from_slice(buf);
        self.write_suiting(&whole, wide.start)
    }

    /// Asks the server for the status from `range.start` on; the list covers at least one byte.
    fn ask_status(&self, range: Range<u64>, context: u32) -> Result<Vec<Extent>> {
        let mut list = Vec::new();
        let answer = Answer::Extents { context, list: &mut list };
        self.call(command::BLOCK_STATUS, 0, &range, &[], answer)?;
        let mut at = range.start;
        let mut extents = Vec::with_capacity(list.len());
        for (length, state) in list {
            let end = at.checked_add(length).filter(|end| length > 0 && *end <= self.offer.size);
            let Some(end) = end else {
                return protocol_error(format_args!("{}: an extent of {length} bytes at {at}", self.address));
            };
            // Nothing lies below an export: what is not allocated is zero like any other, and no hole to look through.
            let is_zero = state & u64::from(STATE_ZERO) != 0;
            let status = if is_zero { BlockStatus::Zero } else { BlockStatus::Data };
            extents.push(Extent { offset: at, length, status });
            at = end;
        }
        if extents.is_empty() {
            return protocol_error(format_args!("{}: no extents", self.address));
        }
        Ok(extents)
    }

    /// What is remembered of the byte at `offset`.
    fn remembered(&self, offset: u64) -> Option<Extent> {
        let ahead = self.ahead();
        let place = ahead.partition_point(|extent| extent.end() <= offset);
        ahead.get(place).filter(|extent| extent.offset <= offset).copied()
    }

    fn forget_status(&self) {
        self.ahead().clear();
    }

    /// A change that has no payload, in pieces that servers take.
    fn change(&self, command: u16, flags: u16, range: Range<u64>) -> Result<()> {
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min(at.saturating_add(WITHOUT_PAYLOAD));
            self.call(command, flags, &(at..end), &[], Answer::Nothing)?;
            at = end;
        }
        Ok(())
    }

    fn write_zero_bytes(&self, range: Range<u64>) -> Result<()> {
        let zeroes = vec![0; usize::try_from(self.longest().min(range.end - range.start)).unwrap_or(usize::MAX)];
        let mut at = range.start;
        while at < range.end {
            let length = (range.end - at).min(zeroes.len() as u64);
            self.write_at(&zeroes[..usize::try_from(length).unwrap_or(usize::MAX)], at)?;
            at += length;
        }
        Ok(())
    }
}

impl BlockRead for NbdDisk {
    fn size(&self) -> u64 {
        self.offer.size
    }

    fn limits(&self) -> BlockLimits {
        let preferred = self.offer.preferred.max(64 << 10).max(self.offer.minimum);
        BlockLimits { alignment: self.offer.minimum, preferred, granularity: self.offer.minimum }
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let end = check_range(offset, buf.len() as u64, self.offer.size)?;
        if buf.is_empty() {
            return Ok(());
        }
        let wide = self.widened(&(offset..end));
        if wide == (offset..end) {
            return self.read_suiting(buf, offset);
        }
        let mut whole = vec![0; usize::try_from(wide.end - wide.start).unwrap_or(usize::MAX)];
        self.read_suiting(&mut whole, wide.start)?;
        let begin = usize::try_from(offset - wide.start).unwrap_or(usize::MAX);
        buf.copy_from_slice(&whole[begin..begin + buf.len()]);
        Ok(())
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        check_extent(&range, self.offer.size)?;
        let Some(context) = self.offer.allocation else {
            return Ok(Extent { offset: range.start, length: range.end - range.start, status: BlockStatus::Data });
        };
        let found = match self.remembered(range.start) {
            Some(extent) => extent,
            None => {
                // Servers answer for as much as they like; asking for much saves round trips.
                let wide = self.widened(&range);
                let most = if self.offer.dialect == Dialect::Extended { u64::MAX } else { WITHOUT_PAYLOAD };
                let end = self.offer.size.min(wide.start.saturating_add(most));
                let extents = self.ask_status(wide.start..end, context)?;
                let found = extents.iter().find(|extent| extent.end() > range.start).copied();
                *self.ahead() = extents;
                match found {
                    Some(extent) => extent,
                    None => {
                        return protocol_error(format_args!("{}: extents of less than was asked for", self.address));
                    }
                }
            }
        };
        let length = found.end().min(range.end) - range.start;
        Ok(Extent { offset: range.start, length, status: found.status })
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities::none()
    }
}

impl BlockWrite for NbdDisk {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        let range = offset..check_range(offset, buf.len() as u64, self.offer.size)?;
        self.refuse_writing()?;
        if buf.is_empty() {
            return Ok(());
        }
        let outcome = if self.widened(&range) == range {
            let _shared = (self.offer.minimum > 1).then(|| self.whole.lock_shared(range.clone()));
            self.write_suiting(buf, offset)
        } else {
            self.write_ragged(buf, &range)
        };
        self.forget_status();
        outcome
    }

    fn write_zeroes_at(&self, range: Range<u64>, mode: ZeroMode) -> Result<()> {
        check_span(&range, self.offer.size)?;
        self.refuse_writing()?;
        if range.is_empty() {
            return Ok(());
        }
        if !self.offer.has(transmission::SEND_WRITE_ZEROES) {
            return self.write_zero_bytes(range);
        }
        let unit = u64::from(self.offer.minimum);
        let whole = range.start.next_multiple_of(unit)..if range.end == self.offer.size {
            range.end
        } else {
            range.end / unit * unit
        };
        let outcome = if whole.start >= whole.end {
            self.write_zero_bytes(range)
        } else {
            let flags = if mode == ZeroMode::KeepAllocated { command_flag::NO_HOLE } else { 0 };
            self.write_zero_bytes(range.start..whole.start)
                .and_then(|()| self.change(command::WRITE_ZEROES, flags, whole.clone()))
                .and_then(|()| self.write_zero_bytes(whole.end..range.end))
        };
        self.forget_status();
        outcome
    }

    fn flush(&self) -> Result<()> {
        if self.read_only || !self.offer.has(transmission::SEND_FLUSH) {
            return Ok(());
        }
        // Every request before has been answered, and where there are several links a flush is one for all of them.
        self.call(command::FLUSH, 0, &(0..0), &[], Answer::Nothing)
    }
}

impl Storage for NbdDisk {
    fn set_size(&self, size: u64) -> Result<()> {
        if size == self.offer.size {
            return Ok(());
        }
        let (kind, what) = if size > self.offer.size {
            (ErrorKind::NoSpace, "has no room for")
        } else {
            // What was there stays behind the end, as on a block device; nobody looks at it.
            return Ok(());
        };
        let have = self.offer.size;
        Err(Error::new(kind, format!("{}: an export of {have} bytes {what} {size}", self.address)))
    }

    fn allocate(&self, range: Range<u64>) -> Result<()> {
        check_span(&range, self.offer.size)?;
        Err(Error::new(ErrorKind::Unsupported, format!("{}: NBD cannot set room aside", self.address)))
    }
}
