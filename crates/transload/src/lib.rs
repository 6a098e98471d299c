//! Transload moves virtual machine disks between formats: any disk in, any disk out.
//!
//! ```text
//! path ──► open() ──► Opened { device, layers } ──► read_at, block_status           look at a disk
//!                        │
//!                        └──► convert_file(), or Input + Output + Settings ──► Plan ──► Report     move it
//! ```
//!
//! The crates underneath are re-exported whole: [`block`] is the contract of a virtual disk, [`image`] the formats behind
//! it, [`convert`] the engine that moves the bytes, [`volume`] the partitions and logical volumes on a disk, [`filesystem`] the
//! files in them, [`inspect`] what they tell of a system, [`mount`] all of it as folders of the host, [`archive`] a store of
//! the files of many disks, [`nbd`] a server and a client of disks over a network, [`remote`] disks at addresses of servers and
//! object stores. What stands here is the short way for files.
//!
//! Everything is synchronous (asynchronous programs have `transload::tokio`, behind the feature of that name); devices are
//! `Send + Sync` and read by any number of threads at once. Images are hostile input: an image opened here pulls in no file
//! outside its own folder unless [`image::ReferenceGate`] is told otherwise.
//!
//! How to watch a job, to follow it event by event and to stop it, is in [`progress`], with an example of each.
//!
//! # Reading a disk
//!
//! ```
//! # fn main() -> transload::block::Result<()> {
//! # let folder = transload_example::folder("read");
//! # let path = folder.join("disk.img");
//! # std::fs::write(&path, vec![7; 1 << 20]).unwrap();
//! let disk = transload::open(&path)?;
//! let mut sector = [0; 512];
//! disk.device.read_at(&mut sector, 0)?;
//! assert_eq!(disk.layers[0].format.name, "raw");
//! assert_eq!(disk.device.size(), 1 << 20);
//! # Ok(())
//! # }
//! # mod transload_example {
//! #     pub fn folder(name: &str) -> std::path::PathBuf {
//! #         let folder = std::env::temp_dir().join(format!("transload-doc-{name}-{}", std::process::id()));
//! #         std::fs::create_dir_all(&folder).unwrap();
//! #         folder
//! #     }
//! # }
//! ```
//!
//! # Converting a disk
//!
//! ```
//! # fn main() -> transload::block::Result<()> {
//! # let folder = std::env::temp_dir().join(format!("transload-doc-convert-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder).unwrap();
//! # let (source, target) = (folder.join("disk.img"), folder.join("disk.qcow2"));
//! # std::fs::write(&source, vec![7; 1 << 20]).unwrap();
//! use transload::convert::Settings;
//! use transload::image::Format;
//!
//! let qcow2 = Format::by_name("qcow2").expect("a format of the table");
//! let report = transload::convert_file(&source, &target, &Settings::new(qcow2))?;
//! assert_eq!(report.virtual_size, 1 << 20);
//! assert_eq!(transload::detect(&target)?.name, "qcow2");
//! # std::fs::remove_dir_all(folder).unwrap();
//! # Ok(())
//! # }
//! ```

mod overlay;

use std::path::{Path, PathBuf};

pub mod describe;
pub mod export;
pub mod import;
pub mod location;
pub mod progress;
pub mod repack;
#[cfg(feature = "tokio")]
pub mod tokio;
pub mod upload;
pub mod validate;

pub use transload_appliance as appliance;
pub use transload_archive as archive;
pub use transload_block as block;
pub use transload_convert as convert;
pub use transload_filesystem as filesystem;
pub use transload_image as image;
pub use transload_inspect as inspect;
pub use transload_mount as mount;
pub use transload_nbd as nbd;
pub use transload_remote as remote;
pub use transload_volume as volume;

pub use overlay::open_overlay;

use block::Result;
use convert::{Input, Output, Plan, Report, Settings};
use image::{Access, Format, OpenSettings, Opened, Source};

/// Opens the image at `path` for reading, with everything it hangs from, its format found out from its bytes.
///
/// # Errors
/// As [`image::open_path`], which also takes settings.
pub fn open(path: impl AsRef<Path>) -> Result<Opened> {
    image::open_path(path.as_ref(), &OpenSettings::default())
}

/// Says what format the image at `path` is in, from its first and last bytes.
///
/// # Errors
/// `Io` when the file cannot be read; `InvalidInput` when its bytes can be read in two ways.
pub fn detect(path: impl AsRef<Path>) -> Result<&'static Format> {
    let path = path.as_ref();
    let source = Source::from_path(path, Access::ReadOnly)?;
    image::detect(source.bytes())?.unambiguous().map_err(|error| error.context(path.display()))
}

/// Converts the image at `from` into a new one at `to`.
///
/// The new image appears under its name when it is whole. `settings` name its format; what the source is gets found out.
/// For anything beyond that (a source that needs options, pipes, a look at the plan) put [`Input`], [`Output`] and
/// [`Settings`] into a [`Plan`].
///
/// # Errors
/// As [`open`], [`Plan::new`] and [`Plan::run`].
pub fn convert_file(from: impl AsRef<Path>, to: impl Into<PathBuf>, settings: &Settings) -> Result<Report> {
    let input = Input::Image(open(from)?);
    let output = Output::Path(to.into());
    Plan::new(&input, &output, settings)?.run(input, output, settings)
}

/// Every property that must hold for any bytes, by the crate that reads them: what the fuzz targets call.
#[doc(hidden)]
pub const PROPERTIES: &[&[block::Property]] = &[
    appliance::properties::ALL,
    filesystem::properties::ALL,
    image::properties::ALL,
    inspect::properties::ALL,
    nbd::properties::ALL,
    volume::properties::ALL,
];

/// The README's example, compiled with the documentation's tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
