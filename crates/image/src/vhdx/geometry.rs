//! The arithmetic of blocks, chunks and the block allocation table. [MS-VHDX], sections 2.4 and 2.5.

use super::layout::CHUNK_SECTORS;

/// What the places of entries follow from; the values are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    /// Virtual size in bytes, at most 64 TiB.
    pub size: u64,
    /// A power of two from 1 MiB to 256 MiB.
    pub block_size: u64,
    /// Bytes of a logical sector: 512 or 4096.
    pub sector: u64,
    pub has_parent: bool,
}

impl Geometry {
    /// Payload blocks of a chunk: those that one sector bitmap block tells of. At least 16.
    pub(crate) const fn chunk_ratio(&self) -> u64 {
        CHUNK_SECTORS * self.sector / self.block_size
    }

    /// Payload blocks of the disk; the last one may be partial.
    pub(crate) const fn blocks(&self) -> u64 {
        self.size.div_ceil(self.block_size)
    }

    /// Entries of the table: payload blocks, with a sector bitmap's behind those of each chunk. Without a parent the table
    /// may end with the last payload block.
    pub(crate) const fn bat_entries(&self) -> u64 {
        let (blocks, ratio) = (self.blocks(), self.chunk_ratio());
        if self.has_parent { blocks.div_ceil(ratio) * (ratio + 1) } else { blocks + blocks.saturating_sub(1) / ratio }
    }

    /// The number of the entry of payload block `block`.
    pub(crate) const fn payload_entry(&self, block: u64) -> u64 {
        block + block / self.chunk_ratio()
    }

    /// The number of the entry of the sector bitmap of `chunk`.
    pub(crate) const fn bitmap_entry(&self, chunk: u64) -> u64 {
        chunk * (self.chunk_ratio() + 1) + self.chunk_ratio()
    }

    /// What the entry of number `entry` is for.
    pub(crate) const fn is_bitmap_entry(&self, entry: u64) -> bool {
        entry % (self.chunk_ratio() + 1) == self.chunk_ratio()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_interleaved() {
        let geometry = Geometry { size: 10 << 30, block_size: 32 << 20, sector: 512, has_parent: false };
        assert_eq!((geometry.chunk_ratio(), geometry.blocks()), (128, 320));
        // Two sector bitmaps stand before the last payload block; the third would be behind it.
        assert_eq!(geometry.bat_entries(), 322);
        assert_eq!(Geometry { has_parent: true, ..geometry }.bat_entries(), 3 * 129);
        assert_eq!((geometry.payload_entry(127), geometry.payload_entry(128)), (127, 129));
        assert_eq!((geometry.bitmap_entry(0), geometry.bitmap_entry(2)), (128, 386));
        assert!(geometry.is_bitmap_entry(128) && !geometry.is_bitmap_entry(129));
        let whole = Geometry { size: 4 << 30, ..geometry };
        assert_eq!((whole.bat_entries(), Geometry { size: 0, ..geometry }.bat_entries()), (128, 0));
        let large = Geometry { size: 64 << 40, block_size: 256 << 20, sector: 512, has_parent: true };
        assert_eq!((large.chunk_ratio(), large.bat_entries()), (16, (1 << 14) * 17));
    }
}
