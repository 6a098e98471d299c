//! The options of a new image, spelled as qemu-img spells them, and what they come to once they are checked against each
//! other.

use transload_block::{Codec, Error, ErrorKind, Result};

use super::layout::{BACKING_NAME_MAX, CLUSTER_BITS, CLUSTER_BITS_MIN_EXTENDED, L1_BYTES_MAX, VERSION_2, VERSION_3};
use super::open::Geometry;
use crate::{OptionKind, OptionSpec, OptionValues};

/// What `-o` understands when an image is made.
pub(crate) const CREATE_OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "cluster_size",
        kind: OptionKind::Size,
        default: "64k",
        help: "unit of allocation, a power of two from 512 to 2M",
    },
    OptionSpec {
        name: "compat",
        kind: OptionKind::Choice(&["1.1", "v3", "0.10", "v2"]),
        default: "1.1",
        help: "version 3 (1.1, v3) or version 2 (0.10, v2)",
    },
    OptionSpec {
        name: "compression_type",
        kind: OptionKind::Choice(&["zlib", "zstd"]),
        default: "zlib",
        help: "codec of compressed clusters; zstd needs compat=1.1",
    },
    OptionSpec {
        name: "extended_l2",
        kind: OptionKind::Flag,
        default: "off",
        help: "allocate in 32nds of a cluster; needs compat=1.1 and clusters of at least 16k",
    },
    OptionSpec {
        name: "refcount_bits",
        kind: OptionKind::Number,
        default: "16",
        help: "width of a reference count: 1, 2, 4, 8, 16, 32 or 64; other than 16 needs compat=1.1",
    },
    OptionSpec {
        name: "preallocation",
        kind: OptionKind::Choice(&["off", "metadata", "falloc", "full"]),
        default: "off",
        help: "allocate nothing, all tables, also room for the data, or written zeroes",
    },
    OptionSpec {
        name: "backing_file",
        kind: OptionKind::Text,
        default: "",
        help: "name of the image that shows through where this one has nothing",
    },
    OptionSpec {
        name: "backing_fmt",
        kind: OptionKind::Text,
        default: "",
        help: "format of the backing file; needed with backing_file",
    },
    OptionSpec {
        name: "lazy_refcounts",
        kind: OptionKind::Flag,
        default: "off",
        help: "let writers put off reference counts under the dirty bit; needs compat=1.1",
    },
    OptionSpec {
        name: "data_file",
        kind: OptionKind::Text,
        default: "",
        help: "name of a new file beside the image that holds the guest's bytes; needs compat=1.1",
    },
    OptionSpec {
        name: "data_file_raw",
        kind: OptionKind::Flag,
        default: "off",
        help: "promise that the data file by itself is the disk as raw; needs data_file",
    },
];

/// How much of a new image is allocated when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Preallocation {
    /// Nothing but the structures that every image has.
    Off,
    /// All L2 tables and reference counts; the data clusters are a hole of the file.
    Metadata,
    /// Also room for the data clusters.
    Falloc,
    /// The data clusters are written with zeroes.
    Full,
}

/// The file beneath a new image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Backing {
    pub name: String,
    pub format: String,
}

/// The file that holds the guest's bytes of a new image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DataFile {
    /// A name without a folder: it stands beside the image, where readers may look.
    pub name: String,
    /// It is by itself the disk, as raw.
    pub raw: bool,
}

/// A new image's checked properties. No field contradicts another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewImage {
    /// Virtual size in bytes, a multiple of 512.
    pub size: u64,
    pub version: u32,
    pub geometry: Geometry,
    pub compression: Codec,
    pub lazy_refcounts: bool,
    pub preallocation: Preallocation,
    pub backing: Option<Backing>,
    pub data_file: Option<DataFile>,
}

/// Virtual sizes are counted in sectors of this many bytes by QEMU, which cuts off what is left over.
pub(crate) const SECTOR: u64 = 512;

impl NewImage {
    /// Checks `options` for an image of `size` bytes.
    ///
    /// The size is rounded up to whole sectors of 512 bytes, as `qemu-img create` does. The format could hold any size,
    /// but QEMU rounds the field down when it opens an image, and would lose the last bytes.
    ///
    /// # Errors
    /// `InvalidInput` when options contradict each other; `TooLarge` when the L1 table would exceed its limit.
    pub(crate) fn new(size: u64, options: &OptionValues) -> Result<Self> {
        let version = match options.text("compat") {
            Some("0.10" | "v2") => VERSION_2,
            _ => VERSION_3,
        };
        let image = Self {
            size: size.checked_next_multiple_of(SECTOR).ok_or_else(|| too_large(size))?,
            version,
            geometry: Geometry {
                cluster_bits: cluster_bits(options)?,
                extended_l2: options.flag("extended_l2").unwrap_or(false),
                refcount_order: refcount_order(options)?,
            },
            compression: match options.text("compression_type") {
                Some("zstd") => Codec::Zstd,
                _ => Codec::Deflate,
            },
            lazy_refcounts: options.flag("lazy_refcounts").unwrap_or(false),
            preallocation: match options.text("preallocation") {
                Some("metadata") => Preallocation::Metadata,
                Some("falloc") => Preallocation::Falloc,
                Some("full") => Preallocation::Full,
                _ => Preallocation::Off,
            },
            backing: backing(options)?,
            data_file: data_file(options)?,
        };
        image.check_version()?;
        image.check_combinations()?;
        if image.l1_entries().saturating_mul(8) > L1_BYTES_MAX || i64::try_from(image.size).is_err() {
            return Err(too_large(size).with_remedy("choose larger clusters with -o cluster_size"));
        }
        Ok(image)
    }

    fn check_version(&self) -> Result<()> {
        if self.version >= VERSION_3 {
            return Ok(());
        }
        let option = if self.geometry.refcount_order != 4 {
            "refcount_bits other than 16"
        } else if self.compression == Codec::Zstd {
            "compression_type=zstd"
        } else if self.geometry.extended_l2 {
            "extended_l2"
        } else if self.lazy_refcounts {
            "lazy_refcounts"
        } else if self.data_file.is_some() {
            "data_file"
        } else {
            return Ok(());
        };
        Err(invalid(format!("option {option} does not exist in compat=0.10"))
            .with_remedy("leave out -o compat, or set it to 1.1"))
    }

    fn check_combinations(&self) -> Result<()> {
        if self.geometry.extended_l2 && self.geometry.cluster_bits < CLUSTER_BITS_MIN_EXTENDED {
            return Err(invalid(format!(
                "option extended_l2: needs clusters of at least 16384 bytes, not {}",
                self.geometry.cluster_size()
            )));
        }
        if self.backing.is_some() && self.preallocation != Preallocation::Off && !self.geometry.extended_l2 {
            return Err(invalid(
                "option preallocation: would hide the backing file unless extended_l2 is on".to_owned(),
            ));
        }
        let Some(data_file) = &self.data_file else { return Ok(()) };
        if self.preallocation != Preallocation::Off {
            return Err(invalid("option preallocation: not with an external data file".to_owned()));
        }
        if data_file.raw && self.backing.is_some() {
            let text = "option data_file_raw: a data file that is the whole disk leaves a backing file nothing to show";
            return Err(invalid(text.to_owned()));
        }
        Ok(())
    }

    /// Clusters of the virtual disk; the last one may be partial.
    pub(crate) fn guest_clusters(&self) -> u64 {
        self.size.div_ceil(self.geometry.cluster_size())
    }

    /// Entries of the L1 table. QEMU keeps at least one, and so does every image here.
    pub(crate) fn l1_entries(&self) -> u64 {
        self.geometry.l1_entries(self.size).max(1)
    }
}

fn cluster_bits(options: &OptionValues) -> Result<u32> {
    let size = options.size("cluster_size").unwrap_or(64 << 10);
    if size.is_power_of_two() && CLUSTER_BITS.contains(&size.trailing_zeros()) {
        Ok(size.trailing_zeros())
    } else {
        Err(invalid(format!("option cluster_size={size}: must be a power of two from 512 to 2097152")))
    }
}

fn refcount_order(options: &OptionValues) -> Result<u32> {
    let bits = options.number("refcount_bits").unwrap_or(16);
    if bits.is_power_of_two() && bits <= 64 {
        Ok(bits.trailing_zeros())
    } else {
        Err(invalid(format!("option refcount_bits={bits}: must be 1, 2, 4, 8, 16, 32 or 64")))
    }
}

fn backing(options: &OptionValues) -> Result<Option<Backing>> {
    let name = options.text("backing_file").filter(|name| !name.is_empty());
    let format = options.text("backing_fmt").filter(|format| !format.is_empty());
    let (name, format) = match (name, format) {
        (None, None) => return Ok(None),
        (None, Some(_)) => return Err(invalid("option backing_fmt: there is no backing_file".to_owned())),
        (Some(_), None) => {
            return Err(invalid("option backing_file: its format is not given".to_owned()).with_remedy(
                "name it with -o backing_fmt; an image that leaves it open can be made to read any file",
            ));
        }
        (Some(name), Some(format)) => (name, format),
    };
    if name.len() > BACKING_NAME_MAX as usize || name.contains('\0') {
        return Err(invalid(format!(
            "option backing_file: the name of {} bytes exceeds {BACKING_NAME_MAX} or holds a zero byte",
            name.len()
        )));
    }
    // The readers' own limit on the extension's length; names of formats are short words.
    if format.len() > 15 || format.contains('\0') {
        return Err(invalid(format!("option backing_fmt={format}: no name of a format")));
    }
    Ok(Some(Backing { name: name.to_owned(), format: format.to_owned() }))
}

fn data_file(options: &OptionValues) -> Result<Option<DataFile>> {
    let raw = options.flag("data_file_raw");
    match options.text("data_file").filter(|name| !name.is_empty()) {
        None if raw.is_some() => Err(invalid("option data_file_raw: there is no data_file".to_owned())),
        None => Ok(None),
        Some(name) if name.len() > BACKING_NAME_MAX as usize || name.contains(['/', '\0']) => {
            Err(invalid(format!("option data_file={name}: no name of a file beside the image"))
                .with_remedy("give a name without a folder: readers look for the file where the image is"))
        }
        Some(name) => Ok(Some(DataFile { name: name.to_owned(), raw: raw.unwrap_or(false) })),
    }
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

fn too_large(size: u64) -> Error {
    Error::new(ErrorKind::TooLarge, format!("a virtual size of {size} bytes exceeds what the L1 table may map"))
}
