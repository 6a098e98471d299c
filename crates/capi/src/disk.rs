//! What the calls do, in safe terms.

use std::ffi::{CStr, OsStr, c_char};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use transload_block::{BlockRead, BlockWrite, Error, ErrorKind, Result, ZeroMode};
use transload_convert::AtomicFiles;
use transload_image::{
    Access, CreateRequest, Format, IdSource, OpenSettings, Opened, OptionValues, ReferenceGate, open_path,
};

use crate::call::invalid;
use crate::{BLK_NO_REFERENCES, BLK_READ_WRITE, BLK_SECTOR_SIZE, Info};

/// An image that is open.
#[derive(Debug)]
pub struct Disk {
    opened: Opened,
    reader: Arc<dyn BlockRead>,
    writer: Option<Arc<dyn BlockWrite>>,
}

impl Disk {
    pub(crate) fn open(path: &CStr, format: Option<&CStr>, flags: u32) -> Result<Self> {
        if flags & !(BLK_READ_WRITE | BLK_NO_REFERENCES) != 0 {
            return Err(invalid("a flag that is not known"));
        }
        let access = if flags & BLK_READ_WRITE == 0 { Access::ReadOnly } else { Access::ReadWrite };
        let gate = if flags & BLK_NO_REFERENCES == 0 { ReferenceGate::SameDirectory } else { ReferenceGate::Deny };
        let format = format.map(format_of).transpose()?;
        let settings = OpenSettings { format, gate, access, ..OpenSettings::default() };
        let opened = open_path(file(path), &settings)?;
        let writer = opened.writer();
        if access == Access::ReadWrite && writer.is_none() {
            return Err(Error::new(ErrorKind::Unsupported, "images of this format cannot be written in place"));
        }
        let reader = match &writer {
            Some(writer) => Arc::clone(writer) as Arc<dyn BlockRead>,
            None => Arc::clone(&opened.device),
        };
        Ok(Self { opened, reader, writer })
    }

    pub(crate) fn info(&self) -> Info {
        let limits = self.reader.limits();
        let mut format = [0; 32];
        let name = self.opened.layers.first().map_or("", |layer| layer.format.name);
        for (place, byte) in format.iter_mut().take(31).zip(name.bytes()) {
            *place = c_char::from_ne_bytes([byte]);
        }
        Info {
            size: self.reader.size(),
            sectors: self.reader.size() / u64::from(BLK_SECTOR_SIZE),
            preferred: limits.preferred,
            granularity: limits.granularity,
            layers: u32::try_from(self.opened.layers.len()).unwrap_or(u32::MAX),
            writable: self.writer.is_some().into(),
            format,
        }
    }

    /// Whether zeroes stand at `offset`, and for how many of `length` bytes that holds.
    pub(crate) fn map(&self, offset: u64, length: u64) -> Result<(bool, u64)> {
        let end = offset.checked_add(length).ok_or_else(|| invalid("the range has no end"))?;
        let extent = self.reader.block_status(offset..end)?;
        Ok((extent.status.reads_zero(), extent.length))
    }

    pub(crate) fn read(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.reader.read_at(buffer, offset)
    }

    pub(crate) fn write(&self, buffer: &[u8], offset: u64) -> Result<()> {
        self.writer()?.write_at(buffer, offset)
    }

    pub(crate) fn zero(&self, offset: u64, length: u64) -> Result<()> {
        let end = offset.checked_add(length).ok_or_else(|| invalid("the range has no end"))?;
        self.writer()?.write_zeroes_at(offset..end, ZeroMode::Unmap)
    }

    pub(crate) fn flush(&self) -> Result<()> {
        self.writer.as_ref().map_or(Ok(()), |writer| writer.flush())
    }

    pub(crate) fn close(self) -> Result<()> {
        self.flush()?;
        match self.opened.layers.first().and_then(|layer| layer.writer.as_ref()) {
            Some(top) => top.finish(),
            None => Ok(()),
        }
    }

    fn writer(&self) -> Result<&dyn BlockWrite> {
        self.writer.as_deref().ok_or_else(|| Error::new(ErrorKind::ReadOnly, "the disk was opened for reading"))
    }
}

/// Makes an image.
pub(crate) fn create(path: &CStr, format: &CStr, size: u64, options: &CStr) -> Result<()> {
    let format = format_of(format)?;
    let make = format
        .create
        .ok_or_else(|| Error::new(ErrorKind::Unsupported, format!("{} images are not made", format.title)))?;
    let options = options.to_str().map_err(|_| invalid("the options are not UTF-8"))?;
    let options = OptionValues::parse(format.create_options, Some(options).filter(|options| !options.is_empty()))?;
    let path = file(path);
    if path.symlink_metadata().is_ok() {
        let exists = io::Error::from_raw_os_error(rustix::io::Errno::EXIST.raw_os_error());
        return Err(Error::io(path.display().to_string(), exists));
    }
    let ids = IdSource::from_material(format!("{} {size}", format.name).as_bytes());
    let files = AtomicFiles::create(path, false, Vec::new())?;
    let cache_bytes = OpenSettings::default().cache_bytes;
    let request = CreateRequest { files: &files, size, options: &options, ids: &ids, backing: None, cache_bytes };
    make(request)?.finish()?;
    files.commit()
}

fn format_of(name: &CStr) -> Result<&'static Format> {
    let name = name.to_string_lossy();
    Format::by_name(&name).ok_or_else(|| {
        let text = format!("'{}' is no format that is known", name.escape_debug());
        Error::new(ErrorKind::InvalidInput, text)
    })
}

fn file(path: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(path.to_bytes()))
}
