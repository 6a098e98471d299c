//! How much a compressed file may hold.
//!
//! A few kilobytes can unpack to petabytes, which would take the disk or the day. A sound image of an empty disk packs by a
//! thousand to one and more, so that a ratio alone refuses what is sound: it counts only where there is much of it.

use transload_block::{Error, ErrorKind, Result};

use crate::OptionValues;

/// Bytes up to which any ratio is taken: unpacking them takes a minute.
const FREE: u64 = 64 << 30;
const SIZE: u64 = 64 << 40;
/// Deflate reaches 1032; xz, bzip2 and Zstandard reach more on zeroes alone.
const RATIO: u64 = 1100;

/// The bounds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    size: u64,
    ratio: u64,
}

impl Limits {
    /// Those that the options ask for.
    pub(super) fn of(options: &OptionValues) -> Self {
        Self { size: options.size("max_size").unwrap_or(SIZE), ratio: options.number("max_ratio").unwrap_or(RATIO) }
    }

    /// Whether `held` bytes may come out of `stored`.
    pub(super) fn check(&self, held: u64, stored: u64) -> Result<()> {
        if held > self.size {
            let what = format!("it unpacks to more than {} bytes", self.size);
            return Err(Error::new(ErrorKind::TooLarge, what).with_remedy("allow more with the option max_size"));
        }
        if held > FREE && held / self.ratio.max(1) > stored {
            let what = format!("{stored} bytes unpack to {held}, more than {} to one", self.ratio);
            return Err(Error::new(ErrorKind::TooLarge, what).with_remedy("allow it with the option max_ratio"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_counts_where_there_is_much() {
        let limits = Limits::of(&OptionValues::default());
        assert!(limits.check(FREE, 1).is_ok());
        assert_eq!(limits.check(FREE + 1, 1000).unwrap_err().kind(), ErrorKind::TooLarge);
        assert!(limits.check(FREE + 1, FREE / 1000).is_ok());
        assert_eq!(limits.check(SIZE + 1, SIZE).unwrap_err().kind(), ErrorKind::TooLarge);
    }
}
