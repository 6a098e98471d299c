//! Images that one run reads from and writes to: each is opened once, and closed whole in the end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use transload::block::{BlockRead, BlockWrite, Error, ErrorKind, Result};
use transload::filesystem::{self, FileSystem, FileSystemWrite, Timestamp};
use transload::image::{Access, Opened};
use transload::volume::{Contents, Volumes, writable};

use super::{FileArgs, Place, choose, place_name};
use crate::address::Address;
use crate::args::ReadArgs;
use crate::input;

/// What a run has open.
#[derive(Debug)]
pub(crate) struct Session {
    images: Vec<Image>,
    /// The time of what is made.
    pub(crate) now: Timestamp,
    /// Whether the same input is to give the same bytes: no time but that of modification is taken over.
    pub(crate) steady: bool,
}

#[derive(Debug)]
struct Image {
    path: PathBuf,
    opened: Opened,
    disk: Arc<dyn BlockRead>,
    writer: Option<Arc<dyn BlockWrite>>,
    mounted: Vec<(String, Mounted)>,
}

#[derive(Clone, Debug)]
enum Mounted {
    Read(Arc<dyn FileSystem>),
    Write(Arc<dyn FileSystemWrite>),
}

/// A filesystem that is written to.
#[derive(Clone, Debug)]
pub(crate) struct WritePlace {
    pub(crate) filesystem: Arc<dyn FileSystemWrite>,
    pub(crate) name: String,
}

impl Session {
    /// A session at the present time, or at the one that the environment variable `SOURCE_DATE_EPOCH` has.
    pub(crate) fn new() -> Result<Self> {
        let now = match std::env::var("SOURCE_DATE_EPOCH") {
            Ok(text) => {
                let seconds = text.trim().parse().map_err(|_| {
                    Error::new(
                        ErrorKind::InvalidInput,
                        format!("SOURCE_DATE_EPOCH={text}: must be a number of seconds"),
                    )
                })?;
                Timestamp { seconds, nanos: 0 }
            }
            Err(_) => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
                Timestamp { seconds, nanos: since.subsec_nanos() }
            }
        };
        Ok(Self { images: Vec::new(), now, steady: std::env::var_os("SOURCE_DATE_EPOCH").is_some() })
    }

    /// Does the work of a command in a session of its own. What was changed is written also when the work fails half way:
    /// half of the changes in memory and half on the disk would be worse than a part of them done.
    pub(crate) fn run(work: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let mut session = Self::new()?;
        let done = work(&mut session);
        let finished = session.finish();
        done.and(finished)
    }

    /// Opens the image at `path` for writing, before anything else opens it for reading.
    pub(crate) fn open_writable(&mut self, path: &Path, args: &FileArgs) -> Result<()> {
        if let Some(image) = self.images.iter().find(|image| image.path == path) {
            let read_only = || Error::new(ErrorKind::ReadOnly, format!("{}: open for reading", path.display()));
            return image.writer.as_ref().map(drop).ok_or_else(read_only);
        }
        let opened = input::prepare(path, &args.read, Access::ReadWrite)?.open()?;
        let writer = opened.writer().ok_or_else(|| {
            let name = opened.layers.first().map_or("it", |layer| layer.format.title);
            let text = format!("{}: {name} images cannot be changed in place", path.display());
            Error::new(ErrorKind::Unsupported, text).with_remedy("convert it to raw or qcow2 first")
        })?;
        let disk = Arc::clone(&writer) as Arc<dyn BlockRead>;
        self.images.push(Image { path: path.to_owned(), opened, disk, writer: Some(writer), mounted: Vec::new() });
        Ok(())
    }

    fn image(&mut self, path: &Path, args: &FileArgs) -> Result<&mut Image> {
        if let Some(index) = self.images.iter().position(|image| image.path == path) {
            return Ok(&mut self.images[index]);
        }
        let opened = input::open(path, &args.read)?;
        let disk = Arc::clone(&opened.device);
        self.images.push(Image { path: path.to_owned(), opened, disk, writer: None, mounted: Vec::new() });
        let last = self.images.len() - 1;
        Ok(&mut self.images[last])
    }

    /// The disk of an image that was opened for writing.
    pub(crate) fn disk(&mut self, path: &Path, args: &FileArgs) -> Result<Arc<dyn BlockWrite>> {
        self.open_writable(path, args)?;
        let image = self.image(path, args)?;
        image.writer.clone().ok_or_else(|| Error::new(ErrorKind::ReadOnly, path.display().to_string()))
    }

    /// The filesystem of an address, for reading. Where the session writes to it, what was written is seen.
    pub(crate) fn read(&mut self, address: &Address, args: &FileArgs) -> Result<Place> {
        let (name, device) = self.find(address, args)?;
        let image = self.image(&address.image, args)?;
        if let Some((_, mounted)) = image.mounted.iter().find(|(known, _)| *known == name) {
            let filesystem = match mounted {
                Mounted::Read(filesystem) => Arc::clone(filesystem),
                Mounted::Write(filesystem) => Arc::clone(filesystem) as Arc<dyn FileSystem>,
            };
            return Ok(Place { filesystem, name });
        }
        let filesystem = filesystem::open(device).map_err(|error| error.context(&name))?;
        image.mounted.push((name.clone(), Mounted::Read(Arc::clone(&filesystem))));
        Ok(Place { filesystem, name })
    }

    /// The filesystem of an address, for writing.
    pub(crate) fn write(&mut self, address: &Address, args: &FileArgs) -> Result<WritePlace> {
        self.open_writable(&address.image, args)?;
        let (name, _) = self.find(address, args)?;
        let now = self.now;
        let image = self.image(&address.image, args)?;
        if let Some((_, mounted)) = image.mounted.iter().find(|(known, _)| *known == name) {
            return match mounted {
                Mounted::Write(filesystem) => Ok(WritePlace { filesystem: Arc::clone(filesystem), name }),
                Mounted::Read(_) => Err(Error::new(ErrorKind::ReadOnly, format!("{name}: open for reading"))),
            };
        }
        let device = self.volume(address, args)?;
        let filesystem = filesystem::open_writable(device, now).map_err(|error| error.context(&name))?;
        let image = self.image(&address.image, args)?;
        image.mounted.push((name.clone(), Mounted::Write(Arc::clone(&filesystem))));
        Ok(WritePlace { filesystem, name })
    }

    /// The volume of an address as a device that can be written.
    pub(crate) fn volume(&mut self, address: &Address, args: &FileArgs) -> Result<Arc<dyn BlockWrite>> {
        let disk = self.disk(&address.image, args)?;
        let volumes = self.scan(&address.image, args)?;
        let name = match &address.volume {
            Some(name) => name.clone(),
            None => choose(&address.image, &volumes, None)?.name.clone(),
        };
        writable(&disk, &name, args.volumes.settings()).map_err(|error| error.context(address.image.display()))
    }

    /// The volume that a new filesystem goes into: the named one, or the whole disk where that has no partitions.
    ///
    /// Answers its name, the device, and where on the disk it begins.
    pub(crate) fn empty_volume(
        &mut self,
        address: &Address,
        args: &FileArgs,
    ) -> Result<(String, Arc<dyn BlockWrite>, u64)> {
        let disk = self.disk(&address.image, args)?;
        let volumes = self.scan(&address.image, args)?;
        let name = match (&address.volume, volumes.contents()) {
            (Some(name), _) => name.clone(),
            (None, Contents::Whole(_)) => transload::volume::VolumeName::Whole,
            (None, Contents::Table(_)) => {
                let choices: Vec<_> = volumes.iter().map(|volume| format!("#{}", volume.name)).collect();
                let text = format!("{}: the disk has partitions, name one of them", address.image.display());
                let remedy = format!("{}; or #whole for all of the disk", choices.join(", "));
                return Err(Error::new(ErrorKind::InvalidInput, text).with_remedy(remedy));
            }
        };
        let device = writable(&disk, &name, args.volumes.settings());
        let device = device.map_err(|error| error.context(address.image.display()))?;
        let start = volumes.find(&name)?.partition.as_ref().map_or(0, |partition| partition.range.start);
        let name = place_name(&address.image, &name);
        // What was read of the volume before is no longer there.
        self.image(&address.image, args)?.mounted.retain(|(known, _)| *known != name);
        Ok((name, device, start))
    }

    fn scan(&mut self, path: &Path, args: &FileArgs) -> Result<Volumes> {
        let plain = ReadArgs { format: None, options: Vec::new(), ..args.read.clone() };
        let open = |path: &PathBuf| input::open(path, &plain).map(|opened| opened.device);
        let others = args.volumes.with_disk.iter().map(open).collect::<Result<Vec<_>>>()?;
        let image = self.image(path, args)?;
        Volumes::scan(&image.disk, &others, args.volumes.settings()).map_err(|error| error.context(path.display()))
    }

    fn find(&mut self, address: &Address, args: &FileArgs) -> Result<(String, Arc<dyn BlockRead>)> {
        let volumes = self.scan(&address.image, args)?;
        let volume = choose(&address.image, &volumes, address.volume.as_ref())?;
        let device = volume.device().map_err(|error| error.context(address.image.display()))?;
        Ok((place_name(&address.image, &volume.name), device))
    }

    /// Writes everything that is still in memory, filesystems before images.
    pub(crate) fn finish(self) -> Result<()> {
        for image in &self.images {
            for (name, mounted) in &image.mounted {
                if let Mounted::Write(filesystem) = mounted {
                    filesystem.flush().map_err(|error| error.context(name))?;
                }
            }
            let Some(writer) = &image.writer else { continue };
            writer.flush()?;
            if let Some(top) = image.opened.layers.first().and_then(|layer| layer.writer.as_ref()) {
                top.finish().map_err(|error| error.context(image.path.display()))?;
            }
        }
        Ok(())
    }
}
