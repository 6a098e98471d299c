//! Where an image is: a file, the export of an NBD server, or an address on the network. The one place that tells them apart.

mod once;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use transload_block::{BlockRead, Error, ErrorKind, Result};
use transload_convert::Input;
use transload_image::{Access, OpenSettings, Opened, ReferenceGate, Source, detect};
use transload_nbd::{ConnectSettings, NbdAddress, NbdDisk};
use transload_remote::{Options, Origin, Remote, RemoteDisk, RemoteStream, shown_text};
use transload_volume::signature;

pub use once::{OnceSettings, stream, verify};

/// Where an image is, told from how it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A file or a block device.
    File(PathBuf),
    /// The export of an NBD server: its address.
    Nbd(String),
    /// A server's or an object store's: an address that [`transload_remote`] understands.
    Remote(String),
}

impl Location {
    /// What `path` stands for. A file whose name looks like an address is reached as `./http:…`.
    #[must_use]
    pub fn of(path: &Path) -> Self {
        match path.to_str() {
            Some(text) if NbdAddress::is_meant_by(text) => Self::Nbd(text.to_owned()),
            Some(text) if transload_remote::is_meant_by(text) => Self::Remote(text.to_owned()),
            _ => Self::File(path.to_owned()),
        }
    }

    /// The name for messages: an address without passwords and signatures.
    #[must_use]
    pub fn shown(&self) -> String {
        match self {
            Self::File(path) => path.display().to_string(),
            Self::Nbd(address) => address.clone(),
            Self::Remote(address) => shown_text(address),
        }
    }
}

/// What is at a [`Location`].
#[derive(Debug)]
pub enum Located {
    /// Bytes that can be read at any place.
    Anywhere {
        /// The bytes, with their name.
        source: Source,
        /// The same as what they are on the network, for what comes from there by address.
        remote: Option<Arc<RemoteDisk>>,
    },
    /// Bytes that come once, from front to back.
    Once(RemoteStream),
}

impl Located {
    /// The bytes, which must be readable at any place.
    ///
    /// # Errors
    /// `Unsupported` when they come only once.
    pub fn anywhere(self) -> Result<Source> {
        match self {
            Self::Anywhere { source, .. } => Ok(source),
            Self::Once(stream) => Err(only_once(stream.origin())),
        }
    }
}

/// The error for a source that would have to be read at any place and comes once.
#[must_use]
pub fn only_once(origin: &Origin) -> Error {
    let text = format!("{origin}: the server knows no ranges, and this needs to be read at any place");
    Error::new(ErrorKind::Unsupported, text)
        .with_remedy("store it in a temporary file first with --spool, or download it")
}

/// Opens what is at `location`.
///
/// # Errors
/// As [`Source::from_path`], [`NbdDisk::connect`] and [`transload_remote::open`]; `ReadOnly` when an address is to be written to.
pub fn open(location: &Location, access: Access, options: &Options) -> Result<Located> {
    match location {
        Location::File(path) => Ok(Located::Anywhere { source: Source::from_path(path, access)?, remote: None }),
        Location::Nbd(address) => {
            let settings = ConnectSettings { read_only: access == Access::ReadOnly, ..ConnectSettings::default() };
            let disk = Arc::new(NbdDisk::connect(&address.parse()?, &settings)?);
            let source = if access == Access::ReadOnly { Source::new(disk) } else { Source::writable(disk) };
            Ok(Located::Anywhere { source: source.with_path(address), remote: None })
        }
        Location::Remote(address) if access == Access::ReadWrite => {
            let text = format!("{}: an image at an address can be read, not changed", shown_text(address));
            Err(Error::new(ErrorKind::ReadOnly, text).with_remedy("convert it to a file and change that"))
        }
        Location::Remote(address) => Ok(match transload_remote::open(address, options)? {
            Remote::Disk(disk) => {
                let name = disk.origin().shown.clone();
                let disk = Arc::new(disk);
                let source = Source::new(Arc::clone(&disk) as Arc<dyn BlockRead>).with_path(name);
                Located::Anywhere { source, remote: Some(disk) }
            }
            Remote::Stream(stream) => Located::Once(stream),
        }),
    }
}

/// Opens the image at `location` for reading, with everything it hangs from. An image at an address may name nothing, unless the
/// gate of `settings` allows folders.
///
/// # Errors
/// As [`open`], [`require_disk`] and [`transload_image::open`]; `Unsupported` for what comes only once.
pub fn open_image(location: &Location, settings: &OpenSettings, options: &Options) -> Result<Opened> {
    let source = open(location, Access::ReadOnly, options)?.anywhere()?;
    let mut settings = OpenSettings { access: Access::ReadOnly, ..settings.clone() };
    if !matches!(location, Location::File(_)) && matches!(settings.gate, ReferenceGate::SameDirectory) {
        settings.gate = ReferenceGate::Deny;
    }
    if matches!(location, Location::Remote(_)) && settings.format.is_none() {
        let name = source.display_name();
        let format = detect(source.bytes())?.unambiguous().map_err(|error| error.context(&name))?;
        if format.name == "raw" {
            require_disk(source.bytes().as_ref(), &name)?;
        }
        settings.format = Some(format);
    }
    transload_image::open(source, &settings)
}

/// What the state of the source of a conversion is known by, so that a later run can tell whether it is still the same: of files their
/// sizes and times, of an address what the server says.
///
/// # Errors
/// `Unsupported` where there is nothing to go by; what the operating system and the server answer.
pub fn fingerprint(location: &Location, input: &Input, options: &Options) -> Result<String> {
    let nothing = |name: &str| {
        let text = format!("{name}: nothing tells whether it is still the same in a later run");
        Error::new(ErrorKind::Unsupported, text).with_remedy("leave out --resume")
    };
    match location {
        Location::Nbd(address) => Err(nothing(address)),
        Location::Remote(address) => {
            let remote = transload_remote::open(address, options)?;
            remote.origin().fingerprint().ok_or_else(|| nothing(&remote.origin().shown))
        }
        Location::File(path) => {
            let Input::Image(opened) = input else { return Err(nothing(&path.display().to_string())) };
            let mut marks = Vec::new();
            for layer in &opened.layers {
                let Some(file) = layer.source.path() else { continue };
                let folder = file.parent().unwrap_or(Path::new(""));
                let extents = layer.info.extents.iter().filter_map(|extent| extent.file.as_deref());
                let named = extents.chain(layer.info.data_file.as_deref()).map(|name| folder.join(name));
                for file in [file.to_owned()].into_iter().chain(named) {
                    let failed = |error| Error::io(file.display().to_string(), error);
                    let metadata = std::fs::metadata(&file).map_err(failed)?;
                    let (inode, size) = (metadata.ino(), metadata.len());
                    marks.push(format!("{inode} {size} {}.{:09}", metadata.mtime(), metadata.mtime_nsec()));
                }
            }
            if marks.is_empty() { Err(nothing(&path.display().to_string())) } else { Ok(marks.join(" ")) }
        }
    }
}

/// Refuses bytes of the network that no format has claimed, unless they begin as disks do: with a partition table, a boot sector,
/// a filesystem or another known superblock. Anything at all could be taken for a raw disk otherwise, an error message too.
///
/// # Errors
/// `InvalidInput` when they do not; what reading answers.
pub fn require_disk(bytes: &dyn BlockRead, name: &str) -> Result<()> {
    /// The end of a boot sector, and the beginning of a GPT on sectors of 512 and 4096 bytes.
    const MARKS: [(u64, &[u8]); 3] = [(510, &[0x55, 0xaa]), (512, b"EFI PART"), (4096, b"EFI PART")];
    for (offset, mark) in MARKS {
        let mut found = vec![0; mark.len()];
        if bytes.size() >= offset + mark.len() as u64 {
            bytes.read_at(&mut found, offset)?;
            if found == mark {
                return Ok(());
            }
        }
    }
    if signature::probe(bytes)?.is_some() {
        return Ok(());
    }
    let text = format!("{name}: of no format that is known, and does not begin as a disk does");
    Err(Error::new(ErrorKind::InvalidInput, text).with_remedy("if it is a raw disk, say so with -f raw"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use transload_block::Memory;

    #[test]
    fn addresses_are_told_from_files() {
        for address in ["http://h/x", "HTTPS://h/x", "s3://b/k", "gs://b/k", "az://c/b"] {
            assert_eq!(Location::of(Path::new(address)), Location::Remote(address.to_owned()));
        }
        assert_eq!(Location::of(Path::new("nbd://h")), Location::Nbd("nbd://h".to_owned()));
        for file in ["disk.raw", "./http://h/x", "http:/h", "c://x", "-", "s3:"] {
            assert_eq!(Location::of(Path::new(file)), Location::File(PathBuf::from(file)), "{file}");
        }
        assert_eq!(Location::of(Path::new("https://u:secret@h:8/x?sig=1")).shown(), "https://h:8/x?…");
    }

    #[test]
    fn anything_is_not_a_disk() {
        let mut sector = vec![0; 4096];
        sector[..20].copy_from_slice(b"{\"error\":\"no bucket\"");
        let error = require_disk(&Memory::from(sector.clone()), "http://h/x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        sector[510..512].copy_from_slice(&[0x55, 0xaa]);
        require_disk(&Memory::from(sector), "http://h/x").unwrap();
        assert!(require_disk(&Memory::from(vec![0; 100]), "http://h/x").is_err());
    }
}
