//! Opens a raw disk: its file, as it is.

use std::ops::Range;
use std::sync::Arc;

use transload_block::{
    BlockLimits, BlockRead, BlockWrite, Capabilities, Extent, Result, Storage, ZeroMode, check_range,
};

use crate::{Access, ImageInfo, ImageWrite, Layer, OpenRequest};

/// Opens any bytes as a disk.
///
/// For reading the device is the storage itself, with all it can do.
pub(super) fn open(request: OpenRequest<'_>) -> Result<Layer> {
    let OpenRequest { source, access, .. } = request;
    let (device, writer): (Arc<dyn BlockRead>, Option<Arc<dyn ImageWrite>>) = match access {
        Access::ReadOnly => (Arc::clone(source.bytes()), None),
        Access::ReadWrite => {
            let storage = Arc::clone(source.storage()?);
            let disk = Arc::new(RawDisk { size: storage.size(), storage });
            (Arc::clone(&disk) as Arc<dyn BlockRead>, Some(disk))
        }
    };
    let info = ImageInfo { format: super::FORMAT.name.to_owned(), virtual_size: device.size(), ..ImageInfo::default() };
    Ok(Layer { format: &super::FORMAT, source, device, writer, info, parent: None, content_ids: Vec::new() })
}

/// A raw disk for writing: the first `size` bytes of a storage. They are all of a file; a block device may be longer.
#[derive(Debug)]
pub(super) struct RawDisk {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) size: u64,
}

impl RawDisk {
    fn check(&self, range: &Range<u64>) -> Result<()> {
        check_range(range.start, range.end.saturating_sub(range.start), self.size).map(drop)
    }
}

impl BlockRead for RawDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn limits(&self) -> BlockLimits {
        self.storage.limits()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len() as u64, self.size)?;
        self.storage.read_at(buf, offset)
    }

    fn block_status(&self, range: Range<u64>) -> Result<Extent> {
        self.check(&range)?;
        self.storage.block_status(range)
    }

    fn capabilities(&self) -> Capabilities<'_> {
        self.storage.capabilities()
    }
}

impl BlockWrite for RawDisk {
    fn write_at(&self, buf: &[u8], offset: u64) -> Result<()> {
        check_range(offset, buf.len() as u64, self.size)?;
        self.storage.write_at(buf, offset)
    }

    fn write_zeroes_at(&self, range: Range<u64>, mode: ZeroMode) -> Result<()> {
        self.check(&range)?;
        self.storage.write_zeroes_at(range, mode)
    }

    fn flush(&self) -> Result<()> {
        self.storage.flush()
    }
}

impl ImageWrite for RawDisk {
    fn finish(&self) -> Result<()> {
        self.storage.flush()
    }
}
