//! The `-o` options of a new VHD: what there are, and the sound values that were chosen with them.

use transload_block::{Error, ErrorKind, Result};

use super::layout::{SECTOR, SIZE_MAX};
use crate::{OptionKind, OptionSpec, OptionValues};

/// What `-o` understands when a VHD is written, named as qemu-img names it where it has the option.
pub(super) const CREATE_OPTIONS: &[OptionSpec] = &[
    OptionSpec {
        name: "subformat",
        kind: OptionKind::Choice(&["dynamic", "fixed", "differencing"]),
        default: "dynamic",
        help: "kind of VHD; differencing when there is a backing_file",
    },
    OptionSpec {
        name: "force_size",
        kind: OptionKind::Flag,
        default: "on",
        help: "keep the exact size instead of rounding it to a geometry; there is no other way here",
    },
    OptionSpec {
        name: "block_size",
        kind: OptionKind::Size,
        default: "2M",
        help: "bytes of a block, 512k or 2M as Windows takes them; not for fixed",
    },
    OptionSpec {
        name: "backing_file",
        kind: OptionKind::Text,
        default: "",
        help: "parent, a VHD of the same size whose content shows where the new image has none",
    },
    OptionSpec {
        name: "backing_fmt",
        kind: OptionKind::Choice(&["vhd", "vpc"]),
        default: "vhd",
        help: "format of the parent",
    },
    OptionSpec {
        name: "round_up",
        kind: OptionKind::Size,
        default: "512",
        help: "round the virtual size up to a multiple of this, such as 1M for Azure",
    },
];

/// The kind of a new VHD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subformat {
    Fixed,
    Dynamic,
    Differencing,
}

/// The options of a new VHD.
#[derive(Clone, Debug)]
pub(super) struct CreateOptions {
    pub(super) subformat: Subformat,
    /// Bytes of a block.
    pub(super) block: u64,
    pub(super) backing_file: Option<String>,
    round_up: u64,
}

impl CreateOptions {
    /// # Errors
    /// `InvalidInput` for options that contradict each other.
    pub(super) fn new(values: &OptionValues) -> Result<Self> {
        let invalid = |what: &str| Err(Error::new(ErrorKind::InvalidInput, format!("VHD options: {what}")));
        if values.flag("force_size") == Some(false) {
            return invalid("force_size=off: a size is never rounded to a geometry here");
        }
        let backing_file = values.text("backing_file").map(str::to_owned);
        let subformat = match (values.text("subformat"), &backing_file) {
            (Some("fixed"), None) => Subformat::Fixed,
            (Some("dynamic") | None, None) => Subformat::Dynamic,
            (Some("differencing") | None, Some(_)) => Subformat::Differencing,
            (Some(_), None) => return invalid("subformat=differencing needs a backing_file"),
            (Some(_), Some(_)) => return invalid("backing_file: only a differencing image has a parent"),
        };
        let block = values.size("block_size");
        match block {
            Some(_) if subformat == Subformat::Fixed => return invalid("block_size: a fixed image has no blocks"),
            None | Some(0x8_0000 | 0x20_0000) => {}
            Some(other) => {
                return invalid(&format!("block_size={other}: only 524288 and 2097152 are taken by Windows"));
            }
        }
        let round_up = values.size("round_up").unwrap_or(SECTOR);
        if round_up == 0 || !round_up.is_multiple_of(SECTOR) {
            return invalid(&format!("round_up={round_up}: must be a multiple of 512"));
        }
        Ok(Self { subformat, block: block.unwrap_or(2 << 20), backing_file, round_up })
    }

    /// The bytes of a new disk that is to hold `size` bytes.
    ///
    /// # Errors
    /// `TooLarge` when no VHD can have them.
    pub(super) fn virtual_size(&self, size: u64) -> Result<u64> {
        checked_size(size.checked_next_multiple_of(self.round_up).unwrap_or(u64::MAX))
    }
}

/// `size`, when a VHD can have that many bytes.
pub(super) fn checked_size(size: u64) -> Result<u64> {
    if size > SIZE_MAX {
        let what = format!("VHD: a disk of {size} bytes, and a VHD can have at most {SIZE_MAX} (2040 GiB)");
        return Err(Error::new(ErrorKind::TooLarge, what).with_remedy("write a vhdx"));
    }
    Ok(size)
}
