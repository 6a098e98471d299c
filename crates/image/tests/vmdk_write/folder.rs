//! A folder that new images are made in.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use transload_image::codec::Level;

use transload_block::{FileBlock, Result, Storage};
use transload_image::{
    CreateRequest, Format, IdSource, ImageWrite, OptionValues, SinkOutput, SinkRequest, TargetFiles,
};

pub(crate) const VMDK: &Format = &transload_image::vmdk::FORMAT;

/// Files beside each other under their final names.
#[derive(Debug)]
pub(crate) struct Folder {
    folder: tempfile::TempDir,
    name: String,
    primary: Mutex<Option<Arc<dyn Storage>>>,
}

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        Self { folder: tempfile::tempdir().unwrap(), name: name.to_owned(), primary: Mutex::new(None) }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join(&self.name)
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn make(&self, name: &str) -> Arc<dyn Storage> {
        let path = self.folder.path().join(name);
        let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        Arc::new(FileBlock::from_file(file, &path, true).unwrap())
    }

    pub(crate) fn create(&self, size: u64, options: &str) -> Result<Arc<dyn ImageWrite>> {
        VMDK.create.unwrap()(CreateRequest {
            files: self,
            size,
            options: &parse(options),
            ids: &IdSource::from_material(b"test"),
            backing: None,
            cache_bytes: 1 << 20,
        })
    }

    /// Writes `data`, grain by grain, through the sink.
    pub(crate) fn stream(&self, data: &dyn Fn(u64, &mut [u8]) -> bool, size: u64, options: &str) -> Result<()> {
        write_stream(SinkOutput::Files(self), &self.name, data, size, options)
    }
}

pub(crate) fn parse(options: &str) -> OptionValues {
    OptionValues::parse(VMDK.create_options, [options]).unwrap()
}

/// Asks `data` for the content of every grain, which answers whether there is any, and appends it.
pub(crate) fn write_stream(
    output: SinkOutput<'_>,
    name: &str,
    data: &dyn Fn(u64, &mut [u8]) -> bool,
    size: u64,
    options: &str,
) -> Result<()> {
    let mut sink = VMDK.sink.unwrap()(SinkRequest {
        output,
        name,
        size,
        options: &parse(options),
        level: Some(Level::default()),
        ids: &IdSource::from_material(b"test"),
        extents: None,
    })?;
    let encoder = sink.encoder();
    let unit = encoder.unit_size();
    let (mut grain, mut stored) = (vec![0; usize::try_from(unit).unwrap()], Vec::new());
    for offset in (0..size).step_by(usize::try_from(unit).unwrap()) {
        grain.fill(0);
        let length = usize::try_from((size - offset).min(unit)).unwrap();
        if data(offset, &mut grain[..length]) {
            let form = encoder.encode(&grain, &mut stored)?;
            sink.append(offset, form, &stored)?;
        }
    }
    sink.finish()
}

impl TargetFiles for Folder {
    fn name(&self) -> &str {
        &self.name
    }

    fn primary(&self) -> Result<Arc<dyn Storage>> {
        Ok(Arc::clone(self.primary.lock().unwrap().get_or_insert_with(|| self.make(&self.name))))
    }

    fn sibling(&self, name: &str) -> Result<Arc<dyn Storage>> {
        Ok(self.make(name))
    }
}
